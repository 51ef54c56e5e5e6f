//! One netfilter socket: messages out and in. What they mean is said by
//! [`super::conntrack`] and [`super::linux`].

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::errno::Errno;
use nix::libc::MSG_TRUNC;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

/// Bytes of receive buffer asked for.
const RECEIVE_BUFFER: usize = 1 << 20;
/// The kernel sends datagrams of at most 32 KiB.
const DATAGRAM: usize = 64 << 10;
/// The kernel answers at once, or never.
const SECONDS_TO_WAIT: i64 = 10;

/// Why the kernel's netfilter could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel gave no netfilter socket.
    #[error("open netfilter socket: {0}; is nf_conntrack_netlink available?")]
    Open(#[source] io::Error),

    /// Sending or receiving failed.
    #[error("{operation}: {source}")]
    Io {
        /// What was being done.
        operation: String,
        /// The system's reason.
        source: io::Error,
    },

    /// The kernel refused.
    #[error("{operation}: {} ({errno:?}){}", .errno.desc(), hint(*.errno))]
    Refused {
        /// What was asked for.
        operation: String,
        /// The kernel's reason.
        errno: Errno,
    },

    /// The kernel said something that makes no sense to us.
    #[error("{operation}: unexpected answer of the kernel: {reason}")]
    Malformed {
        /// What was being done.
        operation: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM | Errno::EACCES => "; CAP_NET_ADMIN is needed",
        Errno::EINVAL | Errno::EOPNOTSUPP => {
            "; are the modules nf_conntrack_netlink and nf_tables available?"
        }
        _ => "",
    }
}

impl Error {
    pub(super) fn refused(operation: &str, errno: Errno) -> Self {
        let operation = operation.into();
        Self::Refused { operation, errno }
    }

    pub(super) fn malformed(operation: &str, reason: &'static str) -> Self {
        let operation = operation.into();
        Self::Malformed { operation, reason }
    }

    fn io(operation: &str, source: io::Error) -> Self {
        let operation = operation.into();
        Self::Io { operation, source }
    }
}

/// A socket in the network namespace of the thread that opened it.
pub(super) struct NetfilterSocket {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One message of the kernel.
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) sequence: u32,
    /// What follows the netlink header.
    pub(super) body: &'a [u8],
}

impl Message<'_> {
    /// The errno of an acknowledgement, refusal or end; `None` for content.
    pub(super) fn status(&self) -> Option<Errno> {
        if self.kind != NLMSG_ERROR && self.kind != NLMSG_DONE {
            return None;
        }
        let code = self
            .body
            .first_chunk()
            .map_or(0, |code| i32::from_ne_bytes(*code));
        Some(Errno::from_raw(code.saturating_neg()))
    }
}

/// No error: the code of an acknowledgement.
pub(super) const OK: Errno = Errno::UnknownErrno;

impl NetfilterSocket {
    pub(super) fn open() -> Result<Self, Error> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_cap_ack(true)?;
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
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    /// Sends one request, with `NLM_F_ACK` or `NLM_F_DUMP` in its flags, and
    /// gives kind and body of each answer to `each`, up to the end.
    pub(super) fn ask(
        &mut self,
        operation: &str,
        (kind, flags): (u16, u16),
        body: &[u8],
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<(), Error> {
        let sequence = self.next_sequence();
        let mut request = Vec::new();
        encode(&mut request, kind, flags, sequence, body);
        self.send(operation, &request)?;
        let mut end = None;
        while end.is_none() {
            self.receive(operation, |message| {
                if message.sequence == sequence {
                    each(message.kind, message.body);
                    end = end.or(message.status());
                }
            })?;
        }
        match end {
            Some(OK) | None => Ok(()),
            Some(errno) => Err(Error::refused(operation, errno)),
        }
    }

    /// The number of the next request.
    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    pub(super) fn send(&self, operation: &str, bytes: &[u8]) -> Result<(), Error> {
        match self.socket.send(bytes, 0) {
            Ok(sent) if sent == bytes.len() => Ok(()),
            Ok(_) => Err(Error::malformed(
                operation,
                "took only a part of the request",
            )),
            Err(source) => Err(Error::io(operation, source)),
        }
    }

    /// Receives one datagram and gives its messages to `each`.
    pub(super) fn receive(
        &mut self,
        operation: &str,
        mut each: impl FnMut(Message<'_>),
    ) -> Result<(), Error> {
        self.buffer.clear();
        let length = loop {
            match self.socket.recv(&mut self.buffer, MSG_TRUNC) {
                Ok(length) => break length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io(operation, error)),
            }
        };
        if length > self.buffer.len() {
            return Err(Error::malformed(operation, "a datagram larger than 64 KiB"));
        }
        let mut rest = &self.buffer[..];
        while !rest.is_empty() {
            let Ok(header) = NetlinkBuffer::new_checked(rest) else {
                return Err(Error::malformed(operation, "a message cut short"));
            };
            let length = header.length() as usize;
            each(Message {
                kind: header.message_type(),
                sequence: header.sequence_number(),
                body: &rest[16..length],
            });
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Appends one message, padded; attributes keep `body` a multiple of four.
pub(super) fn encode(bytes: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, body: &[u8]) {
    let length = u32::try_from(16 + body.len()).expect("our messages are short");
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
}

const NLA_TYPE_MASK: u16 = 0x3fff;

/// Attributes by kind and value. Ends at the first that makes no sense.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}
