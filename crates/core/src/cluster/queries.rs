//! What can be asked of a cluster.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;

use super::objects::Entry;
use super::{Cluster, HealthCheck};
use crate::compile::{TrafficPolicy, Withheld};
use crate::event::{Kind, ObjectRef};
use crate::k8s::Node;
use crate::localhost::LocalhostPorts;
use crate::names::{ServiceName, ServicePortName, Warning};
use crate::options::Options;
use crate::regarding::Regarding;
use crate::services::{Asked, FrontKind, Port, ServiceType};
use crate::state::{Family, Front, Protocol, RealServerKey, VirtualServerKey};

impl Cluster {
    /// The settings.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// What is wrong with the objects, as of the last [`Self::compile`], and those
    /// that cannot be read any more.
    pub fn warnings(&self) -> Vec<Warning> {
        let services = self.notable().flat_map(|(_, e)| &e.footprint.warnings);
        let all = services.chain(self.ground.warnings()).cloned();
        let all: BTreeSet<Warning> = all.chain(self.outdated(|_| true)).collect();
        all.into_iter().collect()
    }

    /// Objects that cannot be read any more, of those that are meant.
    pub(super) fn outdated(
        &self,
        is_meant: impl Fn(&ObjectRef) -> bool,
    ) -> impl Iterator<Item = Warning> {
        let outdated = self.lists.outdated();
        let outdated = outdated.filter(move |(object, _)| is_meant(object));
        outdated.map(|(object, uid)| Warning {
            object: Regarding::named(object.kind, &object.namespace, &object.name, *uid),
            message: "it cannot be read any more; what it was before stays in force".to_owned(),
        })
    }

    /// Whom a warning about a Service is about.
    pub fn regarding(&self, service: &ServiceName) -> Regarding {
        let known = self.entries.get(service);
        let uid = known.and_then(|entry| entry.service.as_ref()?.uid);
        Regarding::named(Kind::Service, &service.namespace, &service.name, uid)
    }

    /// Whether an object is a Service, or a slice of it.
    pub(super) fn is_of(&self, object: &ObjectRef, service: &ServiceName) -> bool {
        let name = ServiceName::new(&object.namespace, &object.name);
        match object.kind {
            Kind::Service => name == *service,
            Kind::EndpointSlice => self.slice_owners.get(&name) == Some(service),
            Kind::ServiceCidr | Kind::Node => false,
        }
    }

    /// Services with warnings or a health-check node port.
    fn notable(&self) -> impl Iterator<Item = (&ServiceName, &Entry)> {
        let known = |name| {
            let (name, entry) = self.entries.get_key_value(name)?;
            Some((name, &**entry))
        };
        self.notable.iter().filter_map(known)
    }

    /// Health-check node ports that must be answered.
    pub fn health_checks(&self) -> Vec<HealthCheck> {
        let checks = self.notable().filter_map(|(name, entry)| {
            let health = entry.footprint.health.as_ref()?;
            Some(HealthCheck {
                service: name.clone(),
                port: health.port,
                local_endpoints: health.local_endpoints,
                vips: health.vips.clone(),
            })
        });
        checks.collect()
    }

    /// NodePorts on loopback addresses that a program has to serve, as of the
    /// last [`Self::compile`]. The same pointer as long as nothing of it changes.
    pub fn localhost_node_ports(&self) -> &Arc<LocalhostPorts> {
        self.placement.localhost()
    }

    /// Whom a virtual server belongs to.
    pub fn service_of(&self, key: &VirtualServerKey) -> Option<ServicePortName> {
        self.placement.served(key).map(|served| ServicePortName {
            service: served.service.clone(),
            port: served.port.clone(),
        })
    }

    /// How a Service came by a virtual server.
    pub fn kind_of(&self, key: &VirtualServerKey) -> Option<FrontKind> {
        self.placement.served(key).map(|served| served.kind)
    }

    /// All fronts and marks that Services hold, served, refused or dropped.
    pub fn fronts(&self) -> impl Iterator<Item = (&VirtualServerKey, ServicePortName, FrontKind)> {
        self.placement.all_served().map(|(key, served)| {
            let name = ServicePortName {
                service: served.service.clone(),
                port: served.port.clone(),
            };
            (key, name, served.kind)
        })
    }

    /// Names of the Services that are known, served or not.
    pub fn services(&self) -> impl Iterator<Item = &ServiceName> {
        let known = self.entries.iter().filter(|(_, e)| e.service.is_some());
        known.map(|(name, _)| name)
    }

    /// How many EndpointSlices are known, of Services or not.
    pub fn endpoint_slices(&self) -> usize {
        self.entries
            .values()
            .map(|entry| entry.slices.values().count())
            .sum()
    }

    /// Services that answer at port 53 for UDP, whatever a cluster calls its DNS.
    /// Only those at cluster addresses alone, which no other Service can want:
    /// one that comes first must take nothing from an older one.
    pub fn resolvers(&self) -> impl Iterator<Item = &ServiceName> {
        let is_dns = |port: &Port| port.number == 53 && port.protocol == Protocol::Udp;
        let services = self.entries.iter();
        let resolvers = services.filter(move |(_, entry)| {
            entry.service.as_ref().is_some_and(|service| {
                service.kind == ServiceType::ClusterIp
                    && service.addresses.iter().all(Asked::is_cluster_ip)
                    && service.ports.iter().any(is_dns)
            })
        });
        resolvers.map(|(name, _)| name)
    }

    /// Whether there is such a Service.
    pub fn has_service(&self, name: &ServiceName) -> bool {
        let entry = self.entries.get(name);
        entry.is_some_and(|entry| entry.service.is_some())
    }

    /// Addresses of the endpoints on this node, in whatever state. Costs as much
    /// as the cluster is big.
    pub fn local_endpoints(&self) -> impl Iterator<Item = IpAddr> {
        let slices = self
            .entries
            .values()
            .flat_map(|entry| entry.slices.values());
        let endpoints = slices.flat_map(|slice| &slice.endpoints);
        endpoints
            .filter(|endpoint| endpoint.local)
            .map(|endpoint| endpoint.address)
    }

    /// Whether the Service a virtual server belongs to still has such an
    /// endpoint, in whatever state. Its connections need not end yet.
    pub fn has_endpoint(&self, key: &VirtualServerKey, real: &RealServerKey) -> bool {
        let Some(served) = self.placement.served(key) else {
            return false;
        };
        let entry = self.entries.get(&served.service);
        entry.is_some_and(|entry| entry.has_endpoint(served, real))
    }

    /// The fronts whose traffic is led to a virtual server by a mark. Costs as
    /// much as its Service is big.
    pub fn marked_with(&self, key: &VirtualServerKey) -> Vec<Front> {
        let served = self.placement.served(key);
        let entry = served.and_then(|served| self.entries.get(&served.service));
        let fronts = entry.into_iter().flat_map(|e| e.footprint.fronts());
        let led = |front: &&Front| {
            let row = self.desired().row(front);
            row.is_some_and(|row| row.by_marks(front).any(|of| of == *key))
        };
        fronts.filter(led).copied().collect()
    }

    /// The protocol of a virtual server's Service port, also for marks.
    pub fn protocol_of(&self, key: &VirtualServerKey) -> Option<Protocol> {
        self.placement.served(key).map(|served| served.protocol)
    }

    /// How many Services have a `Local` policy of this kind and endpoints, but
    /// none on this node.
    pub fn without_local_endpoints(&self, policy: TrafficPolicy, family: Family) -> u32 {
        self.placement.without_local(policy, family)
    }

    /// Desired real servers of weight 0: their endpoints are terminating.
    pub fn draining(&self) -> &BTreeSet<(VirtualServerKey, RealServerKey)> {
        self.placement.draining()
    }

    /// This node's object, once seen.
    pub fn node(&self) -> Option<&Node> {
        self.ground.node()
    }

    /// This host's addresses.
    pub fn host_addresses(&self) -> &BTreeSet<IpAddr> {
        self.ground.host()
    }

    /// Addresses of this host that take NodePorts.
    pub fn node_port_addresses(&self) -> &[IpAddr] {
        self.ground.node_ports()
    }

    /// Networks of cluster addresses: those of ServiceCIDRs in which nothing
    /// lies that this node lives by.
    pub fn service_cidrs(&self) -> &BTreeSet<IpNet> {
        self.ground.service_networks()
    }

    /// How many addresses of Services are not served here for this reason.
    pub fn withheld(&self, reason: Withheld) -> u32 {
        self.placement.withheld(reason)
    }

    /// Ports that Services take on this host's own addresses.
    pub fn host_ports(&self) -> BTreeSet<(Protocol, u16)> {
        self.host_ports.taken()
    }
}
