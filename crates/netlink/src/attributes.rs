//! Reading attributes.
//!
//! Integers are in the machine's byte order unless a name says `be`. Values
//! that are longer than expected are read too: a kernel may widen what it says.

use std::borrow::Cow;

use netlink_packet_core::{
    DecodeError, DefaultNla, NLA_HEADER_SIZE, NLA_TYPE_MASK, NlaBuffer, Parseable,
};

/// One attribute with its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a>(&'a [u8]);

impl<'a> Attribute<'a> {
    /// The one that `bytes` begin with, its lengths checked.
    #[inline]
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

    /// Its type, without the flags for nesting and byte order.
    #[inline]
    pub fn kind(self) -> u16 {
        u16::from_ne_bytes([self.0[2], self.0[3]]) & NLA_TYPE_MASK
    }

    /// What follows the header. Of a nest: its attributes.
    #[inline]
    pub fn value(self) -> &'a [u8] {
        &self.0[NLA_HEADER_SIZE..]
    }

    /// A copy, to be kept or sent again as it is.
    ///
    /// # Errors
    /// None that is known: the lengths are checked.
    #[inline]
    pub fn to_owned(self) -> Result<DefaultNla, DecodeError> {
        DefaultNla::parse(&NlaBuffer::new_checked(self.0)?)
    }
}

/// Call `each` for every attribute in `bytes`. A table read back has millions
/// of them, so that each is looked at once.
///
/// # Errors
/// The lengths make no sense; the first error of `each`.
#[inline]
pub fn read<'a>(
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

/// The first attribute of a kind. What stands behind it is not looked at.
///
/// # Errors
/// The lengths before it make no sense.
pub fn find(mut bytes: &[u8], kind: u16) -> Result<Option<Attribute<'_>>, DecodeError> {
    while !bytes.is_empty() {
        let attribute = Attribute::first(bytes)?;
        if attribute.kind() == kind {
            return Ok(Some(attribute));
        }
        let length = attribute.0.len().next_multiple_of(4);
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(None)
}

/// The first `N` bytes of a value; `what` names it should there be fewer.
///
/// # Errors
/// There are fewer.
#[inline]
pub fn bytes<const N: usize>(value: &[u8], what: &str) -> Result<[u8; N], DecodeError> {
    value
        .first_chunk()
        .copied()
        .ok_or_else(|| format!("{what} has {} bytes, needs {N}", value.len()).into())
}

/// One byte.
///
/// # Errors
/// The value is too short.
#[inline]
pub fn u8(value: &[u8], what: &str) -> Result<u8, DecodeError> {
    bytes::<1>(value, what).map(|[byte]| byte)
}

/// Two bytes.
///
/// # Errors
/// The value is too short.
#[inline]
pub fn u16(value: &[u8], what: &str) -> Result<u16, DecodeError> {
    bytes(value, what).map(u16::from_ne_bytes)
}

/// Two bytes in network order.
///
/// # Errors
/// The value is too short.
#[inline]
pub fn be16(value: &[u8], what: &str) -> Result<u16, DecodeError> {
    bytes(value, what).map(u16::from_be_bytes)
}

/// Four bytes.
///
/// # Errors
/// The value is too short.
#[inline]
pub fn u32(value: &[u8], what: &str) -> Result<u32, DecodeError> {
    bytes(value, what).map(u32::from_ne_bytes)
}

/// Four bytes in network order.
///
/// # Errors
/// The value is too short.
#[inline]
pub fn be32(value: &[u8], what: &str) -> Result<u32, DecodeError> {
    bytes(value, what).map(u32::from_be_bytes)
}

/// A counter of four or eight bytes.
///
/// # Errors
/// The value is too short.
#[inline]
pub fn counter(value: &[u8], what: &str) -> Result<u64, DecodeError> {
    match value.first_chunk() {
        Some(bytes) => Ok(u64::from_ne_bytes(*bytes)),
        None => u32(value, what).map(u64::from),
    }
}

/// A string up to its NUL, if it has one.
#[inline]
pub fn name(value: &[u8]) -> String {
    text(value).into_owned()
}

/// The same, to be looked at: it is only copied where it is no UTF-8.
#[inline]
pub fn text(value: &[u8]) -> Cow<'_, str> {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end])
}
