//! Whether nftables is as it was: the kernel counts the transactions of a
//! network namespace.
//!
//! To read our tables takes as long as they are big; to ask for the generation
//! takes one message (`NFT_MSG_GETGEN` of `linux/netfilter/nf_tables.h`).

use netlink_exchange::nfnetlink::{self, message_type};
use netlink_exchange::{Connection, DecodeError, attributes};

use crate::dataplane::netfilter::{self, Error, Request};

const NFNL_SUBSYS_NFTABLES: u8 = 10;
const NFT_MSG_NEWGEN: u16 = message_type(NFNL_SUBSYS_NFTABLES, 15);
const NFT_MSG_GETGEN: u16 = message_type(NFNL_SUBSYS_NFTABLES, 16);
const NFPROTO_UNSPEC: u8 = 0;
const NFTA_GEN_ID: u16 = 1;

/// The generations at which we know what is there.
pub(super) struct Generation {
    connection: Connection,
    /// At which our tables were read, or made, last.
    tables: Option<u32>,
    /// At which the chains of others were looked at last.
    chains: Option<u32>,
}

impl Generation {
    /// Nothing has been read yet.
    pub(super) fn open() -> Result<Self, Error> {
        Ok(Self {
            connection: netfilter::open()?,
            tables: None,
            chains: None,
        })
    }

    /// The kernel's count; none when it does not tell, which makes everybody
    /// look for himself.
    pub(super) fn now(&mut self) -> Option<u32> {
        self.ask()
            .inspect_err(|error| tracing::debug!(%error, "generation of nftables not known"))
            .ok()
    }

    /// The tables were read; `before` is [`Self::now`] from before that.
    pub(super) fn tables_read(&mut self, before: Option<u32>) {
        self.tables = self.still(before);
    }

    /// A transaction of ours went through; `before` is [`Self::now`] from before
    /// that. Had there been another one meanwhile, the count would be higher.
    pub(super) fn changed(&mut self, before: Option<u32>) {
        let known = before.filter(|before| self.tables == Some(*before));
        self.tables = self.still(known.map(next));
    }

    /// Whether our tables may be other than they were read, or made.
    pub(super) fn tables_changed(&mut self) -> bool {
        self.still(self.tables).is_none()
    }

    /// Whether chains of others may be other than they were.
    pub(super) fn chains_changed(&mut self) -> bool {
        self.still(self.chains).is_none()
    }

    /// The chains of others were looked at; `before` as above.
    pub(super) fn chains_read(&mut self, before: Option<u32>) {
        self.chains = self.still(before);
    }

    /// A generation, if it is one and the kernel's is still the same.
    fn still(&mut self, known: Option<u32>) -> Option<u32> {
        self.now().filter(|now| known == Some(*now))
    }

    fn ask(&mut self) -> Result<u32, Error> {
        let explain = Error::of("ask for the generation of nftables");
        let mut generation = None;
        let request = Request {
            message_type: NFT_MSG_GETGEN,
            body: nfnetlink::header(NFPROTO_UNSPEC, 0).to_vec(),
        };
        let asked = self.connection.ask(request, |content| {
            if content.message_type == NFT_MSG_NEWGEN {
                generation = generation_in(content.after(nfnetlink::HEADER)?)?;
            }
            Ok(())
        });
        asked.map_err(&explain)?;
        generation.ok_or_else(|| {
            explain(netlink_exchange::Error::Malformed {
                reason: "no generation in it".into(),
            })
        })
    }
}

/// The count, which is big-endian.
fn generation_in(attributes: &[u8]) -> Result<Option<u32>, DecodeError> {
    let id = attributes::find(attributes, NFTA_GEN_ID)?;
    id.map(|id| attributes::be32(id.value(), "generation"))
        .transpose()
}

/// The kernel leaves out 0.
fn next(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_behind_other_attributes() {
        // NFTA_GEN_PROC_PID 7, then NFTA_GEN_ID 258.
        let attributes = [8, 0, 2, 0, 0, 0, 0, 7, 8, 0, 1, 0, 0, 0, 1, 2];
        let read = |length: usize| generation_in(&attributes[..length]).ok();
        assert_eq!(read(16), Some(Some(258)));
        assert_eq!(read(8), Some(None));
        assert_eq!(read(0), Some(None));
        assert_eq!(read(14), None);
    }

    #[test]
    fn the_count_goes_round_without_a_zero() {
        assert_eq!(next(1), 2);
        assert_eq!(next(u32::MAX), 1);
    }
}
