//! The desired state as the sum of what Services ask for, kept up one Service
//! at a time.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::claims::Claims;
use super::counts::{Addresses, swap};
use super::footprint::Footprint;
use super::grant::{Grant, Held};
use crate::compile::{Compiled, TrafficPolicy, Withheld};
use crate::diff::Touched;
use crate::localhost::{LocalhostPort, LocalhostPorts};
use crate::names::ServiceName;
use crate::row::{Row, Verdict};
use crate::services::FrontKind;
use crate::state::{
    Family, Front, KernelState, Protocol, RealServerKey, VirtualServer, VirtualServerKey,
};
use crate::table::Untracked;

/// Who holds a front or mark.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) service: ServiceName,
    pub(super) port: Arc<str>,
    pub(super) protocol: Protocol,
    pub(super) kind: FrontKind,
}

/// The sum.
#[derive(Debug, Default)]
pub(super) struct Placement {
    desired: KernelState,
    served: BTreeMap<VirtualServerKey, Served>,
    /// How many Services want each of the addresses in the table.
    hairpin: Addresses,
    /// How many Services want each untracked.
    untracked: BTreeMap<Untracked, u32>,
    /// How many Services want each of the desired VIPs. Each endpoint of a change
    /// is looked for among them.
    bound: Addresses,
    /// Fronts at which this host answers, unless a Service is served there, and
    /// how many Services want that.
    passing: BTreeMap<Front, u32>,
    /// Ports of loopback addresses that somebody is to listen on.
    localhost: Arc<LocalhostPorts>,
    /// Desired real servers of weight 0.
    draining: BTreeSet<(VirtualServerKey, RealServerKey)>,
    /// Services by the `Local` policy that has no endpoint here.
    without_local: BTreeMap<(TrafficPolicy, Family), u32>,
    /// Addresses of Services that are not served, by reason.
    withheld: BTreeMap<Withheld, u32>,
}

impl Placement {
    pub(super) fn withheld(&self, reason: Withheld) -> u32 {
        self.withheld.get(&reason).copied().unwrap_or_default()
    }

    pub(super) fn desired(&self) -> &KernelState {
        &self.desired
    }

    /// The VIPs of [`Self::desired`].
    pub(super) fn bound(&self) -> &Addresses {
        &self.bound
    }

    pub(super) fn localhost(&self) -> &Arc<LocalhostPorts> {
        &self.localhost
    }

    pub(super) fn draining(&self) -> &BTreeSet<(VirtualServerKey, RealServerKey)> {
        &self.draining
    }

    pub(super) fn without_local(&self, policy: TrafficPolicy, family: Family) -> u32 {
        let count = self.without_local.get(&(policy, family));
        count.copied().unwrap_or_default()
    }

    pub(super) fn served(&self, key: &VirtualServerKey) -> Option<&Served> {
        self.served.get(key)
    }

    pub(super) fn all_served(&self) -> impl Iterator<Item = (&VirtualServerKey, &Served)> {
        self.served.iter()
    }

    /// Replaces what a Service was given by what it is given now. Returns the
    /// VIPs that came or went.
    pub(super) fn place(
        &mut self,
        name: &ServiceName,
        footprint: &mut Footprint,
        compiled: Compiled,
        claims: &Claims,
        touched: &mut Touched,
    ) -> BTreeSet<IpAddr> {
        let mut grant = Grant::of(name, compiled, claims);
        self.release(name, footprint, &grant, touched);
        self.swap_passing(&footprint.passing, &grant.passing, touched);
        footprint.keep_held(&grant);
        self.hold(core::mem::take(&mut grant.held), touched);
        self.swap_hairpin(&footprint.hairpin, &grant.hairpin, touched);
        self.swap_untracked(&footprint.untracked, &grant.untracked, touched);
        let moved = self.swap_vips(&footprint.vips, &grant.vips, touched);
        let (before, after) = (footprint.without_local.iter(), grant.without_local.iter());
        swap(&mut self.without_local, before.copied(), after.copied());
        let (before, after) = (footprint.withheld.iter(), grant.withheld.iter());
        swap(&mut self.withheld, before.copied(), after.copied());
        footprint.keep(name, grant);
        moved
    }

    /// Takes back what a Service held and is not granted any more, unless it is
    /// another's by now.
    fn release(
        &mut self,
        name: &ServiceName,
        footprint: &Footprint,
        grant: &Grant,
        touched: &mut Touched,
    ) {
        for key in &footprint.held {
            let still = grant.place_of(key).is_ok();
            let ours = || self.served.get(key).is_some_and(|s| s.service == *name);
            if !still && ours() {
                self.served.remove(key);
                self.set_server(*key, None, touched);
                self.set_row(key, None, touched);
                self.set_localhost(key, None);
            }
        }
    }

    /// Gives what was won.
    fn hold(&mut self, won: Vec<(VirtualServerKey, Held)>, touched: &mut Touched) {
        for (key, held) in won {
            self.served.insert(key, held.served);
            self.set_server(key, held.server, touched);
            self.set_row(&key, held.row.said(), touched);
            self.set_localhost(&key, held.localhost);
        }
    }

    fn swap_hairpin(&mut self, before: &[IpAddr], after: &BTreeSet<IpAddr>, touched: &mut Touched) {
        let (before, after) = (before.iter().copied(), after.iter().copied());
        let moved = swap(&mut self.hairpin, before, after);
        for address in &moved {
            let is_wanted = self.hairpin.has(*address);
            set(&mut self.desired.table.hairpin, *address, is_wanted);
        }
        touched.hairpin.extend(moved);
    }

    fn swap_untracked(
        &mut self,
        before: &[Untracked],
        after: &BTreeSet<Untracked>,
        touched: &mut Touched,
    ) {
        let (before, after) = (before.iter().copied(), after.iter().copied());
        let moved = swap(&mut self.untracked, before, after);
        for one in &moved {
            let is_wanted = self.untracked.contains_key(one);
            set(&mut self.desired.table.untracked, *one, is_wanted);
        }
        touched.untracked.extend(moved);
    }

    /// Returns the VIPs that came or went.
    fn swap_vips(
        &mut self,
        before: &[IpAddr],
        after: &BTreeSet<IpAddr>,
        touched: &mut Touched,
    ) -> BTreeSet<IpAddr> {
        let (before, after) = (before.iter().copied(), after.iter().copied());
        let moved = swap(&mut self.bound, before, after);
        for vip in &moved {
            let is_wanted = self.bound.has(*vip);
            self.set_bound(*vip, is_wanted);
        }
        touched.vips.extend(&moved);
        touched.guarded.extend(&moved);
        moved
    }

    /// Whether an address is bound, and guarded: one that Services want, or one
    /// that stays for a while though none does.
    pub(super) fn set_bound(&mut self, vip: IpAddr, is_bound: bool) {
        set(&mut self.desired.vips, vip, is_bound);
        set(&mut self.desired.table.guarded, vip, is_bound);
    }

    /// Makes the networks of ClusterIPs these, neighbours joined: the table
    /// takes none that overlap.
    pub(super) fn set_networks(
        &mut self,
        networks: impl Iterator<Item = IpNet>,
        touched: &mut Touched,
    ) {
        let networks: Vec<IpNet> = networks.collect();
        let wanted: BTreeSet<IpNet> = IpNet::aggregate(&networks).into_iter().collect();
        let before = core::mem::replace(&mut self.desired.table.networks, wanted);
        let moved = before.symmetric_difference(&self.desired.table.networks);
        touched.networks.extend(moved);
    }

    fn set_server(
        &mut self,
        key: VirtualServerKey,
        server: Option<VirtualServer>,
        touched: &mut Touched,
    ) {
        let servers = &mut self.desired.virtual_servers;
        let there = servers.get_mut(&key);
        if there.as_deref().map(|there| &**there) == server.as_ref() {
            // The one that is there stays: the kernel's side has it too.
            return;
        }
        touched.virtual_servers.insert(key);
        if let Some(there) = &there {
            for real in idle(there) {
                self.draining.remove(&(key, real));
            }
        }
        let idle = server.iter().flat_map(idle);
        self.draining.extend(idle.map(|real| (key, real)));
        match (server.map(Arc::new), there) {
            (Some(server), Some(there)) => *there = server,
            (Some(server), None) => _ = servers.insert(key, server),
            (None, _) => _ = servers.remove(&key),
        }
    }

    /// Makes this the row of a front that a Service holds, or held.
    fn set_row(&mut self, key: &VirtualServerKey, row: Option<Row>, touched: &mut Touched) {
        let VirtualServerKey::Front(front) = key else {
            return;
        };
        let passing = || self.passing.contains_key(front).then(passing);
        let row = row.or_else(passing);
        let rows = &mut self.desired.table.rows;
        if rows.get(front) == row.as_ref() {
            return;
        }
        touched.fronts.insert(*front);
        match row {
            Some(row) => rows.insert(*front, row),
            None => rows.remove(front),
        };
    }

    /// What does not change stays where it is: who listens compares pointers.
    fn set_localhost(&mut self, key: &VirtualServerKey, port: Option<LocalhostPort>) {
        let VirtualServerKey::Front(front) = key else {
            return;
        };
        if !front.address.is_loopback() {
            return;
        }
        let at = SocketAddr::new(front.address, front.port);
        if self.localhost.get(&at).map(|there| &**there) == port.as_ref() {
            return;
        }
        let ports = Arc::make_mut(&mut self.localhost);
        match port {
            Some(port) => ports.insert(at, Arc::new(port)),
            None => ports.remove(&at),
        };
    }

    /// Where a Service is served, nothing but the count changes.
    fn swap_passing(&mut self, before: &[Front], after: &BTreeSet<Front>, touched: &mut Touched) {
        let (before, after) = (before.iter().copied(), after.iter().copied());
        for front in swap(&mut self.passing, before, after) {
            let key = VirtualServerKey::Front(front);
            if !self.served.contains_key(&key) {
                self.set_row(&key, None, touched);
            }
        }
    }
}

/// A front at which this host answers.
fn passing() -> Row {
    Row::of(Verdict::Serve)
}

/// Its real servers of weight 0.
fn idle(server: &VirtualServer) -> impl Iterator<Item = RealServerKey> {
    let all = server.real_servers.iter();
    all.filter(|(_, real)| real.weight == 0)
        .map(|(key, _)| *key)
}

/// Makes it one of a set, or none.
fn set<K: Ord>(all: &mut BTreeSet<K>, key: K, is_wanted: bool) {
    if is_wanted {
        all.insert(key);
    } else {
        all.remove(&key);
    }
}
