//! Clients whose endpoint leaves, though something still binds them to it: their
//! affinity, their one source port, a scheduler that hashes.

use std::net::IpAddr;

use kube_ipvs_tests::{Client, Protocol, Server, Verdict};

use super::WEB;
use super::site::Site;
use super::web::{State, Web};

/// The flags of these tests.
const QUICK: [&str; 1] = ["--ipvs-min-sync-period=100ms"];
/// No connection waits for it: long enough for a SYN that is sent again.
const LATE: std::time::Duration = std::time::Duration::from_secs(15);

fn serve(site: &Site) -> [Server; 2] {
    [0, 1].map(|n| site.small.pods[n].serve(Protocol::Tcp, 8080))
}

/// `default/web` over the first pod alone, and then with the second in its place
/// while the first is held by an open connection.
fn moved(web: &Web, site: &Site) -> [Web; 2] {
    let [p1, p2] = &site.small.pods;
    let only = web.clone().endpoint(p1.v4);
    let next = web
        .clone()
        .endpoint_in(p1.v4, State::Leaving)
        .endpoint(p2.v4);
    [only, next]
}

/// The kernel remembers for three hours where this client belongs; of a server
/// that takes nobody any more it must forget it.
#[test]
fn a_sticky_client_is_served_as_soon_as_its_pod_is_replaced() {
    let mut site = Site::new();
    let _servers = serve(&site);
    let web = Web::over(&[]).affinity(10_800);
    let [only, next] = moved(&web, &site);
    site.write(&only);
    site.start(&QUICK);
    let client = site.outside().timeout(LATE);
    let mut held = client.connect(Protocol::Tcp, WEB).expect("it answers");
    assert_eq!(held.ask().who(), "p1");

    site.write(&next);
    site.wait_for_table("p1 drains", |table| {
        table.contains("-r 10.244.1.2:8080 -m -w 0") && table.contains("10.244.1.3")
    });

    assert_eq!(client.callees(Protocol::Tcp, WEB, 3), ["p2"; 3]);
    assert_eq!(held.ask().who(), "p1");
    site.write(&web.endpoint(site.small.pods[1].v4));
    site.wait_for_table("p1 is gone", |table| !table.contains("10.244.1.2"));
    assert_eq!(client.callees(Protocol::Tcp, WEB, 3), ["p2"; 3]);
}

/// As an NFS client does: the kernel knows its connection still, by a server
/// that is held by somebody else.
#[test]
fn a_client_with_one_privileged_port_follows_the_only_endpoint() {
    let mut site = Site::new();
    let _servers = serve(&site);
    let [only, next] = moved(&Web::over(&[]), &site);
    site.write(&only);
    site.start(&QUICK);
    let outside = site.outside().timeout(LATE);
    let client = outside.clone().port(800);
    let mut other = outside.connect(Protocol::Tcp, WEB).expect("it answers");
    let mut mount = client.connect(Protocol::Tcp, WEB).expect("it answers");
    assert_eq!([other.ask().who(), mount.ask().who()], ["p1"; 2]);

    site.write(&next);
    site.wait_for_table("p1 drains", |table| {
        table.contains("-r 10.244.1.2:8080 -m -w 0") && table.contains("10.244.1.3")
    });
    for _ in 0..3 {
        mount.reset();
        mount = client.connect(Protocol::Tcp, WEB).expect("it answers");
        assert_eq!(mount.ask().who(), "p2");
    }
    assert_eq!(other.ask().who(), "p1");
}

/// Whom nothing serves any more is told so, and not left to wait: that is
/// `expire_nodest_conn`, without which this kernel says nothing.
#[test]
fn a_connection_to_a_removed_endpoint_is_reset_at_once() {
    let mut site = Site::new();
    let _servers = serve(&site);
    let [p1, p2] = [0, 1].map(|n| site.small.pods[n].v4);
    let web = Web::over(&[]);
    for (setting, verdict) in [("1", Verdict::Reset), ("0", Verdict::TimedOut)] {
        site.write(&web.clone().endpoint(p1));
        // No audit sets it again.
        site.start(&[QUICK[0], "--ipvs-sync-period=1h"]);
        site.node()
            .sysctl("net/ipv4/vs/expire_nodest_conn", setting);
        let client = site.outside();
        let mut mount = client.connect(Protocol::Tcp, WEB).expect("it answers");
        assert_eq!(mount.ask().who(), "p1");

        site.write(&web.clone().endpoint(p2));
        site.wait_for_table("p1 is gone", |table| {
            !table.contains("10.244.1.2") && table.contains("10.244.1.3")
        });

        assert_eq!(mount.ask(), verdict, "expire_nodest_conn={setting}");
        if verdict == Verdict::Reset {
            mount.reset();
            assert_eq!(client.call(Protocol::Tcp, WEB).who(), "p2");
        }
    }
}

/// Of a server without weight the table of `mh` and `sh` still has places.
#[test]
fn mh_and_sh_refuse_nobody_while_an_endpoint_drains() {
    const SERVICES: [(&str, &str); 2] = [("mh", "10.96.0.10"), ("sh", "10.96.0.11")];
    let mut site = Site::new();
    let third = site.small.node.pod("p3");
    let _servers = (serve(&site), third.serve(Protocol::Tcp, 8080));
    let first = site.small.pods[0].v4;
    let rest = [site.small.pods[1].v4, third.v4];
    let write = |site: &Site, state: State| {
        for (scheduler, vip) in SERVICES {
            let web = Web::new(scheduler, &[vip]).port(Protocol::Tcp, 80, 8080);
            let web = web.option("scheduler", scheduler).endpoint_in(first, state);
            site.write(&rest.into_iter().fold(web, Web::endpoint));
        }
    };
    write(&site, State::Ready);
    site.start(&QUICK);
    let outside = &site.small.outside.namespace;
    let clients: Vec<IpAddr> = (210..226).map(|n| [192, 168, 50, n].into()).collect();
    let addresses = clients
        .iter()
        .map(|at| format!("addr add {at}/24 dev eth0\n"));
    outside.ip(&addresses.collect::<String>());
    let call = |vip: &str| -> Vec<String> {
        let to = format!("{vip}:80");
        let from = |address: &IpAddr| Client::within(outside).timeout(LATE).address(*address);
        let call = |address| from(address).call(Protocol::Tcp, &to).who().to_owned();
        clients.iter().map(call).collect()
    };
    let before = SERVICES.map(|(_, vip)| call(vip));
    let _held = SERVICES.map(|(_, vip)| hold_at("p1", &site, outside, &clients, vip));

    write(&site, State::Leaving);
    site.wait_for_table("both drain", |table| {
        table.matches("-r 10.244.1.2:8080 -m -w 0").count() == 2
    });

    for ((scheduler, vip), before) in SERVICES.iter().zip(&before) {
        let after = call(vip);
        for (was, is) in before.iter().zip(&after) {
            let right = if was == "p1" { is != "p1" } else { is == was };
            assert!(right, "{scheduler}: {before:?}, then {after:?}");
        }
    }
}

/// An open connection to one endpoint, by the client whom the hash sends there.
fn hold_at(
    name: &str,
    site: &Site,
    outside: &kube_ipvs_tests::Namespace,
    clients: &[IpAddr],
    vip: &str,
) -> kube_ipvs_tests::Connection {
    let to = format!("{vip}:80");
    let connect = |address: &IpAddr| {
        let client = Client::within(outside).address(*address);
        let mut connection = client.connect(Protocol::Tcp, &to).expect("it answers");
        (connection.ask().who() == name).then_some(connection)
    };
    let found = clients.iter().find_map(connect);
    found.unwrap_or_else(|| panic!("nobody is sent to {name}: {}", site.table()))
}
