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

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::RangeInclusive;

use crate::cluster::Cluster;
use crate::diff::Touched;
use crate::due::Due;
use crate::state::{Family, KernelState, Protocol, RealServerKey, VirtualServerKey};

/// After this time without an active connection only remains (`TIME_WAIT` and
/// the like) are left, which hold nothing.
const REMAINS_MS: u64 = 5_000;
/// How often a busy one is looked at.
const POLL_MS: u64 = 1_000;
/// Who would be due so soon is looked at with one that is, so that many that
/// drain need no round each.
const ALONG_MS: u64 = POLL_MS / 2;

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
    /// Before that one is not looked at, unless its virtual server changes; never
    /// once it was let go.
    due: Due<Key>,
    /// Shared with the terms of a round, which ends before the next step.
    kept: Arc<BTreeSet<Key>>,
    drained: Arc<BTreeSet<Key>>,
    /// Everything that drains was looked at once.
    started: bool,
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
            due: Due::default(),
            kept: Arc::default(),
            drained: Arc::default(),
            started: false,
        }
    }

    /// Desired real servers of weight 0 that should not be there (any more):
    /// [`Terms::drained`](crate::Terms::drained).
    pub fn drained(&self) -> &Arc<BTreeSet<Key>> {
        &self.drained
    }

    /// Real servers to keep though they are not desired:
    /// [`Terms::kept`](crate::Terms::kept).
    pub fn kept(&self) -> &Arc<BTreeSet<Key>> {
        &self.kept
    }

    /// How many wait for their connections to end.
    pub fn waiting(&self, family: Family) -> usize {
        let all = self.held.keys();
        all.filter(|(server, _)| server.family() == family).count()
    }

    /// Looks at what is due of what drains, and at that whose virtual server was
    /// touched. To be called after each compile, with what it touched, and when
    /// the last step said.
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
        let mut step = Step::default();
        let changed = &mut step.touched.virtual_servers;
        self.keep(cluster, observed, touched, &mut load, changed);
        self.let_kept_go(cluster, changed);
        for key in self.due_or_touched(now, cluster, touched) {
            if !self.kept.contains(&key) && !cluster.draining().contains(&key) {
                self.forget(&key, changed);
                continue;
            }
            let due = self.look(now, &key, cluster, load(&key));
            self.settle(&key, due, changed);
        }
        step.next = self.due.first();
        step
    }

    /// What is due, and what is of a virtual server that was touched; at first
    /// all there is.
    fn due_or_touched(&mut self, now: u64, cluster: &Cluster, touched: &Touched) -> BTreeSet<Key> {
        let draining = cluster.draining();
        let mut keys = BTreeSet::new();
        if !core::mem::replace(&mut self.started, true) {
            keys.extend(draining);
        }
        for server in &touched.virtual_servers {
            keys.extend(self.held.range(all_of(server)).map(|(key, _)| *key));
            for set in [&self.drained, &self.kept, draining] {
                keys.extend(set.range(all_of(server)));
            }
        }
        if self.due.first().is_some_and(|due| due <= now) {
            keys.extend(self.due.at(now + ALONG_MS));
        }
        keys
    }

    /// Those that are wanted again, or whose endpoint is gone.
    fn let_kept_go(&mut self, cluster: &Cluster, changed: &mut BTreeSet<VirtualServerKey>) {
        let desired = cluster.desired();
        let is_over = |key: &&Key| desires(desired, key) || !cluster.has_endpoint(&key.0, &key.1);
        let over: Vec<Key> = self.kept.iter().filter(is_over).copied().collect();
        for key in over {
            // Shared with no terms by now, so nothing is copied.
            Arc::make_mut(&mut self.kept).remove(&key);
            changed.insert(key.0);
            if !cluster.draining().contains(&key) {
                self.forget(&key, changed);
            }
        }
    }

    /// It does not drain any more.
    fn forget(&mut self, key: &Key, changed: &mut BTreeSet<VirtualServerKey>) {
        self.held.remove(key);
        self.due.set(key, None);
        if self.drained.contains(key) {
            Arc::make_mut(&mut self.drained).remove(key);
            changed.insert(key.0);
        }
    }

    /// Takes in when one is looked at again; none lets it go.
    fn settle(&mut self, key: &Key, due: Option<u64>, changed: &mut BTreeSet<VirtualServerKey>) {
        self.due.set(key, due);
        if due.is_none() {
            if self.kept.contains(key) {
                Arc::make_mut(&mut self.kept).remove(key);
                self.held.remove(key);
                changed.insert(key.0);
            } else if !self.drained.contains(key) {
                Arc::make_mut(&mut self.drained).insert(*key);
                changed.insert(key.0);
            }
            return;
        }
        if self.drained.contains(key) {
            Arc::make_mut(&mut self.drained).remove(key);
            changed.insert(key.0);
        }
    }

    /// Finds what the kernel holds, nobody wants, and still has an endpoint.
    fn keep(
        &mut self,
        cluster: &Cluster,
        observed: &KernelState,
        touched: &Touched,
        load: &mut impl FnMut(&Key) -> Option<Load>,
        changed: &mut BTreeSet<VirtualServerKey>,
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
                if desires(cluster.desired(), &key)
                    || self.kept.contains(&key)
                    || !cluster.has_endpoint(server, real)
                {
                    continue;
                }
                if load(&key).is_some_and(|load| load.active + load.inactive > 0) {
                    Arc::make_mut(&mut self.kept).insert(key);
                    changed.insert(*server);
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
}

/// All real servers of a virtual server, as a range of keys.
fn all_of(server: &VirtualServerKey) -> RangeInclusive<Key> {
    let real = |address: IpAddr, port| (*server, RealServerKey { address, port });
    let first = real(Ipv4Addr::UNSPECIFIED.into(), 0);
    let last = real(Ipv6Addr::from(u128::MAX).into(), u16::MAX);
    first..=last
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
