//! What a sync would change, asked of the API server.

use kube_ipvs_tests::apiserver::role;
use kube_ipvs_tests::{Daemon, Node, Topology, kube_ipvs, run, wait_until};
use serde_json::Value;

use super::api::{Api, table, wait_for_vip};
use crate::traffic::site::PATIENCE;

/// The exit code of `plan -o json`, and what it said.
fn plan(api: &Api, node: &Node) -> (i32, Value) {
    let flags = [
        "plan",
        &api.kubeconfig(),
        "--hostname-override=node-1",
        "-ojson",
    ];
    let output = kube_ipvs(&node.namespace, flags).output().expect("run it");
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().expect("it ends by itself");
    assert!([0, 2].contains(&code), "{said}");
    let json = serde_json::from_slice(&output.stdout);
    (code, json.unwrap_or_else(|error| panic!("{error}: {said}")))
}

#[test]
fn plan_asks_the_api_server_and_follows_it() {
    let topology = Topology::new();
    let node = topology.node();
    let api = Api::of_one(&node, "10.244.9.1");

    let (code, first) = plan(&api, &node);
    assert_eq!(code, 2);
    let steps = first["steps"].as_array().expect("steps");
    let vip = serde_json::json!({"action": "add", "object": "vip", "address": "10.96.0.10"});
    assert!(steps.contains(&vip), "{first:#}");
    assert_eq!(table(&node.namespace), "", "it only looks");

    let mut daemon = api.start("node-1", &node);
    wait_for_vip(&node, &mut daemon);
    wait_until("nothing is left to do", PATIENCE, || {
        plan(&api, &node).0 == 0
    });
    daemon.terminate();

    api.server.forget_requests();
    let flags = [
        "plan",
        "-w",
        &api.kubeconfig(),
        "--hostname-override=node-1",
    ];
    let mut watching = Daemon::start(&node.namespace, flags);
    watching.wait_for_log("to change: 0", PATIENCE);
    node.namespace.run(|| run("ipvsadm", ["-C"]));
    watching.wait_for_log("+ virtual server 10.96.0.10:80/TCP", PATIENCE);
    assert!(!watching.log().contains("10.244.9.2"), "{}", watching.log());
    api.web(&[("10.244.9.1", "node-1"), ("10.244.9.2", "node-1")]);
    watching.wait_for_log("-> 10.244.9.2:8080", PATIENCE);
    let ended = watching.terminate();

    assert_eq!(ended.code(), Some(2), "{}", watching.log());
    assert_eq!(table(&node.namespace), "", "it only looks");
    let called = role::calls(&api.server.requests());
    let refused: Vec<_> = called.difference(&role::allowed()).cloned().collect();
    assert_eq!(refused, [], "not in the role of deploy/base");
    assert!(
        called.iter().all(|(_, _, verb)| verb != "create"),
        "{called:?}"
    );
}
