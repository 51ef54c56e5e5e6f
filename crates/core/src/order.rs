//! The order of fronts and of real servers: by address, port and protocol.
//!
//! Every change looks some up among all there are, and one look-up compares
//! many. Of IPv4, which most are, address, port and protocol are one number.

use core::cmp::Ordering;
use core::net::{IpAddr, Ipv4Addr};

use crate::state::{Front, RealServerKey};

impl Ord for Front {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        let rest = |front: &Self| u32::from(front.port) << 8 | front.protocol as u32;
        match (&self.address, &other.address) {
            (IpAddr::V4(one), IpAddr::V4(two)) => {
                number(one, rest(self)).cmp(&number(two, rest(other)))
            }
            (one, two) => one.cmp(two).then_with(|| rest(self).cmp(&rest(other))),
        }
    }
}

impl PartialOrd for Front {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RealServerKey {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.address, &other.address) {
            (IpAddr::V4(one), IpAddr::V4(two)) => {
                number(one, self.port.into()).cmp(&number(two, other.port.into()))
            }
            (one, two) => one.cmp(two).then_with(|| self.port.cmp(&other.port)),
        }
    }
}

impl PartialOrd for RealServerKey {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[inline]
fn number(address: &Ipv4Addr, rest: u32) -> u64 {
    u64::from(address.to_bits()) << 32 | u64::from(rest)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::state::Protocol;

    fn address() -> impl Strategy<Value = IpAddr> {
        let four = prop_oneof![any::<[u8; 4]>(), Just([10, 0, 0, 1]), Just([10, 0, 1, 0])];
        prop_oneof![
            4 => four.prop_map(IpAddr::from),
            1 => any::<[u8; 16]>().prop_map(IpAddr::from),
        ]
    }

    fn front() -> impl Strategy<Value = Front> {
        let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
        let port = prop_oneof![any::<u16>(), 80..82_u16];
        (address(), port, protocol).prop_map(|(address, port, protocol)| Front {
            address,
            port,
            protocol,
        })
    }

    proptest! {
        #[test]
        fn it_is_that_of_address_port_and_protocol(one in front(), two in front()) {
            let parts = |front: &Front| (front.address, front.port, front.protocol);
            prop_assert_eq!(one.cmp(&two), parts(&one).cmp(&parts(&two)));
            let real = |Front { address, port, .. }: Front| RealServerKey { address, port };
            let (one, two) = (real(one), real(two));
            let parts = |real: &RealServerKey| (real.address, real.port);
            prop_assert_eq!(one.cmp(&two), parts(&one).cmp(&parts(&two)));
        }
    }
}
