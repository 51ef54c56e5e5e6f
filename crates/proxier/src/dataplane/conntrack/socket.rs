//! Connection tracking over a netfilter socket: a dump, and deletions in batches.

use kube_ipvs_core::state::Family;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use nix::errno::Errno;

use super::wire::{self, Handle};
use super::{Entry, Error, Filter};
use crate::dataplane::netfilter::{NetfilterSocket, OK, encode};

/// Deletions in one send; each may be answered by a refusal.
const BATCH: usize = 256;

pub(super) struct ConntrackSocket(NetfilterSocket);

impl ConntrackSocket {
    pub(super) fn open() -> Result<Self, Error> {
        NetfilterSocket::open().map(Self)
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
        let mut found = Vec::new();
        let request = (wire::CT_GET, NLM_F_DUMP);
        self.0
            .ask("list connections", request, body, |kind, body| {
                if kind == wire::CT_NEW {
                    let parsed = wire::parse(body);
                    let stale = parsed.filter(|(entry, _)| wanted(entry));
                    found.extend(stale.map(|(_, handle)| handle));
                }
            })?;
        Ok(found)
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
        let sequences: Vec<u32> = handles.iter().map(|_| self.0.next_sequence()).collect();
        let Some(first) = sequences.first() else {
            return Ok(0);
        };
        let mut request = Vec::new();
        for (nth, (handle, sequence)) in handles.iter().zip(&sequences).enumerate() {
            let last = nth + 1 == handles.len();
            let flags = if last { NLM_F_ACK } else { 0 };
            let body = wire::delete_body(family, handle);
            encode(&mut request, wire::CT_DELETE, flags, *sequence, &body);
        }
        self.0.send(OPERATION, &request)?;

        let mut deleted = handles.len();
        let mut failure = None;
        let mut last_seen = false;
        while !last_seen {
            self.0.receive(OPERATION, |message| {
                let index = message.sequence.wrapping_sub(*first) as usize;
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
            Some(errno) => Err(Error::refused(OPERATION, errno)),
        }
    }
}
