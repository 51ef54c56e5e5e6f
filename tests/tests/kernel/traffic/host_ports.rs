//! Pods with `hostPort` beside Services of the same port.

use std::net::{IpAddr, SocketAddr};

use kube_ipvs_tests::{Client, Protocol, Server, Verdict, wait_until};

use super::site::{PATIENCE, Site};
use super::web::Web;

const VIPS: [&str; 2] = ["10.96.0.10", "fd00:96::10"];
const INGRESS: [&str; 2] = ["203.0.113.10", "fd00:97::10"];
const SERVED: u16 = 53;
const NO_SERVICE: u16 = 54;
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// What CNI's portmap does for a pod with two host ports: it takes them on every
/// local address, and a VIP is one.
fn host_ports(site: &Site) {
    let pod = &site.small.pods[1];
    for (family, to) in [("ip", pod.v4.to_string()), ("ip6", format!("[{}]", pod.v6))] {
        let take: String = PROTOCOLS
            .map(|protocol| protocol.to_string().to_lowercase())
            .map(|p| format!("fib daddr type local {p} dport {{ {SERVED}, {NO_SERVICE} }} dnat to {to}:9000\n"))
            .concat();
        let chain = |hook: &str| {
            format!(
                "chain {hook} {{ type nat hook {hook} priority dstnat; policy accept;\n{take}}}\n"
            )
        };
        let table = chain("prerouting") + &chain("output").replace("dstnat", "-100");
        let text = format!("table {family} host-ports {{\n{table}}}\n");
        site.node().sh(&format!("nft -f - <<'END'\n{text}END"));
    }
}

/// The first pod is the Service's, the second has the host ports.
fn site() -> (Site, Vec<Server>) {
    let mut site = Site::new();
    let [first, second] = &site.small.pods;
    let servers = PROTOCOLS.into_iter().flat_map(|protocol| {
        [
            first.serve(protocol, 8080),
            first.serve_v6(protocol, 8080),
            second.serve(protocol, 9000),
            second.serve_v6(protocol, 9000),
        ]
    });
    let servers = servers.collect();
    let dns = PROTOCOLS
        .into_iter()
        .fold(Web::new("dns", &VIPS), |dns, protocol| {
            dns.port(protocol, SERVED, 8080)
        });
    site.write(&dns.ingress(&INGRESS).endpoint(first.v4).endpoint(first.v6));
    site.start(&["--ipvs-min-sync-period=100ms"]);
    for vip in VIPS {
        site.wait_for_vip(vip);
    }
    for net in ["203.0.113.0/24", "fd00:97::/64"] {
        site.small.outside.route(net, &site.small.node);
    }
    host_ports(&site);
    (site, servers)
}

fn at(address: impl Into<IpAddr>, port: u16) -> String {
    SocketAddr::new(address.into(), port).to_string()
}

fn clients(site: &Site) -> [(&'static str, Client<'_>); 3] {
    [
        ("outside", site.outside()),
        ("a pod", site.pod()),
        ("the host", site.host()),
    ]
}

#[test]
fn a_host_port_takes_nothing_from_a_vip() {
    let (site, _servers) = site();
    for protocol in PROTOCOLS {
        for (who, client) in clients(&site) {
            for vip in VIPS.into_iter().chain(INGRESS) {
                let vip: IpAddr = vip.parse().expect("an address");
                let to = at(vip, SERVED);
                for _ in 0..2 {
                    let verdict = client.call(protocol, &to);
                    assert_eq!(verdict.who(), "p1", "{who} to {to} by {protocol}");
                }
                // The guard holds for what is no Service's.
                let to = at(vip, NO_SERVICE);
                let verdict = client.call(protocol, &to);
                // The kernel says so once a second and client, redirects counted.
                let unsaid = protocol == Protocol::Udp && verdict == Verdict::TimedOut;
                assert!(
                    verdict == Verdict::Refused || unsaid,
                    "{who} to {to} by {protocol}: {verdict:?}"
                );
            }
        }
    }
}

#[test]
fn a_host_port_has_the_nodes_own_addresses() {
    let (site, _servers) = site();
    let node = &site.small.node;
    for protocol in PROTOCOLS {
        for (who, client) in clients(&site) {
            for address in [IpAddr::from(node.v4()), node.v6().into()] {
                for port in [SERVED, NO_SERVICE] {
                    let to = at(address, port);
                    let verdict = client.call(protocol, &to);
                    assert_eq!(verdict.who(), "p2", "{who} to {to} by {protocol}");
                }
            }
        }
    }
}

/// What was taken before the VIP was there is the Service's from then on.
#[test]
fn a_vip_that_comes_to_a_node_with_host_ports_is_the_services() {
    let (site, _servers) = site();
    let address = "10.96.0.20";
    let pod = &site.small.pods[0];
    let late = Web::new("late", &[address]).port(Protocol::Tcp, SERVED, 8080);

    site.write(&late.endpoint(pod.v4));

    let to = format!("{address}:{SERVED}");
    wait_until("the new VIP answers", PATIENCE, || {
        match site.pod().connect(Protocol::Tcp, &to) {
            Ok(mut connection) => {
                assert_eq!(connection.ask().who(), "p1");
                true
            }
            Err(_) => false,
        }
    });
}
