//! Several Services that want one front.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::fixtures::*;
use crate::k8s::Service;
use crate::{Cluster, FrontKind};

/// Which Service holds the front, and who was warned.
fn outcome(cluster: &mut Cluster, front: &str) -> (String, Vec<String>) {
    cluster.compile();
    let owner = cluster.service_of(&front.parse().unwrap());
    let warned = cluster
        .warnings()
        .into_iter()
        .map(|w| w.object.to_string())
        .collect();
    (
        owner.map(|owner| owner.to_string()).unwrap_or_default(),
        warned,
    )
}

fn shared(name: &str, ip: &str, created: &str) -> Service {
    service(name, ip)
        .load_balancer("203.0.113.5")
        .created(created)
}

fn old() -> Service {
    shared("z-old", "10.96.0.1", "2026-01-01T00:00:00Z")
}

fn young() -> Service {
    shared("a-young", "10.96.0.2", "2026-02-01T00:00:00Z")
}

const FRONT: &str = "203.0.113.5:80/TCP";

#[test]
fn the_oldest_service_holds_the_front_in_any_order_of_arrival() {
    for services in [[old(), young()], [young(), old()]] {
        let mut cluster = cluster();
        for service in services {
            cluster
                .add(service.clone())
                .endpoints(&service, [ep("10.244.1.7")]);
            cluster.compile();
        }
        let (owner, warned) = outcome(&mut cluster, FRONT);
        assert_eq!(owner, "default/z-old");
        assert_eq!(warned, ["Service default/a-young"]);
    }
}

#[test]
fn of_the_same_age_the_first_by_name_holds_it() {
    let time = "2026-01-01T00:00:00Z";
    let mut cluster = cluster();
    for service in [
        shared("b", "10.96.0.1", time),
        shared("a", "10.96.0.2", time),
    ] {
        cluster
            .add(service.clone())
            .endpoints(&service, [ep("10.244.1.7")]);
    }
    assert_eq!(outcome(&mut cluster, FRONT).0, "default/a");
}

#[test]
fn without_a_time_of_creation_a_service_is_the_youngest() {
    let mut undated = young();
    undated.metadata.creation_timestamp = None;
    let mut cluster = cluster();
    for service in [undated, old()] {
        cluster
            .add(service.clone())
            .endpoints(&service, [ep("10.244.1.7")]);
    }
    assert_eq!(outcome(&mut cluster, FRONT).0, "default/z-old");
}

#[test]
fn the_next_one_gets_the_front_when_the_owner_goes() {
    let mut cluster = cluster();
    for service in [old(), young()] {
        cluster
            .add(service.clone())
            .endpoints(&service, [ep("10.244.1.7")]);
    }
    cluster.compile();
    cluster.remove(old());
    let (owner, warned) = outcome(&mut cluster, FRONT);
    assert_eq!(owner, "default/a-young");
    assert!(warned.is_empty());
    assert!(
        cluster
            .desired()
            .vips
            .contains(&"203.0.113.5".parse().unwrap())
    );
}

#[test]
fn the_loser_keeps_what_nobody_else_wants() {
    let mut cluster = cluster();
    let young = young().port("alt", "TCP", 81);
    for service in [old(), young] {
        cluster
            .add(service.clone())
            .endpoints(&service, [ep("10.244.1.7")]);
    }
    assert_eq!(
        outcome(&mut cluster, "10.96.0.2:80/TCP").0,
        "default/a-young"
    );
    assert_eq!(
        outcome(&mut cluster, "203.0.113.5:81/TCP").0,
        "default/a-young:alt"
    );
}

#[test]
fn a_restriction_comes_and_goes_with_the_owner() {
    let closed = old().with(|s| s.spec.load_balancer_source_ranges = vec!["192.0.2.0/24".into()]);
    let mut cluster = cluster();
    for service in [closed.clone(), young()] {
        cluster
            .add(service.clone())
            .endpoints(&service, [ep("10.244.1.7")]);
    }
    assert!(cluster.text().contains(" only 192.0.2.0/24 "));
    cluster.remove(closed);
    assert!(!cluster.text().contains(" only 192.0.2.0/24 "));
}

#[test]
fn a_node_port_and_an_external_address_of_the_host_may_clash() {
    let mut options = options();
    options.allow_external_ips = vec!["0.0.0.0/0".parse().unwrap()];
    let mut cluster = cluster_with(options);
    let first = web().node_port(30080).created("2026-01-01T00:00:00Z");
    let second = bare("other", &["10.96.0.2"]).port("", "TCP", 30080);
    let second = second.external_ip("192.0.2.1");
    for service in [first, second] {
        cluster
            .add(service.clone())
            .endpoints(&service, [ep("10.244.1.7")]);
    }
    let (owner, warned) = outcome(&mut cluster, "192.0.2.1:30080/TCP");
    assert_eq!(owner, "default/web");
    assert_eq!(warned, ["Service default/other"]);
}

#[test]
fn three_rivals_move_up_one_by_one() {
    let third = shared("m", "10.96.0.3", "2026-03-01T00:00:00Z");
    let mut cluster = cluster();
    for service in [third, young(), old()] {
        cluster
            .add(service.clone())
            .endpoints(&service, [ep("10.244.1.7")]);
        cluster.compile();
    }
    assert_eq!(outcome(&mut cluster, FRONT).0, "default/z-old");
    // The owner moves its address away instead of going.
    let moved = service("z-old", "10.96.0.1").created("2026-01-01T00:00:00Z");
    cluster.add(moved);
    let (owner, warned) = outcome(&mut cluster, FRONT);
    assert_eq!(owner, "default/a-young");
    assert_eq!(warned, ["Service default/m"]);
    cluster.remove(young());
    assert_eq!(
        outcome(&mut cluster, FRONT),
        ("default/m".to_owned(), vec![])
    );
}

/// A Service whose front 192.0.2.1:30080/TCP is of this kind, the host's
/// address being 192.0.2.1; the later in the list, the older.
fn claims_as(kind: FrontKind) -> Service {
    let (name, ip, created) = match kind {
        FrontKind::ClusterIp => ("a", "192.0.2.1", "2026-04-01T00:00:00Z"),
        FrontKind::LoadBalancer => ("b", "10.96.0.2", "2026-03-01T00:00:00Z"),
        FrontKind::NodePort => ("c", "10.96.0.3", "2026-02-01T00:00:00Z"),
        _ => ("d", "10.96.0.4", "2026-01-01T00:00:00Z"),
    };
    let service = bare(name, &[ip]).created(created);
    let service = match kind {
        FrontKind::NodePort => return service.port("", "TCP", 80).node_port(30080),
        FrontKind::LoadBalancer => service.load_balancer("192.0.2.1"),
        FrontKind::ExternalIp => service.external_ip("192.0.2.1"),
        _ => service,
    };
    service.port("", "TCP", 30080)
}

const RANKED: [FrontKind; 4] = [
    FrontKind::ClusterIp,
    FrontKind::LoadBalancer,
    FrontKind::NodePort,
    FrontKind::ExternalIp,
];

fn cluster_with_external_ips() -> Cluster {
    let mut options = options();
    options.allow_external_ips = vec!["0.0.0.0/0".parse().unwrap()];
    cluster_with(options)
}

#[test]
fn the_kind_counts_before_the_age_in_any_order_of_arrival() {
    for (place, first) in RANKED.iter().enumerate() {
        for second in &RANKED[place + 1..] {
            let (stronger, weaker) = (claims_as(*first), claims_as(*second));
            for services in [[&stronger, &weaker], [&weaker, &stronger]] {
                let mut cluster = cluster_with_external_ips();
                for service in services {
                    cluster
                        .add(service.clone())
                        .endpoints(service, [ep("10.244.1.7")]);
                    cluster.compile();
                }
                let owner = outcome(&mut cluster, "192.0.2.1:30080/TCP").0;
                let wanted = format!("default/{}", stronger.metadata.name);
                assert_eq!(owner, wanted, "{first} {second}");

                cluster.remove(stronger.clone());
                let owner = outcome(&mut cluster, "192.0.2.1:30080/TCP").0;
                assert_eq!(owner, format!("default/{}", weaker.metadata.name));
            }
        }
    }
}

#[test]
fn a_front_that_changes_its_kind_changes_its_place() {
    let mut cluster = cluster_with_external_ips();
    let balanced = claims_as(FrontKind::LoadBalancer);
    for service in [&balanced, &claims_as(FrontKind::NodePort)] {
        cluster
            .add(service.clone())
            .endpoints(service, [ep("10.244.1.7")]);
    }
    assert_eq!(outcome(&mut cluster, "192.0.2.1:30080/TCP").0, "default/b");

    let external = balanced
        .clone()
        .external_ip("192.0.2.1")
        .with(|s| s.status.load_balancer.ingress.clear());
    cluster.add(external);
    assert_eq!(outcome(&mut cluster, "192.0.2.1:30080/TCP").0, "default/c");

    cluster.add(balanced);
    assert_eq!(outcome(&mut cluster, "192.0.2.1:30080/TCP").0, "default/b");
    assert_eq!(
        outcome(&mut cluster, "192.0.2.1:30080/TCP").1,
        ["Service default/c"]
    );
}

#[test]
fn one_service_holds_a_front_as_the_stronger_of_two_kinds() {
    let mut cluster = cluster_with_external_ips();
    let both = bare("both", &["10.96.0.9"])
        .port("", "TCP", 30080)
        .node_port(30080)
        .external_ip("192.0.2.1");
    let older = claims_as(FrontKind::ExternalIp);
    for service in [&older, &both] {
        cluster
            .add(service.clone())
            .endpoints(service, [ep("10.244.1.7")]);
    }
    assert_eq!(
        outcome(&mut cluster, "192.0.2.1:30080/TCP").0,
        "default/both"
    );
    let front = "192.0.2.1:30080/TCP".parse().unwrap();
    assert_eq!(cluster.kind_of(&front), Some(FrontKind::NodePort));
}

/// Many that want one front and one health-check node port, the first by name
/// the youngest: each that is compiled takes both from the one before.
fn crowd(count: usize) -> Vec<Service> {
    let all = (0..count).map(|n| {
        let (name, ip) = (format!("s{n:04}"), format!("10.96.{}.{}", n / 250, n % 250));
        let created = format!("{:04}-01-01T00:00:00Z", 2026 - n);
        let service = shared(&name, &ip, &created).external_local();
        service.with(|service| service.spec.health_check_node_port = Some(32000))
    });
    all.collect()
}

#[test]
fn a_crowd_at_one_front_is_compiled_a_few_times_each_and_told_who_has_it() {
    let mut cluster = cluster();
    for service in crowd(100) {
        cluster.add(service);
    }
    cluster.compile();

    let count = cluster.compilations();
    assert!(count <= 400, "{count} compilations of 100 Services");
    let warnings = cluster.warnings();
    assert_eq!(warnings.len(), 2 * 99);
    for warning in warnings {
        let text = warning.message;
        assert!(text.contains("for Service default/s0099"), "{text}");
    }

    let before = cluster.compilations();
    cluster.remove(crowd(100).pop().unwrap());
    cluster.compile();
    let count = cluster.compilations() - before;
    assert!(count <= 110, "{count} compilations when the owner goes");
    for warning in cluster.warnings() {
        let text = warning.message;
        assert!(text.contains("for Service default/s0098"), "{text}");
    }
}

#[test]
fn compiled_one_by_one_they_are_told_the_same() {
    let (mut one_by_one, mut at_once) = (cluster(), cluster());
    for service in crowd(20) {
        one_by_one.add(service.clone());
        at_once.add(service);
    }
    one_by_one.compile_each();
    assert!(!one_by_one.is_dirty());
    at_once.compile();
    assert_eq!(one_by_one.warnings(), at_once.warnings());
    assert_eq!(one_by_one.state(), at_once.state());
}
