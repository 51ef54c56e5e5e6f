//! The instructions that have several parts, with what each says of them in a
//! message.

use netlink_exchange::Writer;

use super::{ANONYMOUS, Ct, Register};
use crate::wire::{DATA_VALUE, SetSpec};

/// `NFT_PAYLOAD_NETWORK_HEADER` and `NFT_PAYLOAD_TRANSPORT_HEADER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    Network = 1,
    Transport = 2,
}

/// Reads bytes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) layer: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    pub(crate) into: Register,
}

impl Payload {
    pub(super) fn write(&self, out: &mut Writer<'_>) {
        let [layer, offset, length] = [self.layer, self.offset, self.length];
        numbers(
            out,
            [(1, self.into.0), (2, layer), (3, offset), (4, length)],
        );
    }
}

/// Reads what is known of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CtLoad {
    pub(crate) key: Ct,
    /// `IP_CT_DIR_ORIGINAL` 0 or `IP_CT_DIR_REPLY` 1.
    pub(crate) direction: Option<u8>,
    pub(crate) into: Register,
}

impl CtLoad {
    pub(super) fn write(&self, out: &mut Writer<'_>) {
        numbers(out, [(2, self.key.0), (1, self.into.0)]);
        if let Some(direction) = self.direction {
            out.u8(3, direction);
        }
    }
}

/// Asks the routes: `NFTA_FIB_F_SADDR` 1 or `NFTA_FIB_F_DADDR` 2, and
/// `NFT_FIB_RESULT_ADDRTYPE` 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fib {
    pub(crate) flags: u32,
    pub(crate) result: u32,
    pub(crate) into: Register,
}

impl Fib {
    pub(super) fn write(&self, out: &mut Writer<'_>) {
        numbers(out, [(3, self.flags), (2, self.result), (1, self.into.0)]);
    }
}

/// `into = (from & mask) ^ xor`, of packet data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bitwise {
    pub(crate) from: Register,
    pub(crate) into: Register,
    pub(crate) mask: Vec<u8>,
    pub(crate) xor: Vec<u8>,
}

impl Bitwise {
    pub(super) fn write(&self, out: &mut Writer<'_>) {
        let length = self.mask.len() as u32;
        numbers(out, [(1, self.from.0), (2, self.into.0), (3, length)]);
        value(out, 4, &self.mask);
        value(out, 5, &self.xor);
    }
}

/// `NFT_CMP_EQ` and `NFT_CMP_NEQ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    NotEqual,
    /// Less, more, and so on.
    Other(u32),
}

impl Compare {
    fn number(self) -> u32 {
        match self {
            Self::Equal => 0,
            Self::NotEqual => 1,
            Self::Other(number) => number,
        }
    }
}

/// Goes on with the rule if packet data is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) how: Compare,
    pub(crate) register: Register,
    pub(crate) data: Vec<u8>,
}

impl Comparison {
    pub(super) fn write(&self, out: &mut Writer<'_>) {
        numbers(out, [(1, self.register.0), (2, self.how.number())]);
        value(out, 3, &self.data);
    }
}

/// Is it in a set, or what does a map say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) set: String,
    pub(crate) from: Register,
    pub(crate) into: Option<Register>,
    pub(crate) inverted: bool,
}

impl Lookup {
    pub(super) fn write(&self, out: &mut Writer<'_>) {
        out.be32(2, self.from.0);
        out.name(1, &self.set);
        if let Some(into) = self.into {
            out.be32(3, into.0);
        }
        flag(out, 5, self.inverted);
    }
}

/// The same with a set that belongs to the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Among {
    pub(crate) set: SetSpec,
    pub(crate) from: Register,
    pub(crate) inverted: bool,
}

impl Among {
    /// `number`: of the set in its transaction.
    pub(super) fn write(&self, out: &mut Writer<'_>, number: u32) {
        out.be32(2, self.from.0);
        out.name(1, ANONYMOUS);
        out.be32(4, number);
        flag(out, 5, self.inverted);
    }
}

pub(super) fn numbers<const N: usize>(out: &mut Writer<'_>, pairs: [(u16, u32); N]) {
    for (kind, value) in pairs {
        out.be32(kind, value);
    }
}

fn flag(out: &mut Writer<'_>, kind: u16, set: bool) {
    if set {
        out.be32(kind, 1);
    }
}

/// Packet data, as it stands in registers.
pub(super) fn value(out: &mut Writer<'_>, kind: u16, bytes: &[u8]) {
    out.nest(kind, |out| out.bytes(DATA_VALUE, bytes));
}
