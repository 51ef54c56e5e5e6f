//! What makes no sense is left out with a warning; the rest is served.

use alloc::borrow::ToOwned;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use crate::event::{Event, Kind};
use crate::fixtures::*;
use crate::k8s::{EndpointPort, Object, Service};
use crate::names::ServiceName;
use crate::regarding::{Reference, Uid};

/// A Service with one good port and something bad.
fn with(change: impl FnOnce(&mut Service)) -> Service {
    web()
        .node_port(30080)
        .load_balancer("203.0.113.5")
        .with(change)
}

#[test]
fn each_bad_field_of_a_service_is_named_and_the_rest_is_served() {
    let cases: Vec<(Service, &str)> = vec![
        (web().port("zero", "TCP", 0), "port \"zero\": 0 is no port"),
        (
            web().port("big", "TCP", 65_536),
            "port \"big\": 65536 is no port",
        ),
        (
            web().port("x", "ICMP", 81),
            "port \"x\": protocol \"ICMP\" is unknown",
        ),
        (
            web().port("twice", "TCP", 80),
            "10.96.0.1:80/TCP is already served",
        ),
        (
            web().port("n", "TCP", 81).node_port(-1),
            "nodePort -1 is no port",
        ),
        (
            with(|_| ()).port("n", "TCP", 81).node_port(30080),
            "nodePort 30080/TCP is there twice",
        ),
        (
            with(|s| s.spec.cluster_ips.push("10.96.0.300".to_owned())),
            "clusterIPs: \"10.96.0.300\" is no address",
        ),
        (
            with(|s| s.spec.cluster_ips.push("::".to_owned())),
            "clusterIPs: :: is the unspecified",
        ),
        (
            web().external_ip("127.0.0.1"),
            "externalIPs: 127.0.0.1 is a loopback address",
        ),
        (
            web().external_ip("224.0.0.1"),
            "externalIPs: 224.0.0.1 is a multicast address",
        ),
        (
            web().load_balancer("fe80::1"),
            "status.loadBalancer.ingress.ip: fe80::1 is a link-local",
        ),
        (
            web().load_balancer("2001:db8::5"),
            "no cluster address of that family",
        ),
        (
            with(|s| s.status.load_balancer.ingress[0].ip_mode = Some("Maybe".to_owned())),
            "ipMode \"Maybe\" of 203.0.113.5 is unknown",
        ),
        (
            with(|s| s.spec.load_balancer_source_ranges = vec!["everyone".to_owned()]),
            "loadBalancerSourceRanges \"everyone\" is no network",
        ),
        (
            with(|s| s.spec.session_affinity = Some("Cookie".to_owned())),
            "sessionAffinity \"Cookie\" is unknown",
        ),
        (
            with(|s| {
                s.spec.session_affinity = Some("ClientIP".to_owned());
                s.spec.session_affinity_config.client_ip.timeout_seconds = Some(0);
            }),
            "timeoutSeconds 0 is not within",
        ),
        (
            with(|s| s.spec.external_traffic_policy = Some("Near".to_owned())),
            "externalTrafficPolicy \"Near\" is unknown",
        ),
        (
            with(|s| s.spec.internal_traffic_policy = Some("Near".to_owned())),
            "internalTrafficPolicy \"Near\" is unknown",
        ),
        (
            with(|_| ())
                .external_local()
                .with(|s| s.spec.health_check_node_port = Some(70_000)),
            "healthCheckNodePort 70000 is no port",
        ),
    ];
    for (service, message) in cases {
        let mut cluster = cluster();
        cluster
            .add(service.clone())
            .endpoints(&web(), [ep("10.244.1.7")]);
        let text = cluster.text();
        let warnings = cluster.warnings();
        let told = warnings
            .iter()
            .any(|w| w.object.to_string() == "Service default/web" && w.message.contains(message));
        assert!(told, "{message:?} is not among {warnings:?}");
        assert!(text.starts_with("10.96.0.1:80/TCP rr"), "{text}");
        assert!(text.contains("-> 10.244.1.7:8080 weight 1"), "{text}");
    }
}

#[test]
fn an_address_in_an_excluded_network_is_served_with_a_warning() {
    let mut options = options();
    options.exclude = vec!["203.0.113.0/24".parse().unwrap()];
    let mut cluster = cluster_with(options);
    let service = web().load_balancer("203.0.113.5");
    cluster
        .add(service.clone())
        .endpoints(&service, [ep("10.244.1.7")]);

    let text = cluster.text();

    assert!(text.contains("203.0.113.5:80/TCP rr"), "{text}");
    let warnings = cluster.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let message = &warnings[0].message;
    assert!(
        message.contains("203.0.113.5 lies in --ipvs-exclude-cidrs"),
        "{message}"
    );
}

#[test]
fn each_bad_endpoint_is_named_and_the_others_are_used() {
    let cases = [
        (
            ep("10.244.1.300"),
            "endpoint \"10.244.1.300\" is no address",
        ),
        (
            ep("fd00:244::7"),
            "endpoint fd00:244::7 is not of the slice's family",
        ),
        (ep("127.0.0.1"), "endpoint 127.0.0.1 is a loopback address"),
        (ep("0.0.0.0"), "endpoint 0.0.0.0 is the unspecified address"),
    ];
    for (bad, message) in cases {
        let mut cluster = cluster();
        let mut slice = slice(&web(), [ep("10.244.1.7"), bad]);
        slice.address_type = "IPv4".to_owned();
        slice.ports.push(EndpointPort {
            port: Some(-3),
            ..EndpointPort::default()
        });
        slice.endpoints.push(Default::default());
        cluster.add(web()).add(slice);
        assert!(cluster.text().contains("-> 10.244.1.7:8080 weight 1"));
        let warnings = cluster.warnings();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings
                .iter()
                .all(|w| w.object.to_string() == "EndpointSlice default/web-1")
        );
        assert!(
            warnings.iter().any(|w| w.message.contains(message)),
            "{warnings:?}"
        );
    }
}

#[test]
fn a_slice_of_an_unknown_type_is_named() {
    let mut cluster = cluster();
    let mut odd = slice(&web(), [ep("10.244.1.7")]);
    odd.address_type = "IPX".to_owned();
    cluster.add(web()).add(odd);
    cluster.compile();
    let warnings = cluster.warnings();
    assert_eq!(
        warnings[0].to_string(),
        "EndpointSlice default/web-1: addressType \"IPX\" is unknown; the slice is ignored"
    );
}

#[test]
fn a_service_cidr_that_is_no_network_is_named() {
    let json = serde_json::json!({
        "metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16", "x"]}
    });
    let mut cluster = cluster();
    cluster.add(Object::decode(Kind::ServiceCidr, json).unwrap());
    assert_eq!(cluster.service_cidrs().len(), 1);
    assert_eq!(
        cluster.warnings()[0].object.to_string(),
        "ServiceCIDR kubernetes"
    );
}

#[test]
fn nulls_and_unknown_fields_do_no_harm() {
    let json = serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "surprise": [1, 2],
        "metadata": {"name": "web", "namespace": "default", "labels": null,
                     "creationTimestamp": null, "annotations": null, "managedFields": [{}]},
        "spec": {"clusterIP": "10.96.0.1", "clusterIPs": null, "externalIPs": null,
                 "ports": [{"port": 80, "name": null, "targetPort": "http"}],
                 "sessionAffinityConfig": null, "selector": {"app": "web"}},
        "status": null
    });
    let mut cluster = cluster();
    cluster.add(Object::decode(Kind::Service, json).unwrap());
    cluster.endpoints(&web(), [ep("10.244.1.7")]);
    assert!(cluster.text().starts_with("10.96.0.1:80/TCP rr"));
    assert!(cluster.warnings().is_empty());
}

#[test]
fn an_object_that_does_not_decode_is_named_with_its_field() {
    let json = serde_json::json!({
        "metadata": {"name": "web", "namespace": "default"}, "spec": {"ports": "many"}
    });
    let error = Object::decode(Kind::Service, json).unwrap_err().to_string();
    assert!(error.starts_with("decode Service default/web: "), "{error}");
}

/// An Event needs the uid of its object, which nobody is asked for again.
#[test]
fn a_warning_names_the_object_and_which_of_that_name_it_is() {
    const FIRST: &str = "5d1c2d9a-0000-4000-8000-000000000001";
    const SECOND: &str = "5d1c2d9a-0000-4000-8000-000000000002";
    const SLICE: &str = "5d1c2d9a-0000-4000-8000-000000000003";
    let odd = |uid: &str| {
        web().with(|service| {
            service.metadata.uid = Uid::read(uid);
            service.spec.session_affinity = Some("odd".to_owned());
        })
    };
    let about = |cluster: &mut crate::Cluster| {
        cluster.compile();
        let warnings = cluster.warnings().into_iter();
        let about = warnings.map(|warning| {
            let uid = warning.object.reference().and_then(|about| about.uid);
            (warning.object.to_string(), uid.map(|uid| uid.to_string()))
        });
        about.collect::<Vec<_>>()
    };
    let one = |object: &str, uid: &str| (object.to_owned(), Some(uid.to_owned()));
    let mut cluster = cluster();
    let mut slice = slice(&web(), [ep("no address")]);
    slice.metadata.uid = Uid::read(SLICE);
    cluster.add(odd(FIRST)).add(slice);
    let of_slice = one("EndpointSlice default/web-1", SLICE);
    assert_eq!(
        about(&mut cluster),
        [of_slice.clone(), one("Service default/web", FIRST)]
    );

    // Deleted and made anew between two looks, with nothing else changed.
    cluster.add(odd(SECOND));
    assert_eq!(
        about(&mut cluster),
        [of_slice.clone(), one("Service default/web", SECOND)]
    );
    assert_eq!(
        cluster
            .regarding(&ServiceName::new("default", "web"))
            .reference()
            .and_then(|about| about.uid),
        Uid::read(SECOND)
    );

    cluster.add(web().with(|service| service.metadata.uid = Uid::read(SECOND)));
    cluster.apply(Event::Unreadable(Reference {
        object: Object::from(web()).reference(),
        uid: Uid::read(SECOND),
    }));
    assert_eq!(
        about(&mut cluster),
        [of_slice, one("Service default/web", SECOND)]
    );
}
