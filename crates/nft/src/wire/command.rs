//! What is asked of nf_tables.

use std::borrow::Cow;

use netlink_exchange::{Request, Writer, nfnetlink};

use super::expression::{ANONYMOUS, comment};
use super::{Expression, Item, Kind, SetSpec};

// linux/netlink.h
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

/// Attributes of every message begin after this header: netlink's and ours.
const HEADERS: usize = 16 + nfnetlink::HEADER;

/// A name: of ours, or of somebody else's.
pub(crate) type Name = Cow<'static, str>;

/// A table: `NFPROTO_*` and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) family: u8,
    pub(crate) table: Name,
}

/// How a base chain hangs on a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    pub(crate) at: Hooked,
}

/// A hook (`enum nf_inet_hooks`) and the order at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hooked {
    pub(crate) hook: u32,
    pub(crate) priority: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Delete,
}

/// One change of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Fine if it is there.
    AddTable(Place),
    DeleteTable(Place),
    AddChain {
        place: Place,
        name: Name,
        base: Option<Base>,
    },
    AddSet {
        place: Place,
        name: Name,
        spec: SetSpec,
        /// No other set of the transaction has it.
        number: u32,
    },
    Elements {
        verb: Verb,
        place: Place,
        set: Name,
        /// The number of a set that belongs to a rule.
        number: Option<u32>,
        items: Vec<Item>,
    },
    AddRule {
        place: Place,
        chain: Name,
        /// At the top, not at the end.
        first: bool,
        expressions: Vec<Expression>,
        /// The number of the set that belongs to it.
        among: u32,
        comment: Option<&'static str>,
    },
    DeleteRule {
        place: Place,
        chain: Name,
        handle: u64,
    },
    /// Takes all rules out of a chain.
    FlushChain {
        place: Place,
        chain: Name,
    },
    /// It must have no rule, and nobody may go to it.
    DeleteChain {
        place: Place,
        chain: Name,
    },
}

impl Command {
    fn kind(&self) -> Kind {
        match self {
            Self::AddTable(_) => Kind::NewTable,
            Self::DeleteTable(_) => Kind::DelTable,
            Self::AddChain { .. } => Kind::NewChain,
            Self::AddSet { .. } => Kind::NewSet,
            Self::Elements { verb, .. } => match verb {
                Verb::Add => Kind::NewSetElem,
                Verb::Delete => Kind::DelSetElem,
            },
            Self::AddRule { .. } => Kind::NewRule,
            Self::DeleteRule { .. } | Self::FlushChain { .. } => Kind::DelRule,
            Self::DeleteChain { .. } => Kind::DelChain,
        }
    }

    pub(crate) fn place(&self) -> &Place {
        match self {
            Self::AddTable(place) | Self::DeleteTable(place) => place,
            Self::AddChain { place, .. }
            | Self::AddSet { place, .. }
            | Self::Elements { place, .. }
            | Self::AddRule { place, .. }
            | Self::DeleteRule { place, .. }
            | Self::FlushChain { place, .. }
            | Self::DeleteChain { place, .. } => place,
        }
    }

    /// The element that begins at or before this byte of the message, if it has
    /// elements and the byte is in one.
    pub(crate) fn item_at(&self, offset: u32) -> Option<&Item> {
        let Self::Elements { items, .. } = self else {
            return None;
        };
        let offset = usize::try_from(offset).ok()?;
        let mut bytes = Vec::new();
        self.write_head(&mut Writer::new(&mut bytes));
        // The header of the list.
        let start = HEADERS - nfnetlink::HEADER + bytes.len() + 4;
        if offset < start {
            return None;
        }
        bytes.clear();
        items.iter().find(|item| {
            item.write(&mut Writer::new(&mut bytes));
            offset < start + bytes.len()
        })
    }

    /// What stands before the elements.
    fn write_head(&self, out: &mut Writer<'_>) {
        let place = self.place();
        out.header(&nfnetlink::header(place.family, 0));
        out.name(1, &place.table);
        if let Self::Elements { set, number, .. } = self {
            out.name(2, set);
            if let Some(number) = number {
                out.be32(4, *number);
            }
        }
    }
}

impl Request for Command {
    fn message_type(&self) -> u16 {
        self.kind().message_type()
    }

    fn flags(&self) -> u16 {
        match self {
            Self::AddRule { first: false, .. } => NLM_F_CREATE | NLM_F_APPEND,
            Self::DeleteTable(_)
            | Self::DeleteRule { .. }
            | Self::FlushChain { .. }
            | Self::DeleteChain { .. } => 0,
            Self::Elements { verb, .. } if *verb == Verb::Delete => 0,
            _ => NLM_F_CREATE,
        }
    }

    fn write(&self, out: &mut Writer<'_>) {
        self.write_head(out);
        match self {
            // Without flags, one that is there keeps its own: it need not wake up
            // to be removed.
            Self::AddTable(_) | Self::DeleteTable(_) => {}
            Self::AddChain { name, base, .. } => write_chain(out, name, base.as_ref()),
            Self::AddSet {
                name, spec, number, ..
            } => {
                out.name(2, name);
                spec.write(out, *number);
            }
            Self::Elements { items, .. } => {
                out.nest(3, |out| items.iter().for_each(|item| item.write(out)));
            }
            Self::AddRule {
                chain,
                expressions,
                among,
                comment: text,
                ..
            } => {
                out.name(2, chain);
                out.nest(4, |out| {
                    for expression in expressions {
                        expression.write(out, *among);
                    }
                });
                if let Some(text) = text {
                    out.bytes(7, &comment(text));
                }
            }
            Self::DeleteRule { chain, handle, .. } => {
                out.name(2, chain);
                out.bytes(3, &handle.to_be_bytes());
            }
            Self::FlushChain { chain, .. } => out.name(2, chain),
            Self::DeleteChain { chain, .. } => out.name(3, chain),
        }
    }
}

fn write_chain(out: &mut Writer<'_>, name: &str, base: Option<&Base>) {
    const NF_ACCEPT: u32 = 1;
    out.name(3, name);
    let Some(Base { kind, at }) = base else {
        return;
    };
    out.name(7, kind);
    out.be32(5, NF_ACCEPT);
    out.nest(4, |out| {
        out.be32(1, at.hook);
        out.be32(2, at.priority.cast_unsigned());
    });
}

/// The commands that make the sets that belong to a rule, and the rule.
pub(crate) fn rule(
    place: &Place,
    chain: Name,
    expressions: Vec<Expression>,
    number: u32,
) -> Vec<Command> {
    let mut commands = Vec::new();
    for expression in &expressions {
        let Expression::Among(among) = expression else {
            continue;
        };
        let name = Name::Borrowed(ANONYMOUS);
        commands.push(Command::AddSet {
            place: place.clone(),
            name: name.clone(),
            spec: among.set.clone(),
            number,
        });
        commands.push(Command::Elements {
            verb: Verb::Add,
            place: place.clone(),
            set: name,
            number: Some(number),
            items: among.set.constant.clone().unwrap_or_default(),
        });
    }
    commands.push(Command::AddRule {
        place: place.clone(),
        chain,
        first: false,
        expressions,
        among: number,
        comment: None,
    });
    commands
}

/// A question.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Get<'a> {
    pub(crate) kind: Kind,
    /// `NFPROTO_UNSPEC` 0 for all.
    pub(crate) family: u8,
    pub(crate) table: Option<&'a str>,
    /// A set, or a chain whose rules are asked for.
    pub(crate) of: Option<&'a str>,
}

impl Request for Get<'_> {
    fn message_type(&self) -> u16 {
        self.kind.message_type()
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.header(&nfnetlink::header(self.family, 0));
        if let Some(table) = self.table {
            out.name(1, table);
        }
        if let Some(of) = self.of {
            out.name(2, of);
        }
    }
}
