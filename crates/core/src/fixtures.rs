//! Builders for tests: a cluster, Services and slices in a few words.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::cluster::Cluster;
use crate::diff::{Terms, diff};
use crate::event::{Event, HostAddress, Kind};
use crate::k8s::{
    Endpoint, EndpointAddress, EndpointPort, EndpointSlice, Hint, LoadBalancerIngress, Node,
    NodeAddress, Object, SERVICE_NAME_LABEL, Service, ServicePort, ZONE_LABEL,
};
use crate::options::Options;
use crate::output::Output;
use crate::plan::Plan;
use crate::state::KernelState;

/// Settings on `node-1`.
pub(crate) fn options() -> Options {
    Options {
        node_name: "node-1".to_owned(),
        ..Options::default()
    }
}

/// A cluster on `node-1`, whose address is 192.0.2.1.
pub(crate) fn cluster() -> Cluster {
    cluster_with(options())
}

pub(crate) fn cluster_with(options: Options) -> Cluster {
    let mut cluster = Cluster::new(options);
    cluster.host(&["192.0.2.1"]);
    cluster
}

impl Cluster {
    pub(crate) fn add(&mut self, object: impl Into<Object>) -> &mut Self {
        self.apply(Event::Upsert(object.into()));
        self
    }

    pub(crate) fn remove(&mut self, object: impl Into<Object>) -> &mut Self {
        self.apply(Event::Delete(object.into().reference()));
        self
    }

    pub(crate) fn host(&mut self, addresses: &[&str]) -> &mut Self {
        let addresses = addresses.iter().map(|address| HostAddress {
            address: address.parse().unwrap(),
            prefix: 24,
            link: "eth0".to_owned(),
        });
        self.apply(Event::HostAddresses(addresses.collect()));
        self
    }

    /// Endpoints of a Service in its first slice, one port each of the Service
    /// going to 8080 and up.
    pub(crate) fn endpoints<const N: usize>(
        &mut self,
        service: &Service,
        endpoints: [Endpoint; N],
    ) -> &mut Self {
        self.add(slice(service, endpoints))
    }

    pub(crate) fn complete(&mut self) -> &mut Self {
        for kind in [Kind::Service, Kind::EndpointSlice] {
            self.apply(Event::ListStarted(kind));
            self.apply(Event::ListCompleted(kind));
        }
        self
    }

    pub(crate) fn state(&mut self) -> KernelState {
        self.compile();
        self.desired().clone()
    }

    /// Everything compiled, as text.
    pub(crate) fn text(&mut self) -> String {
        self.compile();
        Output::of(self).to_string()
    }
}

/// Service default/web, 10.96.0.1:80/TCP.
pub(crate) fn web() -> Service {
    service("web", "10.96.0.1")
}

/// A Service in namespace default with 80/TCP.
pub(crate) fn service(name: &str, ip: &str) -> Service {
    bare(name, &[ip]).port("", "TCP", 80)
}

/// A Service without ports.
pub(crate) fn bare(name: &str, ips: &[&str]) -> Service {
    let mut service = Service::default();
    service.metadata.name = name.to_owned();
    service.metadata.namespace = "default".to_owned();
    service.spec.cluster_ip = ips.first().map(|ip| (*ip).to_owned());
    service.spec.cluster_ips = ips.iter().map(|ip| (*ip).to_owned()).collect();
    service
}

impl Service {
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(crate) fn port(mut self, name: &str, protocol: &str, port: i64) -> Self {
        self.spec.ports.push(ServicePort {
            name: name.to_owned(),
            protocol: Some(protocol.to_owned()),
            port,
            node_port: None,
        });
        self
    }

    /// On the last port.
    pub(crate) fn node_port(mut self, port: i64) -> Self {
        self.spec.ports.last_mut().unwrap().node_port = Some(port);
        self
    }

    pub(crate) fn load_balancer(mut self, ip: &str) -> Self {
        self.spec.type_ = Some("LoadBalancer".to_owned());
        self.status.load_balancer.ingress.push(LoadBalancerIngress {
            ip: Some(ip.to_owned()),
            ip_mode: None,
        });
        self
    }

    pub(crate) fn external_ip(mut self, ip: &str) -> Self {
        self.spec.external_ips.push(ip.to_owned());
        self
    }

    pub(crate) fn internal_local(self) -> Self {
        self.with(|s| s.spec.internal_traffic_policy = Some("Local".to_owned()))
    }

    pub(crate) fn external_local(self) -> Self {
        self.with(|s| s.spec.external_traffic_policy = Some("Local".to_owned()))
    }

    pub(crate) fn annotation(self, name: &str, value: &str) -> Self {
        self.with(|s| {
            _ = s
                .metadata
                .annotations
                .insert(name.to_owned(), value.to_owned())
        })
    }

    pub(crate) fn created(self, time: &str) -> Self {
        self.with(|s| s.metadata.creation_timestamp = Some(time.parse().unwrap()))
    }
}

/// The first slice of a Service.
pub(crate) fn slice<const N: usize>(service: &Service, endpoints: [Endpoint; N]) -> EndpointSlice {
    let mut slice = EndpointSlice::default();
    let metadata = &mut slice.metadata;
    metadata.name = format!("{}-1", service.metadata.name);
    metadata.namespace = service.metadata.namespace.clone();
    let name = service.metadata.name.clone();
    metadata.labels.insert(SERVICE_NAME_LABEL.to_owned(), name);
    let v6 = endpoints.iter().any(|e| match &e.addresses {
        EndpointAddress::None => false,
        EndpointAddress::Plain(address) => address.is_ipv6(),
        EndpointAddress::Odd(text) => text.contains(':'),
    });
    slice.address_type = if v6 { "IPv6" } else { "IPv4" }.to_owned();
    slice.endpoints = endpoints.to_vec();
    let ports = service.spec.ports.iter().zip(8080..);
    slice.ports = ports
        .map(|(port, number)| EndpointPort {
            name: Some(port.name.clone()),
            protocol: port.protocol.clone(),
            port: Some(number),
        })
        .collect();
    slice
}

impl EndpointSlice {
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.metadata.name = name.to_owned();
        self
    }

    pub(crate) fn target(mut self, port: i64) -> Self {
        self.ports[0].port = Some(port);
        self
    }
}

/// A ready endpoint on `node-2`.
pub(crate) fn ep(address: &str) -> Endpoint {
    let mut endpoint = Endpoint {
        addresses: address.into(),
        node_name: Some("node-2".to_owned()),
        ..Endpoint::default()
    };
    endpoint.conditions.ready = Some(true);
    endpoint
}

impl Endpoint {
    /// On this node.
    pub(crate) fn here(mut self) -> Self {
        self.node_name = Some("node-1".to_owned());
        self
    }

    /// On its way out, still answering.
    pub(crate) fn terminating(mut self) -> Self {
        self.conditions.ready = Some(false);
        self.conditions.serving = Some(true);
        self.conditions.terminating = Some(true);
        self
    }

    pub(crate) fn not_ready(mut self) -> Self {
        self.conditions.ready = Some(false);
        self.conditions.serving = Some(false);
        self
    }

    pub(crate) fn for_zone(mut self, zone: &str) -> Self {
        let name = zone.to_owned();
        self.hints.for_zones.push(Hint { name });
        self
    }

    pub(crate) fn for_node(mut self, node: &str) -> Self {
        let name = node.to_owned();
        self.hints.for_nodes.push(Hint { name });
        self
    }
}

/// A Node with one address.
pub(crate) fn node(name: &str, address: &str) -> Node {
    let mut node = Node::default();
    node.metadata.name = name.to_owned();
    node.status.addresses.push(NodeAddress {
        type_: "InternalIP".to_owned(),
        address: address.to_owned(),
    });
    node
}

impl Node {
    pub(crate) fn zone(mut self, zone: &str) -> Self {
        let labels = &mut self.metadata.labels;
        labels.insert(ZONE_LABEL.to_owned(), zone.to_owned());
        self
    }
}

/// The plan from one state to another, everything being ours.
pub(crate) fn plan(before: &KernelState, after: &KernelState) -> Plan {
    diff(after, before, &Terms::default())
}

/// Compares texts line by line, without indentation, blank lines and repeated spaces.
#[track_caller]
pub(crate) fn assert_lines(found: &impl ToString, wanted: &str) {
    let lines = |text: &str| -> Vec<String> {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines()
            .map(words)
            .filter(|line| !line.is_empty())
            .collect()
    };
    let (found, wanted) = (lines(&found.to_string()), lines(wanted));
    assert_eq!(found.join("\n"), wanted.join("\n"));
}
