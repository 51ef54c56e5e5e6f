//! The instructions that rules are made of.

mod instructions;
mod read;

use netlink_exchange::Writer;

pub(crate) use instructions::{
    Among, Bitwise, Compare, Comparison, CtLoad, Fib, Layer, Lookup, Payload,
};
pub(crate) use read::comment_of;

use instructions::{numbers, value};

use super::{DATA_VERDICT, LIST_ELEM};

/// A place for four bytes, or the first of several: `NFT_REG32_00` is 8, and
/// every fourth has a second name from `NFT_REG_1` on, 1 to 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Register(pub(crate) u32);

impl Register {
    /// Where values stand that are looked at alone.
    pub(crate) const FIRST: Self = Self(1);
    /// The second of sixteen bytes.
    pub(crate) const SECOND: Self = Self(2);
    /// `NFT_REG_VERDICT`.
    pub(crate) const VERDICT: Self = Self(0);

    /// The one that begins so many times four bytes behind the first.
    pub(crate) fn at(words: usize) -> Self {
        let words = words as u32;
        if words.is_multiple_of(4) {
            Self(1 + words / 4)
        } else {
            Self(8 + words)
        }
    }
}

/// What is known of a packet (`enum nft_meta_keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta(pub(crate) u32);

impl Meta {
    pub(crate) const MARK: Self = Self(3);
    pub(crate) const IIF: Self = Self(4);
    pub(crate) const OIF: Self = Self(5);
    pub(crate) const IIFNAME: Self = Self(6);
    pub(crate) const L4PROTO: Self = Self(16);
}

/// What is known of its connection (`enum nft_ct_keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ct(pub(crate) u32);

impl Ct {
    pub(crate) const STATE: Self = Self(0);
    pub(crate) const DIRECTION: Self = Self(1);
    pub(crate) const STATUS: Self = Self(2);
    pub(crate) const DST_IP: Self = Self(20);
    pub(crate) const DST_IP6: Self = Self(22);
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    Goto(String),
    Jump(String),
    /// Queue, return, and so on.
    Other(i32),
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    Payload(Payload),
    MetaLoad {
        key: Meta,
        into: Register,
    },
    MetaSet {
        key: Meta,
        from: Register,
    },
    CtLoad(CtLoad),
    Fib(Fib),
    Bitwise(Bitwise),
    Compare(Comparison),
    Lookup(Lookup),
    Among(Among),
    Load {
        into: Register,
        data: Vec<u8>,
    },
    Decide(Verdict),
    /// `NFT_REJECT_ICMP_UNREACH` 0 with its code, `NFT_REJECT_TCP_RST` 1.
    Reject {
        kind: u32,
        code: u8,
    },
    /// Flags of `NF_NAT_RANGE_*`; ports are in registers.
    Masquerade {
        flags: u32,
        ports: Option<(Register, Register)>,
    },
    /// A destination for all packets of the flow, of this family
    /// (`NFPROTO_*`), with the port it has.
    DestinationNat {
        family: u32,
        address: Register,
    },
    /// `NFT_CT` has no word for it: an instruction of its own without attributes.
    NoTrack,
    /// One of others. Those of x_tables (`match`, `target`) have a name of
    /// their own.
    Other {
        name: String,
        extension: Option<String>,
    },
}

/// `NFT_NAT_DNAT`.
const DNAT: u32 = 1;

/// Name of a set that belongs to a rule; the kernel puts a number in.
pub(super) const ANONYMOUS: &str = "__set%d";

impl Expression {
    /// Write it as a member of a list. `among` is the number of the set that
    /// belongs to the rule, if one does.
    pub(super) fn write(&self, out: &mut Writer<'_>, among: u32) {
        out.nest(LIST_ELEM, |out| {
            out.name(1, self.name());
            out.nest(2, |out| self.write_data(out, among));
        });
    }

    /// The kernel's name for the kind of instruction.
    fn name(&self) -> &str {
        match self {
            Self::Payload(_) => "payload",
            Self::MetaLoad { .. } | Self::MetaSet { .. } => "meta",
            Self::CtLoad(_) => "ct",
            Self::Fib(_) => "fib",
            Self::Bitwise(_) => "bitwise",
            Self::Compare(_) => "cmp",
            Self::Lookup(_) | Self::Among(_) => "lookup",
            Self::Load { .. } | Self::Decide(_) => "immediate",
            Self::Reject { .. } => "reject",
            Self::Masquerade { .. } => "masq",
            Self::DestinationNat { .. } => "nat",
            Self::NoTrack => "notrack",
            Self::Other { name, .. } => name,
        }
    }

    fn write_data(&self, out: &mut Writer<'_>, among: u32) {
        match self {
            Self::Payload(load) => load.write(out),
            Self::MetaLoad { key, into } => numbers(out, [(2, key.0), (1, into.0)]),
            Self::MetaSet { key, from } => numbers(out, [(2, key.0), (3, from.0)]),
            Self::CtLoad(load) => load.write(out),
            Self::Fib(fib) => fib.write(out),
            Self::Bitwise(bitwise) => bitwise.write(out),
            Self::Compare(comparison) => comparison.write(out),
            Self::Lookup(lookup) => lookup.write(out),
            Self::Among(lookup) => lookup.write(out, among),
            Self::Load { into, data } => {
                out.be32(1, into.0);
                value(out, 2, data);
            }
            Self::Decide(verdict) => {
                out.be32(1, Register::VERDICT.0);
                out.nest(2, |out| out.nest(DATA_VERDICT, |out| verdict.write(out)));
            }
            Self::Reject { kind, code } => {
                out.be32(1, *kind);
                out.u8(2, *code);
            }
            Self::Masquerade { flags, ports } => {
                out.be32(1, *flags);
                if let Some((first, last)) = ports {
                    numbers(out, [(2, first.0), (3, last.0)]);
                }
            }
            Self::DestinationNat { family, address } => {
                numbers(out, [(1, DNAT), (2, *family), (3, address.0)]);
            }
            Self::NoTrack | Self::Other { .. } => {}
        }
    }

    /// Whether the kernel says of `listed` what was written as this: a set that
    /// belongs to the rule has got a number.
    pub(crate) fn is_listed_as(&self, listed: &Self) -> bool {
        match (self, listed) {
            (Self::Among(written), Self::Lookup(listed)) => {
                listed.set.starts_with("__set")
                    && listed.into.is_none()
                    && (written.from, written.inverted) == (listed.from, listed.inverted)
            }
            (one, other) => one == other,
        }
    }
}

impl Verdict {
    // enum nft_verdicts, and NF_DROP and NF_ACCEPT of linux/netfilter.h.
    const GOTO: i32 = -4;
    const JUMP: i32 = -3;

    fn write(&self, out: &mut Writer<'_>) {
        let (code, chain) = match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Jump(chain) => (Self::JUMP, Some(chain)),
            Self::Goto(chain) => (Self::GOTO, Some(chain)),
            Self::Other(code) => (*code, None),
        };
        out.be32(1, code.cast_unsigned());
        if let Some(chain) = chain {
            out.name(2, chain);
        }
    }

    /// The same as of a [`Self::Goto`].
    pub(super) fn write_goto(out: &mut Writer<'_>, chain: &str) {
        out.be32(1, Self::GOTO.cast_unsigned());
        out.name(2, chain);
    }
}

/// `NFTNL_UDATA_RULE_COMMENT`: a type, a length, and the text with its NUL, as
/// nft writes and reads it.
pub(super) fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    let text = text.bytes().take(usize::from(length) - 1);
    [0, length].into_iter().chain(text).chain([0]).collect()
}
