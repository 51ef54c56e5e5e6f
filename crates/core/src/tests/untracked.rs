//! Services that pass without entries in conntrack.

use std::borrow::ToOwned;
use std::collections::BTreeSet;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use crate::cluster::Cluster;
use crate::event::Event;
use crate::fixtures::*;
use crate::k8s::Service;
use crate::names::ServiceName;
use crate::options::Options;

const UNTRACKED: &str = "ipvs.kube-ipvs.dev/untracked";

/// What is untracked, as text, and what is warned of.
fn of(options: Options, services: &[Service]) -> (Vec<String>, Vec<String>) {
    let mut cluster = cluster_with(options);
    for service in services {
        cluster
            .add(service.clone())
            .endpoints(service, [ep("10.244.1.7").here(), ep("10.244.2.9")]);
    }
    let untracked = cluster.state().table.untracked;
    let warnings = cluster.warnings().into_iter().map(|w| w.message);
    let untracked = untracked.iter().map(ToString::to_string);
    (untracked.collect(), warnings.collect())
}

fn by_annotation() -> Options {
    Options {
        untracked_by_annotation: true,
        ..options()
    }
}

const ALL: [&str; 5] = [
    "front 10.96.0.1:80/TCP",
    "endpoint 10.244.1.7:8080/TCP",
    "endpoint 10.244.2.9:8080/TCP",
    "but 10.244.1.7",
    "but 192.0.2.1",
];

#[test]
fn a_service_that_asks_or_is_named_is_untracked_with_its_endpoints() {
    let asking = web().annotation(UNTRACKED, "true");
    let named = Options {
        untracked_services: [ServiceName::new("default", "web")].into(),
        ..options()
    };
    let other = service("other", "10.96.0.2");
    for (options, service) in [(by_annotation(), asking), (named, web())] {
        let (untracked, warnings) = of(options, &[service, other.clone()]);
        assert_eq!(untracked, ALL);
        assert!(warnings.is_empty(), "{warnings:?}");
    }
    for value in ["false", ""] {
        let service = web().annotation(UNTRACKED, value);
        let (untracked, warnings) = of(by_annotation(), &[service]);
        assert!(untracked.is_empty());
        assert_eq!(warnings.len(), usize::from(value.is_empty()));
    }
}

#[test]
fn an_annotation_without_the_operators_word_is_warned_of() {
    let (untracked, warnings) = of(options(), &[web().annotation(UNTRACKED, "true")]);
    assert!(untracked.is_empty());
    let [warning] = &warnings[..] else {
        panic!("one warning: {warnings:?}")
    };
    assert!(warning.contains("--ipvs-untracked-services"), "{warning}");
}

#[test]
fn a_service_whose_clients_are_masqueraded_stays_tracked_with_a_warning() {
    let masquerading = Options {
        masquerade_all: true,
        ..by_annotation()
    };
    let asking = || web().annotation(UNTRACKED, "true");
    let always = asking().annotation("ipvs.kube-ipvs.dev/masquerade", "always");
    let never = asking().annotation("ipvs.kube-ipvs.dev/masquerade", "never");
    for (options, service) in [
        (by_annotation(), asking().node_port(30_080)),
        (by_annotation(), asking().load_balancer("203.0.113.5")),
        (by_annotation(), asking().external_ip("203.0.113.5")),
        (by_annotation(), always),
        (masquerading.clone(), asking()),
    ] {
        let (untracked, warnings) = of(options, &[service]);
        assert!(untracked.is_empty(), "{untracked:?}");
        let mut told = warnings.iter().filter(|w| w.contains("stays tracked"));
        assert!(told.next().is_some(), "{warnings:?}");
    }
    assert_eq!(of(masquerading, &[never]).0, ALL);
}

/// Nothing would tell its owner that nothing came of it.
#[test]
fn a_headless_service_that_asks_or_is_named_is_warned_of() {
    let headless = || bare("web", &["None"]).port("", "TCP", 80);
    let named = Options {
        untracked_services: [ServiceName::new("default", "web")].into(),
        ..options()
    };
    let asking = headless().annotation(UNTRACKED, "true");
    for (options, service) in [(by_annotation(), asking), (named, headless())] {
        let (untracked, warnings) = of(options, &[service]);
        assert!(untracked.is_empty(), "{untracked:?}");
        let [warning] = &warnings[..] else {
            panic!("one warning: {warnings:?}")
        };
        assert!(warning.contains("headless"), "{warning}");
    }
    assert!(of(by_annotation(), &[headless()]).1.is_empty());
}

#[test]
fn an_endpoint_that_two_services_have_is_untracked_until_both_let_it_go() {
    let asking = |name: &str, at: &str| service(name, at).annotation(UNTRACKED, "true");
    let (one, two) = (asking("one", "10.96.0.1"), asking("two", "10.96.0.2"));
    let mut cluster = cluster_with(by_annotation());
    for service in [&one, &two] {
        cluster
            .add(service.clone())
            .endpoints(service, [ep("10.244.2.9")]);
    }
    let mut left = |gone: &Service| {
        cluster.remove(gone.clone());
        cluster.state().table.untracked.len()
    };
    assert_eq!([left(&one), left(&two)], [3, 0]);
}

/// What it asks itself is tracked, and so are the answers to that.
#[test]
fn an_address_of_this_host_is_tracked_from_when_it_comes_to_when_it_goes() {
    let asking = web().annotation(UNTRACKED, "true");
    let mut cluster = cluster_with(by_annotation());
    cluster
        .add(asking.clone())
        .endpoints(&asking, [ep("10.244.2.9")]);
    let mut with = |host: &[&str]| {
        let table = cluster.host(host).state().table;
        let all = table.untracked.iter().map(ToString::to_string);
        all.filter(|one| one.starts_with("but")).collect::<Vec<_>>()
    };
    let first = ["but 192.0.2.1"];
    assert_eq!(with(&["192.0.2.1", "127.0.0.1", "fd00::1"]), first);
    assert_eq!(with(&["192.0.2.1", "169.254.7.7"]), first, "of a link");
    let both = ["but 10.244.1.1", "but 192.0.2.1"];
    assert_eq!(with(&["192.0.2.1", "10.244.1.1"]), both);
    assert_eq!(with(&["192.0.2.1"]), first);
}

/// Each pod that comes to a node may bring an address of its link, and each node
/// addresses of its own.
#[test]
fn only_who_asks_for_an_address_of_this_host_is_compiled_again() {
    let untracked = web().annotation(UNTRACKED, "true");
    let mut limited = service("limited", "10.96.0.2").load_balancer("203.0.113.5");
    limited.spec.load_balancer_source_ranges = vec!["198.51.100.0/24".to_owned()];
    let mut cluster = cluster_with(by_annotation());
    let dirty = |cluster: &mut Cluster| {
        let dirty = cluster.is_dirty();
        cluster.compile();
        dirty
    };
    for (service, address, again) in [
        (&untracked, "169.254.7.7", false),
        (&untracked, "fe80::7", false),
        (&untracked, "10.244.1.1", true),
        (&limited, "10.244.1.1", false),
        (&limited, "198.51.100.9", true),
    ] {
        cluster.add(service.clone()).host(&["192.0.2.1"]);
        dirty(&mut cluster);
        cluster.host(&["192.0.2.1", address]);
        assert_eq!(dirty(&mut cluster), again, "{address} came");
        cluster.host(&["192.0.2.1"]);
        assert_eq!(dirty(&mut cluster), again, "{address} went");
        let others = BTreeSet::from(["192.0.2.77".parse().unwrap()]);
        cluster.apply(Event::Protected(others));
        assert!(!dirty(&mut cluster), "another node's");
        cluster.apply(Event::Protected(BTreeSet::new()));
        cluster.remove(service.clone());
    }
}

/// It may have a connection to itself, which is masqueraded.
#[test]
fn an_endpoint_that_drains_beside_another_of_this_node_still_meets_itself_tracked() {
    let asking = web().annotation(UNTRACKED, "true");
    let (stays, goes) = (ep("10.244.1.7").here(), ep("10.244.1.8").here());
    let mut cluster = cluster_with(by_annotation());
    cluster
        .add(asking.clone())
        .endpoints(&asking, [stays, goes.terminating()]);
    let untracked = cluster.state().table.untracked;
    let untracked: Vec<String> = untracked.iter().map(ToString::to_string).collect();
    for one in ["endpoint 10.244.1.8:8080/TCP", "but 10.244.1.8"] {
        assert!(untracked.iter().any(|other| other == one), "{untracked:?}");
    }
}

#[test]
fn without_an_endpoint_nothing_is_untracked() {
    let asking = web().annotation(UNTRACKED, "true");
    let mut cluster = cluster_with(by_annotation());
    cluster.add(asking);
    assert!(cluster.state().table.untracked.is_empty());
}

/// What goes to another's front is his to decide.
#[test]
fn who_loses_the_only_front_has_nothing_untracked() {
    let owner = service("one", "10.96.0.1");
    let loser = service("two", "10.96.0.1").annotation(UNTRACKED, "true");
    let (untracked, _) = of(by_annotation(), &[owner, loser]);
    assert!(untracked.is_empty(), "{untracked:?}");
}
