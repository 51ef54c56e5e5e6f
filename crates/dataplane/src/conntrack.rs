//! Deletes connection tracking entries that still lead to real servers which
//! are gone, over ctnetlink.
//!
//! A UDP client that keeps its source port never starts a new connection in
//! the kernel's eyes: its entry lives on, and leads where the first packet
//! went, to a removed real server or to none. TCP needs no help: such a
//! connection is over, and IPVS ends it.

mod socket;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kube_ipvs_core::state::{Family, Front, Protocol, RealServerKey};

use self::socket::ConntrackSocket;
pub use crate::netfilter::Error;

/// The fronts that changed, each with the real servers that may still serve
/// its traffic: those that drain belong in it.
pub type Queries = BTreeMap<Front, BTreeSet<RealServerKey>>;

/// One end-to-end direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// Who sends.
    pub source: IpAddr,
    /// Its port, host order; 0 for protocols without.
    pub source_port: u16,
    /// Who is meant.
    pub destination: IpAddr,
    /// Its port, host order; 0 for protocols without.
    pub destination_port: u16,
    /// The number in the IP header.
    pub protocol: u8,
}

/// A connection, as far as the decision needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// From the client, before any translation: its destination is the front.
    pub original: Tuple,
    /// As the answer comes: its source is the real server.
    pub reply: Tuple,
}

/// How many entries were deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Those that were there and are no more.
    pub count: usize,
}

/// Whether a connection leads somewhere that may no longer serve it. One to a
/// front that is not asked about is never stale, nor is one over TCP.
///
/// A connection from when the front had no real servers answers from the
/// front itself, which is none of the real servers either.
pub fn stale(entry: &Entry, queries: &Queries) -> bool {
    let original = &entry.original;
    let Some(protocol) = cleaned(original.protocol) else {
        return false;
    };
    let front = Front {
        address: original.destination,
        port: original.destination_port,
        protocol,
    };
    let server = RealServerKey {
        address: entry.reply.source,
        port: entry.reply.source_port,
    };
    queries
        .get(&front)
        .is_some_and(|serving| !serving.contains(&server))
}

/// The protocols whose entries are cleaned.
fn cleaned(protocol: u8) -> Option<Protocol> {
    [Protocol::Udp, Protocol::Sctp]
        .into_iter()
        .find(|cleaned| cleaned.number() == protocol)
}

/// What the kernel is asked to list; what it cannot filter, `stale` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Filter {
    family: Family,
    protocol: Protocol,
    /// The one front that is asked about, if it is only one.
    front: Option<Front>,
}

/// As few dumps as possible, each as narrow as possible: one for a family and
/// protocol, of the one front if it is only one.
fn filters(queries: &Queries) -> Vec<Filter> {
    let mut by_kind: BTreeMap<_, Vec<Front>> = BTreeMap::new();
    for front in queries.keys() {
        if cleaned(front.protocol.number()).is_some() {
            let kind = (Family::of(front.address), front.protocol);
            by_kind.entry(kind).or_default().push(*front);
        }
    }
    let filter = |((family, protocol), fronts): (_, Vec<Front>)| Filter {
        family,
        protocol,
        front: (fronts.len() == 1).then(|| fronts[0]),
    };
    by_kind.into_iter().map(filter).collect()
}

/// The connection tracking table of one network namespace: that of the thread
/// which opened it.
pub struct Conntrack {
    socket: ConntrackSocket,
}

impl Conntrack {
    /// Opens the socket.
    ///
    /// # Errors
    /// The kernel has no netfilter netlink.
    pub fn open() -> Result<Self, Error> {
        Ok(Self {
            socket: ConntrackSocket::open()?,
        })
    }

    /// Deletes the UDP and SCTP entries of these fronts that lead elsewhere
    /// than to their real servers, and only those. Nothing asked, nothing done.
    ///
    /// Equal to `conntrack -D -p udp --orig-dst FRONT --orig-port-dst PORT`,
    /// restricted to replies from others than the real servers.
    ///
    /// # Errors
    /// The table could not be listed, or a deletion was refused; what went
    /// before is done.
    pub fn delete_stale(&mut self, queries: &Queries) -> Result<Deleted, Error> {
        let mut deleted = Deleted::default();
        for filter in filters(queries) {
            let found = self.socket.list(&filter, |entry| stale(entry, queries))?;
            deleted.count += self.socket.delete(filter.family, &found)?;
        }
        Ok(deleted)
    }
}

#[cfg(test)]
mod tests;
