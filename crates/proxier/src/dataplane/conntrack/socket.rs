//! One netfilter socket: a dump, and deletions in batches.

use std::io;

use kube_ipvs_core::state::Family;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::errno::Errno;
use nix::libc::MSG_TRUNC;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::wire::{self, Handle};
use super::{Entry, Error, Filter};

/// Deletions in one send; each may be answered by a refusal.
const BATCH: usize = 256;
/// Bytes of receive buffer asked for.
const RECEIVE_BUFFER: usize = 1 << 20;
/// The kernel sends datagrams of at most 32 KiB.
const DATAGRAM: usize = 64 << 10;
/// The kernel answers at once, or never.
const SECONDS_TO_WAIT: i64 = 10;

pub(super) struct ConntrackSocket {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One message of the kernel.
struct Message<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Message<'_> {
    /// The errno of an acknowledgement, refusal or end; `None` for content.
    fn status(&self) -> Option<Errno> {
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
const OK: Errno = Errno::UnknownErrno;

impl ConntrackSocket {
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

    /// Lists what `wanted` picks. A kernel that refuses our filter is asked
    /// without one.
    pub(super) fn list(
        &mut self,
        filter: &Filter,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Result<Vec<Handle>, Error> {
        match self.dump(&wire::dump_body(filter), &wanted) {
            Err(Error::Refused {
                errno: Errno::EINVAL | Errno::EOPNOTSUPP,
                ..
            }) => self.dump(&wire::plain_dump_body(filter.family), &wanted),
            found => found,
        }
    }

    fn dump(
        &mut self,
        body: &[u8],
        wanted: &impl Fn(&Entry) -> bool,
    ) -> Result<Vec<Handle>, Error> {
        const OPERATION: &str = "list connections";
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let mut request = Vec::new();
        encode(&mut request, wire::CT_GET, NLM_F_DUMP, sequence, body);
        self.send(OPERATION, &request)?;

        let mut found = Vec::new();
        let mut end = None;
        while end.is_none() {
            self.receive(OPERATION, |message| {
                if message.sequence != sequence {
                    return;
                }
                if message.kind == wire::CT_NEW {
                    let parsed = wire::parse(message.body);
                    let stale = parsed.filter(|(entry, _)| wanted(entry));
                    found.extend(stale.map(|(_, handle)| handle));
                }
                end = end.or(message.status());
            })?;
        }
        match end {
            Some(OK) | None => Ok(found),
            Some(errno) => Err(refused(OPERATION, errno)),
        }
    }

    /// Deletes entries; tells how many were still there.
    pub(super) fn delete(&mut self, family: Family, handles: &[Handle]) -> Result<usize, Error> {
        let mut deleted = 0;
        for chunk in handles.chunks(BATCH) {
            deleted += self.delete_batch(family, chunk)?;
        }
        Ok(deleted)
    }

    /// One send. The kernel answers a request without `NLM_F_ACK` only when it
    /// fails, so the acknowledgement of the last one covers them all.
    fn delete_batch(&mut self, family: Family, handles: &[Handle]) -> Result<usize, Error> {
        const OPERATION: &str = "delete stale connections";
        let first = self.sequence.wrapping_add(1);
        let mut request = Vec::new();
        for (nth, handle) in handles.iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            let last = nth + 1 == handles.len();
            let flags = if last { NLM_F_ACK } else { 0 };
            let body = wire::delete_body(family, handle);
            encode(&mut request, wire::CT_DELETE, flags, self.sequence, &body);
        }
        self.send(OPERATION, &request)?;

        let mut deleted = handles.len();
        let mut failure = None;
        let mut last_seen = false;
        while !last_seen {
            self.receive(OPERATION, |message| {
                let index = message.sequence.wrapping_sub(first) as usize;
                let Some(errno) = message.status().filter(|_| index < handles.len()) else {
                    return;
                };
                last_seen |= index + 1 == handles.len();
                match errno {
                    OK => return,
                    // Gone by itself meanwhile.
                    Errno::ENOENT => {}
                    errno => failure = Some(errno),
                }
                deleted -= 1;
            })?;
        }
        match failure {
            None => Ok(deleted),
            Some(errno) => Err(refused(OPERATION, errno)),
        }
    }

    fn send(&self, operation: &str, bytes: &[u8]) -> Result<(), Error> {
        match self.socket.send(bytes, 0) {
            Ok(sent) if sent == bytes.len() => Ok(()),
            Ok(_) => Err(malformed(operation, "took only a part of the request")),
            Err(source) => Err(io_error(operation, source)),
        }
    }

    /// Receives one datagram and gives its messages to `each`.
    fn receive(&mut self, operation: &str, mut each: impl FnMut(Message<'_>)) -> Result<(), Error> {
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
        let mut rest = &self.buffer[..];
        while !rest.is_empty() {
            let Ok(header) = NetlinkBuffer::new_checked(rest) else {
                return Err(malformed(operation, "a message cut short"));
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
fn encode(bytes: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, body: &[u8]) {
    let length = u32::try_from(16 + body.len()).expect("our messages are short");
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
}

fn io_error(operation: &str, source: io::Error) -> Error {
    let operation = operation.into();
    Error::Io { operation, source }
}

fn refused(operation: &str, errno: Errno) -> Error {
    let operation = operation.into();
    Error::Refused { operation, errno }
}

fn malformed(operation: &str, reason: &'static str) -> Error {
    let operation = operation.into();
    Error::Malformed { operation, reason }
}
