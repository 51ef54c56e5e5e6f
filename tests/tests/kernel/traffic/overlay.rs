//! Pods on one bridge, and endpoints behind a tunnel.

use std::path::Path;
use std::process::Command;

use kube_ipvs_tests::{Client, Namespace, Node, Protocol, Server, Verdict, run, wait_until};

use super::WEB;
use super::site::{HEALTH, PATIENCE, Site};
use super::web::Web;

/// `br_netfilter` while a test runs: for bridges of other tests it is not there.
struct BridgeFilter {
    was_there: bool,
}

impl BridgeFilter {
    fn load() -> Self {
        let was_there = Path::new("/sys/module/br_netfilter").exists();
        run("modprobe", ["br_netfilter"]);
        Self { was_there }
    }
}

impl Drop for BridgeFilter {
    fn drop(&mut self) {
        if !self.was_there {
            // The test may have failed already.
            let _ = Command::new("modprobe")
                .args(["-r", "br_netfilter"])
                .status();
        }
    }
}

/// A pod on the bridge `cbr0` of a node.
fn pod_on_bridge(node: &Namespace, name: &str, address: &str) -> Namespace {
    let pod = Namespace::child(name);
    node.ip(&format!(
        "link add {name} type veth peer name eth0 netns {}\nlink set {name} master cbr0 up\n",
        pod.name()
    ));
    pod.ip(&format!(
        "link set eth0 up\naddr add {address}/24 dev eth0\nroute add default via 10.244.7.1\n"
    ));
    pod
}

/// Two pods on a bridge of the node.
fn pods_on_bridge(node: &Namespace) -> [Namespace; 2] {
    node.ip("link add cbr0 type bridge\nlink set cbr0 up\naddr add 10.244.7.1/24 dev cbr0\n");
    [("q1", "10.244.7.2"), ("q2", "10.244.7.3")]
        .map(|(name, address)| pod_on_bridge(node, name, address))
}

const FILTERED: &str = "net/bridge/bridge-nf-call-iptables";

/// What goes from pod to pod on a bridge passes no hook of IP, so an answer
/// would go back past IPVS, unless the bridge is told to ask them.
#[test]
fn pods_on_one_bridge_reach_each_other_where_the_bridge_is_filtered() {
    let _filter = BridgeFilter::load();
    let mut site = Site::new();
    let [client, server] = pods_on_bridge(site.node());
    let _server = Server::start(&server, "q2", Protocol::Tcp, "10.244.7.3:8080");
    let web = Web::over(&[]).endpoint([10, 244, 7, 3]);
    site.write(&web);
    site.start(&["--cluster-cidr=10.244.0.0/16"]);
    let call = || Client::within(&client).call(Protocol::Tcp, WEB);
    site.node().sysctl(FILTERED, "0");
    let verdict = call();
    assert!(!matches!(verdict, Verdict::Answered { .. }), "{verdict:?}");

    site.node().sysctl(FILTERED, "1");
    for _ in 0..2 {
        let verdict = call();
        assert_eq!(verdict.who(), "q2");
        assert_eq!(verdict.saw().to_string(), "10.244.7.2");
    }
}

/// Nobody else would say why these pods fail.
#[test]
fn a_node_whose_pods_a_bridge_cuts_off_is_not_ready_until_it_is_filtered() {
    let _filter = BridgeFilter::load();
    let mut site = Site::new();
    let _pods = pods_on_bridge(site.node());
    site.node().sysctl(FILTERED, "0");
    // The bridge between the nodes' namespaces is not this node's.
    site.write(&Web::over(&site.small.pods));
    site.start(&["--ipvs-min-sync-period=100ms", "--ipvs-sync-period=1s"]);
    assert_eq!(
        site.get(HEALTH, "/readyz").0,
        200,
        "no endpoint on a bridge"
    );

    site.write(&Web::over(&[]).endpoint([10, 244, 7, 3]));
    wait_until("the node is not ready", PATIENCE, || {
        let (code, why) = site.get(HEALTH, "/readyz");
        let told = ["bridge cbr0", "10.244.7.3", "modprobe br_netfilter"];
        code == 503 && told.iter().all(|word| why.contains(word))
    });
    site.daemon().wait_for_log("bridge cbr0", PATIENCE);

    site.node().sysctl(FILTERED, "1");
    site.wait_until_ready();
}

/// The near end of a tunnel between two nodes; its address is `inner`.
fn tunnel(node: &Node, other: &Node, inner: &str) {
    node.namespace.ip(&format!(
        "link add vx0 type vxlan id 7 dstport 4789 local {} remote {} dev eth0\n\
         link set vx0 up\naddr add {inner}/24 dev vx0\n",
        node.v4(),
        other.v4()
    ));
}

/// A packet of a tunnel inherits the mark of what it carries. Masqueraded for
/// that, it had another source port and a wrong checksum, was lost, and was
/// sent again a second later.
#[test]
fn what_a_host_sends_through_a_tunnel_is_translated_inside_alone() {
    let mut site = Site::new();
    let far = site.small.topology.node();
    tunnel(&site.small.node, &far, "10.250.0.1");
    tunnel(&far, &site.small.node, "10.250.0.2");
    let _server = Server::start(&far.namespace, "far", Protocol::Tcp, "10.250.0.2:8080");
    site.write(&Web::over(&[]).endpoint([10, 250, 0, 2]));
    site.start(&["--masquerade-all"]);

    for client in [site.host(), site.pod(), site.outside()] {
        let verdict = client.call(Protocol::Tcp, WEB);
        assert_eq!(verdict.who(), "far");
        assert_eq!(verdict.saw().to_string(), "10.250.0.1");
    }

    let outer = site
        .node()
        .sh("conntrack -L -p udp --orig-port-dst 4789 2>/dev/null");
    assert!(outer.contains("dport=4789"), "{outer}");
    for entry in outer.lines() {
        let ports = |name: &str| -> Vec<String> {
            let fields = entry.split_whitespace();
            fields
                .filter_map(|field| field.strip_prefix(name))
                .map(str::to_owned)
                .collect()
        };
        // To where an answer would come: where it was sent from.
        assert_eq!(ports("sport=")[0], ports("dport=")[1], "{entry}");
    }
}
