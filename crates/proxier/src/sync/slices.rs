//! Who costs much waits for those who cost little.
//!
//! What changed is carried out in one plan, but a Service with thousands of real
//! servers or source ranges in a plan of its own, behind the others and one a
//! round. What meets at an address stays together, so that the order of a plan
//! holds for all there is at it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use kube_ipvs_core::diff::Touched;
use kube_ipvs_core::state::{KernelState, VirtualServerKey};
use kube_ipvs_dataplane::Dataplane;

use super::Syncer;

/// Virtual servers, real servers, rows and networks from which a Service is heavy: a
/// tenth of a second on a usual machine.
pub(super) const HEAVY: usize = 2000;

/// What has been compiled and not been carried out.
#[derive(Debug, Default)]
pub(super) struct Slices {
    light: Touched,
    /// Each with where it is, which is looked at for every other one.
    heavy: VecDeque<(Touched, BTreeSet<IpAddr>)>,
    /// Whose turn it is where both wait.
    heavy_next: bool,
}

impl Slices {
    fn push(&mut self, touched: Touched, weight: usize) {
        if weight > HEAVY {
            let at = addresses(&touched);
            self.heavy.push_back((touched, at));
        } else {
            self.light.extend(touched);
        }
    }

    /// What is carried out now. Light ones go first, but do not keep heavy ones
    /// waiting by coming again and again.
    fn next(&mut self) -> Touched {
        let light = !self.light.is_empty();
        self.heavy_next = light && !self.heavy_next && !self.heavy.is_empty();
        let first = if light && (self.heavy_next || self.heavy.is_empty()) {
            let light = std::mem::take(&mut self.light);
            let at = addresses(&light);
            (light, at)
        } else {
            self.heavy.pop_front().unwrap_or_default()
        };
        self.with_neighbours(first)
    }

    /// Together with all that touches the same addresses.
    fn with_neighbours(&mut self, first: (Touched, BTreeSet<IpAddr>)) -> Touched {
        let (mut touched, mut at) = first;
        let mut light = addresses(&self.light);
        loop {
            if !at.is_disjoint(&light) {
                touched.extend(std::mem::take(&mut self.light));
                at.extend(std::mem::take(&mut light));
            }
            let mut heavy = self.heavy.iter();
            let Some(n) = heavy.position(|(_, other)| !at.is_disjoint(other)) else {
                return touched;
            };
            let (other, there) = self.heavy.remove(n).unwrap_or_default();
            touched.extend(other);
            at.extend(there);
        }
    }
}

impl<D: Dataplane> Syncer<D> {
    /// Whether something has been compiled and waits for the next round.
    pub fn is_behind(&self) -> bool {
        !self.slices.heavy.is_empty() || !self.slices.light.is_empty()
    }

    /// Compiles what changed; gives what is carried out now.
    pub(super) fn next_slice(&mut self) -> Touched {
        for touched in self.cluster.compile_each() {
            let known = self.known();
            let weight = weight(&touched, self.cluster.desired(), known);
            self.slices.push(touched, weight);
        }
        self.slices.next()
    }

    /// Compiles what changed; gives all there is to carry out.
    pub(super) fn all_slices(&mut self) -> Touched {
        let mut all = self.cluster.compile();
        let waiting = std::mem::take(&mut self.slices);
        all.extend(waiting.light);
        waiting
            .heavy
            .into_iter()
            .for_each(|(other, _)| all.extend(other));
        all
    }
}

/// What it costs to carry out, about.
fn weight(touched: &Touched, desired: &KernelState, known: Option<&KernelState>) -> usize {
    let real_servers = |state: &KernelState| -> usize {
        let servers = touched.virtual_servers.iter();
        let servers = servers.filter_map(|key| state.virtual_servers.get(key));
        servers.map(|server| server.real_servers.len()).sum()
    };
    let networks = |state: &KernelState| networks(touched, state);
    let part = |of: &dyn Fn(&KernelState) -> usize| of(desired).max(known.map_or(0, of));
    touched.len() + part(&real_servers) + part(&networks)
}

/// Networks that rows are open to, each counted once where fronts share them.
fn networks(touched: &Touched, state: &KernelState) -> usize {
    let rows = touched.fronts.iter().filter_map(|front| state.row(front));
    let sources = rows.filter_map(|row| row.sources.as_ref());
    let shared: BTreeMap<_, _> = sources.map(|all| (all.as_ptr(), all.len())).collect();
    shared.into_values().sum()
}

/// Where something is touched. Which pods may talk to themselves, and what the
/// networks of Services are, is no Service's address.
fn addresses(touched: &Touched) -> BTreeSet<IpAddr> {
    let servers = touched.virtual_servers.iter().filter_map(|key| match key {
        VirtualServerKey::Front(front) => Some(front.address),
        VirtualServerKey::Mark { .. } => None,
    });
    let fronts = touched.fronts.iter().map(|front| front.address);
    let vips = touched.vips.iter().chain(&touched.guarded).copied();
    servers.chain(fronts).chain(vips).collect()
}
