//! Schedulers as clients feel them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use kube_ipvs_tests::{
    Client, Namespace, Protocol, Server, Verdict, kube_ipvs, output_of, run, wait_until,
};

use super::WEB;
use super::site::{PATIENCE, Site};
use super::web::Web;

/// A site whose Service has this scheduler, and its servers.
fn scheduled(scheduler: &str) -> (Site, [Server; 2]) {
    let mut site = Site::new();
    let servers = [0, 1].map(|n| site.small.pods[n].serve(Protocol::Tcp, 8080));
    site.write(&Web::over(&site.small.pods).option("scheduler", scheduler));
    site.start(&[]);
    (site, servers)
}

#[test]
fn rr_alternates() {
    let (site, _servers) = scheduled("rr");

    let who = site.outside().callees(Protocol::Tcp, WEB, 6);

    assert_ne!(who[0], who[1]);
    assert_eq!([&who[..2], &who[..2]], [&who[2..4], &who[4..]]);
}

/// Were it the same one on every node, it would get all first connections.
#[test]
fn the_first_connections_of_many_nodes_go_to_different_endpoints() {
    const NODES: usize = 7;
    const ENDPOINTS: [&str; 3] = ["10.244.0.2", "10.244.0.3", "10.244.0.4"];
    let web = Web::new("web", &["10.96.0.10"]).port(Protocol::Tcp, 80, 8080);
    let web = ENDPOINTS.into_iter().fold(web, |web, address| {
        web.endpoint(address.parse::<Ipv4Addr>().expect("an address"))
    });
    let manifests = tempfile::tempdir().expect("a directory");
    std::fs::write(manifests.path().join("web.yaml"), web.to_yaml()).expect("write it");
    let first = |number: usize| {
        let node = Namespace::child("node");
        let serve = |address: &str| {
            node.ip(&format!("addr add {address}/32 dev lo\n"));
            Server::start(&node, address, Protocol::Tcp, &format!("{address}:8080"))
        };
        let _servers = ENDPOINTS.map(serve);
        let name = format!("--hostname-override=node-{number}");
        let mut command = kube_ipvs(&node, ["run", "--once", &name, "--manifests"]);
        output_of(command.arg(manifests.path()));
        let verdict = Client::within(&node).call(Protocol::Tcp, WEB);
        verdict.who().to_owned()
    };
    let firsts: Vec<String> = (1..=NODES).map(first).collect();

    let met: BTreeSet<&str> = firsts.iter().map(String::as_str).collect();
    assert_eq!(met, ENDPOINTS.into(), "{firsts:?}");
}

#[test]
fn wrr_gives_each_what_it_weighs() {
    let mut site = Site::new();
    let pods = &site.small.pods;
    let _servers = [0, 1].map(|n| pods[n].serve(Protocol::Tcp, 8080));
    let web = Web::new("web", &["10.96.0.10"])
        .port(Protocol::Tcp, 80, 8080)
        .option("scheduler", "wrr")
        .option("weights", "node=3,other=1");
    let web = web.endpoint(pods[0].v4);
    site.write(&web.endpoint_on("node-2", pods[1].v4));
    site.start(&[]);

    let who = site.outside().callees(Protocol::Tcp, WEB, 400);

    let near = site.small.pods[0].name();
    let share = who.iter().filter(|who| *who == near).count();
    // Three of each four, wherever a round began: a call that somebody had to
    // make twice moves it by no more than three.
    assert!((297..=303).contains(&share), "{share} of 400, not 300");
}

/// Each datagram is scheduled by itself, so that so many are soon done.
#[test]
fn wrr_splits_ten_thousand_by_weight() {
    const DATAGRAMS: u64 = 10_000;
    let mut site = Site::new();
    let pods = &site.small.pods;
    let web = Web::new("web", &["10.96.0.10"])
        .port(Protocol::Udp, 514, 8080)
        .option("one-packet", "true")
        .option("scheduler", "wrr")
        .option("weights", "node=3,other=1");
    let web = web.endpoint(pods[0].v4);
    site.write(&web.endpoint_on("node-2", pods[1].v4));
    site.start(&[]);
    let client = site.outside();
    let mut flow = client
        .connect(Protocol::Udp, "10.96.0.10:514")
        .expect("UDP needs no answer");

    (0..DATAGRAMS).for_each(|_| flow.tell());

    let scheduled = || {
        let shown = ["-Ln", "--stats", "--exact"];
        let statistics = site.node().run(|| run("ipvsadm", shown));
        [0, 1].map(|n| connections_to(&statistics, site.small.pods[n].v4))
    };
    let mut counts = [0; 2];
    // What a full queue dropped before IPVS was not scheduled.
    wait_until(
        "statistics, of two seconds ago, have them",
        PATIENCE,
        || {
            let before = std::mem::replace(&mut counts, scheduled());
            counts.iter().sum::<u64>() > DATAGRAMS / 2 && before == counts
        },
    );
    let [near, far] = counts;
    // Three of each four, wherever a round began.
    assert!(near.abs_diff(3 * far) <= 4, "{near} and {far}");
}

/// Connections to an endpoint so far, by `ipvsadm -Ln --stats --exact`.
fn connections_to(statistics: &str, pod: Ipv4Addr) -> u64 {
    let to = format!("-> {pod}:8080");
    let line = statistics.lines().find(|line| line.contains(&to));
    let count = line.and_then(|line| line.split_whitespace().nth(2));
    count.map_or(0, |count| count.parse().expect(statistics))
}

#[test]
fn lc_picks_the_idle_one() {
    let (site, _servers) = scheduled("lc");
    let client = site.outside();
    let connect = || client.connect(Protocol::Tcp, WEB).expect("it answers");
    let (mut first, mut second) = (connect(), connect());
    let (busy, idle) = (first.ask().who().to_owned(), second.ask().who().to_owned());
    assert_ne!(busy, idle, "each gets one");

    drop(second);

    let who = client.callees(Protocol::Tcp, WEB, 4);
    assert_eq!(who, [idle.as_str(); 4], "{busy} is busy");
    assert_eq!(first.ask().who(), busy);
}

#[test]
fn sh_keeps_a_client_where_it_was() {
    let (site, _servers) = scheduled("sh");
    let outside = &site.small.outside.namespace;
    let addresses: Vec<String> = (210..218).map(|n| format!("192.168.50.{n}")).collect();
    for address in &addresses {
        outside.sh(&format!("ip addr add {address}/24 dev eth0"));
    }

    let mut used = BTreeSet::new();
    for address in &addresses {
        let from = address.parse().expect("an address");
        let who = Client::within(outside)
            .address(from)
            .callees(Protocol::Tcp, WEB, 3);
        assert_eq!(who, [who[0].as_str(); 3], "from {address}");
        used.insert(who[0].clone());
    }

    assert_eq!(used.len(), 2, "clients are spread: {used:?}");
}

#[test]
fn a_scheduler_changes_without_a_cut() {
    let (site, _servers) = scheduled("rr");
    let mut held = site
        .outside()
        .connect(Protocol::Tcp, WEB)
        .expect("it answers");
    let who = held.ask().who().to_owned();

    site.write(&Web::over(&site.small.pods).option("scheduler", "mh"));
    site.wait_for_table("mh", |table| table.contains("-t 10.96.0.10:80 -s mh"));

    assert_eq!(held.ask().who(), who);
}

#[test]
fn one_packet_scheduling_spreads_a_flow_and_brings_no_answer() {
    let mut site = Site::new();
    let pods = &site.small.pods;
    let _servers = [0, 1].map(|n| pods[n].serve(Protocol::Udp, 8080));
    let web = Web::new("web", &["10.96.0.10"])
        .port(Protocol::Udp, 514, 8080)
        .option("one-packet", "true");
    site.write(&pods.iter().fold(web, |web, pod| web.endpoint(pod.v4)));
    site.start(&[]);
    let client = site.outside().timeout(Duration::from_millis(300));
    let mut flow = client
        .connect(Protocol::Udp, "10.96.0.10:514")
        .expect("UDP needs no answer");

    // As the kernel has it, and as our limitations say.
    let verdicts = [0; 4].map(|_| flow.ask());

    assert_eq!(verdicts, [0; 4].map(|_| Verdict::TimedOut));
    // Statistics are of two seconds ago.
    wait_until("both endpoints got two of them", PATIENCE, || {
        let statistics = site.node().run(|| run("ipvsadm", ["-Ln", "--stats"]));
        site.small.pods.iter().all(|pod| {
            let to = format!("-> {}:8080", pod.v4);
            let line = statistics.lines().find(|line| line.contains(&to));
            // After the destination: connections, packets in.
            line.and_then(|line| line.split_whitespace().nth(3)) == Some("2")
        })
    });
}

#[test]
fn the_owner_of_a_service_decides_whose_address_its_endpoints_see() {
    let mut site = Site::new();
    let [pod, server] = &site.small.pods;
    let _server = server.serve(Protocol::Tcp, 8080);
    let (client, pod) = (IpAddr::from(site.small.outside.v4), IpAddr::from(pod.v4));
    let web = Web::new("web", &["10.96.0.10"]).port(Protocol::Tcp, 80, 8080);
    let web = web.endpoint(server.v4);
    site.write(&web);
    site.start(&[
        "--cluster-cidr=10.244.0.0/16",
        "--ipvs-min-sync-period=100ms",
    ]);
    let shown = |site: &Site| {
        [
            site.outside().call(Protocol::Tcp, WEB).saw() == client,
            site.pod().call(Protocol::Tcp, WEB).saw() == pod,
        ]
    };
    assert_eq!(
        shown(&site),
        [false, true],
        "clients of the cluster's network"
    );

    for (asked, wanted) in [
        ("never", [true, true]),
        ("always", [false, false]),
        ("auto", [false, true]),
    ] {
        site.write(&web.clone().option("masquerade", asked));
        wait_until(asked, PATIENCE, || shown(&site) == wanted);
    }
}
