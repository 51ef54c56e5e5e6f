//! What keeps a Service or a node from serving, and what `kube-ipvs explain` and
//! `kube-ipvs status` say of it, alone: the right reason, and nothing untrue.

mod api;
mod rollout;

use std::process::Stdio;
use std::time::Duration;

use kube_ipvs_tests::apiserver::{endpoint_slice, service};
use kube_ipvs_tests::ways::{self, Ask, Way};
use kube_ipvs_tests::{Daemon, Namespace, Small, Topology, kube_ipvs, wait_for};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::manifests::Manifests;

const SOON: Duration = Duration::from_secs(120);
const WELL: &str = "  state         well\n";
/// So that nothing is put back before it is looked at.
const SLOW: [&str; 1] = ["--ipvs-sync-period=24h"];

/// What a command says, on both streams, and its exit code.
pub(crate) fn said(node: &Namespace, arguments: &[&str]) -> (i32, String) {
    let mut command = kube_ipvs(node, arguments);
    let output = command.stdin(Stdio::null()).output().expect("start it");
    let text = [output.stdout, output.stderr].concat();
    let code = output.status.code().expect("it ends by itself");
    (code, String::from_utf8_lossy(&text).into_owned())
}

/// `status` until it says so, with its exit code; panics with the last page.
#[track_caller]
fn status_says(node: &Namespace, code: i32, words: &str) -> String {
    let page = wait_for(SOON, || {
        let (ended, page) = said(node, &["status"]);
        if ended == code && page.contains(words) {
            Ok(page)
        } else {
            Err((ended, page))
        }
    });
    page.unwrap_or_else(|(ended, page)| panic!("no {words:?} with {code} but {ended}:\n{page}"))
}

fn with(mut object: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut object);
    object
}

/// A Service with a slice whose endpoint has these conditions.
fn with_endpoint(name: &str, ip: &str, at: &str, node: &str, conditions: Value) -> [Value; 2] {
    let mut slice = endpoint_slice("default", name, &format!("{name}-1"), &[(at, node)]);
    slice["endpoints"][0]["conditions"] = conditions;
    [service("default", name, ip), slice]
}

/// A way of which only `status` can tell: until it does, with its exit code.
#[track_caller]
fn found(node: &Namespace, code: i32, way: Way) -> String {
    assert!(matches!(way.ask, Ask::Status), "{way:?}");
    let page = status_says(node, code, way.answer);
    way.check(&page);
    page
}

/// Asks, and holds the answer against what should be said.
#[track_caller]
fn asked(node: &Namespace, way: Way) {
    let (_, text) = said(node, &way.ask.arguments());
    way.check(&text);
}

/// Services of which each is not served for another reason, and some that are.
fn services() -> Vec<Value> {
    let ready = || json!({"ready": true, "serving": true, "terminating": false});
    let not_ready = json!({"ready": false, "serving": false, "terminating": false});
    let label = "service.kubernetes.io/service-proxy-name";
    let shared = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.9"}]}});
    let balanced = |name: &str, ip: &str, created: &str| {
        with(service("default", name, ip), |service| {
            service["metadata"]["creationTimestamp"] = json!(created);
            service["spec"]["type"] = json!("LoadBalancer");
            service["status"] = shared.clone();
        })
    };
    let mut all = vec![
        with(service("default", "headless", "None"), |_| ()),
        with(service("default", "alias", ""), |service| {
            service["spec"] = json!({"type": "ExternalName", "externalName": "example.com"});
        }),
        with(service("default", "theirs", "10.96.1.1"), |service| {
            service["metadata"]["labels"] = json!({label: "cilium"});
        }),
        with(service("default", "nobodys", "10.96.1.2"), |service| {
            service["metadata"]["labels"] = json!({label: ""});
        }),
        service("default", "empty", "10.96.1.3"),
        with(service("default", "portless", "10.96.1.4"), |service| {
            service["spec"]["ports"] = json!([]);
        }),
        balanced("first", "10.96.1.5", "2026-01-01T00:00:00Z"),
        balanced("second", "10.96.1.6", "2026-02-01T00:00:00Z"),
        with(service("default", "external", "10.96.1.7"), |service| {
            service["spec"]["externalIPs"] = json!(["198.51.100.7"]);
        }),
    ];
    all.extend(with_endpoint(
        "unready",
        "10.96.1.8",
        "10.244.9.1",
        "node-2",
        not_ready,
    ));
    let [mut local, slice] = with_endpoint("local", "10.96.1.9", "10.244.9.2", "node-2", ready());
    local["spec"]["internalTrafficPolicy"] = json!("Local");
    all.extend([local, slice]);
    let [dual, slice] = with_endpoint("dual", "10.96.1.10", "10.244.9.3", "node-2", ready());
    let dual = with(dual, |service| {
        service["spec"]["clusterIPs"] = json!(["10.96.1.10", "fd00:96::10"]);
        service["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"]);
        service["spec"]["ipFamilyPolicy"] = json!("PreferDualStack");
    });
    all.extend([dual, slice]);
    let [hinted, mut slice] =
        with_endpoint("hinted", "10.96.1.11", "10.244.9.4", "node-2", ready());
    slice["endpoints"][0]["hints"] = json!({"forZones": [{"name": "elsewhere"}]});
    all.extend([hinted, slice]);
    all.extend(balanced_services());
    all
}

/// Those whose load balancer's address is the matter.
fn balanced_services() -> impl Iterator<Item = Value> {
    let balanced = [
        ("outer", "10.96.1.20", "198.51.100.20"),
        ("ranged", "10.96.1.21", "198.51.100.21"),
        ("nets", "10.96.1.22", "198.51.100.22"),
        ("grabs", "10.96.1.23", "10.244.9.4"),
    ];
    let ready = || json!({"ready": true, "serving": true, "terminating": false});
    balanced.into_iter().flat_map(move |(name, ip, ingress)| {
        let [service, slice] = with_endpoint(name, ip, "10.244.9.5", "node-2", ready());
        let service = with(service, |service| {
            service["spec"]["type"] = json!("LoadBalancer");
            service["status"] = json!({"loadBalancer": {"ingress": [{"ip": ingress}]}});
            match name {
                "outer" => service["spec"]["externalTrafficPolicy"] = json!("Local"),
                "ranged" => {
                    service["spec"]["loadBalancerSourceRanges"] = json!(["203.0.113.0/24"]);
                }
                "nets" => service["spec"]["loadBalancerSourceRanges"] = json!(["nonsense"]),
                _ => {}
            }
        });
        [service, slice]
    })
}

/// One whose endpoint no kernel takes: the broadcast address of the node's network.
fn refused() -> [Value; 2] {
    let ready = json!({"ready": true, "serving": true, "terminating": false});
    with_endpoint("refused", "10.96.1.24", "192.168.50.255", "node-2", ready)
}

fn started(small: &Small, manifests: &Manifests, more: &[&str]) -> Daemon {
    let mut daemon = Daemon::start(&small.node.namespace, manifests.run(more));
    daemon.wait_for_log("synced", SOON);
    daemon
}

#[test]
fn each_service_that_is_not_served_is_told_why_by_explain() {
    let small = Topology::small();
    let node = &small.node.namespace;
    let objects = [services(), refused().into()].concat();
    let manifests = Manifests::of(&objects);
    let _daemon = started(&small, &manifests, &SLOW);

    for way in ways::SERVICES {
        asked(node, way);
    }
    let page = status_says(node, 1, "the kernel refuses 1 thing of Services");
    assert!(page.contains(" (EINVAL)"), "{page}");
    assert!(
        page.contains("  source        up to date: 18 Services, 9 EndpointSlices\n"),
        "{page}"
    );
}

#[test]
fn a_daemon_that_is_hindered_is_told_of_by_status() {
    let small = Topology::small();
    let node = &small.node.namespace;
    let manifests = Manifests::of(&services());
    found(node, 1, ways::NOTHING_LEFT);

    let mut daemon = started(&small, &manifests, &SLOW);
    status_says(node, 0, WELL);
    manifests.write("broken.yaml", "kind: [");
    let page = found(node, 1, ways::MANIFEST);
    assert!(page.contains("broken.yaml"), "{page}");
    let (_, text) = said(node, &["explain", "default/empty"]);
    assert!(
        text.contains("from outside  refused: the port has no endpoints"),
        "{text}"
    );
    manifests.remove("broken.yaml");
    status_says(node, 0, WELL);

    // A loop that hangs, and with it the whole program.
    daemon.signal(Signal::SIGSTOP);
    found(node, 1, ways::HUNG);
    let (_, text) = said(node, &["explain", "default/hinted"]);
    assert!(
        text.contains("note: not judged: what the kube-ipvs that runs here knows"),
        "{text}"
    );
    asked(node, ways::HUNG_SERVICE);
    daemon.signal(Signal::SIGCONT);
    status_says(node, 0, WELL);

    for (script, way) in ways::NODE {
        node.sh(&format!("set -e\n{script}"));
        found(node, 1, way);
    }

    daemon.kill();
    let page = found(node, 1, ways::NO_DAEMON);
    assert!(page.contains("0 are in IPVS"), "{page}");
}

/// What it left serves on.
#[test]
fn a_daemon_that_is_gone_is_told_of_and_nothing_of_the_cluster() {
    let small = Topology::small();
    let node = &small.node.namespace;
    let mut daemon = started(&small, &Manifests::of(&services()), &SLOW);

    daemon.kill();

    for way in [
        ways::NO_DAEMON_SERVICE,
        ways::NO_DAEMON_REFUSED,
        ways::NO_DAEMON_UNKNOWN,
        ways::ELSEWHERE,
    ] {
        asked(node, way);
    }
}

/// As CNI's portmap takes ports of the host for a pod: on every local address.
const PORTMAP: &str = "nft add table ip host-ports
    nft add chain ip host-ports prerouting '{ type nat hook prerouting priority dstnat; }'
    nft add rule ip host-ports prerouting fib daddr type local tcp dport 30081 dnat to 10.244.1.3:9000
    nft add rule ip host-ports prerouting fib daddr type local tcp dport 80 dnat to 10.244.1.3:9001";

#[test]
fn a_port_of_a_pod_on_the_host_is_told_of_where_it_goes_before_us() {
    let small = Topology::small();
    let node = &small.node.namespace;
    let on_nodes = |object: Value| {
        let is_it = object["kind"] == "Service" && object["metadata"]["name"] == "hinted";
        with(object, |service| {
            if is_it {
                service["spec"]["type"] = json!("NodePort");
                service["spec"]["ports"][0]["nodePort"] = json!(30_081);
            }
        })
    };
    let objects: Vec<Value> = services().into_iter().map(on_nodes).collect();
    let manifests = Manifests::of(&objects);
    let _daemon = started(&small, &manifests, &SLOW);
    let Ask::Front(port) = ways::HOST_PORT.ask else {
        panic!("{:?}", ways::HOST_PORT);
    };
    let (_, text) = said(node, &["explain", port]);
    assert!(
        text.contains("from outside  served by 1 real server"),
        "{text}"
    );
    assert!(!text.contains("another destination"), "{text}");

    node.sh(&format!("set -e\n{PORTMAP}"));

    asked(node, ways::HOST_PORT);
    // The Service's ClusterIP alone: its node port is none of this.
    asked(node, ways::HOST_PORT_OF_VIP);
    asked(node, ways::LOCALHOST);
}

#[test]
fn somebody_who_undoes_what_is_ours_is_counted_by_status() {
    let small = Topology::small();
    let node = &small.node.namespace;
    let manifests = Manifests::of(&services());
    let _daemon = started(&small, &manifests, &["--ipvs-sync-period=1s"]);
    status_says(node, 0, "  drift         none in the last hour\n");

    node.sh("ipvsadm -C");

    let page = found(node, 0, ways::UNDONE);
    assert!(page.contains("add-virtual-server "), "{page}");
}
