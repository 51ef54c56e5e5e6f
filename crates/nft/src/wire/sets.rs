//! What a set is made of.

use netlink_exchange::Writer;

use super::{Item, LIST_ELEM};

/// Byte order of a key or value, by which nft shows it (`enum byteorder`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Parts put together.
    None = 0,
    Host = 1,
    Network = 2,
}

/// The values of a map: nft's number for their type, and how it shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Values {
    kind: u32,
    bytes: u32,
    order: Order,
}

impl Values {
    pub(crate) const MARKS: Self = Self {
        kind: crate::set::MARK,
        bytes: 4,
        order: Order::Host,
    };
    /// Of `NFT_DATA_VERDICT` the kernel knows the length.
    pub(crate) const VERDICTS: Self = Self {
        kind: 0xffff_ff00,
        bytes: 0,
        order: Order::None,
    };
}

/// A set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SetSpec {
    /// Its parts: nft's number for the type, and bytes.
    pub(crate) parts: Vec<(u32, u32)>,
    pub(crate) order: Order,
    /// Of a map.
    pub(crate) values: Option<Values>,
    pub(crate) intervals: bool,
    /// The elements of a set that belongs to a rule.
    pub(crate) constant: Option<Vec<Item>>,
}

// Bits of enum nft_set_flags.
const ANONYMOUS: u32 = 1;
const CONSTANT: u32 = 2;
const INTERVAL: u32 = 4;
const MAP: u32 = 8;
const CONCAT: u32 = 0x80;

/// Flags that a set gets by what it holds, not by what it is made of.
const BY_KERNEL: u32 = !(ANONYMOUS | CONSTANT | INTERVAL | MAP | CONCAT);

impl SetSpec {
    pub(crate) fn flags(&self) -> u32 {
        let mut flags = 0;
        let mut set = |on: bool, flag: u32| flags |= if on { flag } else { 0 };
        set(self.constant.is_some(), ANONYMOUS | CONSTANT);
        set(self.intervals, INTERVAL);
        set(self.values.is_some(), MAP);
        set(self.intervals && self.parts.len() > 1, CONCAT);
        flags
    }

    /// Whether a set that is there, with these flags and numbers, is one.
    pub(crate) fn is(&self, flags: u32, key_type: u32, key_length: u32) -> bool {
        flags & !BY_KERNEL == self.flags()
            && (key_type, key_length) == (self.key_type(), self.key_length())
    }

    /// nft puts the numbers of parts together, six bits each.
    fn key_type(&self) -> u32 {
        let parts = self.parts.iter();
        parts.fold(0, |number, (part, _)| number << 6 | part)
    }

    fn key_length(&self) -> u32 {
        match &self.parts[..] {
            [(_, length)] => *length,
            parts => parts
                .iter()
                .map(|(_, length)| length.next_multiple_of(4))
                .sum(),
        }
    }

    pub(super) fn write(&self, out: &mut Writer<'_>, number: u32) {
        out.be32(3, self.flags());
        out.be32(4, self.key_type());
        out.be32(5, self.key_length());
        if let Some(values) = self.values {
            out.be32(6, values.kind);
            out.be32(7, values.bytes);
        }
        out.be32(10, number);
        self.write_description(out);
        out.bytes(13, &self.user_data());
    }

    /// The size of a set that does not grow, and the bytes of each part for
    /// intervals (`NFTA_SET_DESC_SIZE`, `NFTA_SET_DESC_CONCAT`).
    fn write_description(&self, out: &mut Writer<'_>) {
        let concatenated = self.intervals && self.parts.len() > 1;
        if self.constant.is_none() && !concatenated {
            return;
        }
        out.nest(9, |out| {
            if let Some(items) = &self.constant {
                out.be32(1, items.len() as u32);
            }
            if concatenated {
                out.nest(2, |out| {
                    for (_, length) in &self.parts {
                        out.nest(LIST_ELEM, |out| out.be32(1, *length));
                    }
                });
            }
        });
    }

    /// What nft keeps with a set: a type, a length and a number each, in the
    /// machine's order (`NFTNL_UDATA_SET_KEYBYTEORDER`, `..._DATABYTEORDER`).
    fn user_data(&self) -> Vec<u8> {
        let number = |kind: u8, order: Order| {
            let mut data = vec![kind, 4];
            data.extend((order as u32).to_ne_bytes());
            data
        };
        let mut data = number(0, self.order);
        if let Some(values) = self.values {
            data.extend(number(1, values.order));
        }
        data
    }
}
