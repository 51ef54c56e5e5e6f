//! What keeps a node from following the cluster, or others from serving it.

use kube_ipvs_tests::apiserver::service;
use kube_ipvs_tests::{Topology, wait_until, ways};
use serde_json::json;

use super::{WELL, asked, found, said, status_says};
use crate::daemon::api::{Api, wait_for_vip};
use crate::traffic::site::PATIENCE;

#[test]
fn a_wrong_node_name_and_an_api_that_is_shut_are_told_by_status() {
    let topology = Topology::new();
    let node = topology.node();
    let api = Api::of_one(&node, "10.244.9.1");
    let mut daemon = api.start("node-9", &node);
    let page = found(&node.namespace, 1, ways::NODE_NAME);
    assert!(page.contains("--hostname-override"), "{page}");
    daemon.kill();

    api.server.deny("list", "services");
    api.server.deny("watch", "services");
    let _daemon = api.start("node-1", &node);
    let page = found(&node.namespace, 1, ways::API_SHUT);
    assert!(page.contains("deploy/base/rbac.yaml"), "{page}");
    status_says(&node.namespace, 1, "forbidden");
    // What the one before it left serves on, and nothing is said of the cluster.
    asked(&node.namespace, ways::FIRST_LIST);
}

#[test]
fn an_api_server_that_is_away_is_told_by_status_and_what_is_known_is_served() {
    let topology = Topology::new();
    let node = topology.node();
    let api = Api::of_one(&node, "10.244.9.1");
    let _daemon = api.start("node-1", &node);
    status_says(&node.namespace, 0, WELL);

    api.server.outage();

    found(&node.namespace, 0, ways::API_AWAY);
    asked(&node.namespace, ways::API_AWAY_SERVICE);
    let (_, text) = said(&node.namespace, &["explain", "default/web"]);
    assert!(
        text.contains("from outside  served by 1 real server"),
        "{text}"
    );

    api.server.resume();
    let told = |arguments: &[&str], words| said(&node.namespace, arguments).1.contains(words);
    wait_until("it is followed again", PATIENCE, || {
        !told(&["status"], ways::API_AWAY.answer)
    });
    let stale = told(&["explain", "default/web"], ways::API_AWAY_SERVICE.answer);
    assert!(!stale);
}

#[test]
fn an_address_of_another_node_and_another_proxy_are_told() {
    let topology = Topology::new();
    let [node, other] = [topology.node(), topology.node()];
    let api = Api::of_one(&node, "10.244.9.1");
    api.register("node-2", &other);
    let mut claims = service("default", "claims", "10.96.0.20");
    claims["spec"]["type"] = json!("LoadBalancer");
    let address = other.v4().to_string();
    claims["status"] = json!({"loadBalancer": {"ingress": [{"ip": address}]}});
    api.server.upsert(claims);
    let mut daemon = api.start("node-1", &node);
    wait_for_vip(&node, &mut daemon);
    asked(&node.namespace, ways::PROTECTED);

    let proxy = "nft add table ip kube-proxy; nft add chain ip kube-proxy services";
    node.namespace.sh(proxy);
    found(&node.namespace, 1, ways::OTHER_PROXY);

    node.namespace.sh("nft delete table ip kube-proxy");
    wait_until("it is told no more", PATIENCE, || {
        let (_, page) = said(&node.namespace, &["status"]);
        !page.contains("another Service proxy")
    });
}
