//! What keeps a Service or a node from serving, and what `kube-ipvs explain` and
//! `kube-ipvs status` say of it, alone: the right reason, and nothing untrue.

use std::process::Stdio;
use std::time::Duration;

use kube_ipvs_tests::apiserver::{endpoint_slice, service};
use kube_ipvs_tests::{Daemon, Namespace, Small, Topology, kube_ipvs, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::manifests::Manifests;

const SOON: Duration = Duration::from_secs(120);
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
    let mut last = (0, String::new());
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_until(words, SOON, || {
            last = said(node, &["status"]);
            last.0 == code && last.1.contains(words)
        });
    }));
    assert!(
        found.is_ok(),
        "no {words:?} with {code} but {}:\n{}",
        last.0,
        last.1
    );
    last.1
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

/// Services of which each is not served for another reason, and two that are.
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
    all
}

/// What is asked about, what is said, and what is said nowhere in the answer.
const REASONS: [(&str, &str, &[&str]); 15] = [
    (
        "default/headless",
        "it is headless (clusterIP: None)",
        &["from outside", "served by"],
    ),
    (
        "default/alias",
        "it is of type ExternalName",
        &["from outside", "served by"],
    ),
    (
        "default/theirs",
        "gives it to another proxy: cilium",
        &["served by", "no endpoints"],
    ),
    (
        "default/nobodys",
        "is there with an empty value",
        &["served by", "no endpoints"],
    ),
    (
        "default/empty",
        "from outside  refused: the port has no endpoints",
        &["served by", "host's own"],
    ),
    (
        "default/portless",
        "it has no port: nothing",
        &["served by", "no endpoints"],
    ),
    (
        "default/second",
        "lost          198.51.100.9:80/TCP to default/first",
        &[],
    ),
    (
        "default/first",
        "198.51.100.9:80/TCP  default/first",
        &["lost"],
    ),
    (
        "default/external",
        "warning       ",
        &["198.51.100.7:80/TCP  default"],
    ),
    (
        "default/unready",
        "refused: none of the port's 1 endpoint is ready",
        &["served by", "no endpoints"],
    ),
    (
        "default/local",
        "refused: the policy is Local, and of the port's 1 ready endpoint none is on this node",
        &["served by"],
    ),
    (
        "default/dual",
        "from outside  refused: the port has no endpoints of IPv6, only of IPv4",
        &["the port has no endpoints\n"],
    ),
    // Hints that exclude all are no hints.
    (
        "default/hinted",
        "from outside  served by 1 real server",
        &["refused"],
    ),
    (
        "default/hintet",
        "there is no Service default/hintet; there is default/hinted",
        &["from outside"],
    ),
    (
        "default/empty:81",
        "Service default/empty has no port 81; it has 80/TCP",
        &["from outside"],
    ),
];

fn started(small: &Small, manifests: &Manifests, more: &[&str]) -> Daemon {
    let mut daemon = Daemon::start(&small.node.namespace, manifests.run(more));
    daemon.wait_for_log("synced", SOON);
    daemon
}

#[test]
fn each_service_that_is_not_served_is_told_why_by_explain() {
    let small = Topology::small();
    let node = &small.node.namespace;
    let manifests = Manifests::of(&services());
    let _daemon = started(&small, &manifests, &SLOW);

    for (target, says, never) in REASONS {
        let (_, text) = said(node, &["explain", target]);
        assert!(text.contains(says), "{target}: no {says:?} in\n{text}");
        for never in never {
            assert!(!text.contains(never), "{target}: {never:?} in\n{text}");
        }
    }
    let page = status_says(node, 0, "  state         well\n");
    assert!(
        page.contains("  source        up to date: 13 Services, 4 EndpointSlices\n"),
        "{page}"
    );
}

/// What is done to a node whose daemon runs, and what `status` says then. Each
/// undoes the one before it.
const HINDRANCES: [(&str, &str); 4] = [
    (
        "nft add table ip fw
         nft add chain ip fw in '{ type filter hook input priority 0; policy drop; }'",
        "nft table ip fw, chain in (hook input, priority 0): policy drop: Service traffic may not pass",
    ),
    (
        "nft delete table ip fw
         sysctl -qw net.ipv4.ip_forward=0",
        "net.ipv4.ip_forward is 0: answers of endpoints are not forwarded",
    ),
    (
        "sysctl -qw net.ipv4.ip_forward=1
         nft delete table ip kube-ipvs",
        "rows in our nftables table of Services, and kube-ipvs left ",
    ),
    (
        "ipvsadm -C",
        "the kernel holds 0 virtual servers of Services, and kube-ipvs left ",
    ),
];

const EXPLICIT: &str = "nft add table ip other
    nft add chain ip other in '{ type filter hook input priority 0; }'
    nft add rule ip other in ip daddr 10.96.0.0/12 tcp dport 80 drop";

#[test]
fn a_daemon_that_is_hindered_is_told_of_by_status() {
    let small = Topology::small();
    let node = &small.node.namespace;
    let manifests = Manifests::of(&services());
    let (code, text) = said(node, &["status"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("no kube-ipvs runs here"), "{text}");

    let mut daemon = started(&small, &manifests, &SLOW);
    status_says(node, 0, "  state         well\n");
    manifests.write("broken.yaml", "kind: [");
    let page = status_says(node, 1, "not ready: manifests: ");
    assert!(page.contains("broken.yaml"), "{page}");
    let (_, text) = said(node, &["explain", "default/empty"]);
    assert!(
        text.contains("from outside  refused: the port has no endpoints"),
        "{text}"
    );
    manifests.remove("broken.yaml");
    status_says(node, 0, "  state         well\n");

    // A loop that hangs, and with it the whole program.
    daemon.signal(Signal::SIGSTOP);
    status_says(
        node,
        1,
        "cannot be asked: ask the kube-ipvs at /run/kube-ipvs/answers.sock: no answer within 10 s",
    );
    let (_, text) = said(node, &["explain", "default/hinted"]);
    assert!(
        text.contains("note: not judged: what the kube-ipvs that runs here knows"),
        "{text}"
    );
    let (_, text) = said(node, &["explain", "default/empty"]);
    assert!(
        text.contains("only the kube-ipvs that runs here could tell, and it does not answer"),
        "{text}"
    );
    assert!(!text.contains("no endpoints"), "{text}");
    daemon.signal(Signal::SIGCONT);
    status_says(node, 0, "  state         well\n");

    // Rules that drop some cannot be judged: said, and no verdict.
    node.sh(EXPLICIT);
    let (_, text) = said(node, &["explain", "default/hinted"]);
    assert!(text.contains("note: not judged: whether Service traffic is among what it drops: nft table ip other, chain in (hook input) drops or refuses some packets, by 1 rule"), "{text}");
    status_says(
        node,
        0,
        "  note          not judged: whether Service traffic",
    );

    for (hindrance, says) in HINDRANCES {
        node.sh(&format!("set -e\n{hindrance}"));
        let page = status_says(node, 1, says);
        assert!(
            !page.contains("no kube-ipvs runs"),
            "after {hindrance}:\n{page}"
        );
    }

    daemon.kill();
    let page = status_says(node, 1, "no kube-ipvs runs here");
    assert!(page.contains("0 are in IPVS"), "{page}");
}

#[test]
fn somebody_who_undoes_what_is_ours_is_counted_by_status() {
    let small = Topology::small();
    let node = &small.node.namespace;
    let manifests = Manifests::of(&services());
    let _daemon = started(&small, &manifests, &["--ipvs-sync-period=1s"]);
    status_says(node, 0, "  drift         none in the last hour\n");

    node.sh("ipvsadm -C");

    let page = status_says(node, 0, "  drift         put back in the last hour: ");
    assert!(page.contains("add-virtual-server "), "{page}");
}
