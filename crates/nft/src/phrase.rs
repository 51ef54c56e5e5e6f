//! Phrases that rules are made of: each is what nft makes of the words that
//! stand before it, instruction by instruction, so that `nft list table` shows
//! those words.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::packed::{address_bytes, network_items};
use crate::set::{ADDRESS_V4, ADDRESS_V6, ICMP_TYPE, ICMPV6_TYPE, PROTOCOL};
use crate::wire::{
    Compare, Ct, Expression, Item, Key, Layer, Meta, Order, Register, SetSpec, Verdict,
};
use crate::{Family, Set};

/// Instructions that belong together.
pub(crate) type Phrase = Vec<Expression>;

/// Whether the kernel lists as `listed` what was written as this.
pub(crate) fn is_listed_as(written: &[Expression], listed: &[Expression]) -> bool {
    let mut pairs = written.iter().zip(listed);
    written.len() == listed.len() && pairs.all(|(written, listed)| written.is_listed_as(listed))
}

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const SCTP: u8 = 132;

/// Index of `lo`, which is the first link of every namespace.
const LO: u32 = 1;

/// An address of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Destination,
}

/// States of a connection (`NF_CT_STATE_BIT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    New = 8,
    EstablishedOrRelated = 2 | 4,
    InvalidOrKnown = 1 | 2 | 4,
    Untracked = 64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Original = 0,
    Reply = 1,
}

/// `accept`
pub(crate) fn accept() -> Phrase {
    vec![Expression::Decide(Verdict::Accept)]
}

/// `drop`
pub(crate) fn drop() -> Phrase {
    vec![Expression::Decide(Verdict::Drop)]
}

/// `goto CHAIN`
pub(crate) fn goto(chain: &str) -> Phrase {
    vec![Expression::Decide(Verdict::Goto(chain.to_owned()))]
}

/// `ct state new`, `ct state established,related`, `ct state untracked`
pub(crate) fn state(state: State) -> Phrase {
    vec![
        Expression::CtLoad {
            key: Ct::STATE,
            direction: None,
            into: Register::FIRST,
        },
        masked(state as u32),
        not_zero(),
    ]
}

/// `ct status ! confirmed`: whoever asks before the packet leaves or is taken sees
/// it of the first one of a flow.
pub(crate) fn first_packet() -> Phrase {
    const IPS_CONFIRMED: u32 = 8;
    vec![
        Expression::CtLoad {
            key: Ct::STATUS,
            direction: None,
            into: Register::FIRST,
        },
        masked(IPS_CONFIRMED),
        is(Compare::Equal, &[0; 4]),
    ]
}

/// `tcp flags ! syn`
pub(crate) fn no_syn() -> Phrase {
    const FLAGS: u32 = 13;
    const SYN: u8 = 2;
    let syn = Expression::Bitwise {
        from: Register::FIRST,
        into: Register::FIRST,
        mask: vec![SYN],
        xor: vec![0],
    };
    let mut phrase = protocol(Compare::Equal, TCP);
    phrase.extend([
        transport(FLAGS, 1, Register::FIRST),
        syn,
        is(Compare::Equal, &[0]),
    ]);
    phrase
}

/// `notrack`: conntrack takes no notice of the packet. Of one that it knows
/// already nothing changes.
pub(crate) fn no_track() -> Phrase {
    vec![Expression::NoTrack]
}

/// `ct direction reply`
pub(crate) fn direction(direction: Direction) -> Phrase {
    vec![
        Expression::CtLoad {
            key: Ct::DIRECTION,
            direction: None,
            into: Register::FIRST,
        },
        is(Compare::Equal, &[direction as u8]),
    ]
}

/// `meta l4proto 17` or `meta l4proto != 17`
pub(crate) fn protocol(how: Compare, protocol: u8) -> Phrase {
    vec![meta(Meta::L4PROTO), is(how, &[protocol])]
}

/// `iif "lo"`, `iif != "lo"`
pub(crate) fn from_lo(how: Compare) -> Phrase {
    vec![meta(Meta::IIF), is(how, &LO.to_ne_bytes())]
}

/// `iif 0`: it came in by no link, so this host sends it.
pub(crate) fn from_here(how: Compare) -> Phrase {
    vec![meta(Meta::IIF), is(how, &[0; 4])]
}

/// `oif "lo"`
pub(crate) fn to_lo() -> Phrase {
    vec![meta(Meta::OIF), is(Compare::Equal, &LO.to_ne_bytes())]
}

/// `iifname "cbr0"`; a name that begins so with `whole` false: `iifname "veth*"`
pub(crate) fn from_link(how: Compare, name: &str, whole: bool) -> Phrase {
    const IFNAMSIZ: usize = 16;
    let mut bytes = name.as_bytes().to_vec();
    if whole {
        bytes.resize(IFNAMSIZ, 0);
    }
    vec![meta(Meta::IIFNAME), is(how, &bytes)]
}

/// `meta mark 0`, `meta mark != 0`
pub(crate) fn mark(how: Compare, value: u32) -> Phrase {
    vec![meta(Meta::MARK), is(how, &value.to_ne_bytes())]
}

/// `meta mark & MASK != 0`
pub(crate) fn mark_has(mask: u32) -> Phrase {
    vec![meta(Meta::MARK), masked(mask), not_zero()]
}

/// `meta mark & MASK == MASK`
pub(crate) fn mark_has_all(mask: u32) -> Phrase {
    let is_mask = is(Compare::Equal, &mask.to_ne_bytes());
    vec![meta(Meta::MARK), masked(mask), is_mask]
}

/// `meta mark @SET`
pub(crate) fn mark_in(set: &str) -> Phrase {
    vec![meta(Meta::MARK), lookup(set, None, false)]
}

/// `meta mark set VALUE`
pub(crate) fn set_mark(value: u32) -> Phrase {
    vec![load(Register::FIRST, &value.to_ne_bytes()), store_mark()]
}

/// `meta mark set meta mark | MASK`
pub(crate) fn add_mark(mask: u32) -> Phrase {
    vec![meta(Meta::MARK), bitwise(!mask, mask), store_mark()]
}

/// `meta mark set meta mark & MASK`
pub(crate) fn keep_mark(mask: u32) -> Phrase {
    vec![meta(Meta::MARK), masked(mask), store_mark()]
}

/// `reject with tcp reset`
pub(crate) fn reset() -> Phrase {
    vec![Expression::Reject { kind: 1, code: 0 }]
}

/// `masquerade fully-random`, `masquerade to :1024-29999 fully-random`
pub(crate) fn masquerade(ports: Option<(u16, u16)>) -> Phrase {
    const PROTO_SPECIFIED: u32 = 2;
    const FULLY_RANDOM: u32 = 16;
    let Some((first, last)) = ports else {
        let flags = FULLY_RANDOM;
        return vec![Expression::Masquerade { flags, ports: None }];
    };
    vec![
        load(Register::FIRST, &first.to_be_bytes()),
        load(Register::SECOND, &last.to_be_bytes()),
        Expression::Masquerade {
            flags: PROTO_SPECIFIED | FULLY_RANDOM,
            ports: Some((Register::FIRST, Register::SECOND)),
        },
    ]
}

/// `meta l4proto { 6, 17, 132 }`
pub(crate) fn any_service_protocol() -> Phrase {
    let keys = [TCP, UDP, SCTP].map(|protocol| item(&[protocol]));
    vec![
        meta(Meta::L4PROTO),
        among(PROTOCOL, Order::Host, keys.into()),
    ]
}

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
        let asked = Expression::CtLoad {
            key,
            direction: Some(Direction::Original as u8),
            into: Register::FIRST,
        };
        vec![asked, lookup(set.name(), None, true)]
    }

    /// `fib saddr type local`, `fib daddr type != local`
    pub(crate) fn local(self, side: Side, how: Compare) -> Phrase {
        const ADDRTYPE: u32 = 3;
        const RTN_LOCAL: u32 = 2;
        let fib = Expression::Fib {
            flags: match side {
                Side::Source => 1,
                Side::Destination => 2,
            },
            result: ADDRTYPE,
            into: Register::FIRST,
        };
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
                let among = Expression::Among {
                    set: spec,
                    from,
                    inverted,
                };
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
        let mask = Expression::Bitwise {
            from: Register::FIRST,
            into: Register::FIRST,
            mask: address_bytes(network.netmask()),
            xor: vec![0; bytes.len()],
        };
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
        Expression::Payload {
            layer: Layer::Network as u32,
            offset,
            length,
            into,
        }
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

fn meta(key: Meta) -> Expression {
    let into = Register::FIRST;
    Expression::MetaLoad { key, into }
}

fn store_mark() -> Expression {
    Expression::MetaSet {
        key: Meta::MARK,
        from: Register::FIRST,
    }
}

fn load(into: Register, data: &[u8]) -> Expression {
    let data = data.to_vec();
    Expression::Load { into, data }
}

fn transport(offset: u32, length: u32, into: Register) -> Expression {
    Expression::Payload {
        layer: Layer::Transport as u32,
        offset,
        length,
        into,
    }
}

fn is(how: Compare, data: &[u8]) -> Expression {
    Expression::Compare {
        how,
        register: Register::FIRST,
        data: data.to_vec(),
    }
}

fn not_zero() -> Expression {
    is(Compare::NotEqual, &[0; 4])
}

fn masked(mask: u32) -> Expression {
    bitwise(mask, 0)
}

/// Of a number in the machine's order.
fn bitwise(mask: u32, xor: u32) -> Expression {
    Expression::Bitwise {
        from: Register::FIRST,
        into: Register::FIRST,
        mask: mask.to_ne_bytes().into(),
        xor: xor.to_ne_bytes().into(),
    }
}

fn lookup(set: &str, into: Option<Register>, inverted: bool) -> Expression {
    Expression::Lookup {
        set: set.to_owned(),
        from: Register::FIRST,
        into,
        inverted,
    }
}

fn item(key: &[u8]) -> Item {
    Item::new(Key::new(key).unwrap_or(Key::EMPTY))
}

/// Is what stands in the first register one of these, a byte each?
fn among(kind: u32, order: Order, items: Vec<Item>) -> Expression {
    Expression::Among {
        set: SetSpec {
            parts: vec![(kind, 1)],
            order,
            values: None,
            intervals: false,
            constant: Some(items),
        },
        from: Register::FIRST,
        inverted: false,
    }
}
