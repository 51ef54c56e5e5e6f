//! A kernel made up for the occasion: it says what a test has it say.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_MULTIPART, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer,
};

use crate::{Received, Transport, Writer};

/// What a receive gives: a datagram, or an error.
pub type Answer = io::Result<Vec<u8>>;

/// A message that was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Its type.
    pub message_type: u16,
    /// Its flags.
    pub flags: u16,
    /// Its sequence number.
    pub sequence: u32,
    /// What follows the netlink header.
    pub payload: Vec<u8>,
}

impl Sent {
    /// Whether it asks for an acknowledgement.
    pub fn acknowledge(&self) -> bool {
        self.flags & NLM_F_ACK != 0
    }
}

/// A kernel that answers each send as `behaviour` says.
pub struct Kernel<B> {
    behaviour: B,
    queue: VecDeque<Answer>,
    receive_buffer: usize,
}

impl<B: FnMut(&[Sent]) -> Vec<Answer>> Kernel<B> {
    /// With a receive buffer of so many bytes.
    pub fn new(receive_buffer: usize, behaviour: B) -> Self {
        Self {
            behaviour,
            queue: VecDeque::new(),
            receive_buffer,
        }
    }
}

/// What marks a datagram that the kernel did not send.
const FOREIGN: &[u8] = b"from port 7:";

/// A datagram that another process sends.
pub fn foreign(datagram: &[u8]) -> Vec<u8> {
    [FOREIGN, datagram].concat()
}

impl<B: FnMut(&[Sent]) -> Vec<Answer>> Transport for Kernel<B> {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.queue.extend((self.behaviour)(&split(bytes)));
        Ok(bytes.len())
    }

    fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<Received> {
        into.clear();
        let datagram = self
            .queue
            .pop_front()
            .unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))?;
        let (sender, datagram) = match datagram.strip_prefix(FOREIGN) {
            Some(datagram) => (7, datagram),
            None => (0, &datagram[..]),
        };
        // What does not fit is cut off.
        into.extend(datagram.iter().take(1 << 16));
        Ok(Received {
            length: datagram.len(),
            sender,
        })
    }

    fn receive_now(&mut self, into: &mut Vec<u8>) -> io::Result<Received> {
        self.receive(into)
    }

    fn set_timeout(&mut self, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn receive_buffer(&self) -> usize {
        self.receive_buffer
    }
}

/// The messages of a send.
///
/// # Panics
/// They are not well formed.
pub fn split(mut bytes: &[u8]) -> Vec<Sent> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let message = NetlinkBuffer::new_checked(bytes).expect("requests are well formed");
        messages.push(Sent {
            message_type: message.message_type(),
            flags: message.flags(),
            sequence: message.sequence_number(),
            payload: message.payload().to_vec(),
        });
        bytes = &bytes[message.length() as usize..];
    }
    messages
}

/// A netlink message.
pub fn message(message_type: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = 16 + payload.len() as u32;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(message_type.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// A capped acknowledgement, or a refusal with a negative errno.
pub fn status(sequence: u32, code: i32) -> Vec<u8> {
    let mut payload = code.to_ne_bytes().to_vec();
    payload.extend([0; 16]);
    message(NLMSG_ERROR, NLM_F_CAPPED, sequence, &payload)
}

/// A refusal that echoes the request and says more.
pub fn explained(sent: &Sent, code: i32, words: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut payload = code.to_ne_bytes().to_vec();
    payload.extend(message(
        sent.message_type,
        sent.flags,
        sent.sequence,
        &sent.payload,
    ));
    words(&mut Writer::new(&mut payload));
    message(NLMSG_ERROR, NLM_F_ACK_TLVS, sent.sequence, &payload)
}

/// The end of a dump.
pub fn done(sequence: u32, flags: u16, code: i32) -> Vec<u8> {
    let flags = NLM_F_MULTIPART | flags;
    message(NLMSG_DONE, flags, sequence, &code.to_ne_bytes())
}
