//! Many requests in one send, with one acknowledgement.

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};

use crate::connection::{Event, Expected};
use crate::{Client, Error, Operation, Request};

/// What one queued reply takes of the receive buffer at most, with the kernel's
/// overhead.
const REPLY_SIZE: usize = 1536;

/// The most requests in one send: enough to make a round trip cheap.
const WINDOW_REQUESTS: usize = 512;

/// The most bytes in one send, well below the smallest usual send buffer.
const WINDOW_BYTES: usize = 1 << 16;

impl Client {
    /// Carry out requests in order, many in one send. A refused request does not
    /// keep those after it from being carried out; each comes back with its
    /// index and reason, in order. No refusal is an empty list.
    ///
    /// The kernel answers a request unasked only when it refuses it, so only the
    /// last of a send asks for an answer. Sends are so short that the receive
    /// buffer holds a refusal of every request in them.
    ///
    /// # Errors
    ///
    /// When the kernel cannot be heard, and it is not known what was done: all
    /// requests up to some place were carried out or refused, those after it
    /// never sent. Look again.
    pub fn apply(&mut self, requests: &[Request]) -> Result<Vec<(usize, Error)>, Error> {
        let mut failed = Vec::new();
        let mut window = Window::default();
        let limit = (self.connection.receive_buffer() / REPLY_SIZE).clamp(1, WINDOW_REQUESTS);
        let mut rest = requests.iter().enumerate();
        loop {
            window.clear();
            for (index, request) in rest.by_ref() {
                let sequence = self.connection.upcoming();
                match window.push(index, request, self.family, sequence) {
                    Ok(()) => self.connection.advance(),
                    Err(error) => failed.push((index, error)),
                }
                if window.is_full(limit) {
                    break;
                }
            }
            if window.indices.is_empty() {
                // Those that were too long to send came ahead of their turn.
                failed.sort_by_key(|(index, _)| *index);
                return Ok(failed);
            }
            self.send_window(&mut window, requests, &mut failed)?;
        }
    }

    fn send_window(
        &mut self,
        window: &mut Window,
        requests: &[Request],
        failed: &mut Vec<(usize, Error)>,
    ) -> Result<(), Error> {
        window.acknowledge_last();
        let expected = Expected {
            first: window.first,
            count: window.indices.len() as u32,
        };
        self.connection
            .exchange(&Operation::Batch, &window.messages, expected, |event| {
                if let Event::Refused(place, refusal) = event {
                    let index = window.indices[place as usize];
                    failed.push((index, refusal.of(requests[index].operation())));
                }
                Ok(())
            })
    }
}

/// Messages that go out in one send.
#[derive(Default)]
struct Window {
    messages: Vec<u8>,
    /// Where the last message starts.
    last: usize,
    /// Sequence number of the first message; the others follow on.
    first: u32,
    /// Place in the batch, by place in the window.
    indices: Vec<usize>,
}

impl Window {
    fn clear(&mut self) {
        self.messages.clear();
        self.indices.clear();
    }

    fn push(
        &mut self,
        index: usize,
        request: &Request,
        family: u16,
        sequence: u32,
    ) -> Result<(), Error> {
        let start = self.messages.len();
        request
            .emit(&mut self.messages, family, sequence)
            .map_err(|_| Error::TooLong {
                operation: request.operation(),
            })?;
        if self.indices.is_empty() {
            self.first = sequence;
        }
        self.last = start;
        self.indices.push(index);
        Ok(())
    }

    fn is_full(&self, limit: usize) -> bool {
        self.indices.len() >= limit || self.messages.len() >= WINDOW_BYTES
    }

    fn acknowledge_last(&mut self) {
        let flags = NLM_F_REQUEST | NLM_F_ACK;
        self.messages[self.last + 6..self.last + 8].copy_from_slice(&flags.to_ne_bytes());
    }
}
