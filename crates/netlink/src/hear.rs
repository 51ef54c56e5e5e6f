//! What a datagram of the kernel says in an exchange.

use netlink_packet_core::DecodeError;

use crate::message::{self, Content, Meaning};
use crate::outgoing::Outgoing;
use crate::{Error, Refusal};

/// What is heard in an exchange.
pub(crate) enum Event<'a> {
    Content(Content<'a>),
    /// A refused message, by its place in what was sent.
    Refused(usize, Refusal),
    /// The table changed during a dump.
    Interrupted,
}

/// Which messages of a send end the exchange when they are answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    /// The one that is acknowledged.
    pub(crate) last: usize,
    /// Whether the first speaks for all when it is refused.
    pub(crate) first_refused: bool,
}

impl Ending {
    pub(crate) fn at(last: usize) -> Self {
        Self {
            last,
            first_refused: false,
        }
    }
}

/// Take in one datagram; whether the exchange is over.
pub(crate) fn hear(
    datagram: &[u8],
    messages: &Outgoing,
    ending: Ending,
    on: &mut impl FnMut(Event<'_>) -> Result<(), DecodeError>,
) -> Result<bool, Error> {
    let malformed = |error: DecodeError| Error::Malformed {
        reason: error.to_string(),
    };
    let mut over = false;
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = message::first(&mut rest).map_err(malformed)?;
        match message.meaning {
            Meaning::Nothing => continue,
            Meaning::Overrun => return Err(Error::Overrun),
            Meaning::Content(_) | Meaning::End(_) => {}
        }
        let distance = message.sequence.wrapping_sub(messages.first());
        if distance.cast_signed() < 0 {
            // An answer to something that was given up.
            continue;
        }
        let index = distance as usize;
        if index >= messages.count() {
            return Err(Error::UnexpectedSequence {
                sequence: message.sequence,
            });
        }
        if message.interrupted {
            on(Event::Interrupted).map_err(malformed)?;
        }
        match message.meaning {
            Meaning::Content(content) => on(Event::Content(content)).map_err(malformed)?,
            Meaning::End(result) => {
                let refused = result.is_err();
                over |= index == ending.last || (index == 0 && ending.first_refused && refused);
                if let Err(refusal) = result {
                    let refusal = refusal.locate(messages.message(index));
                    on(Event::Refused(index, refusal)).map_err(malformed)?;
                }
            }
            Meaning::Nothing | Meaning::Overrun => {}
        }
    }
    Ok(over)
}
