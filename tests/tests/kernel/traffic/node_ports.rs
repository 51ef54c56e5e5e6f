//! NodePorts by firewall mark: many addresses, one virtual server a port.

use std::time::Instant;

use kube_ipvs_tests::{Client, Connection, Protocol, Server, Verdict, run, wait_until};

use super::site::{PATIENCE, Site};
use super::web::Web;

const PORTS: u16 = 100;
const FIRST: u16 = 30_080;
const LAST: u16 = FIRST + PORTS - 1;

/// `default/web` over both pods, with so many TCP ports and NodePorts.
fn web(site: &Site, ports: u16) -> Web {
    let web = Web::new("web", &["10.96.0.10"]).node_ports(FIRST);
    let web = (0..ports).fold(web, |web, n| web.port(Protocol::Tcp, 1000 + n, 8080));
    let pods = site.small.pods.iter();
    pods.fold(web, |web, pod| web.endpoint(pod.v4))
}

fn serve(site: &Site) -> [Server; 2] {
    [0, 1].map(|n| site.small.pods[n].serve(Protocol::Tcp, 8080))
}

/// Virtual servers by mark, and all of them.
fn virtual_servers(site: &Site) -> (usize, usize) {
    let table = site.table();
    let servers = table.lines().filter(|line| line.starts_with("-A "));
    let by_mark = servers.clone().filter(|line| line.starts_with("-A -f "));
    (by_mark.count(), servers.count())
}

fn answers(client: &Client<'_>, address: &str, port: u16) -> [String; 2] {
    let who = client.callees(Protocol::Tcp, &format!("{address}:{port}"), 2);
    let mut who: [String; 2] = who.try_into().expect("two answers");
    who.sort();
    who
}

fn hold(site: &Site, to: &str) -> Connection {
    let connection = site.outside().connect(Protocol::Tcp, to);
    connection.expect("it answers")
}

#[test]
fn node_ports_on_many_addresses_are_one_virtual_server_each() {
    let mut site = Site::new();
    let _servers = serve(&site);
    let more: String = (101..150)
        .map(|n| format!("addr add 192.168.50.{n}/24 dev eth0\n"))
        .collect();
    site.node().ip(&more);
    site.write(&web(&site, PORTS));
    site.start(&["--ipvs-min-sync-period=100ms"]);

    // With those of the ClusterIP.
    assert_eq!(virtual_servers(&site), (100, 200));
    for address in ["192.168.50.1", "192.168.50.101", "192.168.50.149"] {
        for port in [FIRST, LAST] {
            for client in [site.outside(), site.pod(), site.host()] {
                assert_eq!(answers(&client, address, port), ["p1", "p2"]);
            }
        }
    }
    let mut held = hold(&site, "192.168.50.101:30080");
    let home = held.ask().who().to_owned();

    site.node().ip("addr add 192.168.50.200/24 dev eth0\n");
    let added = Instant::now();
    let quick = site.outside().timeout(std::time::Duration::from_secs(1));
    wait_until("the new address answers", PATIENCE, || {
        quick
            .connect(Protocol::Tcp, &format!("192.168.50.200:{LAST}"))
            .is_ok()
    });
    eprintln!("answers after {:?}", added.elapsed());
    assert_eq!(virtual_servers(&site), (100, 200), "nothing but elements");

    site.node().ip("addr del 192.168.50.200/24 dev eth0\n");
    wait_until("nothing is left of the address", PATIENCE, || {
        !site
            .node()
            .sh("nft list table ip kube-ipvs")
            .contains("192.168.50.200")
    });
    assert_eq!(held.ask().who(), home, "the connection goes on");
}

#[test]
fn a_local_port_with_the_number_of_a_node_port_is_the_hosts_own() {
    let mut site = Site::new();
    let _servers = serve(&site);
    let outside = &site.small.outside;
    let to = format!("{}:9000", outside.v4);
    let _far = Server::start(&outside.namespace, "far", Protocol::Tcp, &to);
    site.write(&web(&site, 1));
    site.start(&["--nodeport-virtual-servers=mark"]);

    assert_eq!(
        answers(&site.outside(), "192.168.50.1", FIRST),
        ["p1", "p2"]
    );
    let own = site.host().port(FIRST).call(Protocol::Tcp, &to);
    assert_eq!(own.who(), "far");
}

/// By address IPVS cannot tell an answer to the host from a client: where the
/// host may take such ports it is told, and what it is told to do helps.
#[test]
fn a_host_whose_own_ports_may_be_node_ports_is_told_and_the_remedy_helps() {
    let mut site = Site::new();
    let _servers = serve(&site);
    let outside = &site.small.outside;
    let to = format!("{}:9000", outside.v4);
    let _far = Server::start(&outside.namespace, "far", Protocol::Tcp, &to);
    let last = FIRST + 3;
    site.node()
        .sysctl("net/ipv4/ip_local_port_range", &format!("{FIRST} {last}"));
    site.write(&web(&site, 2));
    site.start(&["--nodeport-virtual-servers=address"]);
    site.daemon()
        .wait_for_log("ip_local_reserved_ports", PATIENCE);
    let quick = std::time::Duration::from_millis(500);
    let lost = site
        .host()
        .port(FIRST)
        .timeout(quick)
        .call(Protocol::Tcp, &to);
    assert_eq!(lost, Verdict::TimedOut, "told without need");

    let taken = format!("{FIRST}-{}", FIRST + 1);
    site.node()
        .sysctl("net/ipv4/ip_local_reserved_ports", &taken);
    for _ in 0..40 {
        // Reset, its port is free again.
        let mut own = site.host().connect(Protocol::Tcp, &to).expect("it answers");
        assert_eq!(own.ask().who(), "far");
        assert!(own.local_address().port() > FIRST + 1);
        own.reset();
    }
}

#[test]
fn node_ports_change_between_address_and_mark_without_a_cut() {
    let mut site = Site::new();
    let _servers = serve(&site);
    site.write(&web(&site, 1));
    site.start(&["--nodeport-virtual-servers=address"]);
    let own = "-A -t 192.168.50.1:30080";
    assert!(site.table().contains(own), "{}", site.table());
    let mut held = hold(&site, "192.168.50.1:30080");
    let home = held.ask().who().to_owned();

    site.start(&[
        "--nodeport-virtual-servers=mark",
        "--ipvs-min-sync-period=100ms",
    ]);

    assert!(site.table().contains("-A -f "), "{}", site.table());
    assert_eq!(held.ask().who(), home, "the connection goes on");
    assert_eq!(
        answers(&site.outside(), "192.168.50.1", FIRST),
        ["p1", "p2"]
    );
    let table = site.table();
    assert!(table.contains(own), "kept for its connection:\n{table}");
    drop(held);
    site.wait_for_table("what was kept goes", |table| !table.contains(own));
    assert_eq!(
        answers(&site.outside(), "192.168.50.1", FIRST),
        ["p1", "p2"]
    );
    let listed = site.node().run(|| run("ipvsadm", ["-Ln"]));
    assert!(listed.contains("FWM"), "{listed}");
}
