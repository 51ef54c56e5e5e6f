//! NodePorts on loopback addresses: who is served there, by which endpoints, and
//! that the kernel is told nothing of it.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::cluster::Cluster;
use crate::fixtures::*;
use crate::k8s::Service;
use crate::localhost::LocalhostPort;
use crate::options::{NodePortAddresses, Options};
use crate::output::Output;
use crate::regarding::Uid;
use crate::state::Family;

fn chosen(families: &[Family]) -> Cluster {
    cluster_with(Options {
        localhost_node_ports: families.to_vec(),
        ..options()
    })
}

fn both() -> Cluster {
    chosen(&[Family::V4, Family::V6])
}

/// The ports that are listened on, as text.
fn listened(cluster: &mut Cluster) -> String {
    cluster.compile();
    let ports = Output::of(cluster).localhost_node_ports;
    let lines = ports.iter().map(|port| format!("{port}\n"));
    lines.collect()
}

fn nodes() -> Service {
    web().node_port(30080)
}

fn dual() -> Service {
    bare("web", &["10.96.0.1", "fd00::1"])
        .port("", "TCP", 80)
        .node_port(30080)
}

/// With an endpoint of each family, and IPv4's on two nodes.
fn add(cluster: &mut Cluster, service: &Service) {
    let v4 = [ep("10.244.2.9"), ep("10.244.1.7").here()];
    cluster.add(service.clone()).endpoints(service, v4);
    cluster.add(slice(service, [ep("fd00:244::7")]).named("web-6"));
}

#[test]
fn who_is_listened_for_and_by_whom_served() {
    let v4 = "127.0.0.1:30080/TCP default/web -> 10.244.1.7:8080 10.244.2.9:8080\n";
    let v6 = "[::1]:30080/TCP default/web -> [fd00:244::7]:8080\n";
    let dual_stack = format!("{v4}{v6}");
    let sticky =
        |service: Service| service.with(|s| s.spec.session_affinity = Some("ClientIP".to_owned()));
    let cases: [(&str, &[Family], Service, &str); 9] = [
        ("not chosen", &[], dual(), ""),
        (
            "both families",
            &[Family::V4, Family::V6],
            dual(),
            &dual_stack,
        ),
        ("one family", &[Family::V6], dual(), v6),
        (
            "a Service of one family",
            &[Family::V4, Family::V6],
            nodes(),
            v4,
        ),
        ("no NodePort", &[Family::V4], web(), ""),
        (
            "only endpoints of this node",
            &[Family::V4],
            nodes().external_local(),
            "127.0.0.1:30080/TCP default/web -> 10.244.1.7:8080\n",
        ),
        (
            "of a Local policy without an endpoint here nobody",
            &[Family::V6],
            dual().external_local(),
            "",
        ),
        (
            "affinity",
            &[Family::V6],
            sticky(dual()),
            "[::1]:30080/TCP default/web affinity 10800 -> [fd00:244::7]:8080\n",
        ),
        (
            "UDP",
            &[Family::V4],
            bare("web", &["10.96.0.1"])
                .port("", "UDP", 80)
                .node_port(30080),
            "",
        ),
    ];
    for (what, families, service, wanted) in cases {
        let mut cluster = chosen(families);
        add(&mut cluster, &service);
        assert_eq!(listened(&mut cluster), wanted, "{what}");
    }
}

#[test]
fn only_endpoints_that_take_new_connections_are_chosen_from() {
    let mut cluster = both();
    let all = [
        ep("10.244.1.7"),
        ep("10.244.1.8").terminating(),
        ep("10.244.1.9").not_ready(),
    ];
    cluster.add(nodes()).endpoints(&nodes(), all);
    assert_eq!(
        listened(&mut cluster),
        "127.0.0.1:30080/TCP default/web -> 10.244.1.7:8080\n"
    );

    cluster.endpoints(&nodes(), [ep("10.244.1.8").terminating()]);
    assert_eq!(
        listened(&mut cluster),
        "127.0.0.1:30080/TCP default/web -> 10.244.1.8:8080\n"
    );

    cluster.endpoints(&nodes(), [ep("10.244.1.9").not_ready()]);
    assert_eq!(listened(&mut cluster), "");
}

#[test]
fn the_kernel_is_told_the_same_with_and_without() {
    let mut with = both();
    let mut without = chosen(&[]);
    add(&mut with, &dual());
    add(&mut without, &dual());

    assert_eq!(with.state(), without.state());
    assert_eq!(with.host_ports(), without.host_ports());
    assert_eq!(with.warnings(), without.warnings());
}

#[test]
fn without_other_addresses_loopback_alone_is_served() {
    let mut cluster = cluster_with(Options {
        localhost_node_ports: vec![Family::V4],
        node_port_addresses: NodePortAddresses::Cidrs(vec!["127.0.0.0/8".parse().unwrap()]),
        ..options()
    });
    add(&mut cluster, &nodes());

    assert!(listened(&mut cluster).starts_with("127.0.0.1:30080/TCP"));
    assert!(cluster.host_ports().is_empty(), "none is taken by IPVS");
    assert!(!cluster.text().contains("192.0.2.1:30080"));
}

#[test]
fn a_reserved_port_is_the_hosts_there_too_and_told_once() {
    let mut cluster = cluster_with(Options {
        localhost_node_ports: vec![Family::V4],
        reserved_ports: vec![30000..=30100],
        ..options()
    });
    add(&mut cluster, &nodes());

    assert_eq!(listened(&mut cluster), "");
    let messages: Vec<_> = cluster.warnings().into_iter().map(|w| w.message).collect();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0].contains("--nodeport-reserved-ports"));
}

#[test]
fn of_two_services_the_older_has_the_port_until_it_goes() {
    let first = service("first", "10.96.0.2").created("2026-01-01T00:00:00Z");
    let then = service("then", "10.96.0.3").created("2026-02-01T00:00:00Z");
    let (first, then) = (first.node_port(30080), then.node_port(30080));
    let mut cluster = both();
    cluster
        .add(then.clone())
        .endpoints(&then, [ep("10.244.1.8")]);
    cluster
        .add(first.clone())
        .endpoints(&first, [ep("10.244.1.7")]);
    assert_eq!(
        listened(&mut cluster),
        "127.0.0.1:30080/TCP default/first -> 10.244.1.7:8080\n"
    );

    cluster.remove(first);
    assert_eq!(
        listened(&mut cluster),
        "127.0.0.1:30080/TCP default/then -> 10.244.1.8:8080\n"
    );

    cluster.remove(then);
    assert_eq!(listened(&mut cluster), "");
}

#[test]
fn what_does_not_change_stays_the_same_pointer() {
    let mut cluster = both();
    add(&mut cluster, &nodes());
    let other = service("other", "10.96.0.2").node_port(30081);
    cluster
        .add(other.clone())
        .endpoints(&other, [ep("10.244.1.8")]);
    cluster.compile();
    let before = cluster.localhost_node_ports().clone();

    // Compiled again, to the same.
    cluster.add(other.clone());
    cluster.compile();
    assert!(Arc::ptr_eq(&before, cluster.localhost_node_ports()));

    cluster.endpoints(&other, [ep("10.244.1.9")]);
    cluster.compile();
    let after = cluster.localhost_node_ports();
    let same = |at: &str| -> bool {
        let at = at.parse().unwrap();
        let of = |ports: &crate::LocalhostPorts| -> Arc<LocalhostPort> { ports[&at].clone() };
        Arc::ptr_eq(&of(&before), &of(after))
    };
    assert!(same("127.0.0.1:30080"));
    assert!(!same("127.0.0.1:30081"));
}

/// Whom an Event is about, if the port cannot be opened.
#[test]
fn a_port_names_the_uid_of_its_service() {
    let uid = Uid::read("5d1c2d9a-0000-4000-8000-000000004711");
    let mut cluster = both();
    add(&mut cluster, &nodes().with(|s| s.metadata.uid = uid));
    cluster.compile();
    let ports = cluster.localhost_node_ports().values();
    assert_eq!(ports.map(|port| port.uid).collect::<Vec<_>>(), [uid]);
}
