//! What an object may cost: warnings, fronts, real servers, source ranges.

use crate::event::Kind;
use crate::fixtures::*;
use crate::k8s::{Service, ServiceCidr};
use crate::names::Warning;
use crate::object::Object;

/// Warnings about a Service with a slice, both as bad as may be.
fn warnings(service: Service) -> Vec<Warning> {
    let mut cluster = cluster();
    cluster
        .add(service.clone())
        .endpoints(&service, [ep("10.244.1.7")]);
    cluster.compile();
    cluster.warnings()
}

#[test]
fn an_annotation_has_one_warning_however_much_is_wrong_in_it() {
    let many: Vec<String> = (0..47_989).map(|n| format!("f{n}")).collect();
    let service = web().annotation("ipvs.kube-ipvs.dev/scheduler-flags", &many.join(","));

    let all = warnings(service);

    assert_eq!(
        all[0].message,
        "annotation ipvs.kube-ipvs.dev/scheduler-flags: \"f0\", \"f1\", \"f10\" and 47986 more \
         are no flags of scheduler rr; they are ignored"
    );
    assert_eq!(all.len(), 1);
}

#[test]
fn a_value_of_a_megabyte_is_shown_cut_wherever_it_stands() {
    let huge = "x".repeat(1_000_000);
    let mut service = web().load_balancer(&huge).external_ip(&huge);
    let names = [
        "scheduler",
        "scheduler-flags",
        "one-packet",
        "upper-threshold",
        "lower-threshold",
    ];
    for name in names {
        service = service.annotation(&format!("ipvs.kube-ipvs.dev/{name}"), &huge);
    }
    let service = service.port(&huge, "TCP", 80).with(|s| {
        s.spec.cluster_ips.push(huge.clone());
        s.spec.load_balancer_source_ranges.push(huge.clone());
        s.spec.session_affinity = Some(huge.clone());
        s.spec.internal_traffic_policy = Some(huge.clone());
        s.spec.external_traffic_policy = Some(huge.clone());
        s.status.load_balancer.ingress[0].ip_mode = Some(huge.clone());
    });
    let service = service.port("p", &huge, 81);
    let mut cluster = cluster();
    let bad = slice(&service, [ep(&huge)]);
    cluster.add(service.clone()).add(bad);
    let mut other = slice(&web(), []).named("other");
    other.address_type = huge.clone();
    let mut cidr = ServiceCidr::default();
    cidr.spec.cidrs.push(huge.clone());
    cluster.add(other).add(Object::from(cidr));
    cluster.compile();

    let all = cluster.warnings();

    assert!(all.len() >= 15, "{all:#?}");
    for warning in all {
        assert!(warning.message.len() < 400, "{}", warning.message);
    }
}

#[test]
fn an_object_has_twenty_warnings_whichever_it_is() {
    let many = || (0..5000).map(|n| format!("bad-{n}"));
    let mut service = web();
    service.spec.cluster_ips.extend(many());
    let mut bad = slice(&service, []);
    bad.endpoints = many().map(|text| ep(&text)).collect();
    let mut cidr = ServiceCidr::default();
    cidr.spec.cidrs = many().collect();
    let mut cluster = cluster();
    cluster.add(service).add(Object::from(cidr));
    (0..100).for_each(|n| _ = cluster.add(bad.clone().named(&format!("web-{n}"))));
    cluster.compile();

    let all = cluster.warnings();

    let of = |kind: &str| all.iter().filter(|w| w.object.starts_with(kind)).count();
    assert_eq!((of("Service "), of("ServiceCIDR ")), (20, 20));
    // All slices of a Service together have as many as one object.
    assert_eq!(of("EndpointSlice "), 20);
    assert!(
        all.iter()
            .any(|w| w.message.contains("more warnings are not shown"))
    );
    let service = all.iter().rev().find(|w| w.object.starts_with("Service "));
    assert!(service.is_some());
}

#[test]
fn claims_that_are_lost_count_too() {
    let mut cluster = cluster();
    let older = (1..200)
        .fold(web(), |s, n| s.port(&format!("p{n}"), "TCP", 1000 + n))
        .created("2026-01-01T00:00:00Z");
    let younger = older.clone().created("2026-02-01T00:00:00Z");
    let younger = younger.with(|s| s.metadata.name = "other".to_owned());
    cluster.add(older).add(younger);
    cluster.compile();

    assert_eq!(cluster.warnings().len(), 20);
}

#[test]
fn an_object_that_does_not_decode_is_told_of_in_a_line() {
    let huge = "x".repeat(1_000_000);
    let json = serde_json::json!({
        "metadata": {"name": huge, "namespace": "default"}, "spec": {"ports": huge},
    });

    let error = Object::decode(Kind::Service, json).unwrap_err().to_string();

    assert!(error.len() < 1100, "{}", error.len());
    assert!(error.contains("spec.ports: invalid type"), "{error}");
}
