//! Messages that go out in one send.

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};

use crate::{Error, Writer};

/// The netlink header, `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// What is asked by one message.
pub trait Request {
    /// The message's type: `RTM_NEWADDR`, a generic netlink family's number, ...
    fn message_type(&self) -> u16;

    /// Its flags, without those that the exchange sets: `NLM_F_REQUEST`,
    /// `NLM_F_ACK` and `NLM_F_DUMP`.
    fn flags(&self) -> u16 {
        0
    }

    /// Write what follows the netlink header.
    fn write(&self, out: &mut Writer<'_>);
}

impl<R: Request + ?Sized> Request for &R {
    fn message_type(&self) -> u16 {
        (**self).message_type()
    }

    fn flags(&self) -> u16 {
        (**self).flags()
    }

    fn write(&self, out: &mut Writer<'_>) {
        (**self).write(out);
    }
}

/// Messages with sequence numbers that follow on.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    /// Where each message starts.
    starts: Vec<usize>,
    /// The sequence number of the first.
    first: u32,
}

impl Outgoing {
    pub(crate) fn new(first: u32) -> Self {
        Self {
            first,
            ..Self::default()
        }
    }

    /// Empty it for the next send.
    pub(crate) fn restart(&mut self, first: u32) {
        self.bytes.clear();
        self.starts.clear();
        self.first = first;
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many messages there are.
    pub(crate) fn count(&self) -> usize {
        self.starts.len()
    }

    pub(crate) fn first(&self) -> u32 {
        self.first
    }

    /// A message from its start, up to the end of all.
    pub(crate) fn message(&self, index: usize) -> Option<&[u8]> {
        self.bytes.get(*self.starts.get(index)?..)
    }

    /// Append a message. On an error all is as it was.
    pub(crate) fn push(&mut self, request: &impl Request, flags: u16) -> Result<(), Error> {
        let start = self.bytes.len();
        let sequence = self.first.wrapping_add(self.starts.len() as u32);
        let flags = NLM_F_REQUEST | request.flags() | flags;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes
            .extend_from_slice(&request.message_type().to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        // Port 0: the kernel fills in ours.
        self.bytes.extend_from_slice(&[0; 4]);

        let mut writer = Writer::new(&mut self.bytes);
        request.write(&mut writer);
        let too_long = writer.is_too_long();
        let length = u32::try_from(self.bytes.len() - start);
        match length {
            Ok(length) if !too_long => {
                self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
                self.starts.push(start);
                Ok(())
            }
            _ => {
                self.bytes.truncate(start);
                Err(Error::TooLong)
            }
        }
    }

    /// Have the last message acknowledged, and with it all before it: the kernel
    /// works in order, and answers the others only to refuse them.
    pub(crate) fn acknowledge_last(&mut self) {
        if let Some(start) = self.starts.last() {
            let flags = &mut self.bytes[start + 6..start + 8];
            let present = u16::from_ne_bytes([flags[0], flags[1]]);
            flags.copy_from_slice(&(present | NLM_F_ACK).to_ne_bytes());
        }
    }
}
