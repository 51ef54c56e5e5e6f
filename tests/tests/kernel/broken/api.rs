//! What keeps a node from following the cluster.

use kube_ipvs_tests::{Topology, ways};

use super::{asked, found, status_says};
use crate::daemon::api::Api;

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
