//! A kube-proxy that begins beside us: what it wipes is back, and who is in
//! charge of the Node is told.

use std::net::{Ipv4Addr, SocketAddr};

use kube_ipvs_tests::{Client, Protocol, Topology, wait_until};
use serde_json::Value;

use super::WEB;
use super::api::{Api, table, wait_for_vip};
use crate::traffic::site::{HEALTH, PATIENCE, page};

/// What its nftables mode does at its start: what the ipvs mode left goes, whoever
/// made it, and then it makes its own.
const WIPES: &str = "ipvsadm -C && ip link delete kube-ipvs0";
const MAKES: &str = "nft add table ip kube-proxy && nft add chain ip kube-proxy services";

#[test]
fn a_kube_proxy_that_begins_beside_us_is_undone_and_told_of() {
    let topology = Topology::new();
    let node = topology.node();
    let pod = node.pod("p1");
    let _server = pod.serve(Protocol::Tcp, 8080);
    let api = Api::of_one(&node, &pod.v4.to_string());
    let mut daemon = api.start("node-1", &node);
    wait_for_vip(&node, &mut daemon);
    let client = Client::within(&node.namespace);
    assert_eq!(client.callees(Protocol::Tcp, WEB, 1), ["p1"]);
    let before = table(&node.namespace);

    node.namespace.sh(WIPES);
    wait_for_vip(&node, &mut daemon);
    wait_until("the table is back", PATIENCE, || {
        table(&node.namespace) == before
    });
    assert_eq!(client.callees(Protocol::Tcp, WEB, 1), ["p1"]);
    wait_for_note(&api, "kube-proxy --cleanup");

    node.namespace.sh(MAKES);

    wait_for_note(&api, "nft table ip kube-proxy appeared");
    let health = SocketAddr::from((Ipv4Addr::LOCALHOST, HEALTH));
    let shown = || page(&node.namespace, health, "/readyz?verbose");
    let (code, text) = shown().expect("it answers");
    assert_eq!(code, 200, "{text}");
    assert!(
        text.contains("[!]other-proxy: another Service proxy"),
        "{text}"
    );

    node.namespace.sh("nft delete table ip kube-proxy");
    wait_until("it is shown no more", PATIENCE, || {
        shown().is_some_and(|(_, text)| !text.contains("other-proxy"))
    });
}

/// Waits for an Event about the Node that says so.
fn wait_for_note(api: &Api, note: &str) {
    let says = |event: &Value| {
        let about = &event["regarding"];
        let text = event["note"].as_str().unwrap_or_default();
        about["kind"] == "Node" && about["name"] == "node-1" && text.contains(note)
    };
    wait_until(&format!("an Event says {note:?}"), PATIENCE, || {
        api.server.objects("Event").iter().any(says)
    });
}
