//! One rtnetlink socket: batches with a single acknowledgement, and dumps that
//! are whole or an error.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP,
    NLMSG_OVERRUN, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::libc::MSG_TRUNC;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::{Error, Result};

/// Requests in one send. Each may be answered by a refusal of less than 1 KiB
/// of buffer, so that a batch that is refused whole still fits.
const BATCH: usize = 512;
/// Bytes of receive buffer asked for.
const RECEIVE_BUFFER: usize = 2 << 20;
/// The kernel sends datagrams of at most 32 KiB.
const DATAGRAM: usize = 64 << 10;
/// The kernel answers before `send` returns; waiting longer means it never will.
const SECONDS_TO_WAIT: i64 = 10;
/// How often a dump is tried that changes under our eyes.
const DUMP_TRIES: u32 = 5;

/// A request with its flags, `NLM_F_REQUEST` and `NLM_F_ACK` excepted.
pub(crate) struct Request {
    pub(crate) message: RouteNetlinkMessage,
    pub(crate) flags: u16,
}

/// A request of a batch that was refused, by its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) index: usize,
    pub(crate) errno: Errno,
}

/// What one message of the kernel means.
#[derive(Debug, PartialEq, Eq)]
enum Answer<'a> {
    /// An acknowledgement (0) or refusal (errno).
    Status(i32),
    /// The end of a dump, with its status.
    Done(i32),
    /// Content: message type and what follows the header.
    Content(u16, &'a [u8]),
    /// The kernel lost something.
    Overrun,
    /// Nothing.
    Noop,
}

pub(crate) struct RouteSocket {
    socket: Socket,
    sequence: u32,
    sends: u64,
    buffer: Vec<u8>,
}

impl RouteSocket {
    /// A socket in the network namespace of the calling thread.
    pub(crate) fn open() -> Result<Self> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // Refusals come without a copy of the request.
            socket.set_cap_ack(true)?;
            // Dumps are filtered by the kernel. Where it cannot, we filter.
            let _ = socket.set_netlink_get_strict_chk(true);
            if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
                setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
            }
            let wait = TimeVal::new(SECONDS_TO_WAIT, 0);
            setsockopt(&socket, sockopt::ReceiveTimeout, &wait)?;
            Ok(socket)
        };
        Ok(Self {
            socket: open().map_err(Error::Open)?,
            sequence: 0,
            sends: 0,
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    /// How many times something was sent.
    pub(crate) fn sends(&self) -> u64 {
        self.sends
    }

    /// Sends all requests in few sends and tells which were refused. The
    /// kernel answers a request without `NLM_F_ACK` only when it fails, so the
    /// acknowledgement of the last one of a send covers them all.
    pub(crate) fn batch(&mut self, operation: &str, requests: &[Request]) -> Result<Vec<Refusal>> {
        let mut refusals = Vec::new();
        for (nth, chunk) in requests.chunks(BATCH).enumerate() {
            let first = self.sequence.wrapping_add(1);
            self.sequence = self.sequence.wrapping_add(chunk.len() as u32);
            self.send(operation, &encode_batch(chunk, first))?;
            self.statuses(operation, first, chunk.len(), |index, errno| {
                let index = nth * BATCH + index;
                refusals.push(Refusal { index, errno });
            })?;
        }
        Ok(refusals)
    }

    /// One request that the kernel answers with at most one message, which
    /// `parse` turns into a value.
    pub(crate) fn get<T>(
        &mut self,
        operation: &str,
        message: RouteNetlinkMessage,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>> {
        let sequence = self.request(operation, message, NLM_F_ACK)?;
        let mut content = None;
        loop {
            let mut status = None;
            self.receive(operation, |header, answer| {
                if header.sequence_number == sequence {
                    match answer {
                        Answer::Status(code) => status = Some(code),
                        Answer::Content(_, payload) => content = Some(payload.to_vec()),
                        _ => {}
                    }
                }
                Ok(())
            })?;
            match status {
                None => {}
                Some(0) => break,
                Some(code) => return Err(refused(operation, code)),
            }
        }
        let Some(content) = content else {
            return Ok(None);
        };
        let value = parse(&content).ok_or_else(|| malformed(operation, "a short message"))?;
        Ok(Some(value))
    }

    /// Lists a table: what `keep` makes of each message. A table that changed
    /// meanwhile is listed again; the answer is whole or an error.
    pub(crate) fn dump<T>(
        &mut self,
        operation: &str,
        message: &RouteNetlinkMessage,
        mut keep: impl FnMut(u16, &[u8]) -> std::result::Result<Option<T>, String>,
    ) -> Result<Vec<T>> {
        for _ in 0..DUMP_TRIES {
            let sequence = self.request(operation, message.clone(), NLM_F_DUMP)?;
            if let Some(found) = self.dumped(operation, sequence, &mut keep)? {
                return Ok(found);
            }
        }
        Err(Error::Interrupted {
            operation: operation.into(),
            tries: DUMP_TRIES,
        })
    }

    /// Reads one dump to its end; `None` when the table changed meanwhile.
    fn dumped<T>(
        &mut self,
        operation: &str,
        sequence: u32,
        keep: &mut impl FnMut(u16, &[u8]) -> std::result::Result<Option<T>, String>,
    ) -> Result<Option<Vec<T>>> {
        let mut found = Vec::new();
        let mut interrupted = false;
        let mut failure = None;
        loop {
            let mut end = None;
            self.receive(operation, |header, answer| {
                if header.sequence_number != sequence {
                    return Ok(());
                }
                interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                match answer {
                    Answer::Content(kind, payload) => match keep(kind, payload) {
                        Ok(value) => found.extend(value),
                        // The rest is read all the same, to leave the socket clean.
                        Err(reason) => failure = Some(malformed(operation, reason)),
                    },
                    Answer::Status(code) | Answer::Done(code) => end = Some(code),
                    Answer::Overrun => interrupted = true,
                    Answer::Noop => {}
                }
                Ok(())
            })?;
            match end {
                None => {}
                Some(0) => break,
                Some(code) if -code == Errno::EINTR as i32 => interrupted = true,
                Some(code) => return Err(refused(operation, code)),
            }
            if end.is_some() {
                break;
            }
        }
        match failure {
            Some(error) => Err(error),
            None if interrupted => Ok(None),
            None => Ok(Some(found)),
        }
    }

    /// Waits for the acknowledgement of the last of `count` requests.
    fn statuses(
        &mut self,
        operation: &str,
        first: u32,
        count: usize,
        mut refusal: impl FnMut(usize, Errno),
    ) -> Result<()> {
        let mut last_seen = false;
        while !last_seen {
            self.receive(operation, |header, answer| {
                let index = header.sequence_number.wrapping_sub(first) as usize;
                // Something older than this batch is the answer to a call that was given up.
                if index >= count {
                    return Ok(());
                }
                match answer {
                    Answer::Status(0) => {}
                    Answer::Status(code) => refusal(index, Errno::from_raw(-code)),
                    Answer::Overrun => {
                        let operation = operation.into();
                        return Err(Error::Overrun { operation });
                    }
                    _ => return Ok(()),
                }
                last_seen |= index + 1 == count;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Sends one request and gives its sequence number.
    fn request(
        &mut self,
        operation: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        encode(&mut bytes, message, flags, self.sequence);
        self.send(operation, &bytes)?;
        Ok(self.sequence)
    }

    fn send(&mut self, operation: &str, bytes: &[u8]) -> Result<()> {
        self.sends += 1;
        let sent = self
            .socket
            .send(bytes, 0)
            .map_err(|source| io_error(operation, source))?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(malformed(operation, "took only a part of the request"))
        }
    }

    /// Receives one datagram and gives its messages to `each`.
    fn receive(
        &mut self,
        operation: &str,
        mut each: impl FnMut(&NetlinkHeader, Answer<'_>) -> Result<()>,
    ) -> Result<()> {
        self.buffer.clear();
        let length = loop {
            match self.socket.recv(&mut self.buffer, MSG_TRUNC) {
                Ok(length) => break length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io_error(operation, error)),
            }
        };
        if length > self.buffer.len() {
            return Err(malformed(operation, "a datagram larger than 64 KiB"));
        }
        for message in messages(&self.buffer) {
            let (header, answer) = message.map_err(|reason| malformed(operation, reason))?;
            each(&header, answer)?;
        }
        Ok(())
    }
}

fn encode_batch(requests: &[Request], first: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(requests.len() * 64);
    for (nth, request) in requests.iter().enumerate() {
        let last = nth + 1 == requests.len();
        let flags = request.flags | if last { NLM_F_ACK } else { 0 };
        let sequence = first.wrapping_add(nth as u32);
        encode(&mut bytes, request.message.clone(), flags, sequence);
    }
    bytes
}

/// Appends one message, padded to the next multiple of four bytes.
fn encode(bytes: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16, sequence: u32) {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let start = bytes.len();
    let length = message.buffer_len();
    bytes.resize(start + length.next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..start + length]);
}

/// The messages of one datagram.
fn messages(
    mut bytes: &[u8],
) -> impl Iterator<Item = std::result::Result<(NetlinkHeader, Answer<'_>), String>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let all = std::mem::take(&mut bytes);
        let buffer = match NetlinkBuffer::new_checked(all) {
            Ok(buffer) => buffer,
            Err(error) => return Some(Err(error.to_string())),
        };
        let length = buffer.length() as usize;
        bytes = all.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(answer(&buffer, &all[16..length]))
    })
}

fn answer<'a>(
    buffer: &NetlinkBuffer<&[u8]>,
    payload: &'a [u8],
) -> std::result::Result<(NetlinkHeader, Answer<'a>), String> {
    let mut header = NetlinkHeader::default();
    header.message_type = buffer.message_type();
    header.flags = buffer.flags();
    header.sequence_number = buffer.sequence_number();
    let code = || match payload.first_chunk::<4>() {
        Some(code) => Ok(i32::from_ne_bytes(*code)),
        None => Err("a status without a code".to_owned()),
    };
    let answer = match header.message_type {
        NLMSG_ERROR => Answer::Status(code()?),
        NLMSG_DONE => Answer::Done(code().unwrap_or(0)),
        NLMSG_NOOP => Answer::Noop,
        NLMSG_OVERRUN => Answer::Overrun,
        kind => Answer::Content(kind, payload),
    };
    Ok((header, answer))
}

fn io_error(operation: &str, source: io::Error) -> Error {
    let operation = operation.to_owned();
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOBUFS) => Error::Overrun { operation },
        Some(Errno::EAGAIN) => Error::Io {
            operation,
            source: io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer of the kernel in {SECONDS_TO_WAIT} s"),
            ),
        },
        _ => Error::Io { operation, source },
    }
}

fn refused(operation: &str, code: i32) -> Error {
    Error::Refused {
        operation: operation.into(),
        errno: Errno::from_raw(code.saturating_neg()),
    }
}

fn malformed(operation: &str, reason: impl Into<String>) -> Error {
    Error::Malformed {
        operation: operation.into(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests;
