//! Fronts at this host's own addresses, which its programs may want too, and its
//! health-check node port.

use alloc::format;
use core::net::SocketAddr;

use super::endpoints::{self, Choice};
use super::fronts::Compiler;
use super::{Claim, Health};
use crate::localhost::{LocalhostPort, loopback};
use crate::names::ServicePortName;
use crate::read::Quoted;
use crate::row::Row;
use crate::services::{FrontKind, Port};
use crate::slices::Slice;
use crate::state::{Family, Front, Protocol, VirtualServerKey};

impl Compiler<'_> {
    /// Whether a front at this host's own address may be served.
    pub(super) fn on_this_host(
        &mut self,
        port: &Port,
        front: &Front,
        kind: FrontKind,
        choice: &Choice,
    ) -> bool {
        if self.is_reserved(port, front) {
            return false;
        }
        if kind == FrontKind::ClusterIp && self.is_left(port, front) {
            return false;
        }
        if self.around.listens(front) && !choice.has(front) {
            let why = "is a port on which this node itself listens; IPVS takes what clients send \
                       there, so choose another, or name it in --nodeport-reserved-ports";
            self.tell_of_port(port, front, why);
        }
        true
    }

    /// Whether a ClusterIP's port is left to a program of this host, which has the
    /// address on a link of its own and listens there: a cache of DNS answers on
    /// the node (NodeLocal DNSCache). One that listens at all addresses does not
    /// mean this one.
    fn is_left(&mut self, port: &Port, front: &Front) -> bool {
        if !self.around.listens_there(front) {
            return false;
        }
        let link = self.around.links.get(&front.address);
        let link = link.map_or_else(|| "this node".into(), |link| format!("link {link}"));
        self.warnings.add(format!(
            "port {}: {front} is left to the program of this node that listens there: the address \
             is owned by {link}",
            Quoted(&port.name)
        ));
        self.out.left.insert(*front);
        true
    }

    /// Whether the operator keeps a port of this host for the host.
    fn is_reserved(&mut self, port: &Port, front: &Front) -> bool {
        let reserved = self.around.options.reserves(front.port);
        if reserved {
            let why = "is among --nodeport-reserved-ports; it is not served on this node's own \
                       addresses";
            self.tell_of_port(port, front, why);
        }
        reserved
    }

    /// Told once a port, whatever number of addresses the host has.
    fn tell_of_port(&mut self, port: &Port, front: &Front, why: &str) {
        let (protocol, number) = (front.protocol, front.port);
        if self.told.insert((protocol, number)) {
            let name = Quoted(&port.name);
            self.warnings
                .add(format!("port {name}: {number}/{protocol} {why}"));
        }
    }

    /// The NodePort on the loopback address, whose packets IPVS does not take.
    /// `externalTrafficPolicy: Local` holds there too, as in kube-proxy.
    pub(super) fn localhost(&mut self, port: &Port, family: Family, choice: &Choice) {
        let chosen = self.around.options.localhost_node_ports.contains(&family);
        let number = port.node_port.filter(|_| chosen);
        let Some(number) = number.filter(|_| port.protocol == Protocol::Tcp) else {
            return;
        };
        let front = Front {
            address: loopback(family),
            port: number,
            protocol: port.protocol,
        };
        if self.is_reserved(port, &front) {
            return;
        }
        let servers = if self.shape.service.external_local {
            &choice.local
        } else {
            &choice.cluster
        };
        let real_servers = self.server(port, servers).real_servers.into_iter();
        let open = real_servers.filter(|(_, real)| real.weight > 0);
        let endpoints = open.map(|(key, _)| SocketAddr::new(key.address, key.port));
        let localhost = LocalhostPort {
            uid: self.shape.service.uid,
            service: ServicePortName {
                service: self.name.clone(),
                port: port.name.clone(),
            },
            endpoints: endpoints.collect(),
            affinity: self.shape.service.affinity,
        };
        self.out.claims.push(Claim {
            key: VirtualServerKey::Front(front),
            kind: FrontKind::NodePort,
            port: port.name.clone(),
            protocol: port.protocol,
            server: None,
            bind: None,
            row: Row::default(),
            is_restricted: false,
            localhost: Some(localhost).filter(|port| !port.endpoints.is_empty()),
        });
    }

    /// The health-check node port. A pod with an address of each family counts
    /// once: the families are counted apart, as by kube-proxy's two servers, and
    /// the one answer is the larger of theirs.
    pub(super) fn health<'s>(&mut self, slices: impl Iterator<Item = &'s Slice> + Clone) {
        let port = self.shape.service.health_port;
        let Some(port) = port.filter(|_| self.shape.addresses.all().next().is_some()) else {
            return;
        };
        if self.around.options.reserves(port) {
            self.warnings.add(format!(
                "healthCheckNodePort {port} is among --nodeport-reserved-ports; it is not answered"
            ));
            return;
        }
        let families = self.around.options.families.iter();
        let families = families.filter(|family| self.shape.addresses.of(**family).next().is_some());
        let skipped = &self.shape.skipped;
        let ready = families.map(|family| endpoints::ready_here(*family, slices.clone(), skipped));
        self.out.health = Some(Health {
            port,
            local_endpoints: ready.max().unwrap_or_default(),
            vips: self.shape.addresses.balanced().collect(),
        });
    }
}
