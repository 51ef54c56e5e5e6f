//! The fronts of a Service, one by one.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::addresses::Address;
use super::bounds::{Bounds, FRONTS, REAL_SERVERS};
use super::endpoints::{self, Choice};
use super::marks::{Marks, Urn};
use super::policy;
use super::weights::{self, Standpoint};
use super::{Claim, Compiled, Shape, Surroundings, TrafficPolicy, Warnings};
use crate::climb::Climb;
use crate::names::ServiceName;
use crate::read::Quoted;
use crate::row::Row;
use crate::services::{FrontKind, Port};
use crate::slices::Slice;
use crate::state::{Family, Front, Persistence, Protocol, VirtualServer, VirtualServerKey};

/// Compiles one Service, claim by claim.
pub(super) struct Compiler<'a> {
    pub(super) name: &'a ServiceName,
    pub(super) shape: Shape<'a>,
    climb: Option<&'a Climb>,
    pub(super) around: &'a Surroundings<'a>,
    pub(super) out: Compiled,
    /// Fronts claimed so far, with the name of the port.
    seen: BTreeMap<Front, Arc<str>>,
    urn: Urn<'a>,
    /// Ports of this host that were warned of.
    pub(super) told: BTreeSet<(Protocol, u16)>,
    bounds: Bounds,
    /// Fronts that are no NodePorts.
    own: usize,
    /// Ports that are not served at all their addresses.
    beyond: usize,
    pub(super) warnings: Warnings,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(
        name: &'a ServiceName,
        shape: Shape<'a>,
        bounds: Bounds,
        climb: Option<&'a Climb>,
        around: &'a Surroundings<'a>,
        warnings: Warnings,
        taken: &'a dyn Fn(u32, Family) -> bool,
    ) -> Self {
        Self {
            urn: Urn::new(taken),
            bounds,
            climb,
            own: 0,
            beyond: 0,
            name,
            shape,
            around,
            out: Compiled::default(),
            seen: BTreeMap::new(),
            told: BTreeSet::new(),
            warnings,
        }
    }

    /// All fronts of a port in one family.
    pub(super) fn port<'s>(
        &mut self,
        port: &Port,
        family: Family,
        slices: impl Iterator<Item = &'s Slice> + Clone,
    ) {
        let (addresses, beyond) = self.addresses(family);
        self.beyond += usize::from(beyond);
        if addresses.is_empty() && (!beyond || port.node_port.is_none()) {
            return;
        }
        let choice = self.choice(port, family, slices);
        self.tell_of_shares(port, &choice);
        self.out.hairpin.extend(choice.local_addresses());
        self.localhost(port, family, &choice);
        let fronts = called_at(port, family, &addresses, self.around.node_ports);
        // The same marks for all fronts of the port: behind them are the same endpoints.
        let local = self.shape.service.external_local;
        let asked = self.shape.service.masquerade;
        let marks = Marks::of(
            self.name,
            port,
            family,
            local,
            asked,
            self.around,
            &mut self.urn,
        );
        let marks = marks.as_ref();
        let mut given = BTreeMap::new();
        // The host decides at how many addresses a NodePort is.
        self.own += addresses.len();
        for (address, number) in fronts {
            let front = Front {
                address: address.address,
                port: number,
                protocol: port.protocol,
            };
            self.front(port, front, &address, &choice, marks, &mut given);
        }
        if let Some(marks) = marks {
            self.claim_marks(port, family, marks, given, &choice);
        }
    }

    /// The addresses of a family for which there are fronts left, and whether
    /// there are more.
    fn addresses(&self, family: Family) -> (Vec<Address>, bool) {
        let mut all = self.shape.addresses.of(family);
        let left = FRONTS.saturating_sub(self.own);
        let addresses = all.by_ref().take(left).cloned().collect();
        (addresses, all.next().is_some())
    }

    /// The endpoints of a port in one family.
    fn choice<'s>(
        &self,
        port: &Port,
        family: Family,
        slices: impl Iterator<Item = &'s Slice> + Clone,
    ) -> Choice {
        let (looks, skipped) = (self.bounds.endpoints, &self.shape.skipped);
        let from = Standpoint {
            zone: self.around.zone,
            weights: self.shape.tuning.weights,
            climb: self.climb,
        };
        Choice::of(port, family, slices, skipped, looks, from)
    }

    /// The marks that fronts of a port were given.
    fn claim_marks(
        &mut self,
        port: &Port,
        family: Family,
        marks: &Marks,
        given: BTreeMap<u32, FrontKind>,
        choice: &Choice,
    ) {
        for (mark, kind) in given {
            let key = |mark| VirtualServerKey::Mark { mark, family };
            self.out.marks.extend(marks.claims(mark).map(key));
            let servers = if marks.is_local(mark) {
                &choice.local
            } else {
                &choice.cluster
            };
            self.claim_mark(port, kind, key(mark), servers);
        }
    }

    /// One front. The marks that its traffic gets are added to those given so far.
    fn front(
        &mut self,
        port: &Port,
        front: Front,
        address: &Address,
        choice: &Choice,
        marks: Option<&Marks>,
        given: &mut BTreeMap<u32, FrontKind>,
    ) {
        if let Some(other) = self.seen.get(&front) {
            // A load-balancer address that is among externalIPs too is no mistake.
            if *other != port.name {
                self.warnings.add(format!(
                    "port {}: {front} is already served for port {}; it is ignored there",
                    Quoted(&port.name),
                    Quoted(other)
                ));
            }
            return;
        }
        self.seen.insert(front, port.name.clone());
        if !address.bind && !self.on_this_host(port, &front, address.kind, choice) {
            return;
        }
        let (policy, local) = match address.kind {
            FrontKind::ClusterIp => (TrafficPolicy::Internal, self.shape.service.internal_local),
            _ => (TrafficPolicy::External, self.shape.service.external_local),
        };
        if local && choice.local.is_empty() && !choice.cluster.is_empty() {
            let family = Family::of(front.address);
            self.out.without_local.insert((policy, family));
        }
        let treatment = policy::treat(
            address.kind,
            local,
            choice,
            self.shape.service.masquerade,
            self.around.options,
        );
        let row = Row {
            inside: marks.and_then(|marks| marks.inside(&treatment)),
            mark: marks.and_then(|marks| marks.of_all(address.kind, &treatment)),
            ..treatment.row()
        };
        given.extend(row.inside.map(|mark| (mark, FrontKind::InsideMark)));
        given.extend(row.mark.map(|mark| (mark, FrontKind::NodePort)));
        let servers = treatment.servers(choice).filter(|_| row.mark.is_none());
        self.untrack(address.kind, front, servers, choice);
        let restricted = self.shape.ranges.restrict(front.address);
        self.out.claims.push(Claim {
            key: VirtualServerKey::Front(front),
            kind: address.kind,
            port: port.name.clone(),
            protocol: port.protocol,
            server: servers.map(|servers| self.server(port, servers)),
            bind: address.bind.then_some(front.address),
            row,
            is_restricted: address.kind == FrontKind::LoadBalancer && restricted,
            localhost: None,
        });
    }

    fn claim_mark(
        &mut self,
        port: &Port,
        kind: FrontKind,
        key: VirtualServerKey,
        servers: &endpoints::Servers,
    ) {
        self.out.claims.push(Claim {
            key,
            kind,
            port: port.name.clone(),
            protocol: port.protocol,
            server: Some(self.server(port, servers)),
            bind: None,
            row: Row::default(),
            is_restricted: false,
            localhost: None,
        });
    }

    pub(super) fn server(&self, port: &Port, servers: &endpoints::Servers) -> VirtualServer {
        let tuning = self.shape.tuning;
        VirtualServer {
            scheduler: tuning.scheduler.clone(),
            flags: tuning.flags(port.protocol),
            persistence: self.shape.service.affinity.map(|timeout| Persistence {
                timeout,
                prefix: servers.family.host_prefix(),
            }),
            real_servers: {
                let mut all = servers.weighted(tuning);
                self.bounds.keep(&mut all);
                let most = weights::most_of(all.len(), tuning).into();
                for real in all.values_mut() {
                    real.weight = real.weight.min(most);
                }
                all
            },
        }
    }

    /// Says where not every endpoint is served, or not with its weight.
    fn tell_of_shares(&mut self, port: &Port, choice: &Choice) {
        let (count, most) = (choice.cluster.len(), self.bounds.real_servers);
        let all = choice.cluster.all().min(most);
        let heaviest = weights::most_of(all, self.shape.tuning);
        if choice.cluster.greatest() > heaviest {
            self.warnings.add(format!(
                "port {}: of {all} endpoints none has a weight above {heaviest}: with \
                 upper-threshold the scheduler wrr counts weights times endpoints for a \
                 connection; use wlc, or smaller weights",
                Quoted(&port.name)
            ));
        }
        if count > most {
            self.warnings.add(format!(
                "port {}: of {count} endpoints each node serves {most}, the port's share of \
                 {REAL_SERVERS} real servers of a Service",
                Quoted(&port.name)
            ));
        }
        if choice.more {
            self.warnings.add(format!(
                "port {}: of its endpoints the first {} are looked at, the more the fewer ports \
                 the Service has",
                Quoted(&port.name),
                self.bounds.endpoints
            ));
        }
    }

    pub(super) fn finish(mut self) -> Compiled {
        if self.beyond > 0 {
            self.warnings.add(format!(
                "spec.ports: the first {FRONTS} pairs of port and address are served; {} ports are \
                 not, or not at all addresses",
                self.beyond
            ));
        }
        self.out.warnings = self.warnings;
        self.out.ranges = self.shape.ranges;
        self.out.withheld = self.shape.addresses.withheld;
        self.out
    }
}

/// Where a port is called in one family: an address of the Service and the port
/// itself, or one of this host and the NodePort. As what a front counts that is
/// there twice: the kind that goes before.
fn called_at<'a>(
    port: &'a Port,
    family: Family,
    addresses: &'a [Address],
    node_ports: &'a [IpAddr],
) -> impl Iterator<Item = (Address, u16)> + use<'a> {
    let node_ports = node_ports.iter().copied();
    let node_ports = node_ports.filter(move |address| Family::of(*address) == family);
    let node_ports = port.node_port.into_iter().flat_map(move |number| {
        let address = |address| Address {
            address,
            kind: FrontKind::NodePort,
            bind: false,
        };
        node_ports.clone().map(move |a| (address(a), number))
    });
    let of_kind = move |external: bool| {
        let all = addresses.iter();
        all.filter(move |address| (address.kind == FrontKind::ExternalIp) == external)
            .map(|address| (address.clone(), port.number))
    };
    of_kind(false).chain(node_ports).chain(of_kind(true))
}
