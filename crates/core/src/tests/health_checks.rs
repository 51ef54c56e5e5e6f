//! Health-check node ports: what they count, and who answers.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::fixtures::*;
use crate::k8s::Service;
use crate::{Cluster, Event};

const PORT: i64 = 32_000;

fn checked(name: &str, ip: &str, vip: &str, created: &str) -> Service {
    service(name, ip)
        .load_balancer(vip)
        .external_local()
        .created(created)
        .with(|s| s.spec.health_check_node_port = Some(PORT))
}

fn old() -> Service {
    checked("z-old", "10.96.0.1", "203.0.113.1", "2026-01-01T00:00:00Z")
}

fn young() -> Service {
    checked(
        "a-young",
        "10.96.0.2",
        "203.0.113.2",
        "2026-02-01T00:00:00Z",
    )
}

fn node_port(name: &str, protocol: &str, port: i64) -> Service {
    bare(name, &["10.96.0.9"])
        .port("", protocol, 80)
        .node_port(port)
}

/// Who answers, on which addresses the guard lets it pass, and what is warned of.
fn outcome(cluster: &mut Cluster) -> (Vec<String>, Vec<String>, Vec<String>) {
    let text = cluster.text();
    let passed = text.lines().filter_map(|line| {
        let mut words = line.strip_prefix("front  ")?.split(' ');
        let address = words.next()?.strip_suffix(":32000/TCP")?;
        let open = matches!(words.next(), Some("serve" | "drop-outside"));
        open.then(|| address.trim_matches(['[', ']']).to_owned())
    });
    let checks = cluster.health_checks().into_iter();
    (
        checks.map(|check| check.service.to_string()).collect(),
        passed.collect(),
        cluster.warnings().iter().map(ToString::to_string).collect(),
    )
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|word| (*word).to_owned()).collect()
}

/// Adds in this order, each compiled before the next comes.
fn with(services: &[Service]) -> Cluster {
    let mut cluster = cluster();
    for service in services {
        cluster
            .add(service.clone())
            .endpoints(service, [ep("10.244.1.7").here()]);
        cluster.compile();
    }
    cluster
}

#[test]
fn a_pod_of_two_families_counts_once() {
    let both = bare("web", &["10.96.0.1", "fd00::1"]).port("", "TCP", 80);
    let both = both.load_balancer("203.0.113.5").external_local();
    let both = both.with(|s| s.spec.health_check_node_port = Some(PORT));
    let pods4 = [ep("10.244.1.7").here(), ep("10.244.1.8").here()];
    let pods6 = [ep("fd00:244::7").here(), ep("fd00:244::8").here()];
    let count = |service: &Service, slices: Vec<crate::k8s::EndpointSlice>| {
        let mut cluster = cluster();
        cluster.add(service.clone());
        for slice in slices {
            cluster.add(slice);
        }
        cluster.compile();
        cluster.health_checks()[0].local_endpoints
    };
    let (v4, v6) = (
        || slice(&both, pods4.clone()),
        || slice(&both, pods6.clone()).named("web-6"),
    );
    assert_eq!(count(&both, vec![v4(), v6()]), 2);
    // While one family is behind, the other is right.
    let one = slice(&both, [ep("fd00:244::7").here()]).named("web-6");
    assert_eq!(count(&both, vec![v4(), one]), 2);
    let none = slice(&both, [ep("10.244.2.9")]);
    assert_eq!(count(&both, vec![none, v6()]), 2);
    // The same address in two slices is one endpoint.
    let again = slice(&both, [ep("10.244.1.8").here(), ep("10.244.1.9").here()]).named("more");
    assert_eq!(count(&both, vec![v4(), again]), 3);
    // Slices of a family in which the Service has no address serve nobody.
    let single = both.clone().with(|s| s.spec.cluster_ips.truncate(1));
    let none = slice(&both, [ep("10.244.2.9")]);
    assert_eq!(count(&single, vec![none, v6()]), 0);
}

#[test]
fn the_oldest_answers_at_a_port_that_two_want_in_any_order_of_arrival() {
    for services in [[old(), young()], [young(), old()]] {
        let mut cluster = with(&services);
        assert_eq!(
            outcome(&mut cluster),
            (
                words(&["default/z-old"]),
                words(&["203.0.113.1"]),
                words(&[
                    "Service default/a-young: healthCheckNodePort 32000 is answered for \
                         Service default/z-old, which goes before; not for this one"
                ]),
            )
        );

        cluster.remove(old());
        assert_eq!(
            outcome(&mut cluster),
            (words(&["default/a-young"]), words(&["203.0.113.2"]), vec![])
        );
    }
}

#[test]
fn a_health_check_that_moves_away_leaves_the_port_to_the_next() {
    let mut cluster = with(&[old(), young()]);
    cluster.add(old().with(|s| s.spec.health_check_node_port = Some(32_001)));
    let (answered, passed, warnings) = outcome(&mut cluster);
    assert_eq!(answered, ["default/a-young", "default/z-old"]);
    assert_eq!(passed, ["203.0.113.2"]);
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn a_port_at_which_a_service_is_served_is_not_answered() {
    let taken = node_port("np", "TCP", PORT);
    for services in [[old(), taken.clone()], [taken.clone(), old()]] {
        let mut cluster = with(&services);
        assert_eq!(
            outcome(&mut cluster),
            (
                vec![],
                // The NodePort's own.
                words(&["192.0.2.1"]),
                words(&[
                    "Service default/z-old: healthCheckNodePort 32000 is a port of this node \
                         at which Service default/np is served; not for this one"
                ]),
            )
        );

        cluster.remove(taken.clone());
        assert_eq!(
            outcome(&mut cluster),
            (words(&["default/z-old"]), words(&["203.0.113.1"]), vec![])
        );
    }
    // A NodePort of another protocol, or its own Service's, is nothing or the same.
    let (answered, ..) = outcome(&mut with(&[old(), node_port("np", "UDP", PORT)]));
    assert_eq!(answered, ["default/z-old"]);
    let (answered, _, warnings) = outcome(&mut with(&[old().node_port(PORT)]));
    assert_eq!((answered.len(), warnings.len()), (0, 1));
}

#[test]
fn a_load_balancer_port_that_is_a_health_check_port_stays_what_it_is() {
    // Another Service shares the address and is refused there for want of endpoints.
    let shares = bare("shares", &["10.96.0.8"])
        .port("", "TCP", PORT)
        .load_balancer("203.0.113.1");
    let mut cluster = cluster();
    cluster.add(shares).add(old());
    let text = cluster.text();
    assert!(
        text.contains("front  203.0.113.1:32000/TCP refuse "),
        "{text}"
    );
}

#[test]
fn a_port_that_could_not_be_opened_is_let_through_nowhere() {
    let mut cluster = with(&[old(), young()]);
    let before = outcome(&mut cluster);
    assert_eq!(before.1, words(&["203.0.113.1"]));

    cluster.apply(Event::UnopenedHealthPorts([32_000].into()));

    let (checks, passed, warnings) = outcome(&mut cluster);
    assert_eq!(checks, words(&["default/z-old"]), "it is tried again");
    assert_eq!(passed, words(&[]));
    let told = |text: &str| warnings.iter().any(|warning| warning.contains(text));
    assert!(told(
        "Service default/z-old: healthCheckNodePort 32000 could not be opened"
    ));

    cluster.apply(Event::UnopenedHealthPorts([32_001].into()));
    assert_eq!(outcome(&mut cluster), before);
}
