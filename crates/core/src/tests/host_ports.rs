//! Ports of this host: reserved by the operator, or listened on by the host itself.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::fixtures::*;
use crate::k8s::Service;
use crate::state::Protocol;
use crate::{Cluster, Event, HostAddress, Listener, Options};

fn with(options: Options, services: &[Service]) -> Cluster {
    let mut cluster = cluster_with(options);
    cluster.host(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    for service in services {
        cluster
            .add(service.clone())
            .endpoints(service, [ep("10.244.1.7")]);
    }
    cluster.compile();
    cluster
}

fn ssh() -> Service {
    service("ssh", "10.96.0.1").node_port(22)
}

fn reserving(ports: &[core::ops::RangeInclusive<u16>]) -> Options {
    Options {
        reserved_ports: ports.to_vec(),
        ..options()
    }
}

fn fronts(cluster: &Cluster, port: u16) -> Vec<String> {
    let keys = cluster.fronts().map(|(key, ..)| key.to_string());
    let end = format!(":{port}/TCP");
    keys.filter(|key| key.ends_with(&end)).collect()
}

fn warnings(cluster: &Cluster) -> Vec<String> {
    let all = cluster.warnings().into_iter();
    all.map(|warning| warning.to_string()).collect()
}

/// The host's program on a port, as it is told.
fn listen(cluster: &mut Cluster, protocol: Protocol, sockets: &[&str]) {
    let sockets = sockets.iter().map(|text| {
        let socket: core::net::SocketAddr = text.parse().unwrap();
        Listener {
            protocol,
            address: socket.ip(),
            port: socket.port(),
        }
    });
    cluster.apply(Event::Listeners(sockets.collect()));
    cluster.compile();
}

const LISTENS: &str = "Service default/ssh: port \"\": 22/TCP is a port on which this node itself \
                       listens; IPVS takes what clients send there, so choose another, or name it \
                       in --nodeport-reserved-ports";

#[test]
fn a_reserved_port_is_served_nowhere_on_this_hosts_addresses() {
    let balanced = bare("lb", &["10.96.0.2"])
        .port("", "TCP", 6443)
        .load_balancer("192.0.2.2")
        .load_balancer("203.0.113.5");
    let cluster = with(reserving(&[22..=22, 6000..=7000]), &[ssh(), balanced]);
    assert!(fronts(&cluster, 22).is_empty());
    // Elsewhere the number means nothing to this host.
    assert_eq!(
        fronts(&cluster, 6443),
        ["10.96.0.2:6443/TCP", "203.0.113.5:6443/TCP"]
    );
    let not = "is among --nodeport-reserved-ports; it is not served on this node's own addresses";
    assert_eq!(
        warnings(&cluster),
        [
            format!("Service default/lb: port \"\": 6443/TCP {not}"),
            format!("Service default/ssh: port \"\": 22/TCP {not}"),
        ]
    );
    assert_eq!(fronts(&with(reserving(&[23..=30]), &[ssh()]), 22).len(), 2);
}

#[test]
fn a_reserved_port_answers_no_health_check() {
    let checked = web().load_balancer("203.0.113.5").external_local();
    let checked = checked.with(|s| s.spec.health_check_node_port = Some(10_256));
    let cluster = with(reserving(&[10_250..=10_260]), &[checked]);
    assert!(cluster.health_checks().is_empty());
    assert_eq!(warnings(&cluster).len(), 1);
}

#[test]
fn a_port_on_which_the_host_listens_is_served_and_warned_of_once() {
    let mut cluster = with(options(), &[ssh()]);
    assert_eq!(cluster.host_ports(), BTreeSet::from([(Protocol::Tcp, 22)]));
    for sockets in [["0.0.0.0:22"], ["[::]:22"], ["192.0.2.2:22"]] {
        listen(&mut cluster, Protocol::Tcp, &sockets);
        assert_eq!(warnings(&cluster), [LISTENS], "{sockets:?}");
        assert_eq!(fronts(&cluster, 22).len(), 2, "{sockets:?}");
    }
    for (protocol, socket) in [
        (Protocol::Tcp, "127.0.0.1:22"),
        (Protocol::Tcp, "0.0.0.0:23"),
        (Protocol::Udp, "0.0.0.0:22"),
    ] {
        listen(&mut cluster, protocol, &[socket]);
        assert!(warnings(&cluster).is_empty(), "{socket}");
    }
}

#[test]
fn only_those_concerned_are_compiled_again() {
    let mut cluster = with(
        options(),
        &[ssh(), service("other", "10.96.0.2").node_port(30_000)],
    );
    cluster.apply(Event::Listeners(BTreeSet::from([Listener {
        protocol: Protocol::Tcp,
        address: [0, 0, 0, 0].into(),
        port: 22,
    }])));
    assert!(cluster.is_dirty());
    assert!(
        cluster.compile().is_empty(),
        "nothing but a warning changes"
    );
    let same = BTreeSet::from([Listener {
        protocol: Protocol::Tcp,
        address: [0, 0, 0, 0].into(),
        port: 22,
    }]);
    cluster.apply(Event::Listeners(same));
    assert!(!cluster.is_dirty());
}

#[test]
fn somebody_looks_when_a_port_is_new_and_not_for_every_change() {
    let mut cluster = with(options(), &[ssh()]);
    assert!(cluster.take_new_host_ports());
    assert!(!cluster.take_new_host_ports());
    cluster.endpoints(&ssh(), [ep("10.244.1.8")]);
    cluster.add(service("plain", "10.96.0.3"));
    cluster.compile();
    assert!(!cluster.take_new_host_ports());

    cluster.add(ssh().node_port(23));
    cluster.compile();
    assert!(cluster.take_new_host_ports());
    cluster.remove(ssh());
    cluster.compile();
    assert!(cluster.host_ports().is_empty());
    assert!(!cluster.take_new_host_ports());
}

#[test]
fn a_host_program_that_is_the_endpoint_itself_is_no_clash() {
    let own = service("web", "10.96.0.1").load_balancer("192.0.2.1");
    let mut cluster = cluster_with(options());
    cluster
        .add(own.clone())
        .add(slice(&own, [ep("192.0.2.1").here()]).target(80));
    cluster.compile();
    listen(&mut cluster, Protocol::Tcp, &["0.0.0.0:80"]);
    assert!(warnings(&cluster).is_empty());
    cluster.add(slice(&own, [ep("10.244.1.7")]));
    cluster.compile();
    assert_eq!(warnings(&cluster).len(), 1);
}

#[test]
fn our_own_health_check_port_is_named_as_such_only() {
    let checked = web().load_balancer("203.0.113.5").external_local();
    let checked = checked.with(|s| s.spec.health_check_node_port = Some(32_000));
    let clash = service("np", "10.96.0.2").node_port(32_000);
    let mut cluster = with(options(), &[checked, clash]);
    listen(&mut cluster, Protocol::Tcp, &["0.0.0.0:32000"]);
    let warnings = warnings(&cluster);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("healthCheckNodePort"), "{warnings:?}");
}

/// A dummy link `nodelocaldns` with the address of the cluster's DNS.
fn with_cache_of_dns() -> Cluster {
    let dns = bare("dns", &["10.96.0.10"]).port("dns", "UDP", 53);
    let dns = dns.port("metrics", "TCP", 9153);
    let mut cluster = cluster_with(options());
    let host = |address: &str, link: &str| HostAddress {
        address: address.parse().unwrap(),
        prefix: 32,
        link: link.into(),
    };
    let all = [
        host("192.0.2.1", "eth0"),
        host("10.96.0.10", "nodelocaldns"),
    ];
    cluster.apply(Event::HostAddresses(all.into()));
    cluster.add(dns.clone()).endpoints(&dns, [ep("10.244.1.7")]);
    cluster.compile();
    cluster
}

fn all_fronts(cluster: &Cluster) -> Vec<String> {
    let keys = cluster.fronts().map(|(key, ..)| key.to_string());
    keys.collect()
}

#[test]
fn a_front_at_which_a_link_of_the_host_listens_is_left_to_it() {
    let mut cluster = with_cache_of_dns();
    let both = ["10.96.0.10:53/UDP", "10.96.0.10:9153/TCP"];
    assert_eq!(all_fronts(&cluster), both, "nobody listens yet");

    listen(&mut cluster, Protocol::Udp, &["10.96.0.10:53"]);
    let state = cluster.state();
    assert_eq!(all_fronts(&cluster), ["10.96.0.10:9153/TCP"]);
    assert!(state.vips.is_empty() && state.table.guarded.is_empty());
    let left = "10.96.0.10:53/UDP".parse().unwrap();
    assert_eq!(state.row(&left), None);
    let told = warnings(&cluster);
    let words = "port \"dns\": 10.96.0.10:53/UDP is left to the program of this node that listens \
                 there: the address is owned by link nodelocaldns";
    assert!(told.iter().any(|told| told.contains(words)), "{told:?}");

    // It is looked at on, and served when the program or its link goes.
    let looked = (Protocol::Udp, 53);
    assert!(cluster.host_ports().contains(&looked));
    listen(&mut cluster, Protocol::Udp, &[]);
    assert_eq!(all_fronts(&cluster), both);
    listen(&mut cluster, Protocol::Udp, &["10.96.0.10:53"]);
    cluster.host(&["192.0.2.1"]);
    let state = cluster.state();
    assert_eq!(all_fronts(&cluster), both);
    assert!(state.vips.contains(&left.address));
}

#[test]
fn who_listens_at_all_addresses_or_with_another_protocol_takes_no_front() {
    let mut cluster = with_cache_of_dns();
    for (protocol, socket) in [
        (Protocol::Udp, "0.0.0.0:53"),
        (Protocol::Tcp, "10.96.0.10:53"),
        (Protocol::Udp, "192.0.2.1:53"),
    ] {
        listen(&mut cluster, protocol, &[socket]);
        assert_eq!(all_fronts(&cluster).len(), 2, "{socket}");
    }
}
