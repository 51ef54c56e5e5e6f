//! What the kernel lists of rules.

use netlink_exchange::{DecodeError, attributes};

use super::{
    Bitwise, Compare, Comparison, Ct, CtLoad, DNAT, Expression, Fib, Lookup, Meta, Payload,
    Register, Verdict,
};
use crate::wire::{DATA_VALUE, DATA_VERDICT};

impl Expression {
    /// Read one member of a list.
    pub(in crate::wire) fn read(element: &[u8]) -> Result<Self, DecodeError> {
        let name = attributes::find(element, 1)?.ok_or("an expression without a name")?;
        let name = attributes::name(name.value());
        let data = attributes::find(element, 2)?.map_or(&[][..], |data| data.value());
        let parts = Parts(data);
        Ok(match &name[..] {
            "payload" if parts.bytes(1)?.is_some() => Self::Payload(Payload {
                layer: parts.number(2)?,
                offset: parts.number(3)?,
                length: parts.number(4)?,
                into: parts.register(1)?,
            }),
            "meta" => parts.meta()?,
            "ct" if parts.bytes(1)?.is_some() => Self::CtLoad(CtLoad {
                key: Ct(parts.number(2)?),
                direction: parts.bytes(3)?.and_then(|value| value.first().copied()),
                into: parts.register(1)?,
            }),
            "fib" => Self::Fib(Fib {
                flags: parts.number(3)?,
                result: parts.number(2)?,
                into: parts.register(1)?,
            }),
            "bitwise" if parts.bytes(4)?.is_some() => Self::Bitwise(Bitwise {
                from: parts.register(1)?,
                into: parts.register(2)?,
                mask: parts.value(4)?,
                xor: parts.value(5)?,
            }),
            "cmp" => Self::Compare(Comparison {
                how: Compare::from_number(parts.number(2)?),
                register: parts.register(1)?,
                data: parts.value(3)?,
            }),
            "lookup" => parts.lookup()?,
            "immediate" => parts.immediate()?,
            "reject" => Self::Reject {
                kind: parts.number(1)?,
                code: parts
                    .bytes(2)?
                    .and_then(|value| value.first().copied())
                    .unwrap_or(0),
            },
            "masq" => parts.masquerade()?,
            "nat" if parts.is_destination_only()? => Self::DestinationNat {
                family: parts.number(2)?,
                address: parts.register(3)?,
            },
            "notrack" => Self::NoTrack,
            "match" | "target" => Self::Other {
                extension: parts.bytes(1)?.map(attributes::name),
                name,
            },
            _ => Self::Other {
                name,
                extension: None,
            },
        })
    }
}

impl Compare {
    fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Equal,
            1 => Self::NotEqual,
            other => Self::Other(other),
        }
    }
}

impl Verdict {
    pub(in crate::wire) fn read(verdict: &[u8]) -> Result<Self, DecodeError> {
        let parts = Parts(verdict);
        let chain = || -> Result<String, DecodeError> {
            let name = parts.bytes(2)?.ok_or("a jump without its chain")?;
            Ok(attributes::name(name))
        };
        Ok(match parts.number(1)?.cast_signed() {
            0 => Self::Drop,
            1 => Self::Accept,
            Self::JUMP => Self::Jump(chain()?),
            Self::GOTO => Self::Goto(chain()?),
            other => Self::Other(other),
        })
    }
}

/// The attributes of an expression.
#[derive(Clone, Copy)]
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn bytes(self, kind: u16) -> Result<Option<&'a [u8]>, DecodeError> {
        Ok(attributes::find(self.0, kind)?.map(attributes::Attribute::value))
    }

    /// A number; 0 where the kernel leaves it out.
    fn number(self, kind: u16) -> Result<u32, DecodeError> {
        let value = self.bytes(kind)?;
        value.map_or(Ok(0), |value| attributes::be32(value, "number"))
    }

    fn register(self, kind: u16) -> Result<Register, DecodeError> {
        self.number(kind).map(Register)
    }

    fn value(self, kind: u16) -> Result<Vec<u8>, DecodeError> {
        let data = self.bytes(kind)?.unwrap_or_default();
        let value = attributes::find(data, DATA_VALUE)?;
        Ok(value.map_or_else(Vec::new, |value| value.value().to_vec()))
    }

    fn meta(self) -> Result<Expression, DecodeError> {
        let key = Meta(self.number(2)?);
        Ok(match self.bytes(3)? {
            Some(_) => Expression::MetaSet {
                key,
                from: self.register(3)?,
            },
            None => Expression::MetaLoad {
                key,
                into: self.register(1)?,
            },
        })
    }

    fn lookup(self) -> Result<Expression, DecodeError> {
        let set = self.bytes(1)?.ok_or("a lookup without its set")?;
        let into = match self.bytes(3)? {
            Some(_) => Some(self.register(3)?),
            None => None,
        };
        Ok(Expression::Lookup(Lookup {
            set: attributes::name(set),
            from: self.register(2)?,
            into,
            inverted: self.number(5)? & 1 != 0,
        }))
    }

    fn immediate(self) -> Result<Expression, DecodeError> {
        let data = self.bytes(2)?.unwrap_or_default();
        Ok(match attributes::find(data, DATA_VERDICT)? {
            Some(verdict) => Expression::Decide(Verdict::read(verdict.value())?),
            None => Expression::Load {
                into: self.register(1)?,
                data: self.value(2)?,
            },
        })
    }

    /// Whether a translation gives a destination address and nothing else. The
    /// kernel tells the one address as a range (`NF_NAT_RANGE_MAP_IPS`).
    fn is_destination_only(self) -> Result<bool, DecodeError> {
        const MAP_IPS: u32 = 1;
        let one = match self.bytes(4)? {
            Some(_) => self.number(4)? == self.number(3)?,
            None => self.bytes(3)?.is_some(),
        };
        let flags = self.number(7)?;
        let no_port = self.bytes(5)?.is_none() && self.bytes(6)?.is_none();
        Ok(one && no_port && flags & !MAP_IPS == 0 && self.number(1)? == DNAT)
    }

    fn masquerade(self) -> Result<Expression, DecodeError> {
        let ports = match self.bytes(2)? {
            Some(_) => Some((self.register(2)?, self.register(3)?)),
            None => None,
        };
        Ok(Expression::Masquerade {
            flags: self.number(1)?,
            ports,
        })
    }
}

/// The comment in what nft keeps with a rule.
pub(crate) fn comment_of(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let (value, after) = rest.split_at_checked(usize::from(*length))?;
        if *kind == 0 {
            return Some(attributes::name(value));
        }
        data = after;
    }
    None
}
