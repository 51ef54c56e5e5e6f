//! Two nodes on one API server, and Services that claim what is not theirs.

use std::net::IpAddr;
use std::time::Duration;

use kube_ipvs_tests::apiserver::{endpoint_slice, service};
use kube_ipvs_tests::{
    Client, Daemon, Namespace, Node, Outside, Pod, Protocol, Server, Topology, Verdict, wait_until,
};
use serde_json::json;

use super::api::{Api, wait_for};
use crate::traffic::site::PATIENCE;

/// A busy machine answers late; nobody waits it out.
const LATE: Duration = Duration::from_secs(15);
/// Any address may be claimed.
const ANY: &str = "--allow-external-ips=0.0.0.0/0";

/// Two nodes that send what they do not know to a gateway; a pod on each.
struct Pair {
    api: Api,
    // Before the nodes: the programs end first.
    daemons: [Daemon; 2],
    pods: [Pod; 2],
    nodes: [Node; 2],
    gateway: Outside,
    outside: Outside,
    _servers: [Server; 2],
    _topology: Topology,
}

impl Pair {
    fn new() -> Self {
        let topology = Topology::new();
        let nodes = [topology.node(), topology.node()];
        let pods = [nodes[0].pod("p1"), nodes[1].pod("p2")];
        let gateway = topology.outside();
        for node in &nodes {
            let route = format!("route add default via {}\n", gateway.v4);
            node.namespace.ip(&route);
        }
        let api = Api::on(&nodes[0]);
        let names = ["node-1", "node-2"];
        for (name, node) in names.iter().zip(&nodes) {
            api.register(name, node);
        }
        api.web(&[(&pods[0].v4.to_string(), names[0])]);
        let daemons = [0, 1].map(|n: usize| api.start_with(names[n], &nodes[n], &[ANY]));
        let mut pair = Self {
            _servers: [0, 1].map(|n: usize| pods[n].serve(Protocol::Tcp, 8080)),
            outside: topology.outside(),
            api,
            daemons,
            pods,
            nodes,
            gateway,
            _topology: topology,
        };
        pair.wait_for("10.96.0.10");
        pair
    }

    /// Waits until a VIP is bound on both nodes.
    fn wait_for(&mut self, vip: &str) {
        for (node, daemon) in self.nodes.iter().zip(&mut self.daemons) {
            wait_for(node, daemon, vip);
        }
    }

    /// A Service with these addresses over one of the pods.
    fn serve(&self, name: &str, vip: &str, external: &[String], pod: usize, made: &str) {
        let mut object = service("default", name, vip);
        object["spec"]["externalIPs"] = json!(external);
        object["metadata"]["creationTimestamp"] = json!(made);
        self.api.server.upsert(object);
        let node = ["node-1", "node-2"][pod];
        let endpoint = self.pods[pod].v4.to_string();
        let slice = endpoint_slice("default", name, &format!("{name}-1"), &[(&endpoint, node)]);
        self.api.server.upsert(slice);
    }
}

fn ways(from: &Namespace, to: impl Into<IpAddr>, port: u16) -> (bool, Verdict) {
    let to = to.into();
    let client = Client::within(from).timeout(LATE);
    let call = client.call(Protocol::Tcp, &format!("{to}:{port}"));
    (client.pings(to), call)
}

#[test]
fn a_service_that_claims_a_node_the_api_server_and_the_gateway_cuts_nobody_off() {
    let mut pair = Pair::new();
    let [one, two] = [0, 1].map(|n: usize| pair.nodes[n].v4());
    let gate = pair.gateway.v4;
    let ssh = |name, namespace| Server::start(namespace, name, Protocol::Tcp, "0.0.0.0:22");
    let _ssh = [
        ssh("one", &pair.nodes[0].namespace),
        ssh("two", &pair.nodes[1].namespace),
        ssh("gate", &pair.gateway.namespace),
    ];

    let claimed = [one, two, gate].map(|address| address.to_string());
    pair.serve("claims", "10.96.0.20", &claimed, 0, "2026-01-01T00:00:00Z");
    pair.wait_for("10.96.0.20");

    for node in &pair.nodes {
        let link = node.namespace.sh("ip address show dev kube-ipvs0");
        let bound = |address: &String| link.contains(&format!(" {address}/"));
        assert!(!claimed.iter().any(bound), "{link}");
    }
    let spaces = [
        ("the first", &pair.nodes[0].namespace),
        ("the second", &pair.nodes[1].namespace),
        ("a pod", &pair.pods[0].namespace),
        ("outside", &pair.outside.namespace),
    ];
    for (who, from) in spaces {
        for (to, name) in [(one, "one"), (two, "two")] {
            let (pinged, answered) = ways(from, to, 22);
            assert!(pinged, "{who} to {to}");
            assert_eq!(answered.who(), name, "{who} to {to}");
            // Where the address is: IPVS serves it.
            let client = Client::within(from).timeout(LATE);
            let served = client.call(Protocol::Tcp, &format!("{to}:80"));
            assert_eq!(served.who(), "p1", "{who} to {to}");
        }
    }
    for (who, from) in &spaces[..2] {
        let (pinged, answered) = ways(from, gate, 22);
        assert!(pinged, "{who} to the gateway");
        assert_eq!(answered.who(), "gate", "{who}");
        let (_, not_taken) = ways(from, gate, 80);
        assert_eq!(not_taken, Verdict::Refused, "{who}");
    }
    // By the API server's address, which is the first node's.
    pair.serve("last", "10.96.0.30", &[], 1, "2026-01-01T00:00:00Z");
    pair.wait_for("10.96.0.30");
}

#[test]
fn of_two_services_with_one_front_every_node_serves_the_elder_through_restarts() {
    const OLD: &str = "2026-01-01T00:00:00Z";
    const YOUNG: &str = "2026-01-02T00:00:00Z";
    let address = ["198.51.100.7".to_owned()];
    let mut pair = Pair::new();
    // The younger one is there first.
    pair.serve("a-younger", "10.96.0.21", &address, 1, YOUNG);
    pair.wait_for("198.51.100.7");
    // Whom each node's first and second call met, or what came of it.
    let served = |pair: &Pair| {
        let call = |node: &Node| {
            let client = Client::within(&node.namespace).timeout(LATE);
            [0, 1].map(|_| client.call(Protocol::Tcp, "198.51.100.7:80").name())
        };
        pair.nodes.each_ref().map(call).concat()
    };
    assert_eq!(served(&pair), ["p2"; 4]);

    pair.serve("elder", "10.96.0.22", &address, 0, OLD);
    wait_until("the elder has it", PATIENCE, || served(&pair) == ["p1"; 4]);

    for round in 0..2 {
        pair.serve("a-younger", "10.96.0.21", &address, 1, YOUNG);
        let name = ["node-1", "node-2"][round];
        pair.daemons[round].kill();
        pair.daemons[round] = pair.api.start_with(name, &pair.nodes[round], &[ANY]);
        pair.serve("elder", "10.96.0.22", &address, 0, OLD);
        let after = format!("10.96.0.{}", 40 + round);
        pair.serve("after", &after, &[], 0, OLD);
        pair.wait_for(&after);
        assert_eq!(served(&pair), ["p1"; 4], "after a restart of {name}");
    }

    pair.api.server.delete("Service", "default", "elder");
    wait_until("the younger one has it", PATIENCE, || {
        served(&pair) == ["p2"; 4]
    });
}
