//! What nf_tables tells.

use netlink_exchange::attributes::{self, Attribute};
use netlink_exchange::{Content, DecodeError, nfnetlink};

use super::expression::comment_of;
use super::{Expression, Hooked, Item};

/// Flags of a table that is there: `NFT_TABLE_F_DORMANT` 1, `NFT_TABLE_F_OWNER` 2,
/// `NFT_TABLE_F_PERSIST` 4.
pub(crate) fn table_flags(content: Content<'_>) -> Result<u32, DecodeError> {
    let flags = attributes::find(content.after(nfnetlink::HEADER)?, 2)?;
    flags.map_or(Ok(0), |flags| attributes::be32(flags.value(), "flags"))
}

/// A chain that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListedChain {
    /// `NFPROTO_*`.
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) name: String,
    /// None for one that is only jumped to.
    pub(crate) at: Option<Hooked>,
    /// `NF_DROP` 0 or `NF_ACCEPT` 1.
    pub(crate) policy: Option<u32>,
    /// Its rules, and all that leads to it: rules, and elements of verdict maps.
    pub(crate) uses: u32,
}

impl ListedChain {
    pub(crate) fn read(content: Content<'_>) -> Result<Self, DecodeError> {
        let mut chain = Self {
            family: family(content)?,
            ..Self::default()
        };
        attributes::read(content.after(nfnetlink::HEADER)?, |attribute| {
            let value = attribute.value();
            match attribute.kind() {
                1 => chain.table = attributes::name(value),
                3 => chain.name = attributes::name(value),
                4 => chain.at = Some(hooked(value)?),
                5 => chain.policy = Some(attributes::be32(value, "policy")?),
                6 => chain.uses = attributes::be32(value, "uses")?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(chain)
    }
}

fn hooked(nest: &[u8]) -> Result<Hooked, DecodeError> {
    let number = |kind, what| -> Result<u32, DecodeError> {
        let found = attributes::find(nest, kind)?;
        found.map_or(Ok(0), |found| attributes::be32(found.value(), what))
    };
    Ok(Hooked {
        hook: number(1, "hook")?,
        priority: number(2, "priority")?.cast_signed(),
    })
}

/// A rule that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListedRule {
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) chain: String,
    pub(crate) handle: u64,
    pub(crate) expressions: Vec<Expression>,
    pub(crate) comment: Option<String>,
}

impl ListedRule {
    pub(crate) fn read(content: Content<'_>) -> Result<Self, DecodeError> {
        let mut rule = Self {
            family: family(content)?,
            ..Self::default()
        };
        attributes::read(content.after(nfnetlink::HEADER)?, |attribute| {
            let value = attribute.value();
            match attribute.kind() {
                1 => rule.table = attributes::name(value),
                2 => rule.chain = attributes::name(value),
                3 => rule.handle = u64::from_be_bytes(attributes::bytes(value, "handle")?),
                4 => attributes::read(value, |member| {
                    rule.expressions.push(Expression::read(member.value())?);
                    Ok(())
                })?,
                7 => rule.comment = comment_of(value),
                _ => {}
            }
            Ok(())
        })?;
        Ok(rule)
    }
}

/// A set that is there, without its elements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListedSet {
    pub(crate) name: String,
    pub(crate) flags: u32,
    pub(crate) key_type: u32,
    pub(crate) key_length: u32,
}

impl ListedSet {
    pub(crate) fn read(content: Content<'_>) -> Result<Self, DecodeError> {
        let mut set = Self::default();
        attributes::read(content.after(nfnetlink::HEADER)?, |attribute| {
            let value = attribute.value();
            match attribute.kind() {
                2 => set.name = attributes::name(value),
                3 => set.flags = attributes::be32(value, "flags")?,
                4 => set.key_type = attributes::be32(value, "key type")?,
                5 => set.key_length = attributes::be32(value, "key length")?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(set)
    }

    /// It belongs to a rule.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.flags & 1 != 0
    }
}

/// Elements of a set, some of them. None stands for one that no set of ours has.
pub(crate) fn elements(
    content: Content<'_>,
    mut each: impl FnMut(Option<Item>),
) -> Result<(), DecodeError> {
    let Some(list) = attributes::find(content.after(nfnetlink::HEADER)?, 3)? else {
        return Ok(());
    };
    attributes::read(list.value(), |member| {
        each(Item::read(member.value())?);
        Ok(())
    })
}

/// The number of transactions so far.
pub(crate) fn generation(content: Content<'_>) -> Result<Option<u32>, DecodeError> {
    let id = attributes::find(content.after(nfnetlink::HEADER)?, 1)?;
    id.map(Attribute::value)
        .map(|id| attributes::be32(id, "generation"))
        .transpose()
}

fn family(content: Content<'_>) -> Result<u8, DecodeError> {
    attributes::u8(content.payload, "family")
}
