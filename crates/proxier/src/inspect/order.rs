//! ipvsadm's order of services and destinations.
//!
//! It subtracts host-order numbers as C `int`s, which wraps, so its comparison
//! is no order: 203.0.113.10 comes before 10.0.2.15. To print what it prints
//! we compare as it does and merge as its C library does; Rust's own sort may
//! refuse such a comparison.

use std::net::IpAddr;

use ipvs_netlink::{Destination, Family, Service, ServiceId};

/// Services by mark, family, protocol, address, port.
pub(super) fn services(a: &Service, b: &Service) -> i32 {
    first_of([
        wrapping(mark(&a.id), mark(&b.id)),
        family(a.id.family()) - family(b.id.family()),
        protocol(&a.id) - protocol(&b.id),
        addresses(address(&a.id), address(&b.id)),
        port(&a.id) - port(&b.id),
    ])
}

/// Destinations by address and port.
pub(super) fn destinations(a: &Destination, b: &Destination) -> i32 {
    first_of([
        addresses(Some(a.id.address), Some(b.id.address)),
        i32::from(a.id.port) - i32::from(b.id.port),
    ])
}

fn first_of<const N: usize>(differences: [i32; N]) -> i32 {
    differences
        .into_iter()
        .find(|difference| *difference != 0)
        .unwrap_or(0)
}

fn wrapping(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}

fn mark(id: &ServiceId) -> u32 {
    match id {
        ServiceId::Fwmark { mark, .. } => *mark,
        ServiceId::Address { .. } => 0,
    }
}

/// AF_INET and AF_INET6.
fn family(family: Family) -> i32 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

fn protocol(id: &ServiceId) -> i32 {
    match id {
        ServiceId::Address { protocol, .. } => i32::from(protocol.number()),
        ServiceId::Fwmark { .. } => 0,
    }
}

fn address(id: &ServiceId) -> Option<IpAddr> {
    match id {
        ServiceId::Address { address, .. } => Some(*address),
        ServiceId::Fwmark { .. } => None,
    }
}

fn port(id: &ServiceId) -> i32 {
    match id {
        ServiceId::Address { port, .. } => i32::from(*port),
        ServiceId::Fwmark { .. } => 0,
    }
}

fn addresses(a: Option<IpAddr>, b: Option<IpAddr>) -> i32 {
    match (a, b) {
        (Some(IpAddr::V4(a)), Some(IpAddr::V4(b))) => wrapping(a.to_bits(), b.to_bits()),
        (Some(IpAddr::V6(a)), Some(IpAddr::V6(b))) => a.octets().cmp(&b.octets()) as i32,
        (Some(a), Some(b)) => i32::from(a.is_ipv6()) - i32::from(b.is_ipv6()),
        _ => 0,
    }
}

/// A stable merge sort that halves as glibc's `qsort` does.
pub(super) fn sorted<T: Clone>(items: &[T], compare: &impl Fn(&T, &T) -> i32) -> Vec<T> {
    if items.len() < 2 {
        return items.to_vec();
    }
    let (left, right) = items.split_at(items.len() / 2);
    let (left, right) = (sorted(left, compare), sorted(right, compare));
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    let mut merged = Vec::with_capacity(items.len());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        merged.extend(if compare(a, b) <= 0 {
            left.next()
        } else {
            right.next()
        });
    }
    merged.extend(left.chain(right));
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipvs_netlink::Scheduler;

    fn printed(fronts: &[&str]) -> Vec<String> {
        let services_of = |text: &&str| {
            let socket: std::net::SocketAddr = text.parse().unwrap();
            Service::new(ServiceId::tcp(socket.ip(), socket.port()), Scheduler::RR)
        };
        let list: Vec<Service> = fronts.iter().map(services_of).collect();
        let order = sorted(&list, &services);
        order
            .iter()
            .map(|service| format!("{}:{}", address(&service.id).unwrap(), port(&service.id)))
            .collect()
    }

    #[test]
    fn the_difference_wraps_as_it_does_in_ipvsadm() {
        let order = printed(&["10.0.2.15:80", "203.0.113.10:80", "10.96.0.1:443"]);
        assert_eq!(order, ["203.0.113.10:80", "10.0.2.15:80", "10.96.0.1:443"]);
    }

    #[test]
    fn family_then_address_then_port() {
        let order = printed(&["[fd00::1]:80", "10.0.0.2:80", "10.0.0.1:443", "10.0.0.1:80"]);
        assert_eq!(
            order,
            ["10.0.0.1:80", "10.0.0.1:443", "10.0.0.2:80", "fd00::1:80"]
        );
    }
}
