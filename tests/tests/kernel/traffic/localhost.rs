//! NodePorts on loopback addresses, which the program forwards itself.

use std::time::Duration;

use kube_ipvs_tests::{Protocol, Server, Verdict, kube_ipvs, output_of, wait_until};

use super::site::{PATIENCE, Site};
use super::web::Web;

/// The host has a program of its own at the second one.
const PORTS: [u16; 2] = [30_080, 30_081];
const LOOPBACK: [&str; 2] = ["127.0.0.1:30080", "[::1]:30080"];
const FLAGS: [&str; 2] = [
    "--nodeport-addresses=all,localhost",
    "--ipvs-min-sync-period=100ms",
];

/// `default/web` over both pods, dual-stack, with two ports.
fn web(site: &Site) -> Web {
    let web = Web::new("web", &["10.96.0.10", "fd00:96::10"])
        .port(Protocol::Tcp, 80, 8080)
        .port(Protocol::Tcp, 81, 8080)
        .node_ports(PORTS[0]);
    let pods = site.small.pods.iter();
    pods.fold(web, |web, pod| web.endpoint(pod.v4).endpoint(pod.v6))
}

fn serve(site: &Site) -> Vec<Server> {
    let pods = site.small.pods.iter();
    let servers = pods.map(|pod| {
        [
            pod.serve(Protocol::Tcp, 8080),
            pod.serve_v6(Protocol::Tcp, 8080),
        ]
    });
    servers.flatten().collect()
}

/// The forwarder listens beside the rounds of the loop, so that the node may be
/// ready before.
fn start_listening(site: &mut Site) {
    site.start(&FLAGS);
    for to in LOOPBACK {
        wait_until("somebody listens", PATIENCE, || {
            site.host().call(Protocol::Tcp, to) != Verdict::Refused
        });
    }
}

fn is_a_pod(verdict: &Verdict) -> bool {
    ["p1", "p2"].contains(&verdict.who())
}

#[test]
fn loopback_node_ports_reach_pods_and_end_with_their_service() {
    let mut site = Site::new();
    let _servers = serve(&site);
    site.write(&web(&site));
    start_listening(&mut site);

    let mut held = Vec::new();
    for to in LOOPBACK {
        assert!(is_a_pod(&site.host().call(Protocol::Tcp, to)), "{to}");
        let connection = site.host().connect(Protocol::Tcp, to);
        let mut connection = connection.expect("it answers");
        assert!(is_a_pod(&connection.ask()), "{to}");
        held.push(connection);
    }
    let node = site.host().call(Protocol::Tcp, "192.168.50.1:30080");
    assert!(is_a_pod(&node), "other addresses are IPVS's");
    let explained = output_of(&mut kube_ipvs(site.node(), ["explain", LOOPBACK[0]]));
    assert!(
        explained.contains("served by kube-ipvs itself"),
        "{explained}"
    );

    site.remove("web");
    for to in LOOPBACK {
        wait_until("nobody listens any more", PATIENCE, || {
            site.host().call(Protocol::Tcp, to) == Verdict::Refused
        });
    }
    for mut connection in held {
        assert_eq!(connection.ask(), Verdict::Reset);
    }
}

#[test]
fn a_program_on_loopback_keeps_its_port_and_its_clients() {
    let mut site = Site::new();
    let _servers = serve(&site);
    let own = format!("127.0.0.1:{}", PORTS[1]);
    let _own = Server::start(site.node(), "own", Protocol::Tcp, &own);
    site.write(&web(&site));
    for flags in [&FLAGS[1..], &FLAGS] {
        site.start(flags);

        let answer = site.host().call(Protocol::Tcp, &own);

        assert_eq!(answer.who(), "own");
        assert_eq!(answer.saw().to_string(), "127.0.0.1");
        let node = format!("192.168.50.1:{}", PORTS[1]);
        assert!(is_a_pod(&site.host().call(Protocol::Tcp, &node)));
    }
    let failures = "kubeproxy_nftables_localhost_nodeport_listener_creation_failures_total";
    wait_until("it is counted", PATIENCE, || site.metric(failures) > 0.0);
    let log = site.daemon().log();
    assert!(log.contains("choose another nodePort"), "{log}");
}

/// Even where somebody has opened `route_localnet`, as kube-proxy's iptables mode does.
#[test]
fn neighbours_do_not_reach_loopback_node_ports() {
    let mut site = Site::new();
    let _servers = serve(&site);
    site.write(&web(&site));
    start_listening(&mut site);
    let localnet = "net/ipv4/conf/all/route_localnet";
    let read = format!("cat /proc/sys/{localnet}");
    assert_eq!(site.node().sh(&read).trim(), "0");
    let outside = &site.small.outside.namespace;
    outside.sysctl(localnet, "1");
    outside.ip("addr del 127.0.0.1/8 dev lo\nroute add 127.0.0.1/32 via 192.168.50.1\n");
    let neighbour = site.outside().timeout(Duration::from_secs(2));

    let martian = neighbour.call(Protocol::Tcp, LOOPBACK[0]);
    assert_eq!(martian, Verdict::TimedOut);

    site.node().sysctl(localnet, "1");
    let stranger = neighbour.timeout(PATIENCE).call(Protocol::Tcp, LOOPBACK[0]);

    assert_eq!(stranger, Verdict::Reset, "it is turned away");
    let name = "kube_ipvs_localhost_connections_accepted_total";
    let (_, metrics) = site.get(super::site::METRICS, "/metrics");
    let line = format!("{name}{{ip_family=\"IPv4\",result=\"stranger\"}} 1");
    assert!(metrics.contains(&line), "{metrics}");
    assert!(is_a_pod(&site.host().call(Protocol::Tcp, LOOPBACK[0])));
}
