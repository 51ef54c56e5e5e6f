//! Netlink attributes and messages, written and read.
//!
//! Writing goes straight into one `Vec<u8>`, with no allocation an attribute.
//! Integers are in the machine's byte order unless a name says `be`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{
    DecodeError, DefaultNla, NLA_F_NESTED, NLA_HEADER_SIZE, NLA_TYPE_MASK, Nla, NlaBuffer,
    Parseable,
};

use crate::Family;

/// Netlink and generic netlink header together.
const HEADER_LEN: usize = 20;

/// A message whose attributes do not fit their length fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// What stands in a message's header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) family: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) command: u8,
    pub(crate) version: u8,
}

/// Append one message to `out`. On an error `out` is as it was.
pub(crate) fn write_message(
    out: &mut Vec<u8>,
    header: Header,
    body: impl FnOnce(&mut Writer<'_>),
) -> Result<(), TooLong> {
    let start = out.len();
    let mut bytes = [0; HEADER_LEN];
    bytes[4..6].copy_from_slice(&header.family.to_ne_bytes());
    bytes[6..8].copy_from_slice(&header.flags.to_ne_bytes());
    bytes[8..12].copy_from_slice(&header.sequence.to_ne_bytes());
    bytes[16] = header.command;
    bytes[17] = header.version;
    out.extend_from_slice(&bytes);

    let mut writer = Writer {
        out,
        too_long: false,
    };
    body(&mut writer);
    let length = u32::try_from(writer.out.len() - start);
    match (writer.too_long, length) {
        (false, Ok(length)) => {
            out[start..start + 4].copy_from_slice(&length.to_ne_bytes());
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(TooLong)
        }
    }
}

/// Appends attributes to a buffer.
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    too_long: bool,
}

impl<'a> Writer<'a> {
    /// A writer of attributes alone, without a message around them.
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            too_long: false,
        }
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let start = self.open(kind);
        self.out.extend_from_slice(value);
        self.close(start);
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.small(kind, 5, [value, 0, 0, 0]);
    }

    pub(crate) fn u16(&mut self, kind: u16, value: u16) {
        let [a, b] = value.to_ne_bytes();
        self.small(kind, 6, [a, b, 0, 0]);
    }

    pub(crate) fn be16(&mut self, kind: u16, value: u16) {
        let [a, b] = value.to_be_bytes();
        self.small(kind, 6, [a, b, 0, 0]);
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.small(kind, 8, value.to_ne_bytes());
    }

    /// An address as the kernel's `union nf_inet_addr`: 16 bytes, network
    /// order, an IPv4 address in the first four.
    pub(crate) fn address(&mut self, kind: u16, address: IpAddr) {
        self.bytes(kind, &address_bytes(address));
    }

    /// A string with its terminating NUL. A NUL inside would make the kernel
    /// take a shorter name than was meant; 0xff makes it refuse the name.
    pub(crate) fn name(&mut self, kind: u16, name: &str) {
        let start = self.open(kind);
        let bytes = name.bytes().map(|b| if b == 0 { 0xff } else { b });
        self.out.extend(bytes);
        self.out.push(0);
        self.close(start);
    }

    pub(crate) fn other(&mut self, attributes: &[DefaultNla]) {
        for attribute in attributes {
            let start = self.open(attribute.kind());
            let value = self.out.len();
            self.out.resize(value + attribute.value_len(), 0);
            attribute.emit_value(&mut self.out[value..]);
            self.close(start);
        }
    }

    pub(crate) fn nest(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        let start = self.open(kind | NLA_F_NESTED);
        content(self);
        self.close(start);
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.out.len();
        let [a, b] = kind.to_ne_bytes();
        self.out.extend_from_slice(&[0, 0, a, b]);
        start
    }

    fn close(&mut self, start: usize) {
        match u16::try_from(self.out.len() - start) {
            Ok(length) => self.out[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        let aligned = self.out.len().next_multiple_of(4);
        self.out.resize(aligned, 0);
    }

    fn small(&mut self, kind: u16, length: u16, [c, d, e, f]: [u8; 4]) {
        let [l, m] = length.to_ne_bytes();
        let [a, b] = kind.to_ne_bytes();
        self.out.extend_from_slice(&[l, m, a, b, c, d, e, f]);
    }
}

pub(crate) fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(v6) => v6.octets(),
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
    }
}

/// Call `each` for every attribute in `bytes`. A table read back has millions
/// of them, so that each is looked at once.
pub(crate) fn read_attributes<'a>(
    mut bytes: &'a [u8],
    mut each: impl FnMut(Attribute<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    while !bytes.is_empty() {
        let attribute = Attribute::first(bytes)?;
        let length = attribute.0.len().next_multiple_of(4);
        bytes = bytes.get(length..).unwrap_or_default();
        each(attribute)?;
    }
    Ok(())
}

/// One attribute with its header.
#[derive(Clone, Copy)]
pub(crate) struct Attribute<'a>(&'a [u8]);

impl<'a> Attribute<'a> {
    /// The one that `bytes` begin with, its lengths checked.
    fn first(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let there = bytes.len();
        let Some([a, b, ..]) = bytes.first_chunk::<NLA_HEADER_SIZE>() else {
            return Err(DecodeError::nla_buffer_too_small(there, NLA_HEADER_SIZE));
        };
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        if length < NLA_HEADER_SIZE {
            return Err(DecodeError::nla_invalid_length(there, length));
        }
        let attribute = bytes.get(..length);
        attribute
            .map(Self)
            .ok_or_else(|| DecodeError::nla_length_mismatch(there, length))
    }

    /// Without the flags for nesting and byte order.
    pub(crate) fn kind(self) -> u16 {
        u16::from_ne_bytes([self.0[2], self.0[3]]) & NLA_TYPE_MASK
    }

    pub(crate) fn value(self) -> &'a [u8] {
        &self.0[NLA_HEADER_SIZE..]
    }
}

/// Keep an attribute this crate does not know.
pub(crate) fn keep(
    other: &mut Vec<DefaultNla>,
    attribute: Attribute<'_>,
) -> Result<(), DecodeError> {
    other.push(DefaultNla::parse(&NlaBuffer::new_checked(attribute.0)?)?);
    Ok(())
}

/// The first `N` bytes of a value. Longer values are read too: a kernel may
/// widen what it says.
fn first<const N: usize>(value: &[u8], what: &str) -> Result<[u8; N], DecodeError> {
    value
        .first_chunk()
        .copied()
        .ok_or_else(|| format!("{what} has {} bytes, needs {N}", value.len()).into())
}

pub(crate) fn read_u8(value: &[u8], what: &str) -> Result<u8, DecodeError> {
    first::<1>(value, what).map(|[byte]| byte)
}

pub(crate) fn read_u16(value: &[u8], what: &str) -> Result<u16, DecodeError> {
    first(value, what).map(u16::from_ne_bytes)
}

pub(crate) fn read_be16(value: &[u8], what: &str) -> Result<u16, DecodeError> {
    first(value, what).map(u16::from_be_bytes)
}

pub(crate) fn read_u32(value: &[u8], what: &str) -> Result<u32, DecodeError> {
    first(value, what).map(u32::from_ne_bytes)
}

/// A counter of four or eight bytes.
pub(crate) fn read_counter(value: &[u8], what: &str) -> Result<u64, DecodeError> {
    match value.first_chunk() {
        Some(bytes) => Ok(u64::from_ne_bytes(*bytes)),
        None => read_u32(value, what).map(u64::from),
    }
}

pub(crate) fn read_address(
    family: Family,
    value: &[u8],
    what: &str,
) -> Result<IpAddr, DecodeError> {
    Ok(match family {
        Family::V4 => Ipv4Addr::from(first::<4>(value, what)?).into(),
        Family::V6 => Ipv6Addr::from(first::<16>(value, what)?).into(),
    })
}

/// A string up to its NUL, if it has one.
pub(crate) fn read_name(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}
