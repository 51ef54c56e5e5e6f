//! Three nodes, their pods, a machine outside, and Services of every kind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use kube_ipvs_core::NodePortServers;
use kube_ipvs_tests::{Client, Node, Outside, Pod, Protocol, Server, Topology};
use serde_json::{Value, json};

use super::proxy::{Proxy, sync};
use super::table::Cell;

/// Port of the Services; their endpoints listen on another one.
const PORT: u16 = 80;
const ENDPOINT_PORT: u16 = 8080;

const POLICIES: [&str; 2] = ["Cluster", "Local"];
const PLACES: [&str; 7] = [
    "here", "leaving", "there", "none", "both", "third", "hostnet",
];

/// An IP family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The cluster of the matrix.
pub(crate) struct City {
    pub(crate) nodes: [Node; 3],
    a: Pod,
    b: Pod,
    c: Pod,
    d: Pod,
    e: Pod,
    outside: Outside,
    binding: &'static str,
    _servers: Vec<Server>,
    _network: Topology,
}

impl City {
    /// Everything but the proxiers' work.
    pub(crate) fn new(binding: &'static str) -> Self {
        let network = Topology::new();
        let nodes = [network.node(), network.node(), network.node()];
        let [one, two, three] = &nodes;
        let [a, c] = ["a", "c"].map(|name| one.pod(name));
        let [b, d] = ["b", "d"].map(|name| two.pod(name));
        let e = three.pod("e");
        let outside = network.outside();
        for net in VIP_NETS {
            outside.route(net, one);
        }
        for node in &nodes {
            // Else only the first few refusals of a second are told.
            node.namespace.sysctl("net/ipv4/icmp_ratelimit", "0");
            node.namespace.sysctl("net/ipv6/icmp/ratelimit", "0");
        }
        let mut servers: Vec<_> = [&a, &b, &e].into_iter().flat_map(servers_of).collect();
        servers.extend(Family::ALL.map(|family| {
            let address = SocketAddr::new(node_address(one, family), ENDPOINT_PORT).to_string();
            Server::start(&one.namespace, "n", Protocol::Tcp, &address)
        }));
        let pods = [&a, &b, &c, &d, &e].map(|pod| &pod.namespace);
        let others = nodes.iter().map(|node| &node.namespace);
        let others = others.chain([&outside.namespace]);
        for client in pods.into_iter().chain(others) {
            // SCTP misses the refusal of a packet it is just sending, so let it
            // try again after one second, not three. Not sooner: on a machine
            // slower than that, conntrack loses track of repeated handshakes.
            // The module is there: servers have started.
            client.sysctl("net/sctp/rto_initial", "1000");
        }
        Self {
            _servers: servers,
            nodes,
            a,
            b,
            c,
            d,
            e,
            outside,
            binding,
            _network: network,
        }
    }

    /// Both nodes' proxiers do their work, once.
    pub(crate) fn program(&self) {
        let objects = self.objects();
        for (node, name) in self.nodes.iter().zip(["node-1", "node-2", "node-3"]) {
            let binding = super::binding(self.binding, node);
            let mut proxy = Proxy::new(node, name, binding);
            proxy.options.node_port_servers = match self.binding {
                "address" => NodePortServers::Address,
                _ => NodePortServers::Mark,
            };
            node.namespace.run(|| sync(&mut proxy.syncer(&objects)));
            // The kernel gives a handshake three seconds, and an emulated guest
            // may stand still for longer; what comes then is invalid for good.
            for step in ["cookie_wait", "cookie_echoed"] {
                let timeout = format!("net/netfilter/nf_conntrack_sctp_timeout_{step}");
                node.namespace.sysctl(&timeout, "60");
            }
        }
    }

    fn objects(&self) -> Vec<Value> {
        let mut objects = Vec::new();
        for policy in POLICIES {
            for place in PLACES {
                objects.push(service(policy, place));
                objects.extend(Family::ALL.map(|family| self.slice(policy, place, family)));
            }
        }
        objects
    }

    fn slice(&self, policy: &str, place: &str, family: Family) -> Value {
        let endpoint = |address: IpAddr, node: u8| {
            let leaving = place == "leaving";
            json!({"addresses": [address], "nodeName": format!("node-{node}"),
                "conditions": {"ready": !leaving, "serving": true, "terminating": leaving}})
        };
        let [a, b, e] = [&self.a, &self.b, &self.e].map(|pod| address_of(pod, family));
        let endpoints = match place {
            "here" | "leaving" => vec![endpoint(a, 1)],
            "there" => vec![endpoint(b, 2)],
            "both" => vec![endpoint(a, 1), endpoint(b, 2)],
            "third" => vec![endpoint(e, 3)],
            "hostnet" => vec![endpoint(node_address(&self.nodes[0], family), 1)],
            _ => vec![],
        };
        let name = name(policy, place);
        json!({"kind": "EndpointSlice", "addressType": family.to_string(),
            "metadata": {"name": format!("{name}-{family}").to_lowercase(), "namespace": "default",
                "labels": {"kubernetes.io/service-name": name}},
            "endpoints": endpoints,
            "ports": ports(|port| port["port"] = ENDPOINT_PORT.into())})
    }

    /// Where a cell calls from.
    pub(super) fn client(&self, cell: &Cell) -> Client<'_> {
        let node = &self.nodes[0];
        match cell.client {
            "host" => Client::within(&node.namespace),
            "hostnet" => Client::within(&node.namespace).address(node_address(node, cell.family)),
            "outside" => Client::within(&self.outside.namespace),
            _ => Client::within(&self.pod(cell).namespace),
        }
    }

    /// Where a cell calls to.
    pub(super) fn target(&self, cell: &Cell) -> SocketAddr {
        let number = number(cell.policy, cell.endpoints);
        let (address, port) = match cell.kind {
            "NodePort" => (node_address(&self.nodes[0], cell.family), node_port(number)),
            kind => (vip(kind, number, cell.family), PORT),
        };
        SocketAddr::new(address, port)
    }

    /// The name an address has in the table, for the client of a cell.
    pub(super) fn name_of(&self, cell: &Cell, address: IpAddr) -> String {
        let family = cell.family;
        let own = match cell.client {
            "host" | "hostnet" => None,
            "outside" => Some(match family {
                Family::V4 => self.outside.v4.into(),
                Family::V6 => self.outside.v6.into(),
            }),
            _ => Some(address_of(self.pod(cell), family)),
        };
        if own == Some(address) {
            return "self".to_owned();
        }
        if cell.kind != "NodePort" && self.target(cell).ip() == address {
            return "vip".to_owned();
        }
        for (node, number) in self.nodes.iter().zip(1..) {
            if address == node_address(node, family) {
                return format!("node{number}");
            }
            if address == gate(number, family) {
                return format!("gate{number}");
            }
        }
        address.to_string()
    }

    fn pod(&self, cell: &Cell) -> &Pod {
        match (cell.client, cell.endpoints) {
            ("own", "there") => &self.b,
            ("own", "third") => &self.e,
            ("own", _) => &self.a,
            ("pod", _) => &self.c,
            ("far", _) => &self.d,
            (other, _) => panic!("{other} is no pod"),
        }
    }
}

const VIP_NETS: [&str; 6] = [
    "10.96.0.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "fd00:96::/64",
    "fd00:97::/64",
    "fd00:98::/64",
];

fn servers_of(pod: &Pod) -> Vec<Server> {
    let both = |protocol| {
        [
            pod.serve(protocol, ENDPOINT_PORT),
            pod.serve_v6(protocol, ENDPOINT_PORT),
        ]
    };
    Protocol::ALL.into_iter().flat_map(both).collect()
}

/// The Service with this policy, whose endpoints are there.
fn service(policy: &str, place: &str) -> Value {
    let number = number(policy, place);
    let both = |kind| Family::ALL.map(|family| vip(kind, number, family));
    let ingress = both("LB").map(|ip| json!({"ip": ip}));
    json!({"kind": "Service",
        "metadata": {"name": name(policy, place), "namespace": "default"},
        "spec": {
            "type": "LoadBalancer",
            "clusterIPs": both("ClusterIP"),
            "externalIPs": both("externalIP"),
            "internalTrafficPolicy": policy,
            "externalTrafficPolicy": policy,
            "ports": ports(|port| port["nodePort"] = node_port(number).into()),
        },
        "status": {"loadBalancer": {"ingress": ingress}}})
}

/// One port a protocol.
fn ports(with: impl Fn(&mut Value)) -> Vec<Value> {
    let port = |protocol: Protocol| {
        let name = protocol.to_string().to_lowercase();
        let mut port = json!({"name": name, "protocol": protocol.to_string(), "port": PORT});
        with(&mut port);
        port
    };
    Protocol::ALL.map(port).into()
}

fn name(policy: &str, place: &str) -> String {
    format!("{policy}-{place}").to_lowercase()
}

/// Last part of the Service's addresses, from 1.
fn number(policy: &str, place: &str) -> u8 {
    let index = |all: &[&str], one| all.iter().position(|x| *x == one).expect("a known word");
    let number = index(&POLICIES, policy) * PLACES.len() + index(&PLACES, place) + 1;
    u8::try_from(number).expect("few Services")
}

fn node_port(number: u8) -> u16 {
    30_080 + u16::from(number)
}

fn vip(kind: &str, number: u8, family: Family) -> IpAddr {
    let (four, six) = match kind {
        "ClusterIP" => ([10, 96, 0], 0x96),
        "LB" => ([203, 0, 113], 0x97),
        "externalIP" => ([198, 51, 100], 0x98),
        other => panic!("{other} has no VIP"),
    };
    match family {
        Family::V4 => Ipv4Addr::new(four[0], four[1], four[2], number).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, six, 0, 0, 0, 0, 0, number.into()).into(),
    }
}

fn address_of(pod: &Pod, family: Family) -> IpAddr {
    match family {
        Family::V4 => pod.v4.into(),
        Family::V6 => pod.v6.into(),
    }
}

fn node_address(node: &Node, family: Family) -> IpAddr {
    match family {
        Family::V4 => node.v4().into(),
        Family::V6 => node.v6().into(),
    }
}

/// The address of a node that its pods know.
fn gate(node: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 244, node, 1).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x244, node.into(), 0, 0, 0, 0, 1).into(),
    }
}
