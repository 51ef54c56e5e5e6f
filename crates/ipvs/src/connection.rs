//! Requests out, replies in: sequence numbers, acknowledgements, errors.

use std::io;
use std::time::Duration;

use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR,
    NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, NetlinkBuffer,
};
use nix::errno::Errno;

use crate::transport::{DATAGRAM, Transport};
use crate::wire::{Header, Writer, read_attributes, read_name, read_u32, write_message};
use crate::{Error, Operation};

/// Netlink header and generic netlink header.
const NETLINK_HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;

/// `NLMSGERR_ATTR_MSG`: the kernel's words in an extended acknowledgement.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// What is asked by one message.
pub(crate) struct Query {
    pub(crate) operation: Operation,
    pub(crate) family: u16,
    pub(crate) command: u8,
    pub(crate) version: u8,
    /// Whether all entries are asked for rather than one.
    pub(crate) dump: bool,
}

/// A message of an answer.
struct Reply<'a> {
    sequence: u32,
    interrupted: bool,
    content: Content<'a>,
}

enum Content<'a> {
    /// Command and attributes.
    Data(u8, &'a [u8]),
    /// The end of a request: refused, or all right.
    End(Result<(), Refusal>),
    /// The kernel dropped replies.
    Overrun,
}

/// A refusal and the kernel's words for it.
pub(crate) struct Refusal {
    pub(crate) errno: Errno,
    pub(crate) message: Option<String>,
}

/// A socket and the state of the talk over it.
pub(crate) struct Connection {
    transport: Box<dyn Transport + Send>,
    timeout: Duration,
    sequence: u32,
    /// Replies to an exchange that was given up may still come.
    stale: bool,
    datagram: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(transport: Box<dyn Transport + Send>) -> Self {
        Self {
            transport,
            timeout: Duration::MAX,
            sequence: 0,
            stale: false,
            datagram: Vec::with_capacity(DATAGRAM),
        }
    }

    pub(crate) fn set_timeout(&mut self, timeout: Duration) -> Result<(), Error> {
        self.transport
            .set_timeout(timeout)
            .map_err(|source| Error::Socket {
                action: "set the receive time-out of the netlink socket",
                source,
            })?;
        self.timeout = timeout;
        Ok(())
    }

    pub(crate) fn receive_buffer(&self) -> usize {
        self.transport.receive_buffer()
    }

    /// The next sequence number.
    pub(crate) fn upcoming(&self) -> u32 {
        self.sequence.wrapping_add(1)
    }

    /// It is used.
    pub(crate) fn advance(&mut self) {
        self.sequence = self.upcoming();
    }

    /// Ask one thing; `each` gets command and attributes of every answer.
    pub(crate) fn ask(
        &mut self,
        query: &Query,
        body: impl FnOnce(&mut Writer<'_>),
        mut each: impl FnMut(u8, &[u8]) -> Result<(), DecodeError>,
    ) -> Result<(), Error> {
        let operation = &query.operation;
        let sequence = self.upcoming();
        self.advance();
        let mode = if query.dump { NLM_F_DUMP } else { NLM_F_ACK };
        let header = Header {
            family: query.family,
            flags: NLM_F_REQUEST | mode,
            sequence,
            command: query.command,
            version: query.version,
        };
        let mut message = Vec::with_capacity(256);
        write_message(&mut message, header, body).map_err(|_| Error::TooLong {
            operation: operation.clone(),
        })?;

        let mut outcome = Ok(());
        let mut interrupted = false;
        let expected = Expected {
            first: sequence,
            count: 1,
        };
        self.exchange(operation, &message, expected, |event| match event {
            Event::Data(command, attributes) => each(command, attributes),
            Event::Refused(_, refusal) => {
                outcome = Err(refusal);
                Ok(())
            }
            Event::Interrupted => {
                interrupted = true;
                Ok(())
            }
        })?;
        outcome.map_err(|refusal| refusal.of(operation.clone()))?;
        if interrupted {
            return Err(Error::Interrupted {
                operation: operation.clone(),
            });
        }
        Ok(())
    }

    /// Send messages of which the last asks for an acknowledgement, and hear
    /// everything up to its end.
    pub(crate) fn exchange(
        &mut self,
        operation: &Operation,
        messages: &[u8],
        expected: Expected,
        mut on: impl FnMut(Event<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), Error> {
        self.settle()?;
        self.stale = true;
        self.send(messages)?;
        let mut datagram = std::mem::take(&mut self.datagram);
        let result = loop {
            let heard = self
                .receive(operation, &mut datagram)
                .and_then(|()| hear(&datagram, operation, expected, &mut on));
            match heard {
                Ok(false) => {}
                Ok(true) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.datagram = datagram;
        self.stale = result.is_err();
        result
    }

    fn send(&mut self, messages: &[u8]) -> Result<(), Error> {
        let failed = |source| Error::Socket {
            action: "send to IPVS",
            source,
        };
        let sent = self.transport.send(messages).map_err(failed)?;
        if sent < messages.len() {
            return Err(failed(io::ErrorKind::WriteZero.into()));
        }
        Ok(())
    }

    fn receive(&mut self, operation: &Operation, into: &mut Vec<u8>) -> Result<(), Error> {
        let length = self.transport.receive(into).map_err(|source| {
            match (source.raw_os_error().map(Errno::from_raw), source.kind()) {
                (Some(Errno::ENOBUFS), _) => Error::Overrun,
                (_, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Error::TimedOut {
                    operation: operation.clone(),
                    timeout: self.timeout,
                },
                _ => Error::Socket {
                    action: "receive from IPVS",
                    source,
                },
            }
        })?;
        let malformed = |reason: String| Error::Malformed {
            operation: operation.clone(),
            reason,
        };
        match length {
            0 => Err(malformed("empty datagram".to_owned())),
            length if length > into.len() => {
                let read = into.len();
                Err(malformed(format!("{read} bytes of {length} were read")))
            }
            _ => Ok(()),
        }
    }

    /// Get rid of what still comes from an exchange that was given up, so that
    /// it is not taken for an answer to the next.
    fn settle(&mut self) -> Result<(), Error> {
        if !self.stale {
            return Ok(());
        }
        let mut datagram = std::mem::take(&mut self.datagram);
        let result = loop {
            match self.transport.receive_now(&mut datagram) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {}
                Err(source) => {
                    break Err(Error::Socket {
                        action: "receive from IPVS",
                        source,
                    });
                }
            }
        };
        self.datagram = datagram;
        self.stale = result.is_err();
        result
    }
}

/// The sequence numbers of an exchange.
#[derive(Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) first: u32,
    pub(crate) count: u32,
}

/// What is heard in an exchange.
pub(crate) enum Event<'a> {
    /// An answer: command and attributes.
    Data(u8, &'a [u8]),
    /// A refused message, by its place in what was sent.
    Refused(u32, Refusal),
    /// The table changed during a dump.
    Interrupted,
}

impl Refusal {
    pub(crate) fn of(self, operation: Operation) -> Error {
        Error::Refused {
            operation,
            errno: self.errno,
            message: self.message,
        }
    }
}

/// Take in one datagram; whether the exchange is over.
fn hear(
    datagram: &[u8],
    operation: &Operation,
    expected: Expected,
    on: &mut impl FnMut(Event<'_>) -> Result<(), DecodeError>,
) -> Result<bool, Error> {
    let malformed = |error| Error::malformed(operation, &error);
    let mut over = false;
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkBuffer::new_checked(rest).map_err(malformed)?;
        // The length is checked to be within `rest`; its padding is not.
        let length = (message.length() as usize).next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
        if message.message_type() == NLMSG_NOOP {
            continue;
        }
        let reply = read_reply(&message).map_err(malformed)?;
        if matches!(reply.content, Content::Overrun) {
            return Err(Error::Overrun);
        }
        let index = reply.sequence.wrapping_sub(expected.first);
        if index >= expected.count {
            return Err(Error::UnexpectedSequence {
                operation: operation.clone(),
                sequence: reply.sequence,
            });
        }
        if reply.interrupted {
            on(Event::Interrupted).map_err(malformed)?;
        }
        match reply.content {
            Content::Data(command, attributes) => {
                on(Event::Data(command, attributes)).map_err(malformed)?;
            }
            Content::End(result) => {
                over |= index == expected.count - 1;
                if let Err(refusal) = result {
                    on(Event::Refused(index, refusal)).map_err(malformed)?;
                }
            }
            Content::Overrun => return Err(Error::Overrun),
        }
    }
    Ok(over)
}

fn read_reply<'a>(message: &NetlinkBuffer<&'a [u8]>) -> Result<Reply<'a>, DecodeError> {
    let payload = message.payload();
    let content = match message.message_type() {
        NLMSG_ERROR => Content::End(read_error(payload, message.flags())?),
        NLMSG_DONE => Content::End(read_done(payload)?),
        NLMSG_OVERRUN => Content::Overrun,
        _ => {
            let attributes = payload
                .get(GENERIC_HEADER..)
                .ok_or("message without generic netlink header")?;
            Content::Data(payload[0], attributes)
        }
    };
    Ok(Reply {
        sequence: message.sequence_number(),
        interrupted: message.flags() & NLM_F_DUMP_INTR != 0,
        content,
    })
}

/// `struct nlmsgerr`: a negative errno, the request's header, the request
/// unless capped, attributes if extended.
fn read_error(payload: &[u8], flags: u16) -> Result<Result<(), Refusal>, DecodeError> {
    let code = read_u32(payload, "error code")?.cast_signed();
    if code == 0 {
        return Ok(Ok(()));
    }
    let request = payload.get(4..).unwrap_or_default();
    let echoed = if flags & NLM_F_CAPPED == 0 {
        read_u32(request, "length of the request")? as usize
    } else {
        NETLINK_HEADER
    };
    let extended = match flags & NLM_F_ACK_TLVS {
        0 => None,
        _ => request.get(echoed.next_multiple_of(4)..),
    };
    Ok(Err(Refusal::new(code, extended)))
}

/// The end of a dump bears a code too, and perhaps the kernel's words.
fn read_done(payload: &[u8]) -> Result<Result<(), Refusal>, DecodeError> {
    let Ok(code) = read_u32(payload, "error code") else {
        return Ok(Ok(()));
    };
    let code = code.cast_signed();
    Ok(if code < 0 {
        Err(Refusal::new(code, payload.get(4..)))
    } else {
        Ok(())
    })
}

impl Refusal {
    fn new(code: i32, extended: Option<&[u8]>) -> Self {
        Self {
            errno: Errno::from_raw(code.saturating_neg()),
            message: extended.and_then(kernel_words),
        }
    }
}

/// The kernel's words, if it has any. They help, and nothing hangs on them: what
/// cannot be read is left out.
fn kernel_words(attributes: &[u8]) -> Option<String> {
    let mut words = None;
    let read = read_attributes(attributes, |attribute| {
        if attribute.kind() == NLMSGERR_ATTR_MSG {
            words = Some(read_name(attribute.value()));
        }
        Ok(())
    });
    read.ok().and(words)
}
