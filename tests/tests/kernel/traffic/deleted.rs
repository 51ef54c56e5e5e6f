//! Open connections to a Service that is deleted.

use kube_ipvs_tests::{Connection, Protocol, Verdict, wait_until};
use serde_json::json;

use super::site::{PATIENCE, Site};
use super::web::Web;

/// Inside of the cluster's network, and an address that is not.
const INSIDE: [&str; 2] = ["10.96.0.10", "[fd00:96::10]"];
const OUTSIDE: &str = "10.97.0.5";

/// The network of ClusterIPs: what was in it stays longer than a test takes.
fn cidrs() -> String {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": ["10.96.0.0/16", "fd00:96::/112"]},
    })
    .to_string()
}

/// A connection over each protocol and family, from everywhere, that has carried
/// something.
fn open(site: &Site) -> Vec<(String, Protocol, Connection)> {
    let mut all = Vec::new();
    for (place, client) in [
        ("outside", site.outside()),
        ("pod", site.pod()),
        ("host", site.host()),
    ] {
        for vip in INSIDE {
            for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Udp, 53)] {
                let what = format!("{protocol} from {place} to {vip}:{port}");
                let connection = client.connect(protocol, &format!("{vip}:{port}"));
                let mut connection = connection.expect(&what);
                assert_eq!(connection.ask().who(), "p2", "{what}");
                all.push((what, protocol, connection));
            }
        }
    }
    all
}

fn are_answered_at_once(flags: &[&str], shown: &str) {
    let mut site = Site::new();
    let server = &site.small.pods[1];
    let _servers = [Protocol::Tcp, Protocol::Udp].map(|protocol| {
        (
            server.serve(protocol, 8080),
            server.serve_v6(protocol, 8080),
        )
    });
    let web = Web::new("web", &["10.96.0.10", "fd00:96::10"])
        .port(Protocol::Tcp, 80, 8080)
        .port(Protocol::Udp, 53, 8080)
        .ingress(&[OUTSIDE]);
    let web = web.endpoint(server.v4).endpoint(server.v6);
    site.write_text("cidrs", &cidrs());
    site.write(&web);
    site.start(&[&["--ipvs-min-sync-period=100ms"], flags].concat());
    let mut all = open(&site);

    site.remove("web");
    site.wait_for_table("no virtual server", str::is_empty);

    let mut wrong = Vec::new();
    for (what, protocol, connection) in &mut all {
        let right = match protocol {
            Protocol::Tcp => Verdict::Reset,
            _ => Verdict::Refused,
        };
        let verdict = connection.ask();
        if verdict != right {
            wrong.push(format!("{what}: {verdict:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    // Nothing but the address is left, and that is refused to everybody.
    assert_eq!(
        site.outside().call(Protocol::Tcp, "10.96.0.10:80"),
        Verdict::Refused
    );
    let table = site.node().sh("nft list table ip kube-ipvs");
    assert!(!table.contains("10.96.0.10 . "), "{table}");
    wait_until("one that may be somebody's soon goes", PATIENCE, || {
        !site.node().sh(shown).contains(OUTSIDE)
    });
    assert!(site.node().sh(shown).contains("10.96.0.10"));
}

#[test]
fn open_connections_of_a_deleted_service_are_refused_at_once() {
    are_answered_at_once(&[], "ip address show dev kube-ipvs0");
}

#[test]
fn so_they_are_where_its_address_is_a_route() {
    let routes = "ip route show table local dev kube-ipvs0";
    are_answered_at_once(&["--vip-binding=route"], routes);
}
