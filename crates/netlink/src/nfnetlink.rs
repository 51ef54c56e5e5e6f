//! Netfilter: the header of its messages, and transactions.
//!
//! nf_tables takes changes in a transaction alone: everything between
//! `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END` is carried out, or nothing
//! of it (`nfnetlink_rcv_batch` of `net/netfilter/nfnetlink.c`).

use nix::errno::Errno;

use crate::connection::Connection;
use crate::hear::{Ending, Event};
use crate::outgoing::{Outgoing, Request};
use crate::{Error, Refusal, Writer};

// linux/netfilter/nfnetlink.h
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFNL_BATCH_GENID: u16 = 1;
const NFPROTO_UNSPEC: u8 = 0;

/// Bytes of `struct nfgenmsg`.
pub const HEADER: usize = 4;

/// `struct nfgenmsg`, which follows the netlink header: a protocol family
/// (`NFPROTO_IPV4` is 2, `NFPROTO_IPV6` 10), and the resource, mostly 0.
pub fn header(family: u8, resource: u16) -> [u8; HEADER] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// The type of a message of a subsystem (`NFNL_SUBSYS_CTNETLINK` is 1,
/// `NFNL_SUBSYS_NFTABLES` 10).
pub const fn message_type(subsystem: u8, message: u8) -> u16 {
    (subsystem as u16) << 8 | message as u16
}

/// What became of a transaction.
#[must_use]
#[derive(Debug)]
pub enum Transaction {
    /// All of it was carried out.
    Committed,
    /// Nothing of it was carried out, because of these requests, each with its
    /// index and reason: [`Error::Refused`] or [`Error::TooLong`].
    ///
    /// The kernel goes through all requests before it gives up, so these are
    /// all it objects to, unless one is refused only because of another.
    Refused(Vec<(usize, Error)>),
}

impl Connection {
    /// Carry out all requests of a subsystem, in order and at once, or none.
    /// All go in one send: the send buffer grows with them.
    ///
    /// With a generation (`NFTA_GEN_ID`) the kernel carries them out only if
    /// nobody changed the ruleset since.
    ///
    /// # Errors
    /// [`Error::Refused`] if the kernel refuses the transaction rather than one
    /// of its requests; [`Error::Outdated`] if the generation is another.
    /// Nothing was carried out then. After the others it is not known whether
    /// it was.
    pub fn transaction<R: Request>(
        &mut self,
        subsystem: u8,
        generation: Option<u32>,
        requests: impl IntoIterator<Item = R>,
    ) -> Result<Transaction, Error> {
        let mut messages = Outgoing::new(self.upcoming());
        messages.push(&Bracket::begin(subsystem, generation), 0)?;
        let mut failed = Vec::new();
        for (place, request) in requests.into_iter().enumerate() {
            if let Err(error) = messages.push(&request, 0) {
                failed.push((place, error));
            }
        }
        if !failed.is_empty() {
            return Ok(Transaction::Refused(failed));
        }
        let last = messages.count() - 1;
        if last == 0 {
            return Ok(Transaction::Committed);
        }
        // Kernels before 6.10 do not acknowledge the end of a transaction. What
        // the last request asks for comes when all is carried out, or undone.
        messages.acknowledge_last();
        messages.push(&Bracket::end(subsystem), 0)?;
        self.commit(&messages, last, generation)
    }

    fn commit(
        &mut self,
        messages: &Outgoing,
        last: usize,
        generation: Option<u32>,
    ) -> Result<Transaction, Error> {
        let ending = Ending {
            last,
            first_refused: true,
        };
        let mut refusals: Vec<(usize, Refusal)> = Vec::new();
        let heard = self.exchange(messages, ending, |event| {
            refusals.extend(event.refusal());
            Ok(())
        });
        match heard {
            Ok(()) => {}
            // A refusal of one request is that of all, whatever else was lost.
            Err(Error::Overrun) => {
                self.hear_rest(messages, ending, |event| {
                    refusals.extend(event.refusal());
                    Ok(())
                });
                if refusals.is_empty() {
                    return Err(Error::Overrun);
                }
            }
            Err(error) => return Err(error),
        }
        if let Some(at) = refusals.iter().position(|(index, _)| *index == 0) {
            let (_, refusal) = refusals.swap_remove(at);
            return Err(match (refusal.errno, generation) {
                (Errno::ERESTART, Some(generation)) => Error::Outdated { generation },
                _ => Error::Refused(refusal),
            });
        }
        if refusals.is_empty() {
            return Ok(Transaction::Committed);
        }
        let refused = refusals
            .into_iter()
            .map(|(index, refusal)| (index - 1, Error::Refused(refusal)));
        Ok(Transaction::Refused(refused.collect()))
    }
}

impl Event<'_> {
    fn refusal(self) -> Option<(usize, Refusal)> {
        match self {
            Self::Refused(index, refusal) => Some((index, refusal)),
            Self::Content(_) | Self::Interrupted => None,
        }
    }
}

/// Begin or end of a transaction.
struct Bracket {
    message_type: u16,
    subsystem: u8,
    generation: Option<u32>,
}

impl Bracket {
    fn begin(subsystem: u8, generation: Option<u32>) -> Self {
        Self {
            message_type: NFNL_MSG_BATCH_BEGIN,
            subsystem,
            generation,
        }
    }

    fn end(subsystem: u8) -> Self {
        Self {
            message_type: NFNL_MSG_BATCH_END,
            subsystem,
            generation: None,
        }
    }
}

impl Request for Bracket {
    fn message_type(&self) -> u16 {
        self.message_type
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.header(&header(NFPROTO_UNSPEC, self.subsystem.into()));
        if let Some(generation) = self.generation {
            out.be32(NFNL_BATCH_GENID, generation);
        }
    }
}
