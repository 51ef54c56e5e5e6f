//! What lies around all Services: addresses of this host and of others, the zone.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;

use super::counts::Addresses;
use super::networks::{Lifelines, ServiceCidrs, ServiceNetworks, without_cluster_addresses};
use super::node_ports;
use super::territory::Territory;
use crate::compile::Surroundings;
use crate::event::Kind;
use crate::event::{HostAddress, Listener};
use crate::k8s::{Node, ZONE_LABEL};
use crate::names::Warning;
use crate::options::Options;
use crate::read::{self, Quoted};
use crate::regarding::Regarding;
use crate::services::Service;
use crate::slices::unusable;
use crate::state::{Family, Protocol};

#[derive(Debug)]
pub(super) struct Ground {
    /// As a source told; none before it did.
    told_host: Option<BTreeSet<IpAddr>>,
    /// The link of each of this host's addresses.
    links: BTreeMap<IpAddr, String>,
    host_networks: BTreeSet<IpNet>,
    gateways: BTreeSet<IpAddr>,
    told_protected: BTreeSet<IpAddr>,
    told_unchecked: BTreeSet<IpAddr>,
    listeners: BTreeSet<Listener>,
    api_servers: BTreeSet<IpAddr>,
    node: Option<Box<Node>>,
    other_nodes: BTreeMap<String, BTreeSet<IpAddr>>,
    service_cidrs: ServiceCidrs,
    derived: Derived,
}

/// What follows from the rest.
#[derive(Debug, Default, PartialEq)]
struct Derived {
    host: BTreeSet<IpAddr>,
    node_ports: Vec<IpAddr>,
    protected: BTreeSet<IpAddr>,
    unchecked: BTreeSet<IpAddr>,
    gateways: BTreeSet<IpAddr>,
    service_networks: BTreeSet<IpNet>,
    pod_networks: BTreeSet<IpNet>,
    zone: Option<String>,
    warnings: Vec<Warning>,
}

/// What changed for Services.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Addresses that became, or ceased to be, this host's, protected or unchecked.
    addresses: BTreeSet<IpAddr>,
    /// Those of them that became, or ceased to be, this host's.
    host: BTreeSet<IpAddr>,
    /// Networks that became, or ceased to be, the Services' or the pods'.
    networks: BTreeSet<IpNet>,
    node_ports: bool,
    zone: bool,
}

impl Change {
    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.networks.is_empty() && !self.node_ports && !self.zone
    }

    /// Addresses that became, or ceased to be, somebody else's.
    pub(super) fn addresses(&self) -> &BTreeSet<IpAddr> {
        &self.addresses
    }

    /// Whether a Service with this endpoint must be compiled again.
    pub(super) fn concerns_endpoint(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|net| net.contains(&address))
    }

    /// Whether networks changed.
    pub(super) fn moves_networks(&self) -> bool {
        !self.networks.is_empty()
    }

    /// Whether a Service must be compiled again.
    pub(super) fn concerns(&self, service: &Service) -> bool {
        let mut ports = service.ports.iter();
        if self.zone || (self.node_ports && ports.any(|port| port.node_port.is_some())) {
            return true;
        }
        if self.addresses.is_empty() && self.networks.is_empty() {
            return false;
        }
        if self.host.iter().any(|at| service.asks_whether_ours(*at)) {
            return true;
        }
        service.addresses.iter().any(|asked| {
            self.addresses.contains(&asked.address) || self.concerns_endpoint(asked.address)
        })
    }
}

impl Ground {
    pub(super) fn new(options: &Options) -> Self {
        let mut ground = Self {
            told_host: None,
            links: BTreeMap::new(),
            host_networks: BTreeSet::new(),
            gateways: BTreeSet::new(),
            told_protected: BTreeSet::new(),
            told_unchecked: BTreeSet::new(),
            listeners: BTreeSet::new(),
            api_servers: BTreeSet::new(),
            node: None,
            other_nodes: BTreeMap::new(),
            service_cidrs: ServiceCidrs::new(),
            derived: Derived::default(),
        };
        ground.derive(options);
        ground
    }

    pub(super) fn surroundings<'a>(
        &'a self,
        options: &'a Options,
        territory: &'a Territory,
        vips: &'a Addresses,
        missing_schedulers: &'a BTreeSet<String>,
    ) -> Surroundings<'a> {
        Surroundings {
            gateways: &self.derived.gateways,
            service_networks: &self.derived.service_networks,
            pod_networks: &self.derived.pod_networks,
            territory,
            vips,
            options,
            missing_schedulers,
            host: &self.derived.host,
            node_ports: &self.derived.node_ports,
            protected: &self.derived.protected,
            unchecked: &self.derived.unchecked,
            links: &self.links,
            listeners: &self.listeners,
            zone: self.derived.zone.as_deref(),
        }
    }

    pub(super) fn node(&self) -> Option<&Node> {
        self.node.as_deref()
    }

    pub(super) fn host(&self) -> &BTreeSet<IpAddr> {
        &self.derived.host
    }

    pub(super) fn node_ports(&self) -> &[IpAddr] {
        &self.derived.node_ports
    }

    pub(super) fn warnings(&self) -> &[Warning] {
        &self.derived.warnings
    }

    /// All nodes that are known.
    pub(super) fn node_names(&self) -> impl Iterator<Item = &str> {
        let ours = self.node.iter().map(|node| node.metadata.name.as_str());
        ours.chain(self.other_nodes.keys().map(String::as_str))
    }

    pub(super) fn host_addresses(&mut self, told: &[HostAddress], options: &Options) -> Change {
        let told = told.iter().filter(|host| host.link != options.link);
        self.told_host = Some(told.clone().map(|host| host.address).collect());
        let links = told.clone().map(|host| (host.address, host.link.clone()));
        self.links = links.collect();
        let networks = told.filter(|at| {
            let shared = at.prefix < Family::of(at.address).host_prefix();
            shared && unusable(at.address).is_none()
        });
        self.host_networks = networks
            .filter_map(|at| IpNet::new(at.address, at.prefix).ok())
            .collect();
        self.derive(options)
    }

    pub(super) fn gateways(&mut self, gateways: BTreeSet<IpAddr>, options: &Options) -> Change {
        self.gateways = gateways;
        self.derive(options)
    }

    pub(super) fn service_cidr(
        &mut self,
        name: &str,
        read: Option<ServiceNetworks>,
        options: &Options,
    ) -> Change {
        match read {
            Some(read) => self.service_cidrs.insert(name.to_owned(), read),
            None => self.service_cidrs.remove(name),
        };
        self.derive(options)
    }

    pub(super) fn service_cidr_names(&self) -> impl Iterator<Item = &str> {
        self.service_cidrs.keys().map(String::as_str)
    }

    /// Networks of cluster addresses that make sense on this node.
    pub(super) fn service_networks(&self) -> &BTreeSet<IpNet> {
        &self.derived.service_networks
    }

    /// Says on which ports somebody began or ceased to listen.
    pub(super) fn listeners(&mut self, told: BTreeSet<Listener>) -> BTreeSet<(Protocol, u16)> {
        let before = core::mem::replace(&mut self.listeners, told);
        let moved = before.symmetric_difference(&self.listeners);
        moved.map(|x| (x.protocol, x.port)).collect()
    }

    pub(super) fn protect(&mut self, addresses: BTreeSet<IpAddr>, options: &Options) -> Change {
        self.told_protected = addresses;
        self.derive(options)
    }

    pub(super) fn uncheck(&mut self, addresses: BTreeSet<IpAddr>, options: &Options) -> Change {
        self.told_unchecked = addresses;
        self.derive(options)
    }

    pub(super) fn api_servers(&mut self, found: BTreeSet<IpAddr>, options: &Options) -> Change {
        if self.api_servers == found {
            return Change::default();
        }
        self.api_servers = found;
        self.derive(options)
    }

    pub(super) fn node_changed(&mut self, node: Node, options: &Options) -> Change {
        if node.metadata.name == options.node_name {
            self.node = Some(Box::new(node));
        } else {
            let addresses = addresses(&node, &["InternalIP", "ExternalIP"]);
            self.other_nodes
                .insert(node.metadata.name, addresses.into_iter().collect());
        }
        self.derive(options)
    }

    pub(super) fn node_gone(&mut self, name: &str, options: &Options) -> Change {
        if name == options.node_name {
            self.node = None;
        } else {
            self.other_nodes.remove(name);
        }
        self.derive(options)
    }

    fn pod_networks(&self, options: &Options) -> BTreeSet<IpNet> {
        let ours = self.node.iter().flat_map(|node| pod_cidrs(node));
        options.pod_networks.iter().copied().chain(ours).collect()
    }

    fn derive(&mut self, options: &Options) -> Change {
        let own: Vec<IpAddr> = match options.node_addresses.as_slice() {
            [] => self
                .node
                .iter()
                .flat_map(|node| addresses(node, &["InternalIP", "ExternalIP"]))
                .collect(),
            given => given.to_vec(),
        };
        // Before the host was looked at, the Node object must do.
        let host = match &self.told_host {
            Some(told) => told.clone(),
            None => own.iter().copied().collect(),
        };
        let mut protected: BTreeSet<IpAddr> = self.told_protected.clone();
        protected.extend(&self.api_servers);
        protected.extend(self.other_nodes.values().flatten());
        protected.extend(&own);
        protected.extend(&self.gateways);
        let (node_ports, mut warnings) = node_ports::addresses(&host, &own, options);
        warnings.extend(self.node.iter().flat_map(|node| oddities(node)));
        let pods = self.pod_networks(options);
        let lifelines = Lifelines {
            own: &own,
            host: &self.host_networks,
            gateways: &self.gateways,
            pods: &pods,
        };
        let (service_networks, odd) = lifelines.service_networks(&self.service_cidrs);
        warnings.extend(odd);
        warnings.extend(without_cluster_addresses(&mut protected, &service_networks));
        let pod_networks = lifelines.pods_alone();
        let labels = self.node.as_ref().map(|node| &node.metadata.labels);
        let derived = Derived {
            host,
            node_ports,
            protected,
            unchecked: self.told_unchecked.clone(),
            gateways: self.gateways.clone(),
            service_networks,
            pod_networks,
            zone: labels.and_then(|labels| labels.get(ZONE_LABEL).cloned()),
            warnings,
        };
        let before = core::mem::replace(&mut self.derived, derived);
        let now = &self.derived;
        let host = &before.host ^ &now.host;
        let mut moved = host.clone();
        moved.extend(&before.protected ^ &now.protected);
        moved.extend(&before.unchecked ^ &now.unchecked);
        moved.extend(&before.gateways ^ &now.gateways);
        let mut networks = &before.service_networks ^ &now.service_networks;
        networks.extend(&before.pod_networks ^ &now.pod_networks);
        Change {
            addresses: moved,
            host,
            networks,
            node_ports: before.node_ports != now.node_ports,
            zone: before.zone != now.zone,
        }
    }
}

/// The networks of a Node's pods.
fn pod_cidrs(node: &Node) -> impl Iterator<Item = IpNet> {
    let all = node.spec.pod_cidrs.iter();
    all.filter_map(|text| Some(read::network(text)?.value))
}

/// What is odd about the way a Node's addresses are written.
fn oddities(node: &Node) -> impl Iterator<Item = Warning> {
    let all = node.status.addresses.iter();
    let numeric = all.filter(|a| matches!(a.type_.as_str(), "InternalIP" | "ExternalIP"));
    let messages = numeric.filter_map(|a| match read::address(&a.address) {
        Some(read) => read.note(),
        None => Some(format!(
            "{} is no address; it is ignored",
            Quoted(&a.address)
        )),
    });
    messages.map(|message| Warning {
        object: Regarding::of(Kind::Node, &node.metadata),
        message: format!("status.addresses: {message}"),
    })
}

/// The addresses of a Node, those of the first type first.
fn addresses(node: &Node, types: &[&str]) -> Vec<IpAddr> {
    let of = |wanted: &str| {
        let all = node.status.addresses.iter();
        all.filter(|a| a.type_ == wanted)
            .filter_map(|a| Some(read::address(&a.address)?.value))
            .collect::<Vec<IpAddr>>()
    };
    types.iter().flat_map(|wanted| of(wanted)).collect()
}
