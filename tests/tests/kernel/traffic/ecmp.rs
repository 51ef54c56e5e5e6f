//! Two nodes that a router sends clients to, and one of them dies.

use std::net::IpAddr;

use kube_ipvs_tests::{Client, Namespace, Protocol, Server};

use super::WEB;
use super::site::{PATIENCE, Site};
use super::web::{State, Web};

const CLIENTS: std::ops::Range<u8> = 210..226;
/// No connection waits for it: long enough for a SYN that is sent again.
const LATE: std::time::Duration = std::time::Duration::from_secs(15);
/// Pods of the third node answer to the node that asked them.
const FLAGS: [&str; 2] = [
    "--ipvs-min-sync-period=100ms",
    "--cluster-cidr=10.244.0.0/16",
];

/// Two nodes without pods, three pods on a third one.
struct Pair {
    site: Site,
    second: kube_ipvs_tests::Node,
    _second: kube_ipvs_tests::Daemon,
    pods: [kube_ipvs_tests::Pod; 3],
    _third: kube_ipvs_tests::Node,
    _servers: [Server; 3],
}

impl Pair {
    fn new() -> Self {
        let mut site = Site::new();
        let second = site.small.topology.node();
        let third = site.small.topology.node();
        let pods = ["p1", "p2", "p3"].map(|name| third.pod(name));
        let servers = pods.each_ref().map(|pod| pod.serve(Protocol::Tcp, 8080));
        let addresses = CLIENTS.map(|n| format!("addr add 192.168.50.{n}/24 dev eth0\n"));
        let outside = &site.small.outside.namespace;
        outside.ip(&addresses.collect::<String>());
        site.write(&web(&pods, State::Ready));
        let daemon = site.start_on(&second, "node-2", &FLAGS);
        site.start(&FLAGS);
        let pair = Self {
            site,
            second,
            _second: daemon,
            pods,
            _third: third,
            _servers: servers,
        };
        pair.wait_for("-r 10.244.3.4:8080 -m -w 1");
        pair
    }

    /// Waits until both nodes have it.
    fn wait_for(&self, line: &str) {
        for node in [self.site.node(), &self.second.namespace] {
            kube_ipvs_tests::wait_until(line, PATIENCE, || node.sh("ipvsadm -Sn").contains(line));
        }
    }

    fn route(&self, way: &str) {
        let route = format!("route replace 10.96.0.10/32 {way}\n");
        self.site.small.outside.namespace.ip(&route);
    }

    /// Whom each client meets.
    fn met(&self) -> Vec<String> {
        let outside = &self.site.small.outside.namespace;
        CLIENTS
            .map(|n| call(outside, [192, 168, 50, n].into()))
            .collect()
    }
}

fn web(pods: &[kube_ipvs_tests::Pod; 3], first: State) -> Web {
    let web = Web::new("web", &["10.96.0.10"]).port(Protocol::Tcp, 80, 8080);
    let web = web
        .option("scheduler", "mh")
        .option("scheduler-flags", "no-mh-port");
    let web = web.endpoint_in(pods[0].v4, first);
    web.endpoint(pods[1].v4).endpoint(pods[2].v4)
}

fn call(from: &Namespace, address: IpAddr) -> String {
    let client = Client::within(from).timeout(LATE).address(address);
    client.call(Protocol::Tcp, WEB).who().to_owned()
}

const FIRST: &str = "via 192.168.50.1";
const SECOND: &str = "via 192.168.50.2";
const BOTH: &str = "nexthop via 192.168.50.1 nexthop via 192.168.50.2";

#[test]
fn when_a_node_dies_its_clients_meet_the_same_endpoints_through_the_other() {
    let pair = Pair::new();
    pair.route(BOTH);
    let before = pair.met();
    for name in ["p1", "p2", "p3"] {
        assert!(before.iter().any(|who| who == name), "{before:?}");
    }

    pair.site.node().ip("link set eth0 down\n");
    pair.route(SECOND);

    assert_eq!(pair.met(), before);
}

/// Weight 0 on every node, so that none of them moves the others' clients.
#[test]
fn every_node_drains_an_endpoint_and_they_agree_on_all_clients_but_its_own() {
    let pair = Pair::new();
    pair.route(FIRST);
    let before = pair.met();

    pair.site.write(&web(&pair.pods, State::Leaving));
    pair.wait_for("-r 10.244.3.2:8080 -m -w 0");

    let through_first = pair.met();
    pair.route(SECOND);
    assert_eq!(pair.met(), through_first);
    for (was, is) in before.iter().zip(&through_first) {
        let right = if was == "p1" { is != "p1" } else { is == was };
        assert!(right, "{before:?}, then {through_first:?}");
    }
}
