//! Phrases that rules are made of: each is what nft makes of the words that
//! stand before it, instruction by instruction, so that `nft list table` shows
//! those words.

mod family;
mod instruction;

use instruction::{
    among, bitwise, is, item, load, lookup, masked, meta, not_zero, store_mark, transport,
};

use crate::set::PROTOCOL;
use crate::wire::{Bitwise, Compare, Ct, CtLoad, Expression, Meta, Order, Register, Verdict};

pub(crate) use family::Phrases;

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
        Expression::CtLoad(CtLoad {
            key: Ct::STATE,
            direction: None,
            into: Register::FIRST,
        }),
        masked(state as u32),
        not_zero(),
    ]
}

/// `ct status ! confirmed`: whoever asks before the packet leaves or is taken sees
/// it of the first one of a flow.
pub(crate) fn first_packet() -> Phrase {
    const IPS_CONFIRMED: u32 = 8;
    vec![
        Expression::CtLoad(CtLoad {
            key: Ct::STATUS,
            direction: None,
            into: Register::FIRST,
        }),
        masked(IPS_CONFIRMED),
        is(Compare::Equal, &[0; 4]),
    ]
}

/// `tcp flags ! syn`
pub(crate) fn no_syn() -> Phrase {
    const FLAGS: u32 = 13;
    const SYN: u8 = 2;
    let syn = Expression::Bitwise(Bitwise {
        from: Register::FIRST,
        into: Register::FIRST,
        mask: vec![SYN],
        xor: vec![0],
    });
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
        Expression::CtLoad(CtLoad {
            key: Ct::DIRECTION,
            direction: None,
            into: Register::FIRST,
        }),
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
