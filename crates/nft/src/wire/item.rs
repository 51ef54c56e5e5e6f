//! Elements of sets and maps.

use netlink_exchange::{DecodeError, Writer, attributes};

use super::expression::Verdict;
use super::{DATA_VALUE, DATA_VERDICT, LIST_ELEM};
use crate::Class;

const KEY: u16 = 1;
const DATA: u16 = 2;
const FLAGS: u16 = 3;
const KEY_END: u16 = 10;

/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;

/// The longest key of our sets: two IPv6 addresses, a protocol and a port, each
/// part padded to four bytes.
const LONGEST: usize = 40;

/// A key, or its end: packet data.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    bytes: [u8; LONGEST],
    length: u8,
}

impl Key {
    pub(crate) const EMPTY: Self = Self {
        bytes: [0; LONGEST],
        length: 0,
    };

    /// None if it is longer than any of ours.
    pub(crate) fn new(bytes: &[u8]) -> Option<Self> {
        let mut key = Self::EMPTY;
        key.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        key.length = bytes.len() as u8;
        Some(key)
    }

    /// Append a part, and pad it. What does not fit is no part of ours and cut.
    pub(crate) fn with(mut self, part: &[u8]) -> Self {
        let start = usize::from(self.length);
        let room = self.bytes[start..].iter_mut();
        for (to, from) in room.zip(part) {
            *to = *from;
        }
        let end = start + part.len().next_multiple_of(4);
        self.length = end.min(LONGEST) as u8;
        self
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a map says of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Data {
    /// A number, as it stands in a register.
    Mark([u8; 4]),
    /// `goto` the chain of a class.
    Goto(Class),
}

impl Data {
    fn write(self, out: &mut Writer<'_>) {
        match self {
            Self::Mark(mark) => out.bytes(DATA_VALUE, &mark),
            Self::Goto(class) => out.nest(DATA_VERDICT, |out| {
                Verdict::write_goto(out, class.name());
            }),
        }
    }

    /// None for what no map of ours says.
    fn read(data: &[u8]) -> Result<Option<Self>, DecodeError> {
        if let Some(verdict) = attributes::find(data, DATA_VERDICT)? {
            return Ok(match Verdict::read(verdict.value())? {
                Verdict::Goto(chain) => Class::from_name(&chain).map(Self::Goto),
                _ => None,
            });
        }
        let plain = plain(data)?.and_then(|data| data.try_into().ok());
        Ok(plain.map(Self::Mark))
    }
}

/// An element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Item {
    pub(crate) key: Key,
    /// In a set of one part with intervals: what begins here is in no interval.
    pub(crate) ends: bool,
    /// The last of an interval, where parts are put together.
    pub(crate) last: Option<Key>,
    /// What a map says of it.
    pub(crate) data: Option<Data>,
}

impl Item {
    /// An element of a set without intervals.
    pub(crate) fn new(key: Key) -> Self {
        Self {
            key,
            ends: false,
            last: None,
            data: None,
        }
    }

    /// Write it as a member of a list.
    pub(super) fn write(&self, out: &mut Writer<'_>) {
        out.nest(LIST_ELEM, |out| {
            if self.ends {
                out.be32(FLAGS, INTERVAL_END);
            }
            out.nest(KEY, |out| out.bytes(DATA_VALUE, self.key.bytes()));
            if let Some(last) = &self.last {
                out.nest(KEY_END, |out| out.bytes(DATA_VALUE, last.bytes()));
            }
            if let Some(data) = self.data {
                out.nest(DATA, |out| data.write(out));
            }
        });
    }

    /// Read a member of a list. None for one that no set of ours has: without a
    /// key, or too long.
    pub(super) fn read(element: &[u8]) -> Result<Option<Self>, DecodeError> {
        let (mut key, mut last, mut data) = (None, None, None);
        let mut ends = false;
        let mut ours = true;
        attributes::read(element, |attribute| {
            let value = attribute.value();
            match attribute.kind() {
                KEY => key = plain(value)?.and_then(Key::new),
                KEY_END => {
                    last = plain(value)?.and_then(Key::new);
                    ours &= last.is_some();
                }
                DATA => {
                    data = Data::read(value)?;
                    ours &= data.is_some();
                }
                FLAGS => {
                    let flags = attributes::be32(value, "flags of an element")?;
                    ends = flags & INTERVAL_END != 0;
                    ours &= flags & !INTERVAL_END == 0;
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(key.filter(|_| ours).map(|key| Self {
            key,
            ends,
            last,
            data,
        }))
    }
}

fn plain(data: &[u8]) -> Result<Option<&[u8]>, DecodeError> {
    Ok(attributes::find(data, DATA_VALUE)?.map(attributes::Attribute::value))
}
