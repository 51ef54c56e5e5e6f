//! The desired state as the sum of what Services ask for, kept up one Service
//! at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::claims::{Claimant, Claims};
use super::health_ports::Wish;
use super::host_ports::HostPort;
use super::sources;
use crate::compile::{Claim, Compiled, FrontKind, Health, Ranges, TrafficPolicy, Withheld};
use crate::diff::Touched;
use crate::names::{ServiceName, Warning};
use crate::read::Quoted;
use crate::state::{
    Family, Front, KernelState, NftElement, NftSet, Protocol, RealServerKey, VirtualServer,
    VirtualServerKey,
};
use crate::warnings::Warnings;

/// What a Service asked for and was given, so that it can be taken back.
#[derive(Debug, Default)]
pub(super) struct Footprint {
    pub(super) claimant: Option<Claimant>,
    pub(super) claims: Box<[VirtualServerKey]>,
    /// Addresses with fronts that only some may use.
    pub(super) restricted: Box<[IpAddr]>,
    elements: Box<[(NftSet, NftElement)]>,
    vips: Box<[IpAddr]>,
    pub(super) health: Option<Health>,
    /// Ports it takes on this host's own addresses.
    pub(super) host_ports: Box<[HostPort]>,
    /// The health-check node port it asks for, whoever answers there.
    pub(super) health_wish: Option<Wish>,
    without_local: Box<[(TrafficPolicy, Family)]>,
    withheld: Box<[Withheld]>,
    pub(super) warnings: Box<[Warning]>,
    /// Fronts and marks it holds.
    held: Box<[VirtualServerKey]>,
}

impl Footprint {
    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.elements.is_empty()
    }

    /// Its fronts with marks, and where those lead.
    pub(super) fn marks(&self) -> impl Iterator<Item = (Front, VirtualServerKey)> {
        self.elements
            .iter()
            .filter_map(|(_, element)| match *element {
                NftElement::Mark(front, mark) => {
                    let family = element.family();
                    Some((front, VirtualServerKey::Mark { mark, family }))
                }
                _ => None,
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
    /// How many more Services want what several want.
    more_elements: BTreeMap<(NftSet, NftElement), u32>,
    more_vips: BTreeMap<IpAddr, u32>,
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
        let without_local = std::mem::take(&mut compiled.without_local);
        let mut slice_warnings = std::mem::take(&mut compiled.slice_warnings);
        let mut grant = Grant::of(name, compiled, claims);
        for key in &footprint.held {
            let still = grant.held.contains_key(key);
            let ours = self.served.get(key).is_some_and(|s| s.service == *name);
            if ours && !still {
                self.served.remove(key);
                self.set_server(*key, None, touched);
            }
        }
        let held: Box<[_]> = grant.held.keys().copied().collect();
        for (key, (served, server)) in std::mem::take(&mut grant.held) {
            self.served.insert(key, served);
            self.set_server(key, server, touched);
        }
        self.swap_elements(&footprint.elements, &grant.elements, touched);
        let moved = self.swap_vips(&footprint.vips, &grant.vips);
        touched.vips.extend(&moved);
        for lacking in &footprint.without_local {
            one_less(&mut self.without_local, lacking);
        }
        for lacking in &without_local {
            *self.without_local.entry(*lacking).or_default() += 1;
        }
        footprint.without_local = without_local.into_iter().collect();
        footprint.held = held;
        footprint.elements = grant.elements.into_iter().collect();
        footprint.vips = grant.vips.into_iter().collect();
        footprint.health = grant.health;
        let mut warnings = grant.warnings.finish();
        warnings.append(&mut slice_warnings);
        footprint.warnings = warnings.into();
        for reason in &footprint.withheld {
            one_less(&mut self.withheld, reason);
        }
        for reason in &grant.withheld {
            *self.withheld.entry(*reason).or_default() += 1;
        }
        footprint.withheld = grant.withheld.into();
        moved
    }

    /// Makes the networks of ClusterIPs these, neighbours joined: the table
    /// takes none that overlap.
    pub(super) fn set_networks(
        &mut self,
        networks: impl Iterator<Item = IpNet>,
        touched: &mut Touched,
    ) {
        let networks: Vec<IpNet> = networks.collect();
        let networks = IpNet::aggregate(&networks).into_iter();
        let wanted: BTreeSet<_> = networks.map(NftElement::Network).collect();
        let before = match wanted.is_empty() {
            true => self.desired.nft.remove(&NftSet::ServiceCidrs),
            false => self
                .desired
                .nft
                .insert(NftSet::ServiceCidrs, wanted.clone()),
        };
        let moved = &before.unwrap_or_default() ^ &wanted;
        let moved = moved.into_iter().map(|net| (NftSet::ServiceCidrs, net));
        touched.elements.extend(moved);
    }

    fn set_server(
        &mut self,
        key: VirtualServerKey,
        server: Option<VirtualServer>,
        touched: &mut Touched,
    ) {
        let servers = &mut self.desired.virtual_servers;
        if servers.get(&key) == server.as_ref() {
            return;
        }
        touched.virtual_servers.insert(key);
        let idle = |server: &VirtualServer| -> Vec<_> {
            let all = server.real_servers.iter();
            let idle = all.filter(|(_, real)| real.weight == 0);
            idle.map(|(real, _)| (key, *real)).collect()
        };
        for real in servers.get(&key).map(idle).into_iter().flatten() {
            self.draining.remove(&real);
        }
        self.draining.extend(server.iter().flat_map(idle));
        match server {
            Some(server) => servers.insert(key, server),
            None => servers.remove(&key),
        };
    }

    fn swap_elements(
        &mut self,
        before: &[(NftSet, NftElement)],
        after: &BTreeSet<(NftSet, NftElement)>,
        touched: &mut Touched,
    ) {
        for element in before.iter().filter(|element| !after.contains(element)) {
            if one_less(&mut self.more_elements, element) {
                continue;
            }
            touched.elements.insert(*element);
            if let Some(set) = self.desired.nft.get_mut(&element.0) {
                set.remove(&element.1);
                if set.is_empty() {
                    self.desired.nft.remove(&element.0);
                }
            }
        }
        // `before` came from an ordered set.
        for element in after.iter().filter(|e| before.binary_search(e).is_err()) {
            match self
                .desired
                .nft
                .entry(element.0)
                .or_default()
                .insert(element.1)
            {
                true => _ = touched.elements.insert(*element),
                false => *self.more_elements.entry(*element).or_default() += 1,
            }
        }
    }

    fn swap_vips(&mut self, before: &[IpAddr], after: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        let mut moved = BTreeSet::new();
        for vip in before.iter().filter(|vip| !after.contains(vip)) {
            if !one_less(&mut self.more_vips, vip) {
                self.desired.vips.remove(vip);
                moved.insert(*vip);
            }
        }
        for vip in after
            .iter()
            .filter(|vip| before.binary_search(vip).is_err())
        {
            match self.desired.vips.insert(*vip) {
                true => _ = moved.insert(*vip),
                false => *self.more_vips.entry(*vip).or_default() += 1,
            }
        }
        moved
    }
}

/// Whether somebody else still wants it.
fn one_less<K: Ord>(more: &mut BTreeMap<K, u32>, key: &K) -> bool {
    let Some(count) = more.get_mut(key) else {
        return false;
    };
    *count -= 1;
    if *count == 0 {
        more.remove(key);
    }
    true
}

/// What a Service is given: its claims less those that others hold.
#[derive(Debug, Default)]
struct Grant {
    held: BTreeMap<VirtualServerKey, (Served, Option<VirtualServer>)>,
    elements: BTreeSet<(NftSet, NftElement)>,
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
            elements: compiled.shared,
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
        grant.restrict(&compiled.ranges, claims);
        grant
    }

    fn win(&mut self, name: &ServiceName, claim: Claim, claims: &Claims) {
        self.vips.extend(claim.bind);
        self.restricted.extend(claim.restricted());
        self.elements.extend(elements(name, &claim, claims));
        let served = Served {
            service: name.clone(),
            port: claim.port,
            protocol: claim.protocol,
            kind: claim.kind,
        };
        self.held.insert(claim.key, (served, claim.server));
    }

    /// Beyond the bound nobody is let in: to open what somebody wanted closed,
    /// or to half of those it is for, would be worse.
    fn restrict(&mut self, ranges: &Ranges, claims: &Claims) {
        match sources::elements(&self.restricted, ranges, claims.restricting()) {
            Ok(elements) => self.elements.extend(elements),
            Err(count) => self.warnings.add(format!(
                "loadBalancerSourceRanges: {count} networks, counted for each run of ports at each \
                 address, are more than {}; nobody is let in at the load balancer's addresses",
                sources::MOST
            )),
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

/// The elements of a front that was won. Without its mark there is nobody for
/// traffic from inside, or for any; if that was all there was, the front is
/// refused, since a port that passes the guard and has no virtual server
/// reaches the host.
fn elements(name: &ServiceName, claim: &Claim, claims: &Claims) -> Vec<(NftSet, NftElement)> {
    let mut elements = claim.elements.clone();
    let VirtualServerKey::Front(front) = claim.key else {
        return elements;
    };
    let family = claim.key.family();
    let won = |mark| claims.owner(&VirtualServerKey::Mark { mark, family }) == Some(name);
    let most = claim.marks.last().filter(|_| claim.server.is_none());
    if most.is_some_and(|(_, mark)| !won(*mark)) {
        elements.retain(|(set, _)| *set != NftSet::ServicePorts);
        elements.push((NftSet::Reject, NftElement::Front(front)));
        return elements;
    }
    let marks = claim.marks.iter().filter(|(_, mark)| won(*mark));
    elements.extend(marks.map(|(set, mark)| (*set, NftElement::Mark(front, *mark))));
    elements
}
