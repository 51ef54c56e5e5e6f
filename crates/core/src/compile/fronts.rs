//! The fronts of a Service, one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::addresses::Address;
use super::endpoints::{self, Choice};
use super::policy::{self, Treatment};
use super::ports::{Port, port_number};
use super::{
    Claim, Compiled, FrontKind, Health, Shape, Surroundings, TrafficPolicy, Warnings, marks,
};
use crate::k8s;
use crate::names::ServiceName;
use crate::slices::Slice;
use crate::state::{
    Family, Front, NftElement, NftSet, Persistence, Protocol, VirtualServer, VirtualServerKey,
};

/// Compiles one Service, claim by claim.
pub(super) struct Compiler<'a> {
    name: &'a ServiceName,
    shape: Shape,
    around: &'a Surroundings<'a>,
    out: Compiled,
    /// Fronts claimed so far, with the name of the port.
    seen: BTreeMap<Front, Arc<str>>,
    pub(super) warnings: Warnings,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(
        name: &'a ServiceName,
        shape: Shape,
        around: &'a Surroundings<'a>,
        warnings: Warnings,
    ) -> Self {
        Self {
            name,
            shape,
            around,
            out: Compiled::default(),
            seen: BTreeMap::new(),
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
        let addresses = self.shape.addresses.of(family);
        if addresses.is_empty() {
            return;
        }
        let choice = Choice::of(port, family, slices, self.around.zone);
        self.hairpin(&choice);
        let node_ports = self.around.node_ports.iter().copied();
        let node_ports = node_ports.filter(|address| Family::of(*address) == family);
        let node_ports = port.node_port.into_iter().flat_map(|number| {
            let address = |address| Address {
                address,
                kind: FrontKind::NodePort,
                bind: false,
            };
            node_ports.clone().map(move |a| (address(a), number))
        });
        let fronts = addresses.into_iter().map(|address| (address, port.number));
        // One mark for all fronts of the port: behind it are the same endpoints.
        let mark = marks::mark(self.name, port, family, self.around.options);
        let mut marked = false;
        for (address, number) in fronts.chain(node_ports) {
            let front = Front {
                address: address.address,
                port: number,
                protocol: port.protocol,
            };
            marked |= self.front(port, front, &address, &choice, mark);
        }
        if marked {
            self.claim_mark(port, mark, family, &choice);
        }
    }

    /// One front. Returns whether traffic from inside gets the mark.
    fn front(
        &mut self,
        port: &Port,
        front: Front,
        address: &Address,
        choice: &Choice,
        mark: u32,
    ) -> bool {
        if let Some(other) = self.seen.get(&front) {
            // A load-balancer address that is among externalIPs too is no mistake.
            if *other != port.name {
                self.warnings.add(format!(
                    "port {:?}: {front} is already served for port {other:?}; it is ignored there",
                    &*port.name
                ));
            }
            return false;
        }
        self.seen.insert(front, port.name.clone());
        let (policy, local) = match address.kind {
            FrontKind::ClusterIp => (TrafficPolicy::Internal, self.shape.internal_local),
            _ => (TrafficPolicy::External, self.shape.external_local),
        };
        if local && choice.local.is_empty() && !choice.cluster.is_empty() {
            let family = Family::of(front.address);
            self.out.without_local.insert((policy, family));
        }
        let treatment = policy::treat(address.kind, local, choice, self.around.options);
        let mark = treatment.inside.then_some(mark);
        let claim = self.claim(port, front, address, choice, &treatment, mark);
        self.out.claims.push(claim);
        mark.is_some()
    }

    fn claim(
        &self,
        port: &Port,
        front: Front,
        address: &Address,
        choice: &Choice,
        treatment: &Treatment,
        mark: Option<u32>,
    ) -> Claim {
        let mut elements: Vec<_> = treatment
            .sets()
            .map(|set| (set, NftElement::Front(front)))
            .collect();
        if address.kind == FrontKind::LoadBalancer {
            elements.extend(self.shape.ranges.elements(front, self.around.host));
        }
        if address.bind {
            elements.push((NftSet::Vips, NftElement::Address(front.address)));
        }
        let servers = treatment.servers(choice);
        Claim {
            key: VirtualServerKey::Front(front),
            kind: address.kind,
            port: port.name.clone(),
            protocol: port.protocol,
            server: servers.map(|servers| self.server(port, servers)),
            bind: address.bind.then_some(front.address),
            elements,
            mark,
        }
    }

    fn claim_mark(&mut self, port: &Port, mark: u32, family: Family, choice: &Choice) {
        self.out.claims.push(Claim {
            key: VirtualServerKey::Mark { mark, family },
            kind: FrontKind::InsideMark,
            port: port.name.clone(),
            protocol: port.protocol,
            server: Some(self.server(port, &choice.cluster)),
            bind: None,
            elements: Vec::new(),
            mark: None,
        });
    }

    fn server(&self, port: &Port, servers: &endpoints::Servers) -> VirtualServer {
        let tuning = &self.shape.tuning;
        VirtualServer {
            scheduler: tuning.scheduler.clone(),
            flags: tuning.flags(port.protocol),
            persistence: self.shape.affinity.map(|timeout| Persistence {
                timeout,
                prefix: servers.family.host_prefix(),
            }),
            real_servers: servers.weighted(tuning),
        }
    }

    fn hairpin(&mut self, choice: &Choice) {
        let addresses = choice.local_addresses().map(NftElement::Address);
        self.out
            .shared
            .extend(addresses.map(|element| (NftSet::Hairpin, element)));
    }

    /// The health-check node port, and the fronts on which the guard lets it pass.
    pub(super) fn health<'s>(
        &mut self,
        service: &k8s::Service,
        slices: impl Iterator<Item = &'s Slice> + Clone,
    ) {
        let spec = &service.spec;
        let number = spec.health_check_node_port.unwrap_or_default();
        if number == 0
            || !self.shape.external_local
            || spec.type_.as_deref() != Some("LoadBalancer")
            || self.shape.addresses.all().next().is_none()
        {
            return;
        }
        let Some(port) = port_number(number) else {
            self.warnings.add(format!(
                "healthCheckNodePort {number} is no port; it is ignored"
            ));
            return;
        };
        let vips: BTreeSet<IpAddr> = self.shape.addresses.balanced().collect();
        for front in vips.iter().map(|&address| Front {
            address,
            port,
            protocol: Protocol::Tcp,
        }) {
            self.out
                .shared
                .insert((NftSet::ServicePorts, NftElement::Front(front)));
        }
        self.out.health = Some(Health {
            port,
            local_endpoints: endpoints::ready_here(slices),
            vips,
        });
    }

    pub(super) fn finish(mut self) -> Compiled {
        self.out.warnings = self.warnings.all;
        self.out
    }
}
