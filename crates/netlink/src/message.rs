//! What one message of the kernel means.

use netlink_packet_core::{
    DecodeError, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, NetlinkBuffer,
};

use crate::Refusal;
use crate::outgoing::HEADER;
use crate::refusal::{read_done, read_error};

/// A message with content: an answer, or an entry of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content<'a> {
    /// Its type: `RTM_NEWLINK`, a generic netlink family's number, ...
    pub message_type: u16,
    /// What follows the netlink header: a fixed header, then attributes.
    pub payload: &'a [u8],
}

impl<'a> Content<'a> {
    /// The attributes behind a fixed header of so many bytes, padded to four.
    ///
    /// # Errors
    /// The message is shorter than that.
    pub fn after(&self, header: usize) -> Result<&'a [u8], DecodeError> {
        let short = || {
            let length = self.payload.len();
            format!("message has {length} bytes, its header alone needs {header}")
        };
        let attributes = self.payload.get(header.next_multiple_of(4)..);
        attributes.ok_or_else(|| short().into())
    }
}

/// What a message means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'a> {
    Content(Content<'a>),
    /// The end of what a request is answered: done, or refused.
    End(Result<(), Refusal>),
    /// The kernel dropped answers.
    Overrun,
    Nothing,
}

/// A message of the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) sequence: u32,
    /// The table changed during the dump of which this is a part.
    pub(crate) interrupted: bool,
    pub(crate) meaning: Meaning<'a>,
}

/// Take the first message off `bytes`, which are not empty.
pub(crate) fn first<'a>(bytes: &mut &'a [u8]) -> Result<Message<'a>, DecodeError> {
    let all = *bytes;
    let buffer = NetlinkBuffer::new_checked(all)?;
    let length = buffer.length() as usize;
    // The length is checked to be within the bytes; its padding is not.
    *bytes = all.get(length.next_multiple_of(4)..).unwrap_or_default();
    let payload = &all[HEADER..length];
    let meaning = match buffer.message_type() {
        NLMSG_NOOP => Meaning::Nothing,
        NLMSG_ERROR => Meaning::End(read_error(payload, buffer.flags())?),
        NLMSG_DONE => Meaning::End(read_done(payload)),
        NLMSG_OVERRUN => Meaning::Overrun,
        message_type => Meaning::Content(Content {
            message_type,
            payload,
        }),
    };
    Ok(Message {
        sequence: buffer.sequence_number(),
        interrupted: buffer.flags() & NLM_F_DUMP_INTR != 0,
        meaning,
    })
}
