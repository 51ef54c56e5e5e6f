//! What the kernel refuses of one Service: closed, named, and nobody else's matter.

use kube_ipvs_tests::{Protocol, Server, Verdict, wait_until};
use serde_json::json;

use super::QUICK;
use crate::traffic::site::{HEALTH, PATIENCE, Site};
use crate::traffic::web::Web;

/// No kernel takes the broadcast address of the node's network as a real server.
const BROADCAST: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 168, 50, 255);
const BAD: &str = "10.96.0.66:10250";
const CHECK: u16 = 32_000;

/// `default/bad` at the port of a program of the host.
fn bad() -> Web {
    Web::new("bad", &["10.96.0.66"]).port(Protocol::Tcp, 10250, 8080)
}

#[test]
fn what_is_refused_never_leads_to_the_host_and_leaves_the_node_well() {
    let mut site = Site::new();
    let pod = site.small.pods[0].v4;
    let _pod = site.small.pods[0].serve(Protocol::Tcp, 8080);
    let _host = Server::start(site.node(), "host", Protocol::Tcp, "0.0.0.0:10250");
    let good = Web::over(&site.small.pods[..1]).ingress(&["10.96.0.20"]);
    let good = good.spec("externalTrafficPolicy", json!("Local"));
    site.write(&good.spec("healthCheckNodePort", json!(CHECK)));
    site.write(&bad().endpoint(BROADCAST));

    site.start(&QUICK);
    site.wait_for_vip("10.96.0.66");

    assert_eq!(site.outside().call(Protocol::Tcp, BAD), Verdict::Refused);
    assert_eq!(site.pod().call(Protocol::Tcp, BAD), Verdict::Refused);
    assert_eq!(site.host().call(Protocol::Tcp, BAD), Verdict::Refused);
    assert_eq!(site.outside().call(Protocol::Tcp, super::WEB).who(), "p1");
    for (port, path) in [(HEALTH, "/livez"), (HEALTH, "/readyz"), (CHECK, "/")] {
        let (code, why) = site.get(port, path);
        assert_eq!(code, 200, "{port}{path}: {why}");
    }
    let (_, listed) = site.get(HEALTH, "/readyz?verbose");
    assert!(
        listed.contains("10.96.0.66:10250/TCP -> 192.168.50.255:8080"),
        "{listed}"
    );
    assert!(listed.contains("EINVAL"), "{listed}");
    let told = site.daemon().log();
    let told = told.lines().filter(|line| line.contains("192.168.50.255"));
    assert_eq!(told.count(), 1, "once: {}", site.daemon().log());

    site.write(&bad().endpoint(pod));
    wait_until("it serves", PATIENCE, || {
        let verdict = site.outside().timeout(PATIENCE).call(Protocol::Tcp, BAD);
        assert!(
            matches!(&verdict, Verdict::Refused) || verdict.who() == "p1",
            "{verdict:?}"
        );
        verdict != Verdict::Refused
    });
    // Told right after it was done.
    wait_until("it is over", PATIENCE, || {
        let (_, listed) = site.get(HEALTH, "/readyz?verbose");
        !listed.contains("refused")
    });
}
