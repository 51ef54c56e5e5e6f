//! The desired state as the sum of what Services ask for, kept up one Service
//! at a time.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::claims::{Claims, Stake, by_key};
use super::counts::{Addresses, swap};
use super::health_ports::Wish;
use super::host_ports::HostPort;
use super::sources;
use crate::compile::{Claim, Compiled, Health, Ranges, TrafficPolicy, Withheld};
use crate::diff::Touched;
use crate::localhost::{LocalhostPort, LocalhostPorts};
use crate::names::{ServiceName, Warning};
use crate::read::Quoted;
use crate::row::{Row, Sources, Verdict};
use crate::services::FrontKind;
use crate::state::{
    Family, Front, KernelState, Protocol, RealServerKey, VirtualServer, VirtualServerKey,
};
use crate::table::Untracked;
use crate::warnings::Warnings;

/// What a Service asked for and was given, so that it can be taken back.
#[derive(Debug, Default)]
pub(super) struct Footprint {
    pub(super) stake: Stake,
    hairpin: Box<[IpAddr]>,
    untracked: Box<[Untracked]>,
    /// Fronts at which this host answers health checks.
    passing: Box<[Front]>,
    vips: Box<[IpAddr]>,
    /// Few have one, so it takes no room here; nor does the wish for it.
    pub(super) health: Option<Box<Health>>,
    /// Ports it takes on this host's own addresses.
    pub(super) host_ports: Box<[HostPort]>,
    /// The health-check node port it asks for, whoever answers there.
    pub(super) health_wish: Option<Box<Wish>>,
    without_local: Box<[(TrafficPolicy, Family)]>,
    withheld: Box<[Withheld]>,
    pub(super) warnings: Box<[Warning]>,
    /// Fronts and marks it holds.
    held: Box<[VirtualServerKey]>,
}

impl Footprint {
    pub(super) fn is_empty(&self) -> bool {
        self.stake.claims.is_empty() && self.hairpin.is_empty() && self.passing.is_empty()
    }

    /// The fronts it holds.
    pub(super) fn fronts(&self) -> impl Iterator<Item = &Front> {
        self.held.iter().filter_map(|key| match key {
            VirtualServerKey::Front(front) => Some(front),
            VirtualServerKey::Mark { .. } => None,
        })
    }

    /// Whether there is something to tell or to listen on.
    pub(super) fn is_notable(&self) -> bool {
        self.health.is_some() || !self.warnings.is_empty()
    }
}

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
        mut compiled: Compiled,
        claims: &Claims,
        touched: &mut Touched,
    ) -> BTreeSet<IpAddr> {
        let without_local = core::mem::take(&mut compiled.without_local);
        let mut slice_warnings = core::mem::take(&mut compiled.slice_warnings);
        let mut grant = Grant::of(name, compiled, claims);
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
        self.swap_passing(&footprint.passing, &grant.passing, touched);
        let held = grant.held.iter().map(|(key, _)| *key);
        keep(&mut footprint.held, held);
        for (
            key,
            Held {
                served,
                server,
                row,
                localhost,
            },
        ) in core::mem::take(&mut grant.held)
        {
            self.served.insert(key, served);
            self.set_server(key, server, touched);
            self.set_row(&key, row.said(), touched);
            self.set_localhost(&key, localhost);
        }
        let desired = &mut self.desired;
        let (before, after) = (footprint.hairpin.iter(), grant.hairpin.iter());
        let moved = swap(&mut self.hairpin, before.copied(), after.copied());
        for address in &moved {
            let is_wanted = self.hairpin.has(*address);
            set(&mut desired.table.hairpin, *address, is_wanted);
        }
        touched.hairpin.extend(moved);
        let (before, after) = (footprint.untracked.iter(), grant.untracked.iter());
        let moved = swap(&mut self.untracked, before.copied(), after.copied());
        for one in &moved {
            let is_wanted = self.untracked.contains_key(one);
            set(&mut desired.table.untracked, *one, is_wanted);
        }
        touched.untracked.extend(moved);
        let (before, after) = (footprint.vips.iter(), grant.vips.iter());
        let moved = swap(&mut self.bound, before.copied(), after.copied());
        for vip in &moved {
            let is_wanted = self.bound.has(*vip);
            self.set_bound(*vip, is_wanted);
        }
        touched.vips.extend(&moved);
        touched.guarded.extend(&moved);
        let (before, after) = (footprint.without_local.iter(), without_local.iter());
        swap(&mut self.without_local, before.copied(), after.copied());
        keep(&mut footprint.without_local, without_local.iter().copied());
        keep(&mut footprint.hairpin, grant.hairpin.iter().copied());
        keep(&mut footprint.untracked, grant.untracked.iter().copied());
        keep(&mut footprint.passing, grant.passing.iter().copied());
        keep(&mut footprint.vips, grant.vips.iter().copied());
        footprint.health = grant.health.map(Box::new);
        let mut warnings = grant.warnings.finish(format_args!("Service {name}"));
        warnings.append(&mut slice_warnings);
        footprint.warnings = warnings.into();
        let (before, after) = (footprint.withheld.iter(), grant.withheld.iter());
        swap(&mut self.withheld, before.copied(), after.copied());
        footprint.withheld = grant.withheld.into();
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

/// Makes them these; nearly always they are.
fn keep<T: PartialEq + Clone>(kept: &mut Box<[T]>, these: impl Iterator<Item = T> + Clone) {
    if !kept.iter().cloned().eq(these.clone()) {
        *kept = these.collect();
    }
}

/// Makes it one of a set, or none.
fn set<K: Ord>(all: &mut BTreeSet<K>, key: K, is_wanted: bool) {
    if is_wanted {
        all.insert(key);
    } else {
        all.remove(&key);
    }
}

/// A claim that was won.
#[derive(Debug)]
struct Held {
    served: Served,
    server: Option<VirtualServer>,
    row: Row,
    localhost: Option<LocalhostPort>,
}

/// What a Service is given: its claims less those that others hold.
#[derive(Debug, Default)]
struct Grant {
    /// By key, each once.
    held: Vec<(VirtualServerKey, Held)>,
    hairpin: BTreeSet<IpAddr>,
    untracked: BTreeSet<Untracked>,
    passing: BTreeSet<Front>,
    vips: BTreeSet<IpAddr>,
    health: Option<Health>,
    warnings: Warnings,
    /// Fronts that only some may use.
    restricted: BTreeSet<Front>,
    withheld: Vec<Withheld>,
}

impl Grant {
    fn of(name: &ServiceName, compiled: Compiled, claims: &Claims) -> Self {
        let mut grant = Self {
            hairpin: compiled.hairpin,
            untracked: compiled.untracked,
            passing: compiled.passing,
            health: compiled.health,
            warnings: compiled.warnings,
            withheld: compiled.withheld,
            ..Self::default()
        };
        for claim in compiled.claims {
            match claims.owner(&claim.key) {
                Some(owner) if owner != name => grant.lose(&claim, owner),
                _ => grant.win(name, claim, claims),
            }
        }
        grant.held = by_key(core::mem::take(&mut grant.held));
        // What goes to another's front is his to decide.
        let mut untracked = core::mem::take(&mut grant.untracked);
        untracked.retain(|one| match one {
            Untracked::Front(front) => grant.place_of(&VirtualServerKey::Front(*front)).is_ok(),
            _ => true,
        });
        if untracked
            .iter()
            .any(|one| matches!(one, Untracked::Front(_)))
        {
            grant.untracked = untracked;
        }
        grant.restrict(&compiled.ranges, claims);
        grant
    }

    /// Where a front or mark stands among those that are held.
    fn place_of(&self, key: &VirtualServerKey) -> Result<usize, usize> {
        self.held.binary_search_by_key(key, |(key, _)| *key)
    }

    fn win(&mut self, name: &ServiceName, claim: Claim, claims: &Claims) {
        self.vips.extend(claim.bind);
        self.restricted.extend(claim.restricted());
        let row = row(name, &claim, claims);
        let served = Served {
            service: name.clone(),
            port: claim.port,
            protocol: claim.protocol,
            kind: claim.kind,
        };
        let held = Held {
            served,
            server: claim.server,
            row,
            localhost: claim.localhost,
        };
        self.held.push((claim.key, held));
    }

    /// Beyond the bound nobody is let in: to open what somebody wanted closed,
    /// or to half of those it is for, would be worse.
    fn restrict(&mut self, ranges: &Ranges, claims: &Claims) {
        let found = sources::sources(&self.restricted, ranges, claims.restricting());
        if let Err(count) = &found {
            self.warnings.add(format!(
                "loadBalancerSourceRanges: {count} networks, counted for each run of ports at each \
                 address, are more than {}; nobody is let in at the load balancer's addresses",
                sources::MOST
            ));
        }
        let found = found.unwrap_or_default();
        let nobody = Sources::from([]);
        for front in &self.restricted {
            if let Ok(place) = self.place_of(&VirtualServerKey::Front(*front)) {
                let sources = found.get(&front.address).unwrap_or(&nobody);
                self.held[place].1.row.sources = Some(sources.clone());
            }
        }
    }

    fn lose(&mut self, claim: &Claim, owner: &ServiceName) {
        let what = match claim.key {
            VirtualServerKey::Front(front) => {
                format!("{} {front} is served for Service {owner}", claim.kind)
            }
            VirtualServerKey::Mark { mark, .. } => {
                format!("mark {mark:#010x} is that of Service {owner}")
            }
        };
        self.warnings.add(format!(
            "port {}: {what}, which goes before; not for this one",
            Quoted(&claim.port)
        ));
    }
}

/// The row of a front that was won. Without its mark there is nobody for
/// traffic from inside, or for any; if that was all there was, the front is
/// refused, since a port that passes the guard and has no virtual server
/// reaches the host.
fn row(name: &ServiceName, claim: &Claim, claims: &Claims) -> Row {
    let family = claim.key.family();
    let won = |mark: &u32| {
        let mark = VirtualServerKey::Mark {
            mark: *mark,
            family,
        };
        claims.owner(&mark) == Some(name)
    };
    let claimed = &claim.row;
    let most = claimed.mark.or(claimed.inside);
    let most = most.filter(|_| claim.server.is_none());
    if most.is_some_and(|mark| !won(&mark)) {
        return Row {
            masquerade: claimed.masquerade,
            ..Row::of(Verdict::Refuse)
        };
    }
    Row {
        inside: claimed.inside.filter(won),
        mark: claimed.mark.filter(won),
        ..claimed.clone()
    }
}
