//! Phrases that differ between families.

use std::net::IpAddr;

use ipnet::IpNet;

use super::instruction::{among, is, item, lookup, store_mark, transport};
use super::{Direction, Phrase, Side, protocol};
use crate::packed::{address_bytes, network_items};
use crate::set::{ADDRESS_V4, ADDRESS_V6, ICMP_TYPE, ICMPV6_TYPE};
use crate::wire::{
    Among, Bitwise, Compare, Ct, CtLoad, Expression, Fib, Layer, Meta, Order, Payload, Register,
    SetSpec,
};
use crate::{Family, Set};

/// Phrases that differ between families.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phrases(pub(crate) Family);

impl Phrases {
    /// `ip daddr . meta l4proto . th dport @SET`
    pub(crate) fn front_in(self, set: Set) -> Phrase {
        let mut phrase = self.front();
        phrase.push(lookup(set.name(), None, false));
        phrase
    }

    /// `ip saddr . meta l4proto . th sport @SET`
    pub(crate) fn sender_in(self, set: Set) -> Phrase {
        let mut phrase = self.end(Side::Source);
        phrase.push(lookup(set.name(), None, false));
        phrase
    }

    /// `ip daddr . meta l4proto . th dport vmap @MAP`
    pub(crate) fn verdict_of_front(self, map: Set) -> Phrase {
        let mut phrase = self.front();
        phrase.push(lookup(map.name(), Some(Register::VERDICT), false));
        phrase
    }

    /// `ip daddr . meta l4proto . th dport . ip saddr != @SET`
    pub(crate) fn front_and_source_not_in(self, set: Set) -> Phrase {
        let mut phrase = self.front();
        phrase.push(self.address(Side::Source, Register::at(self.words() + 2)));
        phrase.push(lookup(set.name(), None, true));
        phrase
    }

    /// `meta mark set ip daddr . meta l4proto . th dport map @MAP`
    pub(crate) fn set_mark_by_front(self, map: Set) -> Phrase {
        let mut phrase = self.front();
        phrase.push(lookup(map.name(), Some(Register::FIRST), false));
        phrase.push(store_mark());
        phrase
    }

    /// `ip daddr @SET`
    pub(crate) fn address_in(self, side: Side, set: Set) -> Phrase {
        let found = lookup(set.name(), None, false);
        vec![self.address(side, Register::FIRST), found]
    }

    /// `ip daddr != @SET`
    pub(crate) fn address_not_in(self, side: Side, set: Set) -> Phrase {
        let absent = lookup(set.name(), None, true);
        vec![self.address(side, Register::FIRST), absent]
    }

    /// `dnat to ip daddr`: stays where it goes, whatever the nat chains after
    /// this one say. The kernel asks no more of them once a flow has a
    /// translation.
    pub(crate) fn keep_destination(self) -> Phrase {
        let address = Register::FIRST;
        let family = u32::from(self.0.number());
        vec![
            self.address(Side::Destination, address),
            Expression::DestinationNat { family, address },
        ]
    }

    /// `ip saddr . ip daddr @SET`
    pub(crate) fn addresses_in(self, set: Set) -> Phrase {
        vec![
            self.address(Side::Source, Register::FIRST),
            self.address(Side::Destination, Register::at(self.words())),
            lookup(set.name(), None, false),
        ]
    }

    /// `ct original ip daddr != @SET`
    pub(crate) fn asked_address_not_in(self, set: Set) -> Phrase {
        let key = match self.0 {
            Family::Ip => Ct::DST_IP,
            Family::Ip6 => Ct::DST_IP6,
        };
        let asked = Expression::CtLoad(CtLoad {
            key,
            direction: Some(Direction::Original as u8),
            into: Register::FIRST,
        });
        vec![asked, lookup(set.name(), None, true)]
    }

    /// `fib saddr type local`, `fib daddr type != local`
    pub(crate) fn local(self, side: Side, how: Compare) -> Phrase {
        const ADDRTYPE: u32 = 3;
        const RTN_LOCAL: u32 = 2;
        let fib = Expression::Fib(Fib {
            flags: match side {
                Side::Source => 1,
                Side::Destination => 2,
            },
            result: ADDRTYPE,
            into: Register::FIRST,
        });
        vec![fib, is(how, &RTN_LOCAL.to_ne_bytes())]
    }

    /// `ip saddr 10.244.1.0/24`, `ip saddr != { 10.244.1.0/24, 10.244.7.0/24 }`
    pub(crate) fn within(self, side: Side, how: Compare, networks: &[IpNet]) -> Phrase {
        match networks {
            [network] => self.within_one(side, how, *network),
            networks => {
                let kind = match self.0 {
                    Family::Ip => ADDRESS_V4,
                    Family::Ip6 => ADDRESS_V6,
                };
                let mut items = Vec::new();
                for network in networks {
                    network_items(network, &mut items);
                }
                let spec = SetSpec {
                    parts: vec![(kind, self.bytes())],
                    order: Order::Network,
                    values: None,
                    intervals: true,
                    constant: Some(items),
                };
                let inverted = how != Compare::Equal;
                let from = Register::FIRST;
                let among = Expression::Among(Among {
                    set: spec,
                    from,
                    inverted,
                });
                vec![self.address(side, from), among]
            }
        }
    }

    /// nft looks at whole bytes where a network is some, and masks otherwise.
    fn within_one(self, side: Side, how: Compare, network: IpNet) -> Phrase {
        let prefix = u32::from(network.prefix_len());
        let bytes = address_bytes(network.addr());
        if prefix > 0 && prefix.is_multiple_of(8) {
            let length = prefix / 8;
            let part = self.part(side, length, Register::FIRST);
            return vec![part, is(how, &bytes[..length as usize])];
        }
        let mask = Expression::Bitwise(Bitwise {
            from: Register::FIRST,
            into: Register::FIRST,
            mask: address_bytes(network.netmask()),
            xor: vec![0; bytes.len()],
        });
        let address = self.address(side, Register::FIRST);
        vec![address, mask, is(how, &bytes)]
    }

    /// `ip saddr != 127.0.0.0/8`, `ip6 saddr != ::1`
    pub(crate) fn not_loopback(self) -> Phrase {
        let loopback = match self.0 {
            Family::Ip => IpNet::new_assert([127, 0, 0, 0].into(), 8),
            Family::Ip6 => IpNet::from(IpAddr::from(std::net::Ipv6Addr::LOCALHOST)),
        };
        self.within_one(Side::Source, Compare::NotEqual, loopback)
    }

    /// `icmp type { ... }`, `icmpv6 type { ... }`
    pub(crate) fn icmp(self, types: &[u8]) -> Phrase {
        const ICMP: u8 = 1;
        const ICMPV6: u8 = 58;
        let (number, kind) = match self.0 {
            Family::Ip => (ICMP, ICMP_TYPE),
            Family::Ip6 => (ICMPV6, ICMPV6_TYPE),
        };
        let mut phrase = protocol(Compare::Equal, number);
        let keys = types.iter().map(|kind| item(&[*kind])).collect();
        phrase.push(transport(0, 1, Register::FIRST));
        phrase.push(among(kind, Order::Network, keys));
        phrase
    }

    /// `reject`, with the family's port unreachable
    pub(crate) fn reject(self) -> Phrase {
        let code = match self.0 {
            Family::Ip => 3,
            Family::Ip6 => 4,
        };
        vec![Expression::Reject { kind: 0, code }]
    }

    /// Address, protocol and port that a packet is sent to, from the first
    /// register on.
    fn front(self) -> Phrase {
        self.end(Side::Destination)
    }

    /// The same, or those that a packet comes from. Ports are the first words of
    /// the header of each of our protocols.
    fn end(self, side: Side) -> Phrase {
        let port = match side {
            Side::Source => 0,
            Side::Destination => 2,
        };
        let words = self.words();
        vec![
            self.address(side, Register::FIRST),
            Expression::MetaLoad {
                key: Meta::L4PROTO,
                into: Register::at(words),
            },
            transport(port, 2, Register::at(words + 1)),
        ]
    }

    fn address(self, side: Side, into: Register) -> Expression {
        self.part(side, self.bytes(), into)
    }

    /// The first bytes of an address in the IP header.
    fn part(self, side: Side, length: u32, into: Register) -> Expression {
        let offset = match (self.0, side) {
            (Family::Ip, Side::Source) => 12,
            (Family::Ip, Side::Destination) => 16,
            (Family::Ip6, Side::Source) => 8,
            (Family::Ip6, Side::Destination) => 24,
        };
        Expression::Payload(Payload {
            layer: Layer::Network as u32,
            offset,
            length,
            into,
        })
    }

    /// Bytes of an address.
    fn bytes(self) -> u32 {
        match self.0 {
            Family::Ip => 4,
            Family::Ip6 => 16,
        }
    }

    /// The registers it takes.
    fn words(self) -> usize {
        self.bytes() as usize / 4
    }
}
