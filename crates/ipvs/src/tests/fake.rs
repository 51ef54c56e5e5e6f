//! A kernel made up for the occasion.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_MULTIPART, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer,
};

use super::*;
use crate::transport::Transport;

const FAMILY: u16 = 0x20;

/// What the made-up kernel does with a send.
pub(super) type Behaviour = Box<dyn FnMut(&[Sent]) -> Vec<io::Result<Vec<u8>>> + Send>;

/// A message that was sent.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) sequence: u32,
    pub(super) acknowledge: bool,
    pub(super) length: usize,
}

/// How many messages each send had.
pub(super) type Sends = Arc<Mutex<Vec<usize>>>;

pub(super) struct FakeKernel {
    behaviour: Behaviour,
    queue: VecDeque<io::Result<Vec<u8>>>,
    receive_buffer: usize,
    sends: Sends,
    /// Refuses to name the family with this error.
    family_error: Option<i32>,
}

/// A client of a kernel that has IPVS and otherwise behaves as said.
pub(super) fn client(
    receive_buffer: usize,
    behaviour: impl FnMut(&[Sent]) -> Vec<io::Result<Vec<u8>>> + Send + 'static,
) -> (Client, Sends) {
    let sends = Sends::default();
    let kernel = FakeKernel {
        behaviour: Box::new(behaviour),
        queue: VecDeque::new(),
        receive_buffer,
        sends: sends.clone(),
        family_error: None,
    };
    let client = Client::over(Box::new(kernel)).expect("it has IPVS");
    (client, sends)
}

/// What comes of opening a client where the family is refused.
pub(super) fn refusing_family(code: i32) -> Result<Client, Error> {
    Client::over(Box::new(FakeKernel {
        behaviour: Box::new(|_| Vec::new()),
        queue: VecDeque::new(),
        receive_buffer: 1 << 21,
        sends: Sends::default(),
        family_error: Some(code),
    }))
}

impl Transport for FakeKernel {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let messages = split(bytes);
        if messages[0].0 == FAMILY {
            let sent: Vec<_> = messages.into_iter().map(|(_, sent)| sent).collect();
            self.sends.lock().expect("no panic").push(sent.len());
            self.queue.extend((self.behaviour)(&sent));
        } else {
            let sequence = messages[0].1.sequence;
            if self.family_error.is_none() {
                self.queue.push_back(Ok(family(sequence)));
            }
            let code = self.family_error.unwrap_or(0);
            self.queue.push_back(Ok(error(sequence, code)));
        }
        Ok(bytes.len())
    }

    fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        into.clear();
        let datagram = self
            .queue
            .pop_front()
            .unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))?;
        // What does not fit is cut off.
        into.extend(datagram.iter().take(1 << 16));
        Ok(datagram.len())
    }

    fn receive_now(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        self.receive(into)
    }

    fn set_timeout(&mut self, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn receive_buffer(&self) -> usize {
        self.receive_buffer
    }
}

fn split(mut bytes: &[u8]) -> Vec<(u16, Sent)> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let message = NetlinkBuffer::new_checked(bytes).expect("requests are well formed");
        let length = message.length() as usize;
        let sent = Sent {
            sequence: message.sequence_number(),
            acknowledge: message.flags() & NLM_F_ACK != 0,
            length,
        };
        messages.push((message.message_type(), sent));
        bytes = &bytes[length..];
    }
    messages
}

/// A netlink message.
pub(super) fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = 16 + payload.len() as u32;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// The family, as the controller gives it.
fn family(sequence: u32) -> Vec<u8> {
    let mut payload = vec![1, 2, 0, 0];
    wire::Writer::new(&mut payload).u16(1, FAMILY);
    message(0x10, 0, sequence, &payload)
}

/// A capped acknowledgement or refusal.
pub(super) fn error(sequence: u32, code: i32) -> Vec<u8> {
    let mut payload = code.to_ne_bytes().to_vec();
    payload.extend([0; 16]);
    message(NLMSG_ERROR, NLM_F_CAPPED, sequence, &payload)
}

/// A refusal that echoes the request and says why in words.
pub(super) fn error_in_words(sent: &Sent, code: i32, words: &str) -> Vec<u8> {
    let mut payload = code.to_ne_bytes().to_vec();
    payload.extend(message(
        FAMILY,
        0,
        sent.sequence,
        &vec![0; sent.length - 16],
    ));
    wire::Writer::new(&mut payload).name(1, words);
    message(NLMSG_ERROR, NLM_F_ACK_TLVS, sent.sequence, &payload)
}

/// A service in a dump.
pub(super) fn service(sequence: u32, flags: u16, service: &Service) -> Vec<u8> {
    let mut nest = Vec::new();
    service.emit(&mut nest);
    let mut payload = vec![1, 1, 0, 0];
    wire::Writer::new(&mut payload).bytes(1, &nest);
    message(FAMILY, NLM_F_MULTIPART | flags, sequence, &payload)
}

/// The end of a dump.
pub(super) fn done(sequence: u32, flags: u16, code: i32) -> Vec<u8> {
    message(
        NLMSG_DONE,
        NLM_F_MULTIPART | flags,
        sequence,
        &code.to_ne_bytes(),
    )
}
