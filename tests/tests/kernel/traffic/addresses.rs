//! What a node's addresses answer, and VIPs of every kind: ping, health checks,
//! ports of one number, an address that is a load balancer's and moves.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kube_ipvs_tests::{Client, Namespace, Node, Protocol, Server, Verdict, wait_until};
use serde_json::json;

use super::site::{PATIENCE, Site, page};
use super::web::Web;

const QUICK: &str = "--ipvs-min-sync-period=100ms";
const CLUSTER_IPS: [&str; 2] = ["10.96.0.10", "fd00:96::10"];
const EXTERNAL_IPS: [&str; 2] = ["198.51.100.10", "fd00:98::10"];
const INGRESS: [&str; 2] = ["203.0.113.10", "fd00:97::10"];
/// Of a network that externalIPs may not be of.
const CLAIMED: &str = "198.18.0.10";
const CHECK: u16 = 32_000;
/// A call that is to be dropped: long enough for an answer, had there been one.
const SILENCE: Duration = Duration::from_millis(500);
/// A call that is tried again until it is answered.
const SHORT: Duration = Duration::from_secs(1);

fn ip(address: &str) -> IpAddr {
    address.parse().expect("an address")
}

fn at(address: &str, port: u16) -> String {
    SocketAddr::new(ip(address), port).to_string()
}

fn clients(site: &Site) -> [(&'static str, Client<'_>); 3] {
    [
        ("outside", site.outside()),
        ("a pod", site.pod()),
        ("the host", site.host()),
    ]
}

/// Of every kind, with `Local` for outside traffic; its endpoint is `node`'s.
fn every_kind(site: &Site, pod: usize, node: &str) -> String {
    let pod = &site.small.pods[pod];
    let mut externals = EXTERNAL_IPS.to_vec();
    externals.push(CLAIMED);
    let web = Web::new("web", &CLUSTER_IPS)
        .port(Protocol::Tcp, 80, 8080)
        .spec("externalIPs", json!(externals))
        .spec("externalTrafficPolicy", json!("Local"))
        .spec("healthCheckNodePort", json!(CHECK))
        .ingress(&INGRESS)
        .endpoint(pod.v4)
        .endpoint(pod.v6);
    let mut slices = web.slices();
    for slice in &mut slices {
        slice["endpoints"][0]["nodeName"] = json!(node);
    }
    let objects = std::iter::once(web.service()).chain(slices);
    let texts: Vec<String> = objects.map(|object| format!("{object:#}\n")).collect();
    texts.join("---\n")
}

/// A site with that Service over the first pod, and programs of the host.
fn site_of_every_kind() -> (Site, [Server; 6]) {
    let mut site = Site::new();
    let [p1, p2] = &site.small.pods;
    let host = |address| Server::start(site.node(), "host", Protocol::Tcp, address);
    let servers = [
        p1.serve(Protocol::Tcp, 8080),
        p1.serve_v6(Protocol::Tcp, 8080),
        p2.serve(Protocol::Tcp, 8080),
        p2.serve_v6(Protocol::Tcp, 8080),
        host("0.0.0.0:22"),
        host("[::]:22"),
    ];
    for net in [
        "198.51.100.0/24",
        "198.18.0.0/24",
        "203.0.113.0/24",
        "fd00:97::/64",
        "fd00:98::/64",
    ] {
        site.small.outside.route(net, &site.small.node);
    }
    site.write_text("web", &every_kind(&site, 0, "node-1"));
    site.start(&[
        QUICK,
        "--allow-external-ips=198.51.100.0/24,fd00:98::/64",
        "--cluster-cidr=10.244.0.0/16,fd00:244::/32",
        "--healthz-bind-address=0.0.0.0:10256",
    ]);
    (site, servers)
}

/// Code of the Service's health check, as a load balancer outside sees it.
fn health(site: &Site, address: &str) -> Option<u16> {
    let at = SocketAddr::new(ip(address), CHECK);
    page(&site.small.outside.namespace, at, "/").map(|(code, _)| code)
}

#[test]
fn a_vip_of_every_kind_answers_ping_its_port_and_the_health_check_alone() {
    let (mut site, _servers) = site_of_every_kind();
    let mut wrong = Vec::new();
    for vip in CLUSTER_IPS.iter().chain(&EXTERNAL_IPS).chain(&INGRESS) {
        for (who, client) in clients(&site) {
            let got = (
                client.pings(ip(vip)),
                client.call(Protocol::Tcp, &at(vip, 22)),
                client.callees(Protocol::Tcp, &at(vip, 80), 1).remove(0),
            );
            if got != (true, Verdict::Refused, "p1".to_owned()) {
                wrong.push(format!("{vip} from {who}: {got:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for address in INGRESS.iter().chain(&["192.168.50.1", "fd00:50::1"]) {
        assert_eq!(health(&site, address), Some(200), "{address}");
    }

    // Nobody may claim any address: it stays where its routes lead, to nowhere.
    for (who, client) in clients(&site) {
        let verdict = client.call(Protocol::Tcp, &at(CLAIMED, 80));
        assert!(!matches!(verdict, Verdict::Answered { .. }), "{who}");
    }
    let link = site.node().sh("ip address show dev kube-ipvs0");
    assert!(!link.contains(CLAIMED), "{link}");
    let log = site.daemon().log();
    assert!(log.contains(CLAIMED), "{log}");
}

/// Sent on to an endpoint elsewhere, its answer would come from the wrong
/// address and be lost, which looks the same from outside.
#[test]
fn local_without_an_endpoint_here_sends_nothing_on_and_says_so() {
    let (site, _servers) = site_of_every_kind();
    let p2 = &site.small.pods[1].namespace;
    p2.sh("nft 'add table inet seen; \
           add chain inet seen input { type filter hook input priority 0; }; \
           add rule inet seen input tcp dport 8080 counter'");
    let untouched = || {
        let seen = p2.sh("nft list chain inet seen input");
        assert!(seen.contains("counter packets"), "{seen}");
        seen.contains("counter packets 0 ")
    };

    site.write_text("web", &every_kind(&site, 1, "node-2"));
    wait_until("the health check says so", PATIENCE, || {
        health(&site, "192.168.50.1") == Some(503)
    });

    for vip in INGRESS.iter().chain(&EXTERNAL_IPS) {
        let to = at(vip, 80);
        wait_until(&format!("{vip} is silent"), PATIENCE, || {
            let client = site.outside().timeout(SILENCE);
            client.call(Protocol::Tcp, &to) == Verdict::TimedOut
        });
    }
    assert!(untouched());
    for vip in INGRESS.iter().chain(&EXTERNAL_IPS) {
        // What stood there would hold the client when a pod comes.
        let family = if ip(vip).is_ipv4() { "ipv4" } else { "ipv6" };
        let entries = format!("conntrack -L -f {family} -p tcp -d {vip} --dport 80");
        assert_eq!(site.node().sh(&entries), "", "{vip}");
        for (who, client) in [("a pod", site.pod()), ("the host", site.host())] {
            assert_eq!(
                client.callees(Protocol::Tcp, &at(vip, 80), 1),
                ["p2"],
                "{who} to {vip}"
            );
        }
    }
    assert!(!untouched(), "the counter counts");
}

const NUMBER: u16 = 31_000;
/// One more of the node.
const SECOND: &str = "192.168.60.1";

/// A Service with that port at its ClusterIP, over the first pod, and one with
/// that NodePort, over the second; a program of the host has it on loopback.
fn site_of_one_number() -> (Site, [Server; 4]) {
    let site = Site::new();
    let pods = &site.small.pods;
    let own = |address| Server::start(site.node(), "own", Protocol::Tcp, address);
    let servers = [
        pods[0].serve(Protocol::Tcp, 8080),
        pods[1].serve(Protocol::Tcp, 8080),
        own("127.0.0.1:31000"),
        own("[::1]:31000"),
    ];
    site.node()
        .ip("link add other type dummy\nlink set other up\naddr add 192.168.60.1/24 dev other\n");
    let node = &site.small.node;
    site.small.outside.route("192.168.60.0/24", node);
    let cluster = Web::new("cluster", &["10.96.0.10"]).port(Protocol::Tcp, NUMBER, 8080);
    site.write(&cluster.endpoint(pods[0].v4));
    let node = Web::new("node", &["10.96.0.11"]).port(Protocol::Tcp, 80, 8080);
    site.write(&node.node_ports(NUMBER).endpoint(pods[1].v4));
    (site, servers)
}

#[test]
fn a_cluster_port_a_node_port_and_a_program_with_one_number_are_three() {
    let (mut site, _servers) = site_of_one_number();
    let chosen = ["--nodeport-addresses=192.168.50.0/24,fd00:50::/64"];
    let primary = [
        "--nodeport-addresses=primary",
        "--node-addresses=192.168.50.1,fd00:50::1",
    ];
    let mut wrong = Vec::new();
    let cases: [(&[&str], &str); 3] = [(&[], "p2"), (&chosen, "Refused"), (&primary, "Refused")];
    for (flags, second) in cases {
        site.start(flags);
        for (who, client) in clients(&site) {
            for (address, expected) in [
                ("10.96.0.10", "p1"),
                ("10.96.0.11", "Refused"),
                ("192.168.50.1", "p2"),
                (SECOND, second),
            ] {
                let got = client.call(Protocol::Tcp, &at(address, NUMBER)).name();
                if got != expected {
                    wrong.push(format!("{flags:?}: {address} from {who}: {got}"));
                }
            }
        }
        for address in ["127.0.0.1", "::1"] {
            let got = site.host().call(Protocol::Tcp, &at(address, NUMBER)).name();
            if got != "own" {
                wrong.push(format!("{flags:?}: {address}: {got}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Waits until calls from here have these ends.
#[track_caller]
fn wait_for(from: &Namespace, what: &str, ends: &[(&str, u16, &str)]) {
    let client = Client::within(from).timeout(SHORT);
    for (address, port, end) in ends {
        let to = at(address, *port);
        let what = format!("{what}: {to} is {end}");
        wait_until(&what, PATIENCE, || {
            client.call(Protocol::Tcp, &to).name() == *end
        });
    }
}

#[test]
fn a_load_balancers_address_comes_changes_and_goes() {
    const OTHER: &str = "203.0.113.11";
    let mut site = Site::new();
    let _server = site.small.pods[0].serve(Protocol::Tcp, 8080);
    let node = &site.small.node;
    site.small.outside.route("203.0.113.0/24", node);
    let web = Web::over(&site.small.pods[..1]).spec("type", "LoadBalancer".into());
    site.write(&web);
    site.start(&[QUICK]);

    let nowhere = "Unreachable";
    for (addresses, first, second) in [
        (&["203.0.113.10"][..], "p1", nowhere),
        (&[OTHER], nowhere, "p1"),
        (&[], nowhere, nowhere),
    ] {
        site.write(&web.clone().ingress(addresses));
        let ends = [("203.0.113.10", 80, first), (OTHER, 80, second)];
        for from in [&site.small.outside.namespace, site.node()] {
            wait_for(from, &format!("{addresses:?}"), &ends);
        }
    }
}

/// A load balancer's address that an announcer puts on the node that has it:
/// there it is the node's, with its NodePorts, and elsewhere a VIP.
#[test]
fn an_address_that_is_a_load_balancers_and_a_nodes_has_node_ports_where_it_is() {
    const SHARED: &str = "192.168.50.150";
    const NODE_PORT: u16 = 30_080;
    let mut site = Site::new();
    let second = site.small.topology.node();
    let _server = site.small.pods[0].serve(Protocol::Tcp, 8080);
    let web = Web::over(&site.small.pods[..1]).node_ports(NODE_PORT);
    site.write(&web.ingress(&[SHARED]));
    site.start(&[QUICK]);
    let mut daemon = site.start_on(&second, "node-2", &[QUICK]);
    let put = |verb: &str, node: &Node| {
        node.namespace
            .ip(&format!("addr {verb} {SHARED}/32 dev eth0\n"));
    };
    let here = [(SHARED, 80, "p1"), (SHARED, NODE_PORT, "p1")];
    let elsewhere = [(SHARED, 80, "p1"), (SHARED, NODE_PORT, "Refused")];
    let first = &site.small.node;
    for node in [first, &second] {
        wait_for(&node.namespace, "nobody has it", &elsewhere);
    }

    put("add", first);
    wait_for(&first.namespace, "the first has it", &here);
    wait_for(&second.namespace, "the first has it", &elsewhere);

    put("del", first);
    put("add", &second);
    wait_for(&second.namespace, "the second has it", &here);
    wait_for(&first.namespace, "the second has it", &elsewhere);
    assert!(daemon.terminate().success());
}
