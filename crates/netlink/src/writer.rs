//! Writing messages.

use netlink_packet_core::{NLA_F_NESTED, NetlinkSerializable, Nla};

/// Appends what follows a message's header to a buffer: fixed headers first,
/// then attributes, with no allocation an attribute.
///
/// Integers are in the machine's byte order unless a name says `be`.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    too_long: bool,
}

impl<'a> Writer<'a> {
    /// A writer at the end of a buffer, whose length is a multiple of four.
    #[inline]
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            too_long: false,
        }
    }

    /// Whether an attribute did not fit its length field. What was written then
    /// is not to be sent.
    #[inline]
    pub fn is_too_long(&self) -> bool {
        self.too_long
    }

    /// The fixed header of a family, as it is, and padding.
    #[inline]
    pub fn header(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        self.pad();
    }

    /// All of a message of the netlink-packet crates.
    #[inline]
    pub fn message(&mut self, message: &impl NetlinkSerializable) {
        let start = self.out.len();
        self.out.resize(start + message.buffer_len(), 0);
        message.serialize(&mut self.out[start..]);
        self.pad();
    }

    /// An attribute of bytes.
    #[inline]
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        let start = self.open(kind);
        self.out.extend_from_slice(value);
        self.close(start);
    }

    /// An attribute of one byte.
    #[inline]
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.small(kind, 5, [value, 0, 0, 0]);
    }

    /// An attribute of two bytes.
    #[inline]
    pub fn u16(&mut self, kind: u16, value: u16) {
        let [a, b] = value.to_ne_bytes();
        self.small(kind, 6, [a, b, 0, 0]);
    }

    /// An attribute of two bytes in network order.
    #[inline]
    pub fn be16(&mut self, kind: u16, value: u16) {
        let [a, b] = value.to_be_bytes();
        self.small(kind, 6, [a, b, 0, 0]);
    }

    /// An attribute of four bytes.
    #[inline]
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.small(kind, 8, value.to_ne_bytes());
    }

    /// An attribute of four bytes in network order.
    #[inline]
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.small(kind, 8, value.to_be_bytes());
    }

    /// A string with its terminating NUL. A NUL inside would make the kernel
    /// take a shorter name than was meant; 0xff makes it refuse the name.
    #[inline]
    pub fn name(&mut self, kind: u16, name: &str) {
        let start = self.open(kind);
        let bytes = name.bytes().map(|b| if b == 0 { 0xff } else { b });
        self.out.extend(bytes);
        self.out.push(0);
        self.close(start);
    }

    /// An attribute of the netlink-packet crates.
    #[inline]
    pub fn nla(&mut self, attribute: &impl Nla) {
        let start = self.open(attribute.kind());
        let value = self.out.len();
        self.out.resize(value + attribute.value_len(), 0);
        attribute.emit_value(&mut self.out[value..]);
        self.close(start);
    }

    /// An attribute of attributes.
    #[inline]
    pub fn nest(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        let start = self.open(kind | NLA_F_NESTED);
        content(self);
        self.close(start);
    }

    #[inline]
    fn open(&mut self, kind: u16) -> usize {
        let start = self.out.len();
        let [a, b] = kind.to_ne_bytes();
        self.out.extend_from_slice(&[0, 0, a, b]);
        start
    }

    #[inline]
    fn close(&mut self, start: usize) {
        match u16::try_from(self.out.len() - start) {
            Ok(length) => self.out[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        self.pad();
    }

    #[inline]
    fn small(&mut self, kind: u16, length: u16, [c, d, e, f]: [u8; 4]) {
        let [l, m] = length.to_ne_bytes();
        let [a, b] = kind.to_ne_bytes();
        self.out.extend_from_slice(&[l, m, a, b, c, d, e, f]);
    }

    #[inline]
    fn pad(&mut self) {
        let aligned = self.out.len().next_multiple_of(4);
        self.out.resize(aligned, 0);
    }
}
