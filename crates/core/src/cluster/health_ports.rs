//! Who answers a health-check node port that several want: a front at the same
//! port of this host goes before, since IPVS takes its traffic in any case;
//! then the oldest Service, then the first by name. Nobody answers for another.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use core::net::IpAddr;

use super::claims::{Claimant, Claims};
use crate::compile::{Compiled, Health};
use crate::names::ServiceName;
use crate::state::{Front, Protocol, VirtualServerKey};

/// What is in one of two ordered lists and not in both.
pub(super) fn moved<'a>(
    before: &'a [VirtualServerKey],
    after: &'a [VirtualServerKey],
) -> impl Iterator<Item = &'a VirtualServerKey> {
    let gone = before
        .iter()
        .filter(|key| after.binary_search(key).is_err());
    let come = after
        .iter()
        .filter(|key| before.binary_search(key).is_err());
    gone.chain(come)
}

/// The Services that want each port, in the order of precedence.
#[derive(Debug, Default)]
pub(super) struct HealthPorts {
    wanted: BTreeMap<u16, BTreeSet<Claimant>>,
    /// Those that somebody else answers now.
    moved: BTreeSet<u16>,
    /// Ports that nobody of ours listens on.
    unopened: BTreeSet<u16>,
}

/// A port that a Service wants, and how it stands there.
pub(super) type Wish = (u16, Claimant);

impl HealthPorts {
    /// Whether a Service wants this port.
    pub(super) fn wants(&self, port: u16) -> bool {
        self.wanted.contains_key(&port)
    }

    /// Replaces the ports that could not be opened. Returns the Services that
    /// would answer where that changes something.
    pub(super) fn unopened(&mut self, ports: BTreeSet<u16>) -> BTreeSet<ServiceName> {
        let before = core::mem::replace(&mut self.unopened, ports);
        let changed = before.symmetric_difference(&self.unopened);
        let first = changed.filter_map(|port| self.wanted.get(port)?.first());
        first.map(|claimant| claimant.service().clone()).collect()
    }

    /// Whether somebody else answers since [`Self::take_lost_to_others`].
    pub(super) fn has_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    /// The Services that want a port which somebody else answers since this was
    /// last asked, each once.
    pub(super) fn take_lost_to_others(&mut self) -> BTreeSet<ServiceName> {
        let moved = core::mem::take(&mut self.moved);
        let wanting = moved.iter().filter_map(|port| self.wanted.get(port));
        let waiting = wanting.flat_map(|all| all.iter().skip(1));
        waiting.map(|other| other.service().clone()).collect()
    }

    /// Replaces the wish of a Service. Returns the others that answer now or
    /// do so no more.
    pub(super) fn stake(
        &mut self,
        claimant: &Claimant,
        before: &mut Option<Box<Wish>>,
        health: Option<&Health>,
    ) -> BTreeSet<ServiceName> {
        let wish = health.map(|health| (health.port, claimant.clone()));
        let mut rivals = BTreeSet::new();
        if before.as_deref() != wish.as_ref() {
            if let Some((port, claimant)) = before.take().as_deref() {
                self.remove(*port, claimant, &mut rivals);
            }
            if let Some((port, claimant)) = &wish {
                self.add(*port, claimant.clone(), &mut rivals);
            }
            *before = wish.map(Box::new);
        }
        rivals.remove(claimant.service());
        rivals
    }

    /// The Services that answer where fronts came or went.
    pub(super) fn beside<'a>(
        &self,
        moved: impl Iterator<Item = &'a VirtualServerKey>,
    ) -> BTreeSet<ServiceName> {
        if self.wanted.is_empty() {
            return BTreeSet::new();
        }
        let tcp = moved.filter_map(|key| match key {
            VirtualServerKey::Front(front) if front.protocol == Protocol::Tcp => Some(front.port),
            _ => None,
        });
        let first = tcp.filter_map(|port| self.wanted.get(&port)?.first());
        first.map(|claimant| claimant.service().clone()).collect()
    }

    /// Takes the health check away where it is another's turn; where it is this
    /// Service's the guard lets it pass on its load-balancer addresses.
    pub(super) fn decide(
        &self,
        name: &ServiceName,
        compiled: &mut Compiled,
        node_ports: &[IpAddr],
        claims: &Claims,
    ) {
        let Some(health) = &compiled.health else {
            return;
        };
        let front = |address| Front {
            address,
            port: health.port,
            protocol: Protocol::Tcp,
        };
        let owner = |address| claims.owner(&VirtualServerKey::Front(front(address)));
        let first = self.wanted.get(&health.port).and_then(BTreeSet::first);
        let lost = if let Some(owner) = node_ports.iter().copied().find_map(owner) {
            Some(format!(
                "is a port of this node at which Service {owner} is served"
            ))
        } else {
            let other = first.map(Claimant::service).filter(|first| *first != name);
            other.map(|first| format!("is answered for Service {first}, which goes before"))
        };
        if let Some(why) = lost {
            compiled.warnings.add(format!(
                "healthCheckNodePort {} {why}; not for this one",
                health.port
            ));
            compiled.health = None;
            return;
        }
        if self.unopened.contains(&health.port) {
            compiled.warnings.add(format!(
                "healthCheckNodePort {} could not be opened on this node, where another program \
                 may have it; on the addresses of load balancers it is refused",
                health.port
            ));
            return;
        }
        let free = health.vips.iter().filter(|vip| owner(**vip).is_none());
        compiled.passing.extend(free.map(|vip| front(*vip)));
    }

    fn add(&mut self, port: u16, claimant: Claimant, rivals: &mut BTreeSet<ServiceName>) {
        let all = self.wanted.entry(port).or_default();
        if let Some(first) = all.first().filter(|first| claimant < **first) {
            rivals.insert(first.service().clone());
            self.moved.insert(port);
        }
        all.insert(claimant);
    }

    fn remove(&mut self, port: u16, claimant: &Claimant, rivals: &mut BTreeSet<ServiceName>) {
        let Some(all) = self.wanted.get_mut(&port) else {
            return;
        };
        let answered = all.first() == Some(claimant);
        all.remove(claimant);
        match all.first() {
            Some(next) if answered => {
                rivals.insert(next.service().clone());
                self.moved.insert(port);
            }
            Some(_) => {}
            None => _ = self.wanted.remove(&port),
        }
    }
}
