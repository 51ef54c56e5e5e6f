//! ipvsadm's order of services and destinations.
//!
//! It subtracts host-order numbers as C `int`s, word by word for IPv6, which
//! wraps, so its comparison is no order: 203.0.113.10 comes before 10.0.2.15.
//! Of two families among the destinations of a tunnel it compares as many words
//! as the first has. To print what it prints we compare as it does and merge as
//! its C library does; Rust's own sort may refuse such a comparison.

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
    let (Some(a), Some(b)) = (a, b) else { return 0 };
    let compared = if a.is_ipv6() { 4 } else { 1 };
    let (a, b) = (words(a), words(b));
    (0..compared)
        .map(|word| wrapping(a[word], b[word]))
        .find(|difference| *difference != 0)
        .unwrap_or(0)
}

/// As the kernel's `nf_inet_addr` holds it, in host order: IPv4 is the first
/// word and the rest is 0.
fn words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(v4) => [v4.to_bits(), 0, 0, 0],
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
        }
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
    fn each_word_of_ipv6_wraps_by_itself() {
        let order = printed(&["[fd00::1]:80", "[2001:db8::1]:80", "[fd00::9000:0:0:0]:80"]);
        assert_eq!(
            order,
            ["fd00::9000:0:0:0:80", "fd00::1:80", "2001:db8::1:80"]
        );
    }

    #[test]
    fn of_two_families_the_first_says_how_much_is_compared() {
        let to = |address: &str| {
            Destination::new(ipvs_netlink::DestinationId::new(
                address.parse::<IpAddr>().unwrap(),
                80,
            ))
        };
        let (v4, v6) = (to("32.1.13.184"), to("2001:db8::1"));
        assert_eq!(destinations(&v4, &v6), 0, "2001:0db8 is 32.1.13.184");
        assert_eq!(destinations(&v6, &v4), 1);
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
