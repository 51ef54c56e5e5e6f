//! Manifests of a Service and its EndpointSlices, built up word by word.

use std::net::IpAddr;

use kube_ipvs_tests::{Pod, Protocol};
use serde_json::{Value, json};

/// A Service, a ClusterIP one unless told otherwise, with its endpoints.
#[derive(Clone)]
pub(crate) struct Web {
    pub(crate) name: String,
    addresses: Vec<IpAddr>,
    ports: Vec<(Protocol, u16, u16)>,
    endpoints: Vec<Endpoint>,
    annotations: Vec<(String, String)>,
    first_node_port: Option<u16>,
    /// More of its `spec`, and its ingress addresses.
    spec: Vec<(&'static str, Value)>,
    ingress: Vec<&'static str>,
}

/// One address behind it.
#[derive(Clone)]
struct Endpoint {
    address: IpAddr,
    node: &'static str,
    state: State,
}

/// What an EndpointSlice says of an endpoint.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum State {
    /// Takes connections.
    Ready,
    /// Terminates, still answers.
    Leaving,
    /// Terminates and answers no more.
    Left,
    /// Has begun, and does not answer yet.
    Beginning,
}

impl Web {
    /// A Service called `name` at these addresses, without ports.
    pub(crate) fn new(name: &str, addresses: &[&str]) -> Self {
        let parse = |text: &&str| text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        Self {
            name: name.to_owned(),
            addresses: addresses.iter().map(parse).collect(),
            ports: Vec::new(),
            endpoints: Vec::new(),
            annotations: Vec::new(),
            first_node_port: None,
            spec: Vec::new(),
            ingress: Vec::new(),
        }
    }

    /// `default/web` at 10.96.0.10, TCP port 80 to 8080 of both pods.
    pub(crate) fn over(pods: &[Pod]) -> Self {
        let web = Self::new("web", &["10.96.0.10"]).port(Protocol::Tcp, 80, 8080);
        pods.iter().fold(web, |web, pod| web.endpoint(pod.v4))
    }

    /// One more port.
    pub(crate) fn port(mut self, protocol: Protocol, port: u16, target: u16) -> Self {
        self.ports.push((protocol, port, target));
        self
    }

    /// One more endpoint that takes connections.
    pub(crate) fn endpoint(self, address: impl Into<IpAddr>) -> Self {
        self.endpoint_in(address, State::Ready)
    }

    /// One more endpoint in a certain state.
    pub(crate) fn endpoint_in(mut self, address: impl Into<IpAddr>, state: State) -> Self {
        self.endpoints.push(Endpoint {
            address: address.into(),
            node: "node-1",
            state,
        });
        self
    }

    /// One more endpoint that is told to be on another node.
    pub(crate) fn endpoint_on(self, node: &'static str, address: impl Into<IpAddr>) -> Self {
        let mut web = self.endpoint(address);
        web.endpoints.iter_mut().last().expect("it was added").node = node;
        web
    }

    /// An annotation of ours: `scheduler`, ...
    pub(crate) fn option(mut self, name: &str, value: &str) -> Self {
        let name = format!("ipvs.kube-ipvs.dev/{name}");
        self.annotations.push((name, value.to_owned()));
        self
    }

    /// A field of its `spec`.
    pub(crate) fn spec(mut self, field: &'static str, value: Value) -> Self {
        self.spec.push((field, value));
        self
    }

    /// A node port for each of its ports, from this number on.
    pub(crate) fn node_ports(mut self, first: u16) -> Self {
        self.first_node_port = Some(first);
        self.spec("type", "NodePort".into())
    }

    /// Addresses of a load balancer.
    pub(crate) fn ingress(mut self, addresses: &[&'static str]) -> Self {
        self.ingress = addresses.to_vec();
        self.spec("type", "LoadBalancer".into())
    }

    /// A client stays where it is for so many seconds.
    pub(crate) fn affinity(self, seconds: u32) -> Self {
        self.spec("sessionAffinity", "ClientIP".into()).spec(
            "sessionAffinityConfig",
            json!({"clientIP": {"timeoutSeconds": seconds}}),
        )
    }

    /// The Service.
    pub(crate) fn service(&self) -> Value {
        let mut service = self.cluster_ip_service();
        for (field, value) in &self.spec {
            service["spec"][field] = value.clone();
        }
        if let Some(first) = self.first_node_port {
            let ports = service["spec"]["ports"].as_array_mut();
            for (port, number) in ports.into_iter().flatten().zip(first..) {
                port["nodePort"] = number.into();
            }
        }
        let ingress = self.ingress.iter().map(|ip| json!({"ip": ip}));
        service["status"] = json!({"loadBalancer": {"ingress": ingress.collect::<Vec<_>>()}});
        service
    }

    fn cluster_ip_service(&self) -> Value {
        let ports = self.ports.iter().map(|(protocol, port, target)| {
            json!({"name": port_name(*protocol, *port), "protocol": protocol.to_string(),
                   "port": port, "targetPort": target})
        });
        let families = self.addresses.iter().map(|a| family(*a));
        let annotations = self.annotations.iter().cloned();
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": self.name, "namespace": "default",
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": annotations.collect::<std::collections::BTreeMap<_, _>>(),
            },
            "spec": {
                "type": "ClusterIP",
                "clusterIP": self.addresses[0],
                "clusterIPs": self.addresses,
                "ipFamilies": families.collect::<Vec<_>>(),
                "ports": ports.collect::<Vec<_>>(),
            },
        })
    }

    /// An EndpointSlice for each family.
    pub(crate) fn slices(&self) -> Vec<Value> {
        let families = ["IPv4", "IPv6"].into_iter();
        let used = families.filter(|name| self.addresses.iter().any(|a| family(*a) == *name));
        used.map(|name| self.slice(name)).collect()
    }

    fn slice(&self, of: &str) -> Value {
        let ports = self.ports.iter().map(|(protocol, port, target)| {
            json!({"name": port_name(*protocol, *port), "protocol": protocol.to_string(),
                   "port": target})
        });
        let endpoints = self.endpoints.iter().filter(|e| family(e.address) == of);
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{}-{}", self.name, of.to_lowercase()), "namespace": "default",
                "labels": {"kubernetes.io/service-name": self.name},
            },
            "addressType": of,
            "ports": ports.collect::<Vec<_>>(),
            "endpoints": endpoints.map(Endpoint::to_json).collect::<Vec<_>>(),
        })
    }

    /// All of it; JSON is YAML too.
    pub(crate) fn to_yaml(&self) -> String {
        let documents = std::iter::once(self.service()).chain(self.slices());
        let documents: Vec<String> = documents.map(|d| format!("{d:#}\n")).collect();
        documents.join("---\n")
    }
}

impl Endpoint {
    fn to_json(&self) -> Value {
        json!({
            "addresses": [self.address],
            "nodeName": self.node,
            "conditions": {
                "ready": self.state == State::Ready,
                "serving": matches!(self.state, State::Ready | State::Leaving),
                "terminating": matches!(self.state, State::Leaving | State::Left),
            },
        })
    }
}

fn port_name(protocol: Protocol, port: u16) -> String {
    format!("{}-{port}", protocol.to_string().to_lowercase())
}

fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}
