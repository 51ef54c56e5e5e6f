//! Load balancers whose probes and calls come from the very address that a
//! Service has of them.

use std::time::Duration;

use kube_ipvs_tests::{Client, Protocol, Server, Verdict, run, wait_until};

use super::site::{PATIENCE, Site};
use super::web::Web;

const BALANCER: &str = "203.0.113.10";
const NODE_PORT: &str = "192.168.50.1:30080";
/// A call that is to be dropped: long enough for an answer, had there been one.
const SILENCE: Duration = Duration::from_secs(1);

/// The balancer is the machine outside, and listens at the address itself.
fn site_of_a_balancer(flags: &[&str]) -> (Site, [Server; 2]) {
    let mut site = Site::new();
    let outside = &site.small.outside;
    outside.route("10.244.0.0/16", &site.small.node);
    outside.namespace.ip("addr add 203.0.113.10/32 dev eth0\n");
    let route = format!("route add {BALANCER}/32 via {}\n", outside.v4);
    site.node().ip(&route);
    let at = format!("{BALANCER}:80");
    let servers = [
        site.small.pods[0].serve(Protocol::Tcp, 8080),
        Server::start(&outside.namespace, "balancer", Protocol::Tcp, &at),
    ];
    site.write(&service(&site));
    site.start(flags);
    (site, servers)
}

fn service(site: &Site) -> Web {
    let web = Web::over(&site.small.pods[..1]);
    web.node_ports(30_080).ingress(&[BALANCER])
}

/// The balancer's call of the node, from the address of the Service.
fn probe(site: &Site) -> Verdict {
    let client = site
        .outside()
        .address(BALANCER.parse().expect("an address"));
    client.timeout(SILENCE).call(Protocol::Tcp, NODE_PORT)
}

fn from_a_pod(site: &Site) -> String {
    let client = Client::within(&site.small.pods[1].namespace);
    client.call(Protocol::Tcp, &format!("{BALANCER}:80")).name()
}

/// Whether IPVS gave the balancer's call to an endpoint.
fn was_scheduled(site: &Site) -> bool {
    let connections = site.node().run(|| run("ipvsadm", ["-Lnc"]));
    let from = format!(" {BALANCER}:");
    let is_probe = |line: &str| line.contains(&from) && line.contains(NODE_PORT);
    connections.lines().any(is_probe)
}

fn accept_local(site: &Site, setting: &str) {
    let all = "/proc/sys/net/ipv4/conf/*/accept_local";
    let script = format!("for at in {all}; do echo {setting} > $at; done");
    site.node().sh(&script);
}

/// A node drops what comes from an address that is its own, wherever that is
/// bound. To take it in (`accept_local`) would not do: the endpoint's answer is
/// for the very address, and stays here.
#[test]
fn a_balancer_that_calls_from_its_own_address_is_answered_only_where_it_is_a_proxy() {
    for binding in ["--vip-binding=address", "--vip-binding=route"] {
        let (site, _servers) = site_of_a_balancer(&["--ipvs-min-sync-period=100ms", binding]);
        let what = format!("{binding}: the address is served");
        wait_until(&what, PATIENCE, || from_a_pod(&site) == "p1");
        assert_eq!(probe(&site), Verdict::TimedOut, "{binding}");
        assert!(!was_scheduled(&site), "{binding}: it was let in");

        accept_local(&site, "1");
        let verdict = probe(&site);
        assert!(was_scheduled(&site), "{binding}: it was not let in");
        assert_eq!(verdict, Verdict::TimedOut, "{binding}: it was answered");
        accept_local(&site, "0");

        site.write(&service(&site).option("ip-mode", "Proxy"));
        let what = format!("{binding}: its probe is answered");
        wait_until(&what, PATIENCE, || probe(&site).name() == "p1");
        let what = format!("{binding}: pods go through it");
        wait_until(&what, PATIENCE, || from_a_pod(&site) == "balancer");
    }
}
