//! Hosts that are no plain ones: a firewall of the operator's, source ranges
//! with the host's own addresses, node ports among source ports, two links.

use std::net::{IpAddr, SocketAddr};

use kube_ipvs_tests::{Client, Namespace, Protocol, Server, Verdict, wait_until};
use serde_json::json;

use super::site::{PATIENCE, Site};
use super::web::Web;

const VIPS: [&str; 2] = ["10.96.0.10", "fd00:96::10"];
const INGRESS: [&str; 2] = ["203.0.113.10", "fd00:97::10"];
const FIRST_NODE_PORT: u16 = 30_080;
/// A call that is to be dropped: long enough for an answer, had there been one.
const SILENCE: std::time::Duration = std::time::Duration::from_millis(500);

/// As operators write it: known connections and neighbours pass, nothing else.
const FIREWALL: &str = "for x in iptables-nft ip6tables-nft; do
    $x -A INPUT -i lo -j ACCEPT
    $x -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
    $x -P INPUT DROP; $x -P FORWARD DROP
done
ip6tables-nft -A INPUT -p ipv6-icmp -j ACCEPT";

/// Over the first pod: TCP port 80 and UDP port 81.
fn web(site: &Site) -> Web {
    let pod = &site.small.pods[0];
    Web::new("web", &VIPS)
        .port(Protocol::Tcp, 80, 8080)
        .port(Protocol::Udp, 81, 8080)
        .node_ports(FIRST_NODE_PORT)
        .endpoint(pod.v4)
        .endpoint(pod.v6)
}

fn serve(site: &Site) -> Vec<Server> {
    let pod = &site.small.pods[0];
    let both = |protocol| [pod.serve(protocol, 8080), pod.serve_v6(protocol, 8080)];
    let protocols = [Protocol::Tcp, Protocol::Udp];
    protocols.into_iter().flat_map(both).collect()
}

fn at(address: &str, port: u16) -> String {
    let address: IpAddr = address.parse().expect("an address");
    SocketAddr::new(address, port).to_string()
}

/// Cluster addresses and node ports, with their protocols.
fn targets(site: &Site) -> Vec<(Protocol, String)> {
    let node = [
        IpAddr::from(site.small.node.v4()),
        site.small.node.v6().into(),
    ];
    let mut targets = Vec::new();
    for (protocol, index) in [(Protocol::Tcp, 0), (Protocol::Udp, 1)] {
        targets.extend(VIPS.map(|vip| (protocol, at(vip, 80 + index))));
        let port = FIRST_NODE_PORT + index;
        targets.extend(node.map(|a| (protocol, SocketAddr::new(a, port).to_string())));
    }
    targets
}

#[test]
fn a_host_that_drops_by_iptables_serves_when_the_operator_opens_it() {
    let mut site = Site::new();
    let _servers = serve(&site);
    let _ssh = ["0.0.0.0:22", "[::]:22"]
        .map(|address| Server::start(site.node(), "host", Protocol::Tcp, address));
    site.node().sh(FIREWALL);
    site.write(&web(&site));

    site.start(&[]);
    site.daemon().wait_for_log("chain INPUT", PATIENCE);
    for (protocol, to) in targets(&site) {
        let verdict = site.outside().timeout(SILENCE).call(protocol, &to);
        assert_eq!(verdict, Verdict::TimedOut, "{protocol} {to}");
    }

    site.start(&["--accept-in-foreign-chains"]);
    let from = [
        ("outside", site.outside()),
        ("host", site.host()),
        ("pod", site.pod()),
    ];
    let mut wrong = Vec::new();
    for (protocol, to) in targets(&site) {
        for (place, client) in &from {
            let verdict = client.call(protocol, &to);
            if !matches!(verdict, Verdict::Answered { .. }) {
                wrong.push(format!("{protocol} {to} from {place}: {verdict:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The rest of the host is as closed as before, and iptables reads its table.
    for host in [at("192.168.50.1", 22), at("fd00:50::1", 22)] {
        let verdict = site.outside().timeout(SILENCE).call(Protocol::Tcp, &host);
        assert_eq!(verdict, Verdict::TimedOut, "{host}");
    }
    for program in ["iptables-nft", "ip6tables-nft"] {
        let rules = site.node().sh(&format!("{program} -S"));
        assert!(rules.contains("-P INPUT DROP"), "{rules}");
        assert!(rules.contains("--ctstate RELATED,ESTABLISHED"), "{rules}");
    }
}

#[test]
fn source_ranges_judge_this_host_by_its_own_addresses() {
    let mut site = Site::new();
    let _servers = serve(&site);
    for net in ["203.0.113.0/24", "fd00:97::/64"] {
        site.small.outside.route(net, &site.small.node);
    }
    site.node()
        .ip("addr add 192.168.50.77/24 dev eth0\naddr add fd00:50::77/64 dev eth0 nodad\n");
    let first = [
        IpAddr::from(site.small.node.v4()),
        site.small.node.v6().into(),
    ];
    let second: [IpAddr; 2] = ["192.168.50.77", "fd00:50::77"].map(|a| a.parse().expect("valid"));
    let outside = [
        IpAddr::from(site.small.outside.v4),
        site.small.outside.v6.into(),
    ];
    let only = |site: &Site, addresses: [IpAddr; 2]| {
        let ranges = addresses.map(|a| {
            if a.is_ipv4() {
                format!("{a}/32")
            } else {
                format!("{a}/128")
            }
        });
        web(site)
            .ingress(&INGRESS)
            .spec("loadBalancerSourceRanges", json!(ranges))
    };
    /// Who gets through, client by client; the first is the host as it comes.
    fn through(site: &Site, first: IpAddr, second: IpAddr, to: &str) -> [bool; 5] {
        let clients = [
            site.host(),
            site.host().address(first),
            site.host().address(second),
            site.outside(),
            site.pod(),
        ];
        clients.map(|client| {
            let verdict = client.timeout(SILENCE).call(Protocol::Tcp, to);
            matches!(verdict, Verdict::Answered { .. })
        })
    }

    site.write(&only(&site, second));
    site.start(&["--ipvs-min-sync-period=100ms"]);
    for family in [0, 1] {
        let seen = |vip| through(&site, first[family], second[family], &at(vip, 80));
        // Its own VIP as source counts as the host that is let in.
        assert_eq!(seen(INGRESS[family]), [true, false, true, false, false]);
        assert_eq!(seen(VIPS[family]), [true; 5], "without ranges");
    }

    site.write(&only(&site, outside));
    wait_until("the ranges are changed", PATIENCE, || {
        INGRESS.iter().all(|vip| {
            let verdict = site
                .outside()
                .timeout(SILENCE)
                .call(Protocol::Tcp, &at(vip, 80));
            matches!(verdict, Verdict::Answered { .. })
        })
    });
    for family in [0, 1] {
        let seen = through(
            &site,
            first[family],
            second[family],
            &at(INGRESS[family], 80),
        );
        assert_eq!(seen, [false, false, false, true, false]);
    }
}

#[test]
fn masquerading_takes_no_source_port_that_may_be_a_node_port() {
    let mut site = Site::new();
    let _servers = serve(&site);
    site.write(&web(&site));
    site.start(&[]);

    let targets = targets(&site);
    let node_ports = targets
        .iter()
        .filter(|(_, to)| !to.starts_with("10.") && !to.contains(":96:"));
    let mut ports = Vec::new();
    for (protocol, to) in node_ports {
        for _ in 0..60 {
            match site.outside().call(*protocol, to) {
                Verdict::Answered { saw, .. } => {
                    assert_eq!(
                        saw.ip().to_string().rsplit([':', '.']).next(),
                        Some("1"),
                        "a gate"
                    );
                    ports.push(saw.port());
                }
                other => panic!("{protocol} {to}: {other:?}"),
            }
        }
    }

    assert_eq!(ports.len(), 240);
    let taken: Vec<_> = ports
        .iter()
        .filter(|port| (30_000..=32_767).contains(*port))
        .collect();
    assert!(taken.is_empty(), "{taken:?}");
}

/// A machine on a second link of the node, with an endpoint behind it.
fn second_link(site: &Site) -> (Namespace, Vec<Server>) {
    let far = Namespace::child("far");
    site.node().ip(&format!(
        "link add eth1 type veth peer name eth0 netns {}\nlink set eth1 up\n\
         addr add 192.168.70.1/24 dev eth1\naddr add fd00:70::1/64 dev eth1 nodad\n",
        far.name()
    ));
    far.ip(
        "link set eth0 up\naddr add 192.168.70.2/24 dev eth0\naddr add fd00:70::2/64 dev eth0 nodad\n\
         addr add 10.244.9.2/32 dev lo\naddr add fd00:244:9::2/128 dev lo nodad\n\
         route add default via 192.168.70.1\nroute add default via fd00:70::1\n",
    );
    site.node()
        .ip("route add 10.244.9.0/24 via 192.168.70.2\nroute add fd00:244:9::/64 via fd00:70::2\n");
    let mut servers = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for address in ["10.244.9.2:8080", "[fd00:244:9::2]:8080"] {
            servers.push(Server::start(&far, "far", protocol, address));
        }
    }
    (far, servers)
}

/// With routes the host's own traffic carries the node's address and its own
/// port; with addresses it is masqueraded on its way out.
#[test]
fn a_host_with_two_links_speaks_with_an_address_of_its_own() {
    let mut site = Site::new();
    let (_far, _servers) = second_link(&site);
    let endpoints = ["10.244.9.2", "fd00:244:9::2"].map(|a| a.parse::<IpAddr>().expect("valid"));
    let web = Web::new("web", &VIPS)
        .port(Protocol::Tcp, 80, 8080)
        .port(Protocol::Udp, 81, 8080);
    site.write(&endpoints.into_iter().fold(web, Web::endpoint));
    let node = "--node-addresses=192.168.50.1,fd00:50::1";
    let expected = [
        ("route", ["192.168.50.1", "fd00:50::1"]),
        ("address", ["192.168.70.1", "fd00:70::1"]),
    ];

    let mut wrong = Vec::new();
    for (binding, sources) in expected {
        site.start(&[node, &format!("--vip-binding={binding}")]);
        for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Udp, 81)] {
            for (vip, source) in VIPS.iter().zip(sources) {
                let client = Client::within(site.node()).port(20_000 + port);
                let verdict = client.call(protocol, &at(vip, port));
                let right = match &verdict {
                    Verdict::Answered { saw, .. } => {
                        saw.ip().to_string() == source
                            && (binding == "address" || saw.port() == 20_000 + port)
                    }
                    _ => false,
                };
                if !right {
                    wrong.push(format!(
                        "{binding} {protocol} {vip}: {verdict:?}, not {source}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
