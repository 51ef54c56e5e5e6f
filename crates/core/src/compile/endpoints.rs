//! Which endpoints answer a Service port, seen from this node.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::weights::Standpoint;
use super::{Surroundings, Warnings};
use crate::services::{Port, Tuning};
use crate::slices::{Endpoint, NodeHint, Slice};
use crate::state::{Family, Front, Protocol, RealServer, RealServerKey};

/// The real servers of a port: those for traffic of the whole cluster, and
/// those for traffic that must stay on this node.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) cluster: Servers,
    pub(super) local: Servers,
    /// Whether there are endpoints that were not looked at.
    pub(super) more: bool,
}

/// Real servers that get new connections, and some that only keep theirs.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) family: Family,
    /// In their order, each once; none of them is draining.
    chosen: Vec<(RealServerKey, Chosen)>,
    /// In their order, each once.
    draining: Vec<RealServerKey>,
}

/// One that gets new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chosen {
    /// On this node.
    local: bool,
    weight: u16,
}

/// An endpoint in its slice.
#[derive(Debug, Clone, Copy)]
struct Candidate<'s> {
    slice: &'s Slice,
    endpoint: &'s Endpoint,
}

impl<'s> Candidate<'s> {
    /// The zones that should use it.
    fn hints(&self) -> &'s [Arc<str>] {
        self.slice.hints_of(self.endpoint)
    }
}

/// With its port.
type Found<'s> = (RealServerKey, Candidate<'s>);

/// Those on this node.
fn here<'s>(found: &[Found<'s>]) -> Vec<Found<'s>> {
    let local = |(_, found): &Found<'_>| found.endpoint.local;
    found.iter().copied().filter(local).collect()
}

impl Choice {
    /// Chooses among the endpoints of all slices.
    pub(super) fn of<'s>(
        port: &Port,
        family: Family,
        slices: impl Iterator<Item = &'s Slice>,
        skipped: &BTreeSet<IpAddr>,
        looks: usize,
        from: Standpoint<'_>,
    ) -> Self {
        let (all, more) = gather(port, family, slices, skipped, looks);
        let leaves = |e: &Endpoint| !e.ready && e.serving && e.terminating;
        let leaving = all.iter().filter(|(_, c)| leaves(c.endpoint));
        let leaving: Vec<Found<'_>> = leaving.copied().collect();
        let mut ready = all;
        ready.retain(|(_, c)| c.endpoint.ready);
        let topology = Topology::of(&ready, from.zone);
        let drains = port.protocol != Protocol::Udp;
        let servers = |first: &[_], then: &[_]| Servers::new(family, first, then, drains, from);
        let local = servers(&here(&ready), &here(&leaving));
        ready.retain(|(_, c)| topology.allows(c));
        Self {
            local,
            cluster: servers(&ready, &leaving),
            more,
        }
    }

    /// Whether an endpoint is where the front is: a program of this host that
    /// is an endpoint of the Service loses nothing to it.
    pub(super) fn has(&self, front: &Front) -> bool {
        let key = RealServerKey {
            address: front.address,
            port: front.port,
        };
        self.cluster.has(&key) || self.local.has(&key)
    }

    /// Addresses on this node that may be asked to talk to themselves.
    pub(super) fn local_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let cluster = self
            .cluster
            .chosen
            .iter()
            .filter(|(_, chosen)| chosen.local);
        cluster
            .chain(&self.local.chosen)
            .map(|(key, _)| key.address)
    }

    /// Those that only keep what they have: also connections to themselves.
    pub(super) fn draining_here(&self) -> impl Iterator<Item = IpAddr> {
        self.local.draining.iter().map(|key| key.address)
    }
}

impl Servers {
    /// Ready ones; without any, those that are leaving but still serve. The
    /// latter keep their connections in any case, where weight 0 does that:
    /// a UDP client would be stuck to them.
    fn new(
        family: Family,
        ready: &[Found<'_>],
        leaving: &[Found<'_>],
        drains: bool,
        from: Standpoint<'_>,
    ) -> Self {
        let fall_back = ready.is_empty();
        let (chosen, draining) = if fall_back {
            (leaving, &[][..])
        } else {
            (ready, leaving)
        };
        let draining = if drains { draining } else { &[] };
        let choose = |Candidate { slice, endpoint }| Chosen {
            local: endpoint.local,
            weight: from.weight(slice, endpoint),
        };
        Self {
            family,
            chosen: chosen.iter().map(|(k, c)| (*k, choose(*c))).collect(),
            draining: draining.iter().map(|(k, _)| *k).collect(),
        }
    }

    /// Whether one takes new connections.
    fn has(&self, key: &RealServerKey) -> bool {
        let place = self.chosen.binary_search_by_key(key, |(key, _)| *key);
        place.is_ok()
    }

    /// Whether nobody takes new connections.
    pub(super) fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// How many take new connections.
    pub(super) fn len(&self) -> usize {
        self.chosen.len()
    }

    /// How many there are, with those that only keep their connections.
    pub(super) fn all(&self) -> usize {
        self.chosen.len() + self.draining.len()
    }

    /// All that answer, as they are sent to by this protocol.
    pub(super) fn all_at(&self, protocol: Protocol) -> impl Iterator<Item = Front> {
        let all = self
            .chosen
            .iter()
            .map(|(real, _)| real)
            .chain(&self.draining);
        all.map(move |real| Front {
            address: real.address,
            port: real.port,
            protocol,
        })
    }

    /// The greatest weight.
    pub(super) fn greatest(&self) -> u16 {
        let weights = self.chosen.iter().map(|(_, chosen)| chosen.weight);
        weights.max().unwrap_or_default()
    }

    /// Whether the same ones answer.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.chosen == other.chosen && self.draining == other.draining
    }

    /// As the kernel wants them.
    pub(super) fn weighted(&self, tuning: &Tuning) -> BTreeMap<RealServerKey, RealServer> {
        let real = |weight| RealServer {
            weight,
            upper_threshold: tuning.upper_threshold,
            lower_threshold: tuning.lower_threshold,
        };
        let draining = self.draining.iter().map(|key| (*key, real(0)));
        let chosen = self.chosen.iter();
        let chosen = chosen.map(|(key, chosen)| (*key, real(chosen.weight.into())));
        draining.chain(chosen).collect()
    }
}

/// The endpoints that have this port, each address and port once. Of
/// duplicates in several slices the liveliest counts, with the weight of its slice,
/// and of equals that of the first by name: while an endpoint moves between
/// slices one of them is stale. Looks at so many, and says whether there
/// are more.
fn gather<'s>(
    port: &Port,
    family: Family,
    slices: impl Iterator<Item = &'s Slice>,
    skipped: &BTreeSet<IpAddr>,
    mut looks: usize,
) -> (Vec<Found<'s>>, bool) {
    let mut found: Vec<Found<'_>> = Vec::new();
    for slice in slices.filter(|slice| slice.family == family) {
        for number in slice.numbers(&port.name, port.protocol) {
            let endpoints = slice.endpoints.iter().take(looks);
            found.reserve(endpoints.len());
            found.extend(
                endpoints
                    .filter(|e| !skipped.contains(&e.address))
                    .map(|endpoint| {
                        let key = RealServerKey {
                            address: endpoint.address,
                            port: number,
                        };
                        (key, Candidate { slice, endpoint })
                    }),
            );
            let Some(left) = looks.checked_sub(slice.endpoints.len()) else {
                return (liveliest(found), true);
            };
            looks = left;
        }
    }
    (liveliest(found), false)
}

/// In their order, of each the liveliest, and of equals the first.
fn liveliest(mut found: Vec<Found<'_>>) -> Vec<Found<'_>> {
    found.sort_by_key(|(key, _)| *key);
    found.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same && liveliness(later.1.endpoint) > liveliness(kept.1.endpoint) {
            kept.1 = later.1;
        }
        same
    });
    found
}

/// Of two states of one endpoint the greater one counts.
pub(crate) fn liveliness(endpoint: &Endpoint) -> (bool, bool, bool) {
    (endpoint.ready, endpoint.serving, !endpoint.terminating)
}

/// Which hints are followed.
enum Topology<'z> {
    Everywhere,
    SameNode,
    SameZone(&'z str),
}

impl<'z> Topology<'z> {
    /// Hints count only when every ready endpoint has one and one is meant for us.
    fn of(ready: &[Found<'_>], zone: Option<&'z str>) -> Self {
        let endpoints = || ready.iter().map(|(_, found)| found.endpoint);
        if endpoints().all(|e| e.node_hint != NodeHint::None)
            && endpoints().any(|e| e.node_hint == NodeHint::Ours)
        {
            return Self::SameNode;
        }
        let Some(zone) = zone.filter(|zone| !zone.is_empty()) else {
            return Self::Everywhere;
        };
        let hints = || ready.iter().map(|(_, found)| found.hints());
        if hints().all(|zones| !zones.is_empty()) && hints().any(|zones| among(zones, zone)) {
            Self::SameZone(zone)
        } else {
            Self::Everywhere
        }
    }

    fn allows(&self, found: &Candidate<'_>) -> bool {
        match self {
            Self::Everywhere => true,
            Self::SameNode => found.endpoint.node_hint == NodeHint::Ours,
            Self::SameZone(zone) => among(found.hints(), zone),
        }
    }
}

fn among(zones: &[Arc<str>], zone: &str) -> bool {
    zones.iter().any(|other| **other == *zone)
}

/// The endpoints that are addresses of Services themselves: what is sent there
/// would come back, or end at whatever listens on this host, past the guard.
pub(super) fn skipped<'s>(
    slices: impl Iterator<Item = &'s Slice>,
    around: &Surroundings<'_>,
    warnings: &mut Warnings,
) -> BTreeSet<IpAddr> {
    let endpoints = slices.flat_map(|slice| &slice.endpoints);
    let addresses = endpoints.map(|endpoint| endpoint.address);
    let skipped: BTreeSet<IpAddr> = addresses.filter(|at| around.is_of_services(*at)).collect();
    for address in &skipped {
        warnings.add(format!(
            "endpoint {address} is an address of a Service; it is skipped"
        ));
    }
    skipped
}

/// How many ready endpoints of a family are on this node, each address once.
pub(super) fn ready_here<'s>(
    family: Family,
    slices: impl Iterator<Item = &'s Slice>,
    skipped: &BTreeSet<IpAddr>,
) -> usize {
    let here: BTreeSet<IpAddr> = slices
        .filter(|slice| slice.family == family && !slice.ports.is_empty())
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| endpoint.local && endpoint.ready)
        .filter(|endpoint| !skipped.contains(&endpoint.address))
        .map(|endpoint| endpoint.address)
        .collect();
    here.len()
}
