//! Every kind of Service address, and session affinity, as clients meet them.

use std::net::IpAddr;

use kube_ipvs_tests::{Client, Outside, Protocol, Server, Verdict};

use super::site::Site;
use super::web::Web;

const CLUSTER_IPS: [&str; 2] = ["10.96.0.10", "fd00:96::10"];
const EXTERNAL_IPS: [&str; 2] = ["198.51.100.10", "fd00:98::10"];
const INGRESS: [&str; 2] = ["203.0.113.10", "fd00:97::10"];
const FIRST_NODE_PORT: u16 = 30_080;
/// Of the Service; one more for each protocol, as with its node ports.
const FIRST_PORT: u16 = 80;

/// The flags of these tests.
const FLAGS: [&str; 2] = [
    "--allow-external-ips=198.51.100.0/24,fd00:98::/64",
    "--ipvs-min-sync-period=100ms",
];

/// Both pods serve every protocol and family.
fn serve_all(site: &Site) -> Vec<Server> {
    let serve = |protocol| {
        let pods = site.small.pods.iter();
        pods.flat_map(move |pod| [pod.serve(protocol, 8080), pod.serve_v6(protocol, 8080)])
    };
    Protocol::ALL.into_iter().flat_map(serve).collect()
}

/// A dual-stack Service over both pods with a port for each of `protocols`.
fn dual_stack(site: &Site, protocols: &[Protocol]) -> Web {
    let mut web = Web::new("web", &CLUSTER_IPS).node_ports(FIRST_NODE_PORT);
    for (protocol, port) in protocols.iter().zip(FIRST_PORT..) {
        web = web.port(*protocol, port, 8080);
    }
    let pods = site.small.pods.iter();
    pods.fold(web, |web, pod| web.endpoint(pod.v4).endpoint(pod.v6))
}

/// Node addresses, as the other pairs: IPv4 and IPv6.
fn node_addresses(site: &Site) -> [String; 2] {
    let node = &site.small.node;
    [node.v4().to_string(), node.v6().to_string()]
}

fn socket(address: &str, port: u16) -> String {
    let address: IpAddr = address.parse().expect("an address");
    std::net::SocketAddr::new(address, port).to_string()
}

#[test]
fn a_service_of_every_kind_answers_from_everywhere() {
    let mut site = Site::new();
    let _servers = serve_all(&site);
    for net in [
        "198.51.100.0/24",
        "203.0.113.0/24",
        "fd00:97::/64",
        "fd00:98::/64",
    ] {
        site.small.outside.route(net, &site.small.node);
    }
    let web = dual_stack(&site, &Protocol::ALL)
        .spec("externalIPs", EXTERNAL_IPS.as_slice().into())
        .ingress(&INGRESS);
    site.write(&web);
    site.start(&FLAGS);

    let node = node_addresses(&site);
    let node = node.each_ref().map(String::as_str);
    let kinds = [
        ("ClusterIP", CLUSTER_IPS, FIRST_PORT),
        ("externalIP", EXTERNAL_IPS, FIRST_PORT),
        ("load balancer", INGRESS, FIRST_PORT),
        ("NodePort", node, FIRST_NODE_PORT),
    ];
    let from = [
        ("host", site.host()),
        ("pod", site.pod()),
        ("outside", site.outside()),
    ];
    let mut wrong = Vec::new();
    for (kind, addresses, first) in kinds {
        for (protocol, port) in Protocol::ALL.into_iter().zip(first..) {
            for to in addresses.map(|address| socket(address, port)) {
                for (place, client) in &from {
                    // rr: the two calls meet both.
                    let verdicts = [0, 1].map(|_| client.call(protocol, &to));
                    if !both_answered(&verdicts) {
                        wrong.push(format!("{kind} {protocol} {to} from {place}: {verdicts:?}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn both_answered(verdicts: &[Verdict; 2]) -> bool {
    let name = |verdict: &Verdict| match verdict {
        Verdict::Answered { who, .. } => Some(who.clone()),
        _ => None,
    };
    let mut who = verdicts.each_ref().map(name);
    who.sort();
    who == [Some("p1".to_owned()), Some("p2".to_owned())]
}

#[test]
fn a_client_with_affinity_stays_at_its_endpoint() {
    let mut site = Site::new();
    let _servers = serve_all(&site);
    let protocols = [Protocol::Tcp, Protocol::Udp];
    site.write(&dual_stack(&site, &protocols).affinity(600));
    site.start(&FLAGS);
    let other = second_client(&site);

    let node = node_addresses(&site);
    let node = node.each_ref().map(String::as_str);
    let mut wrong = Vec::new();
    for (addresses, first) in [(CLUSTER_IPS, FIRST_PORT), (node, FIRST_NODE_PORT)] {
        for (protocol, port) in protocols.into_iter().zip(first..) {
            for to in addresses.map(|address| socket(address, port)) {
                let call = |client: Client<'_>| client.callees(protocol, &to, 8);
                let mut seen = [call(site.outside()), call(Client::within(&other.namespace))];
                // Still there after another client came.
                seen[0].extend(call(site.outside()));
                let homes = seen.each_ref().map(|callees| callees[0].clone());
                let stay = seen
                    .iter()
                    .zip(&homes)
                    .all(|(c, home)| c.iter().all(|who| who == home));
                // rr: the second client is sent to the other endpoint.
                if !stay || homes[0] == homes[1] {
                    wrong.push(format!("{protocol} {to}: {seen:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// One more machine outside.
fn second_client(site: &Site) -> Outside {
    let other = site.small.topology.outside();
    other.route("10.96.0.0/12", &site.small.node);
    other.route("fd00:96::/112", &site.small.node);
    other
}

#[test]
fn a_changed_affinity_timeout_takes_effect_and_cuts_nobody() {
    let mut site = Site::new();
    let _servers = serve_all(&site);
    let web = |site: &Site| dual_stack(site, &[Protocol::Tcp]);
    site.write(&web(&site).affinity(10_800));
    site.start(&FLAGS);
    let other = second_client(&site);
    let targets = CLUSTER_IPS.map(|ip| socket(ip, FIRST_PORT));
    let hold = |to: &String| {
        let flow = site.outside().connect(Protocol::Tcp, to);
        flow.expect("it answers")
    };
    let mut held = targets.each_ref().map(hold);
    let homes = held.each_mut().map(|flow| flow.ask().who().to_owned());
    let services = |site: &Site, end: &str| {
        let table = site.table();
        let services = table.lines().filter(|line| line.starts_with("-A "));
        services.filter(|line| line.contains(end)).count()
    };
    // A ClusterIP, and a node port at two addresses, for each family.
    assert_eq!(services(&site, "-p 10800"), 6, "{}", site.table());

    site.write(&web(&site).affinity(77));
    site.wait_for_table("the new time-out", |table| !table.contains("-p 10800"));

    assert_eq!(services(&site, "-p 77"), 6, "{}", site.table());
    for (to, home) in targets.iter().zip(&homes) {
        assert_eq!(
            &site.outside().callees(Protocol::Tcp, to, 3),
            &[(); 3].map(|()| home.clone())
        );
        // A client that comes now is remembered for the new time.
        Client::within(&other.namespace).callees(Protocol::Tcp, to, 1);
    }
    let left = remembered(&site, &[other.v4.into(), other.v6.into()]);
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().all(|seconds| *seconds <= 77), "{left:?}");

    site.write(&web(&site));
    site.wait_for_table("no affinity", |table| !table.contains("-p "));

    for (to, (flow, home)) in targets.iter().zip(held.iter_mut().zip(&homes)) {
        let mut who = site.outside().callees(Protocol::Tcp, to, 2);
        who.sort();
        assert_eq!(who, ["p1", "p2"], "nobody is held any more");
        assert_eq!(flow.ask().who(), home, "the connection goes on");
    }
}

/// How long the kernel still remembers where these clients belong, in seconds:
/// entries of the connection table without a client port.
fn remembered(site: &Site, clients: &[IpAddr]) -> Vec<u32> {
    let table = site.node().sh("cat /proc/net/ip_vs_conn");
    let of = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let client = kernel_address(words.get(1)?)?;
        let template = *words.get(2)? == "0000" && clients.contains(&client);
        template.then(|| words.get(8).and_then(|seconds| seconds.parse().ok()))?
    };
    table.lines().filter_map(of).collect()
}

/// `C0A832C9`, or an IPv6 address in brackets or not.
fn kernel_address(word: &str) -> Option<IpAddr> {
    let word = word.trim_matches(['[', ']']);
    if word.contains(':') {
        return word.parse().ok();
    }
    let bits = u32::from_str_radix(word, 16).ok()?;
    Some(std::net::Ipv4Addr::from(bits).into())
}
