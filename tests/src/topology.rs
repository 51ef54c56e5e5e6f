//! A small cluster of namespaces.
//!
//! ```text
//!   pod   pod      pod       outside
//!     \   /         |           |
//!     node 1      node 2        |
//!        \__________|___________/     192.168.50.0/24, fd00:50::/64
//! ```
//!
//! Node N is 192.168.50.N and fd00:50::N, its pods are 10.244.N.2.. and
//! fd00:244:N::2.. (written in hexadecimal), and nodes route to each other's
//! pods. Outside machines are 192.168.50.201.. and know no pods.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::command::run_with_input;
use crate::{Namespace, Protocol, Server, require_ipvs};

const FIRST_OUTSIDE: u8 = 201;

/// The network between the nodes.
#[derive(Debug)]
pub struct Topology {
    lan: Namespace,
    nodes: Mutex<Vec<(u8, String)>>,
    outsiders: AtomicU8,
}

/// A machine that runs pods. Its namespace ends with it, and so do the links of
/// its pods: keep it.
#[derive(Debug)]
pub struct Node {
    /// Where it lives.
    pub namespace: Namespace,
    number: u8,
    pods: AtomicU8,
}

/// A pod.
#[derive(Debug)]
pub struct Pod {
    /// Where it lives.
    pub namespace: Namespace,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    name: String,
}

/// A machine on the nodes' network that is no part of the cluster.
#[derive(Debug)]
pub struct Outside {
    /// Where it lives.
    pub namespace: Namespace,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

/// One node with two pods, and one machine outside that routes 10.96.0.0/12
/// and fd00:96::/112 to the node.
#[derive(Debug)]
pub struct Small {
    /// The node.
    pub node: Node,
    /// `p1` and `p2`.
    pub pods: [Pod; 2],
    /// The machine outside.
    pub outside: Outside,
    /// The network; add more to it.
    pub topology: Topology,
}

impl Topology {
    /// An empty network. Fails loudly when the machine cannot run the test.
    #[expect(
        clippy::new_without_default,
        reason = "it makes namespaces, which Default should not"
    )]
    pub fn new() -> Self {
        require_ipvs();
        let lan = Namespace::child("lan");
        ip(lan.name(), "link add br0 type bridge\nlink set br0 up\n");
        Self {
            lan,
            nodes: Mutex::default(),
            outsiders: AtomicU8::new(0),
        }
    }

    /// One node, two pods, one machine outside.
    pub fn small() -> Small {
        let topology = Self::new();
        let node = topology.node();
        let pods = [node.pod("p1"), node.pod("p2")];
        let outside = topology.outside();
        outside.route("10.96.0.0/12", &node);
        outside.route("fd00:96::/112", &node);
        Small {
            node,
            pods,
            outside,
            topology,
        }
    }

    /// One more node, reachable by all others.
    pub fn node(&self) -> Node {
        let mut nodes = self.nodes.lock().expect("no node failed");
        let number = u8::try_from(nodes.len() + 1).expect("a test has few nodes");
        let namespace = Namespace::child(&format!("node{number}"));
        namespace.sysctl("net/ipv4/ip_forward", "1");
        namespace.sysctl("net/ipv6/conf/all/forwarding", "1");
        self.plug(&namespace, number);
        for (other, name) in nodes.iter() {
            ip(namespace.name(), &routes_to(*other));
            ip(name, &routes_to(number));
        }
        nodes.push((number, namespace.name().to_owned()));
        Node {
            namespace,
            number,
            pods: AtomicU8::new(0),
        }
    }

    /// One more machine outside.
    pub fn outside(&self) -> Outside {
        let number = FIRST_OUTSIDE + self.outsiders.fetch_add(1, Ordering::Relaxed);
        let namespace = Namespace::child("outside");
        self.plug(&namespace, number);
        Outside {
            namespace,
            v4: lan_v4(number),
            v6: lan_v6(number),
        }
    }

    /// Gives `namespace` an `eth0` on the network.
    fn plug(&self, namespace: &Namespace, number: u8) {
        let lan = self.lan.name();
        ip(
            namespace.name(),
            &format!(
                "link add eth0 type veth peer name port{number} netns {lan}\n\
                 link set eth0 up\n\
                 addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\n",
                lan_v4(number),
                lan_v6(number)
            ),
        );
        ip(
            self.lan.name(),
            &format!("link set port{number} master br0 up\n"),
        );
    }
}

impl Node {
    /// Its IPv4 address.
    pub fn v4(&self) -> Ipv4Addr {
        lan_v4(self.number)
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> Ipv6Addr {
        lan_v6(self.number)
    }

    /// The addresses its pods come from: IPv4 and IPv6.
    pub fn pod_cidrs(&self) -> [String; 2] {
        [
            format!("10.244.{}.0/24", self.number),
            format!("fd00:244:{:x}::/64", self.number),
        ]
    }

    /// One more pod, called `name`; servers in it answer by that name.
    pub fn pod(&self, name: &str) -> Pod {
        let index = self.pods.fetch_add(1, Ordering::Relaxed) + 1;
        let [v4, gateway_v4] = [index + 1, 1].map(|n| Ipv4Addr::new(10, 244, self.number, n));
        let [v6, gateway_v6] = [index + 1, 1]
            .map(|n| Ipv6Addr::new(0xfd00, 0x244, self.number.into(), 0, 0, 0, 0, n.into()));
        let namespace = Namespace::child(name);
        let node = self.namespace.name();
        ip(
            namespace.name(),
            &format!(
                "link add eth0 type veth peer name pod{index} netns {node}\n\
                 link set eth0 up\naddr add {v4}/32 dev eth0\naddr add {v6}/128 dev eth0 nodad\n\
                 route add {gateway_v4} dev eth0\nroute add default via {gateway_v4}\n\
                 -6 route add {gateway_v6} dev eth0\n-6 route add default via {gateway_v6} dev eth0\n"
            ),
        );
        // One route a pod, as network plugins do: its veth holds no subnet, and
        // pods of one node reach each other by it.
        ip(
            self.namespace.name(),
            &format!(
                "link set pod{index} up\n\
                 addr add {gateway_v4}/32 dev pod{index}\naddr add {gateway_v6}/128 dev pod{index} nodad\n\
                 route add {v4}/32 dev pod{index}\n-6 route add {v6}/128 dev pod{index}\n"
            ),
        );
        Pod {
            namespace,
            v4,
            v6,
            name: name.to_owned(),
        }
    }
}

impl Pod {
    /// A server on `port` of its IPv4 address.
    pub fn serve(&self, protocol: Protocol, port: u16) -> Server {
        self.serve_at(protocol, self.v4.into(), port)
    }

    /// A server on `port` of its IPv6 address.
    pub fn serve_v6(&self, protocol: Protocol, port: u16) -> Server {
        self.serve_at(protocol, self.v6.into(), port)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn serve_at(&self, protocol: Protocol, address: IpAddr, port: u16) -> Server {
        let address = std::net::SocketAddr::new(address, port).to_string();
        Server::start(&self.namespace, &self.name, protocol, &address)
    }
}

impl Outside {
    /// Sends what is for `cidr` to `node`.
    pub fn route(&self, cidr: &str, node: &Node) {
        let via: IpAddr = if cidr.contains(':') {
            node.v6().into()
        } else {
            node.v4().into()
        };
        ip(
            self.namespace.name(),
            &format!("route replace {cidr} via {via}\n"),
        );
    }
}

/// Runs several `ip` commands inside `namespace`.
fn ip(namespace: &str, batch: &str) {
    // Lines for one family (`-6`) are commands of their own.
    let (six, both): (Vec<&str>, Vec<&str>) = batch.lines().partition(|l| l.starts_with("-6 "));
    run_with_input("ip", ["-n", namespace, "-batch", "-"], &both.join("\n"));
    if !six.is_empty() {
        let six = six.join("\n").replace("-6 ", "");
        run_with_input("ip", ["-6", "-n", namespace, "-batch", "-"], &six);
    }
}

fn routes_to(number: u8) -> String {
    format!(
        "route add 10.244.{number}.0/24 via {}\n-6 route add fd00:244:{number:x}::/64 via {}\n",
        lan_v4(number),
        lan_v6(number)
    )
}

fn lan_v4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 50, number)
}

fn lan_v6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x50, 0, 0, 0, 0, 0, number.into())
}
