//! Requests out, answers in: sequence numbers, acknowledgements, errors.

use std::io;
use std::time::Duration;

use netlink_packet_core::{DecodeError, NLM_F_ACK, NLM_F_DUMP};
use nix::errno::Errno;

use crate::hear::{Ending, Event, hear};
use crate::message::Content;
use crate::outgoing::{Outgoing, Request};
use crate::transport::{KernelSocket, Transport};
use crate::{Direction, Error};

/// How long an answer is waited for. The kernel answers before `send` returns,
/// or never; only what loads a module first takes long.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What one queued refusal takes of the receive buffer at most, with the
/// kernel's overhead.
const REFUSAL_SIZE: usize = 1536;

/// The most requests in one send: enough to make a round trip cheap.
const WINDOW_REQUESTS: usize = 512;

/// The most bytes in one send, well below the smallest usual send buffer.
const WINDOW_BYTES: usize = 1 << 16;

/// The kernel's port.
const KERNEL: u32 = 0;

/// A socket and the state of the talk over it.
pub struct Connection {
    transport: Box<dyn Transport + Send>,
    timeout: Duration,
    sequence: u32,
    /// Answers to an exchange that was given up may still come.
    stale: bool,
    datagram: Vec<u8>,
    sends: u64,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("sequence", &self.sequence)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Open a socket of a protocol ([`protocols`](crate::protocols)) in the
    /// network namespace of the calling thread. Answers are waited for 10
    /// seconds.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(protocol: isize) -> Result<Self, Error> {
        Self::over(Box::new(KernelSocket::open(protocol)?))
    }

    /// Talk over something else than a socket of our own.
    ///
    /// # Errors
    /// [`Error::Open`] if it cannot have a time-out.
    pub fn over(transport: Box<dyn Transport + Send>) -> Result<Self, Error> {
        let mut connection = Self {
            transport,
            timeout: TIMEOUT,
            sequence: 0,
            stale: false,
            datagram: Vec::new(),
            sends: 0,
        };
        connection.set_timeout(TIMEOUT)?;
        Ok(connection)
    }

    /// Wait so long for each datagram of an answer.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<(), Error> {
        let action = "set the receive time-out of the netlink socket";
        self.transport
            .set_timeout(timeout)
            .map_err(|source| Error::Open { action, source })?;
        self.timeout = timeout;
        Ok(())
    }

    /// How many times something was sent, for tests and metrics.
    pub fn sends(&self) -> u64 {
        self.sends
    }

    /// Ask one thing; `each` gets every answer up to the acknowledgement.
    ///
    /// # Errors
    /// [`Error::Refused`]; the others when it is not known what was done. An
    /// error of `each` is [`Error::Malformed`].
    pub fn ask(
        &mut self,
        request: impl Request,
        each: impl FnMut(Content<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), Error> {
        self.one(&request, NLM_F_ACK, each)
    }

    /// Ask for a table; `each` gets every entry. Those are all only if no error
    /// is given.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if the table changed meanwhile; others as for
    /// [`ask`](Self::ask).
    pub fn dump(
        &mut self,
        request: impl Request,
        each: impl FnMut(Content<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), Error> {
        if self.survey(request, each)? {
            Ok(())
        } else {
            Err(Error::Interrupted)
        }
    }

    /// Ask for a table that may change meanwhile; `each` gets every entry. Whether
    /// nothing changed: else entries may be there twice, or not at all.
    ///
    /// # Errors
    /// As for [`dump`](Self::dump); [`Error::Interrupted`] only if the kernel gave
    /// it up half-way.
    pub fn survey(
        &mut self,
        request: impl Request,
        each: impl FnMut(Content<'_>) -> Result<(), DecodeError>,
    ) -> Result<bool, Error> {
        match self.one(&request, NLM_F_DUMP, each) {
            Ok(()) => Ok(true),
            Err(Error::Interrupted) => Ok(false),
            // Where a table changed too much for the kernel to go on with it.
            Err(Error::Refused(refusal)) if refusal.errno == Errno::EINTR => {
                Err(Error::Interrupted)
            }
            Err(error) => Err(error),
        }
    }

    /// Ask for a table, again if it changed meanwhile, so many times at most;
    /// what `keep` makes of each entry.
    ///
    /// # Errors
    /// As for [`dump`](Self::dump). There is never a partial answer.
    pub fn list<T>(
        &mut self,
        request: impl Request,
        tries: u32,
        mut keep: impl FnMut(Content<'_>) -> Result<Option<T>, DecodeError>,
    ) -> Result<Vec<T>, Error> {
        let mut left = tries.max(1);
        loop {
            let mut all = Vec::new();
            let result = self.dump(&request, |content| {
                all.extend(keep(content)?);
                Ok(())
            });
            left -= 1;
            match result {
                Ok(()) => return Ok(all),
                Err(Error::Interrupted) if left > 0 => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Carry out requests in order, many in one send. A refused request does
    /// not keep those after it from being carried out; each comes back with its
    /// index and reason, in order: [`Error::Refused`], or [`Error::TooLong`] if
    /// it was not sent. No refusal is an empty list.
    ///
    /// The kernel answers a request unasked only when it refuses it, so only
    /// the last of a send asks for an answer. Sends are so short that the
    /// receive buffer holds a refusal of every request in them.
    ///
    /// # Errors
    /// When the kernel cannot be heard, and it is not known what was done: all
    /// requests up to some place were carried out or refused, those after it
    /// never sent.
    pub fn batch<R: Request>(
        &mut self,
        requests: impl IntoIterator<Item = R>,
    ) -> Result<Vec<(usize, Error)>, Error> {
        let mut failed = Vec::new();
        let limit = (self.transport.receive_buffer() / REFUSAL_SIZE).clamp(1, WINDOW_REQUESTS);
        let mut rest = requests.into_iter().enumerate().fuse();
        let mut window = Outgoing::default();
        // Place among the requests, by place in the window.
        let mut places = Vec::new();
        loop {
            window.restart(self.upcoming());
            places.clear();
            for (place, request) in rest.by_ref() {
                match window.push(&request, 0) {
                    Ok(()) => places.push(place),
                    Err(error) => failed.push((place, error)),
                }
                if places.len() >= limit || window.bytes().len() >= WINDOW_BYTES {
                    break;
                }
            }
            let Some(last) = places.len().checked_sub(1) else {
                // Those that were too long to send came ahead of their turn.
                failed.sort_by_key(|(place, _)| *place);
                return Ok(failed);
            };
            window.acknowledge_last();
            self.exchange(&window, Ending::at(last), |event| {
                if let Event::Refused(place, refusal) = event {
                    failed.push((places[place], Error::Refused(refusal)));
                }
                Ok(())
            })?;
        }
    }

    /// One request and what it is answered.
    fn one(
        &mut self,
        request: &impl Request,
        flags: u16,
        mut each: impl FnMut(Content<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), Error> {
        let mut message = Outgoing::new(self.upcoming());
        message.push(request, flags)?;
        let mut refused = None;
        let mut interrupted = false;
        self.exchange(&message, Ending::at(0), |event| {
            match event {
                Event::Content(content) => each(content)?,
                Event::Refused(_, refusal) => refused = Some(refusal),
                Event::Interrupted => interrupted = true,
            }
            Ok(())
        })?;
        match refused {
            Some(refusal) => Err(Error::Refused(refusal)),
            None if interrupted => Err(Error::Interrupted),
            None => Ok(()),
        }
    }

    /// The next sequence number.
    pub(crate) fn upcoming(&self) -> u32 {
        self.sequence.wrapping_add(1)
    }

    #[cfg(test)]
    pub(crate) fn set_sequence(&mut self, sequence: u32) {
        self.sequence = sequence;
    }

    /// Send messages, and hear everything up to the end.
    pub(crate) fn exchange(
        &mut self,
        messages: &Outgoing,
        ending: Ending,
        mut on: impl FnMut(Event<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), Error> {
        self.settle()?;
        self.sequence = self.sequence.wrapping_add(messages.count() as u32);
        self.stale = true;
        self.send(messages.bytes())?;
        let mut datagram = std::mem::take(&mut self.datagram);
        let result = loop {
            let heard = self
                .receive(&mut datagram)
                .and_then(|()| hear(&datagram, messages, ending, &mut on));
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

    /// After an overrun: hear what is there all the same.
    pub(crate) fn hear_rest(
        &mut self,
        messages: &Outgoing,
        ending: Ending,
        mut on: impl FnMut(Event<'_>) -> Result<(), DecodeError>,
    ) {
        let mut datagram = std::mem::take(&mut self.datagram);
        while let Ok(received) = self.transport.receive_now(&mut datagram) {
            if received.sender == KERNEL && received.length == datagram.len() {
                let _ = hear(&datagram, messages, ending, &mut on);
            }
        }
        self.datagram = datagram;
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let failed = |source| Error::Io {
            direction: Direction::Send,
            source,
        };
        self.transport.make_room(bytes.len()).map_err(failed)?;
        self.sends += 1;
        let sent = self.transport.send(bytes).map_err(failed)?;
        if sent < bytes.len() {
            return Err(failed(io::ErrorKind::WriteZero.into()));
        }
        Ok(())
    }

    /// Receive one datagram of the kernel; anybody may write to a netlink socket.
    fn receive(&mut self, into: &mut Vec<u8>) -> Result<(), Error> {
        let length = loop {
            let received = self.transport.receive(into);
            let received = received.map_err(|source| self.failure(source))?;
            if received.sender == KERNEL {
                break received.length;
            }
        };
        let malformed = |reason| Err(Error::Malformed { reason });
        match length {
            0 => malformed("empty datagram".to_owned()),
            length if length > into.len() => {
                let read = into.len();
                malformed(format!("{read} bytes of {length} were read"))
            }
            _ => Ok(()),
        }
    }

    fn failure(&self, source: io::Error) -> Error {
        if source.raw_os_error() == Some(Errno::ENOBUFS as i32) {
            return Error::Overrun;
        }
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::TimedOut {
                timeout: self.timeout,
            },
            _ => Error::Io {
                direction: Direction::Receive,
                source,
            },
        }
    }

    /// Get rid of what still comes from an exchange that was given up, so that
    /// it is not taken for an answer to the next.
    fn settle(&mut self) -> Result<(), Error> {
        let mut datagram = std::mem::take(&mut self.datagram);
        let mut result = Ok(());
        while self.stale {
            match self.transport.receive_now(&mut datagram) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.stale = false,
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {}
                Err(source) => {
                    let direction = Direction::Receive;
                    result = Err(Error::Io { direction, source });
                    break;
                }
            }
        }
        self.datagram = datagram;
        result
    }
}
