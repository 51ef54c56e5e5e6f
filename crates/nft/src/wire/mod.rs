//! nf_tables messages, as far as our table and a look at those of others need
//! them: written with [`netlink_exchange::Writer`], read with
//! [`netlink_exchange::attributes`].
//!
//! The codec is our own. `netlink-packet-netfilter` 0.4 has no expressions for
//! ct, fib, masquerade and reject, gives the end of an interval (`KEY_END`) as
//! bytes, and allocates for each of the four attributes of an element, of which
//! a table read back has tens of thousands. What we send and read is a small
//! part of nf_tables, and what it means is this crate's subject.
//!
//! Numbers are those of `linux/netfilter/nf_tables.h`, in network order in
//! messages unless they are said to be data of packets.

mod command;
mod describe;
mod expression;
mod item;
mod listed;
mod sets;
#[cfg(test)]
mod tests;

pub(crate) use command::{Base, Command, Get, Hooked, Name, Place, Verb, rule};
pub(crate) use expression::{
    Among, Bitwise, Compare, Comparison, Ct, CtLoad, Expression, Fib, Layer, Lookup, Meta, Payload,
    Register, Verdict,
};
pub(crate) use item::{Data, Item, Key};
pub(crate) use listed::{ListedChain, ListedRule, ListedSet, elements, generation, table_flags};
pub(crate) use sets::{Order, SetSpec, Values};

/// `NFNL_SUBSYS_NFTABLES`.
pub(crate) const SUBSYSTEM: u8 = 10;

/// `NFTA_LIST_ELEM`, a member of a list.
const LIST_ELEM: u16 = 1;

/// `NFTA_DATA_VALUE` and `NFTA_DATA_VERDICT`.
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

/// What a message asks for or tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    NewTable = 0,
    GetTable = 1,
    DelTable = 2,
    NewChain = 3,
    GetChain = 4,
    DelChain = 5,
    NewRule = 6,
    GetRule = 7,
    DelRule = 8,
    NewSet = 9,
    GetSet = 10,
    NewSetElem = 12,
    GetSetElem = 13,
    DelSetElem = 14,
    GetGen = 16,
}

impl Kind {
    pub(crate) const fn message_type(self) -> u16 {
        netlink_exchange::nfnetlink::message_type(SUBSYSTEM, self as u8)
    }
}

/// Reads a message whatever it is, for tests that throw dice: it is never to
/// panic.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn decode(message_type: u16, payload: &[u8]) {
    let content = netlink_exchange::Content {
        message_type,
        payload,
    };
    let is = |kind: Kind| message_type == kind.message_type();
    // What cannot be read is an error, and as good as any answer here.
    let _ = if is(Kind::NewTable) {
        table_flags(content).map(drop)
    } else if is(Kind::NewChain) {
        ListedChain::read(content).map(drop)
    } else if is(Kind::NewRule) {
        ListedRule::read(content).map(drop)
    } else if is(Kind::NewSet) {
        ListedSet::read(content).map(drop)
    } else if is(Kind::NewSetElem) {
        decode_elements(content)
    } else {
        generation(content).map(drop)
    };
}

/// Elements, as if they were of each of our sets.
#[cfg(any(test, feature = "fuzz"))]
fn decode_elements(
    content: netlink_exchange::Content<'_>,
) -> Result<(), netlink_exchange::DecodeError> {
    let mut items = Vec::new();
    elements(content, |item| items.extend(item))?;
    for family in crate::Family::ALL {
        for set in crate::Set::ALL {
            drop(crate::packed::read_items(set, family, &items));
        }
    }
    Ok(())
}
