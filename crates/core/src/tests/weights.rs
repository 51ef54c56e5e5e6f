//! Shares of new connections by where an endpoint is and what its slice says.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use crate::fixtures::*;
use crate::k8s::{Endpoint, EndpointSlice, Service};
use crate::{Cluster, Event, Options};

const WEIGHTS: &str = "ipvs.kube-ipvs.dev/weights";
const WEIGHT: &str = "ipvs.kube-ipvs.dev/weight";
const SCHEDULER: &str = "ipvs.kube-ipvs.dev/scheduler";

fn weighted(scheduler: &str, weights: &str) -> Service {
    web()
        .annotation(SCHEDULER, scheduler)
        .annotation(WEIGHTS, weights)
}

impl Endpoint {
    fn in_zone(mut self, zone: &str) -> Self {
        self.zone = Some(zone.to_owned());
        self
    }
}

impl EndpointSlice {
    fn weight(mut self, weight: &str) -> Self {
        let annotations = &mut self.metadata.annotations;
        annotations.insert(WEIGHT.to_owned(), weight.to_owned());
        self
    }
}

/// One here, one in our zone, one elsewhere.
fn three() -> [Endpoint; 3] {
    [
        ep("10.244.1.7").here().in_zone("a"),
        ep("10.244.1.8").in_zone("a"),
        ep("10.244.1.9").in_zone("b"),
    ]
}

/// A node in zone `a`.
fn cluster_in_a() -> Cluster {
    let mut cluster = cluster();
    cluster.add(node("node-1", "192.0.2.1").zone("a"));
    cluster
}

/// Weights of 10.96.0.1:80, by address.
fn weights(cluster: &mut Cluster) -> Vec<u32> {
    let state = cluster.state();
    let server = &state.virtual_servers[&"10.96.0.1:80/TCP".parse().unwrap()];
    server.real_servers.values().map(|r| r.weight).collect()
}

fn messages(cluster: &Cluster) -> Vec<String> {
    cluster.warnings().into_iter().map(|w| w.message).collect()
}

/// Weights of the three, and what is warned of.
fn given(service: Service) -> (Vec<u32>, Vec<String>) {
    let mut cluster = cluster_in_a();
    cluster.add(service.clone()).endpoints(&service, three());
    let weights = weights(&mut cluster);
    (weights, messages(&cluster))
}

#[test]
fn the_nearer_an_endpoint_the_more_it_gets() {
    for (asked, found) in [
        ("node=10,zone=3,other=1", [10, 3, 1]),
        (" other = 2 , node = 65535 ", [65_535, 2, 2]),
        // What is not named is as the next wider place.
        ("node=10", [10, 1, 1]),
        ("zone=3", [3, 3, 1]),
        ("other=7", [7, 7, 7]),
        ("node=1,zone=5", [1, 5, 1]),
        ("", [1, 1, 1]),
    ] {
        let (weights, warnings) = given(weighted("wrr", asked));
        assert_eq!(weights, found, "{asked}");
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}

#[test]
fn weights_that_make_no_sense_are_as_good_as_none_and_say_what_is_allowed() {
    for (asked, wrong) in [
        ("node=10,rack=3", r#""rack=3" is no place"#),
        ("10", r#""10" is no place"#),
        ("node", r#""node" is no weight"#),
        ("node=0", r#""node=0" is no weight"#),
        ("node=65536", r#""node=65536" is no weight"#),
        ("node=-1", r#""node=-1" is no weight"#),
        ("node=+1", r#""node=+1" is no weight"#),
        ("node=1.5", r#""node=1.5" is no weight"#),
        ("zone=2,node=3,zone=2", r#""zone" comes twice"#),
    ] {
        let (weights, warnings) = given(weighted("wrr", asked));
        assert_eq!(weights, [1, 1, 1], "{asked}");
        let wanted = format!(
            "annotation {WEIGHTS}: \"{asked}\" is ignored: {wrong}; node=, zone= and other= go \
             with a number from 1 to 65535, each once"
        );
        assert_eq!(warnings, [wanted]);
    }
}

#[test]
fn with_a_threshold_wrr_has_no_more_to_count_than_endpoints_times_weights_allow() {
    const THRESHOLD: &str = "ipvs.kube-ipvs.dev/upper-threshold";
    let asked = |scheduler| weighted(scheduler, "node=65535,zone=21846,other=3");
    let full = |scheduler| asked(scheduler).annotation(THRESHOLD, "1");
    let all = [65_535, 21_846, 3];

    // 3 endpoints, 21,845 each: 65,535 steps.
    let (weights, warnings) = given(full("wrr"));
    assert_eq!(weights, [21_845, 21_845, 3]);
    assert_eq!(
        warnings,
        [
            "port \"\": of 3 endpoints none has a weight above 21845: with upper-threshold the \
             scheduler wrr counts weights times endpoints for a connection; use wlc, or smaller \
             weights"
        ]
    );
    for free in [asked("wrr"), full("wlc")] {
        assert_eq!(given(free), (all.to_vec(), vec![]));
    }
    let small = weighted("wrr", "node=21845,other=1").annotation(THRESHOLD, "1");
    assert_eq!(given(small), (vec![21_845, 1, 1], vec![]));
}

#[test]
fn schedulers_that_do_not_weigh_have_even_weights_and_a_warning() {
    for scheduler in crate::options::SCHEDULERS {
        let weighs = !["rr", "lc", "dh", "sh"].contains(&scheduler);
        let (weights, warnings) = given(weighted(scheduler, "node=10,zone=3,other=1"));
        let even = [1, 1, 1];
        assert_eq!(weights != even, weighs, "{scheduler}");
        let wanted = format!("means nothing to scheduler {scheduler}, every endpoint has weight 1");
        let told = warnings.iter().any(|w| w.contains(&wanted));
        assert_eq!(told, !weighs, "{warnings:?}");
        assert_eq!(warnings.len(), usize::from(!weighs));
    }
}

#[test]
fn the_operators_scheduler_weighs_as_one_that_is_named() {
    let mut cluster = cluster_with(Options {
        scheduler: "wlc".to_owned(),
        ..options()
    });
    let service = web().annotation(WEIGHTS, "node=4");
    cluster.add(service.clone()).endpoints(&service, three());
    assert_eq!(weights(&mut cluster), [4, 1, 1]);
}

#[test]
fn a_scheduler_that_the_kernel_lacks_takes_its_weights_along() {
    let mut cluster = cluster_in_a();
    let service = weighted("wrr", "node=4");
    cluster.add(service.clone()).endpoints(&service, three());
    assert_eq!(weights(&mut cluster), [4, 1, 1]);
    cluster.apply(Event::MissingSchedulers(["wrr".to_owned()].into()));
    assert_eq!(weights(&mut cluster), [1, 1, 1]);
    assert_eq!(messages(&cluster).len(), 2);
}

#[test]
fn a_node_that_moves_to_another_zone_weighs_anew_and_in_place() {
    let mut cluster = cluster_in_a();
    let service = weighted("wrr", "node=10,zone=3,other=1");
    cluster.add(service.clone()).endpoints(&service, three());
    let before = cluster.state();

    cluster.add(node("node-1", "192.0.2.1").zone("b"));

    assert_lines(
        &plan(&before, &cluster.state()),
        "real server edit 10.96.0.1:80/TCP -> 10.244.1.8:8080 weight 1
         real server edit 10.96.0.1:80/TCP -> 10.244.1.9:8080 weight 3",
    );
    cluster.add(node("node-1", "192.0.2.1"));
    assert_eq!(weights(&mut cluster), [10, 1, 1], "no zone is like none");
}

#[test]
fn endpoints_in_no_zone_are_elsewhere_even_for_a_node_in_none() {
    for zone in [None, Some("")] {
        let mut cluster = cluster();
        let mut node = node("node-1", "192.0.2.1");
        if let Some(zone) = zone {
            node = node.zone(zone);
        }
        let service = weighted("wrr", "node=10,zone=3,other=1");
        cluster.add(node).add(service.clone());
        cluster.endpoints(&service, [ep("10.244.1.7"), ep("10.244.1.8").in_zone("")]);
        assert_eq!(weights(&mut cluster), [1, 1]);
    }
}

#[test]
fn an_endpoint_that_drains_has_weight_0_whatever_it_weighed() {
    let mut cluster = cluster_in_a();
    let service = weighted("wrr", "node=10,zone=3,other=1");
    let [here, near, far] = three();
    cluster.add(service.clone());
    let leaving = [here.clone().terminating(), near.clone(), far.clone()];
    cluster.endpoints(&service, leaving);
    assert_eq!(weights(&mut cluster), [0, 3, 1]);
    assert_eq!(cluster.draining().len(), 1);
    // When nobody else is left they stand in, at their weights.
    let all = [here, near, far].map(Endpoint::terminating);
    cluster.endpoints(&service, all);
    assert_eq!(weights(&mut cluster), [10, 3, 1]);
    assert!(cluster.draining().is_empty());
}

#[test]
fn a_slice_says_what_its_endpoints_weigh() {
    let mut cluster = cluster_in_a();
    let service = web().annotation(SCHEDULER, "wrr");
    cluster.add(service.clone());
    cluster.add(slice(&service, [ep("10.244.1.7")]).weight("90"));
    cluster.add(
        slice(&service, [ep("10.244.1.8")])
            .named("canary")
            .weight(" 10 "),
    );
    cluster.add(slice(&service, [ep("10.244.1.9")]).named("plain"));
    assert_eq!(weights(&mut cluster), [90, 10, 1]);
    assert!(messages(&cluster).is_empty());
    let before = cluster.state();

    cluster.add(
        slice(&service, [ep("10.244.1.8")])
            .named("canary")
            .weight("20"),
    );

    assert_lines(
        &plan(&before, &cluster.state()),
        "real server edit 10.96.0.1:80/TCP -> 10.244.1.8:8080 weight 20",
    );
}

#[test]
fn weights_of_the_service_and_of_the_slice_are_multiplied_up_to_the_most() {
    let mut cluster = cluster_in_a();
    let service = weighted("wrr", "node=10,zone=3,other=1");
    cluster.add(service.clone());
    cluster.add(slice(&service, three()).weight("5"));
    assert_eq!(weights(&mut cluster), [50, 15, 5]);
    assert!(messages(&cluster).is_empty());

    cluster.add(slice(&service, three()).weight("20000"));
    assert_eq!(weights(&mut cluster), [65_535, 60_000, 20_000]);
    assert_eq!(
        messages(&cluster),
        [
            "weight 10 of the Service times weight 20000 of an EndpointSlice is above 65535, which \
          is taken instead"
        ]
    );
}

#[test]
fn a_weight_of_a_slice_that_is_none_is_told_of_the_slice() {
    for wrong in ["0", "-1", "65536", "ten", "", "1 2", "99999999999999999999"] {
        let mut cluster = cluster_in_a();
        let service = web().annotation(SCHEDULER, "wrr");
        cluster.add(service.clone());
        cluster.add(slice(&service, [ep("10.244.1.7")]).weight(wrong));
        assert_eq!(weights(&mut cluster), [1]);
        let warnings = cluster.warnings();
        assert_eq!(
            warnings[0].object.to_string(),
            "EndpointSlice default/web-1"
        );
        let wanted = format!("annotation {WEIGHT}: \"{wrong}\" is no number from 1 to 65535");
        assert!(warnings[0].message.starts_with(&wanted), "{warnings:?}");
    }
}

#[test]
fn a_slice_that_weighs_for_a_scheduler_that_does_not_is_told_to_the_service() {
    let mut cluster = cluster_in_a();
    cluster.add(web());
    cluster.add(slice(&web(), [ep("10.244.1.7")]).weight("7"));
    assert_eq!(weights(&mut cluster), [1]);
    let warnings = cluster.warnings();
    assert_eq!(warnings[0].object.to_string(), "Service default/web");
    assert!(
        warnings[0]
            .message
            .starts_with("the weight of its EndpointSlices means nothing to scheduler rr"),
        "{warnings:?}"
    );
}

#[test]
fn of_duplicates_the_liveliest_has_its_slices_weight_and_of_equals_the_first_by_name() {
    let service = web().annotation(SCHEDULER, "wrr");
    let twice = |one: Endpoint, other: Endpoint| {
        let mut cluster = cluster_in_a();
        cluster.add(service.clone());
        let more = slice(&service, [ep("10.244.1.9")]).named("c");
        cluster.add(slice(&service, [other]).named("b").weight("20"));
        cluster
            .add(slice(&service, [one]).named("a").weight("10"))
            .add(more);
        weights(&mut cluster)
    };
    let same = || ep("10.244.1.7");
    assert_eq!(twice(same(), same()), [10, 1]);
    assert_eq!(twice(same().terminating(), same()), [20, 1]);
    assert_eq!(twice(same(), same().not_ready()), [10, 1]);
}

#[test]
fn so_many_zones_are_told_apart_and_more_are_elsewhere() {
    let mut cluster = cluster();
    cluster.add(node("node-1", "192.0.2.1").zone("z255"));
    let service = weighted("wrr", "zone=3,other=1");
    cluster.add(service.clone());
    let mut slice = slice(&service, []);
    let zones = (1..=256).map(|n| ep(&format!("10.244.{}.1", n % 256)).in_zone(&format!("z{n}")));
    slice.endpoints = zones.collect();
    cluster.add(slice.clone());
    let near = |cluster: &mut Cluster| weights(cluster).iter().filter(|w| **w == 3).count();
    assert_eq!(near(&mut cluster), 1);
    assert_eq!(messages(&cluster).len(), 1);
    cluster.add(node("node-1", "192.0.2.1").zone("z256"));
    assert_eq!(near(&mut cluster), 0);
}
