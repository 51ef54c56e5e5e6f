//! Connection tracking over netlink: a list, and deletions in batches.

use kube_ipvs_core::state::Family;
use netlink_exchange::{Connection, Errno, Error as Exchange};

use super::wire::{self, Handle};
use super::{Entry, Error, Filter};
use crate::netfilter::{self, Request};

/// How often the table is listed anew that changes meanwhile.
const TRIES: u32 = 5;

pub(super) struct ConntrackSocket(Connection);

impl ConntrackSocket {
    pub(super) fn open() -> Result<Self, Error> {
        netfilter::open().map(Self)
    }

    #[cfg(test)]
    pub(super) fn over(connection: Connection) -> Self {
        Self(connection)
    }

    /// Lists what `wanted` picks. A kernel that refuses our filter is asked
    /// without one.
    pub(super) fn list(
        &mut self,
        filter: &Filter,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Result<Vec<Handle>, Error> {
        let found = match self.dump(wire::dump_body(filter), &wanted) {
            Err(Exchange::Refused(refusal))
                if matches!(refusal.errno, Errno::EINVAL | Errno::EOPNOTSUPP) =>
            {
                self.dump(wire::plain_dump_body(filter.family), &wanted)
            }
            found => found,
        };
        found.map_err(Error::of("list connections"))
    }

    fn dump(
        &mut self,
        body: Vec<u8>,
        wanted: &impl Fn(&Entry) -> bool,
    ) -> Result<Vec<Handle>, Exchange> {
        let message_type = wire::CT_GET;
        let request = Request { message_type, body };
        self.0.list(request, TRIES, |content| {
            let parsed =
                wire::parse(content.payload).filter(|_| content.message_type == wire::CT_NEW);
            let stale = parsed.filter(|(entry, _)| wanted(entry));
            Ok(stale.map(|(_, handle)| handle))
        })
    }

    /// Deletes entries; tells how many were still there.
    pub(super) fn delete(&mut self, family: Family, handles: &[Handle]) -> Result<usize, Error> {
        let requests = handles.iter().map(|handle| Request {
            message_type: wire::CT_DELETE,
            body: wire::delete_body(family, handle),
        });
        let explain = Error::of("delete stale connections");
        let failed = self.0.batch(requests).map_err(&explain)?;
        let deleted = handles.len() - failed.len();
        // What is not there has gone by itself meanwhile.
        let failure = failed
            .into_iter()
            .map(|(_, error)| error)
            .find(|error| error.errno() != Some(Errno::ENOENT));
        match failure {
            None => Ok(deleted),
            Some(error) => Err(explain(error)),
        }
    }
}
