//! When real servers that take no new connections may go.
//!
//! Two kinds are held at weight 0. Those whose endpoints are terminating but
//! still serve are desired at weight 0. Those whose endpoints are there but not
//! chosen (not ready for a moment, or hints moved elsewhere) are not desired at
//! all, and are kept while they have connections, since removing them would cut
//! those off. UDP is never held: it would pin its clients. The same goes for the
//! virtual server of a NodePort that goes by mark from now on.
//!
//! All that must survive a restart is in the kernel: weight 0 and the counts.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::Cluster;
use crate::diff::Touched;
use crate::state::{Family, KernelState, Protocol, RealServerKey, VirtualServerKey};

/// After this time without an active connection only remains (`TIME_WAIT` and
/// the like) are left, which hold nothing.
const REMAINS_MS: u64 = 5_000;
/// How often a busy one is looked at.
const POLL_MS: u64 = 1_000;

/// A real server in its virtual server.
pub type Key = (VirtualServerKey, RealServerKey);

/// Connections of a real server, as the kernel counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Weight in the kernel.
    pub weight: u32,
    /// Established ones.
    pub active: u32,
    /// All others: beginning, ending, waiting.
    pub inactive: u32,
}

/// What is draining, since when, and what is done with it.
#[derive(Debug)]
pub struct Drain {
    timeout: u64,
    held: BTreeMap<Key, Held>,
    kept: BTreeSet<Key>,
    drained: BTreeSet<Key>,
}

/// Milliseconds, on the caller's clock.
#[derive(Debug, Clone, Copy)]
struct Held {
    since: u64,
    last_active: u64,
}

/// What a step came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// Virtual servers for which [`Drain::drained`] or [`Drain::kept`] changed.
    pub touched: Touched,
    /// When the next step is due, in milliseconds on the caller's clock.
    pub next: Option<u64>,
}

impl Drain {
    /// Nothing is draining yet; whatever does is removed after so many milliseconds.
    pub fn new(timeout_ms: u64) -> Self {
        Self {
            timeout: timeout_ms,
            held: BTreeMap::new(),
            kept: BTreeSet::new(),
            drained: BTreeSet::new(),
        }
    }

    /// Desired real servers of weight 0 that should not be there (any more):
    /// [`Terms::drained`](crate::Terms::drained).
    pub fn drained(&self) -> &BTreeSet<Key> {
        &self.drained
    }

    /// Real servers to keep though they are not desired:
    /// [`Terms::kept`](crate::Terms::kept).
    pub fn kept(&self) -> &BTreeSet<Key> {
        &self.kept
    }

    /// How many wait for their connections to end.
    pub fn waiting(&self, family: Family) -> usize {
        let all = self.held.keys();
        all.filter(|(server, _)| server.family() == family).count()
    }

    /// Looks at everything that drains. To be called after each compile, with
    /// what it touched, and when the last step said.
    ///
    /// `load` says what the kernel holds of a real server, `None` that there is
    /// none. `now` is in milliseconds and never goes back.
    pub fn step(
        &mut self,
        now: u64,
        cluster: &Cluster,
        observed: &KernelState,
        touched: &Touched,
        mut load: impl FnMut(&Key) -> Option<Load>,
    ) -> Step {
        let before = (self.drained.clone(), self.kept.clone());
        self.keep(cluster, observed, touched, &mut load);
        self.kept
            .retain(|key| !desires(cluster.desired(), key) && cluster.has_endpoint(&key.0, &key.1));
        let candidates = cluster.draining().union(&self.kept).copied();
        let candidates: BTreeSet<Key> = candidates.collect();
        self.held.retain(|key, _| candidates.contains(key));
        self.drained.clear();
        let mut next = None;
        for key in candidates {
            match self.look(now, &key, cluster, load(&key)) {
                Some(due) => next = Some(next.map_or(due, |next: u64| next.min(due))),
                None => self.let_go(key),
            }
        }
        let changed = (&before.0 ^ &self.drained).into_iter();
        let changed = changed.chain(&before.1 ^ &self.kept);
        let mut step = Step {
            next,
            ..Step::default()
        };
        step.touched.virtual_servers = changed.map(|(server, _)| server).collect();
        step
    }

    /// Finds what the kernel holds, nobody wants, and still has an endpoint.
    fn keep(
        &mut self,
        cluster: &Cluster,
        observed: &KernelState,
        touched: &Touched,
        load: &mut impl FnMut(&Key) -> Option<Load>,
    ) {
        for server in &touched.virtual_servers {
            if matches!(cluster.protocol_of(server), None | Some(Protocol::Udp)) {
                continue;
            }
            let wanted = cluster.desired().virtual_servers.get(server);
            if wanted.is_none() && !goes_by_mark(cluster.desired(), server) {
                continue;
            }
            let there = observed.virtual_servers.get(server);
            for real in there.iter().flat_map(|there| there.real_servers.keys()) {
                let key = (*server, *real);
                if desires(cluster.desired(), &key) || !cluster.has_endpoint(server, real) {
                    continue;
                }
                if load(&key).is_some_and(|load| load.active + load.inactive > 0) {
                    self.kept.insert(key);
                }
            }
        }
    }

    /// When to look at one again; `None` lets it go.
    fn look(&mut self, now: u64, key: &Key, cluster: &Cluster, load: Option<Load>) -> Option<u64> {
        let load = load?;
        let held = self.held.entry(*key).or_insert(Held {
            since: now,
            last_active: now,
        });
        let deadline = held.since + self.timeout;
        if now >= deadline {
            return None;
        }
        if load.active > 0 || load.weight > 0 {
            // Whoever still has its weight may get connections until that is taken.
            held.last_active = now;
            return Some(deadline.min(now + POLL_MS));
        }
        let server = cluster.desired().virtual_servers.get(&key.0);
        if server.is_some_and(|server| server.scheduler == "mh") && !self.kept.contains(key) {
            // Its slots in the table are the same on every node while it is there,
            // so that a flow that changes nodes finds the same real server.
            return Some(deadline);
        }
        let remains = held.last_active + REMAINS_MS;
        if load.inactive == 0 || now >= remains {
            return None;
        }
        Some(deadline.min(remains).min(now + POLL_MS))
    }

    fn let_go(&mut self, key: Key) {
        if !self.kept.remove(&key) {
            self.drained.insert(key);
        }
    }
}

/// Whether a front's new connections have a virtual server of their mark: its
/// own is kept as long as there are old ones.
fn goes_by_mark(desired: &KernelState, server: &VirtualServerKey) -> bool {
    match server {
        VirtualServerKey::Front(front) => desired.row(front).is_some_and(|row| row.mark.is_some()),
        VirtualServerKey::Mark { .. } => false,
    }
}

/// Whether a real server is desired, at whatever weight.
fn desires(desired: &KernelState, (server, real): &Key) -> bool {
    let server = desired.virtual_servers.get(server);
    server.is_some_and(|server| server.real_servers.contains_key(real))
}

#[cfg(test)]
mod tests;
