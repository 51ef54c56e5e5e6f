//! Commands in words, for logs and goldens: those of nft for what it has words
//! for, and its listing of instructions (`nft --debug=netlink`).

use std::fmt;

use super::{
    Among, Bitwise, Command, Compare, Comparison, CtLoad, Data, Expression, Fib, Lookup, Payload,
    Place, Register, Verb, Verdict,
};

/// Bytes as they stand in a packet.
struct Bytes<'a>(&'a [u8]);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reg {}", self.0)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match crate::foreign::family_name(self.family) {
            Some(name) => write!(f, "{name} {}", self.table),
            None => write!(f, "family {} {}", self.family, self.table),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place();
        match self {
            Self::AddTable(_) => write!(f, "add table {place}"),
            Self::DeleteTable(_) => write!(f, "delete table {place}"),
            Self::AddChain { name, base, .. } => {
                write!(f, "add chain {place} {name}")?;
                base.iter().try_for_each(|base| {
                    let at = base.at;
                    write!(
                        f,
                        " {} hook {} priority {}",
                        base.kind, at.hook, at.priority
                    )
                })
            }
            Self::AddSet { name, spec, .. } => {
                let (flags, parts) = (spec.flags(), &spec.parts);
                write!(f, "add set {place} {name} flags {flags:#x} parts {parts:?}")
            }
            Self::Elements {
                verb, set, items, ..
            } => {
                let verb = match verb {
                    Verb::Add => "add",
                    Verb::Delete => "delete",
                };
                write!(f, "{verb} element {place} {set}")?;
                items.iter().try_for_each(|item| write!(f, " {item}"))
            }
            Self::AddRule {
                chain,
                first,
                expressions,
                ..
            } => {
                let verb = if *first { "insert" } else { "add" };
                write!(f, "{verb} rule {place} {chain}")?;
                expressions
                    .iter()
                    .try_for_each(|expression| write!(f, "\n  [ {expression} ]"))
            }
            Self::DeleteRule { chain, handle, .. } => {
                write!(f, "delete rule {place} {chain} handle {handle}")
            }
            Self::FlushChain { chain, .. } => write!(f, "flush chain {place} {chain}"),
            Self::DeleteChain { chain, .. } => write!(f, "delete chain {place} {chain}"),
        }
    }
}

impl fmt::Display for super::Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.key)?;
        if let Some(last) = &self.last {
            write!(f, "-{last:?}")?;
        }
        match &self.data {
            Some(Data::Mark(mark)) => write!(f, ":{}", Bytes(mark))?,
            Some(Data::Goto(class)) => write!(f, ":goto {class}")?,
            None => {}
        }
        f.write_str(if self.ends { "(end)" } else { "" })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Other(code) => write!(f, "verdict {code}"),
        }
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            layer,
            offset,
            length,
            into,
        } = self;
        write!(
            f,
            "payload load {length}b @ layer {layer} + {offset} => {into}"
        )
    }
}

impl fmt::Display for CtLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ct load {} => {}", self.key.0, self.into)?;
        let mut direction = self.direction.iter();
        direction.try_for_each(|d| write!(f, ", dir {d}"))
    }
}

impl fmt::Display for Fib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            flags,
            result,
            into,
        } = self;
        write!(f, "fib flags {flags} result {result} => {into}")
    }
}

impl fmt::Display for Bitwise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mask, xor) = (Bytes(&self.mask), Bytes(&self.xor));
        let (from, into) = (self.from, self.into);
        write!(f, "bitwise {into} = ( {from} & {mask} ) ^ {xor}")
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (register, data) = (self.register, Bytes(&self.data));
        match self.how {
            Compare::Equal => write!(f, "cmp eq {register} {data}"),
            Compare::NotEqual => write!(f, "cmp neq {register} {data}"),
            Compare::Other(op) => write!(f, "cmp {op} {register} {data}"),
        }
    }
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.inverted { "not " } else { "" };
        write!(f, "lookup {} {not}in {}", self.from, self.set)?;
        let mut into = self.into.iter();
        into.try_for_each(|into| write!(f, " => {into}"))
    }
}

impl fmt::Display for Among {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.inverted { "not " } else { "" };
        write!(f, "lookup {} {not}among", self.from)?;
        let mut items = self.set.constant.iter().flatten();
        items.try_for_each(|item| write!(f, " {item}"))
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payload(load) => load.fmt(f),
            Self::MetaLoad { key, into } => write!(f, "meta load {} => {into}", key.0),
            Self::MetaSet { key, from } => write!(f, "meta set {} with {from}", key.0),
            Self::CtLoad(load) => load.fmt(f),
            Self::Fib(fib) => fib.fmt(f),
            Self::Bitwise(bitwise) => bitwise.fmt(f),
            Self::Compare(comparison) => comparison.fmt(f),
            Self::Lookup(lookup) => lookup.fmt(f),
            Self::Among(lookup) => lookup.fmt(f),
            Self::Load { into, data } => write!(f, "immediate {into} {}", Bytes(data)),
            Self::Decide(verdict) => write!(f, "immediate {verdict}"),
            Self::Reject { kind, code } => write!(f, "reject type {kind} code {code}"),
            Self::Masquerade { flags, ports } => {
                write!(f, "masq flags {flags:#x}")?;
                ports
                    .iter()
                    .try_for_each(|(first, last)| write!(f, " ports {first} to {last}"))
            }
            Self::DestinationNat { family, address } => {
                write!(f, "nat dnat family {family} addr {address}")
            }
            Self::NoTrack => f.write_str("notrack"),
            Self::Other { name, extension } => {
                write!(f, "{name}")?;
                extension.iter().try_for_each(|name| write!(f, " {name}"))
            }
        }
    }
}
