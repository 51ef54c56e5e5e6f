//! Addresses as people write them, read the same way everywhere.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::Event;
use crate::event::Kind;
use crate::fixtures::*;
use crate::k8s::Object;
use crate::options::NodePortAddresses;

/// The warnings about an object, as text.
fn warned(cluster: &mut crate::Cluster, object: &str) -> Vec<String> {
    cluster.compile();
    let all = cluster.warnings().into_iter();
    all.filter(|w| w.object.to_string() == object)
        .map(|w| w.message)
        .collect()
}

#[test]
fn leading_zeros_and_blanks_are_read_and_named_in_every_field() {
    let mut options = options();
    options.allow_external_ips = vec!["203.0.113.0/24".parse().unwrap()];
    let mut cluster = cluster_with(options);
    let service = service("web", "10.96.011.012")
        .load_balancer(" 203.0.113.05")
        .external_ip("::ffff:203.0.113.6")
        .with(|s| s.spec.load_balancer_source_ranges = vec![" 010.0.0.0/08".to_owned()]);
    cluster
        .add(service.clone())
        .endpoints(&service, [ep("10.244.001.007")]);

    let text = cluster.text();

    for line in [
        "10.96.11.12:80/TCP rr",
        "203.0.113.5:80/TCP rr",
        "203.0.113.6:80/TCP rr",
        "-> 10.244.1.7:8080 weight 1",
        "10.0.0.0/8",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(
        warned(&mut cluster, "Service default/web"),
        [
            "clusterIPs: \"10.96.011.012\" is read as 10.96.11.12",
            "externalIPs: \"::ffff:203.0.113.6\" is read as 203.0.113.6",
            "loadBalancerSourceRanges: \"010.0.0.0/08\" is read as 10.0.0.0/8",
            "status.loadBalancer.ingress.ip: \" 203.0.113.05\" is read as 203.0.113.5",
        ]
    );
    assert_eq!(
        warned(&mut cluster, "EndpointSlice default/web-1"),
        ["endpoint \"10.244.001.007\" is read as 10.244.1.7"]
    );
}

#[test]
fn a_node_and_a_service_cidr_are_read_by_the_same_reader() {
    let mut options = options();
    options.node_port_addresses = NodePortAddresses::Primary;
    let mut cluster = cluster_with(options);
    let cidr = serde_json::json!({
        "metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["010.96.0.0/016", "::ffff:10.1.0.0/112"]}
    });
    cluster
        .add(Object::decode(Kind::ServiceCidr, cidr).unwrap())
        .add(node("node-1", " 192.0.02.1"));

    assert_eq!(
        cluster.node_port_addresses(),
        ["192.0.2.1".parse::<core::net::IpAddr>().unwrap()]
    );
    let networks: Vec<String> = cluster
        .service_cidrs()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(networks, ["10.1.0.0/16", "10.96.0.0/16"]);
    assert_eq!(
        warned(&mut cluster, "Node node-1"),
        ["status.addresses: \" 192.0.02.1\" is read as 192.0.2.1"]
    );
    assert_eq!(warned(&mut cluster, "ServiceCIDR kubernetes").len(), 2);
}

#[test]
fn an_address_written_oddly_is_protected_all_the_same() {
    let mut cluster = cluster();
    let service = web().load_balancer(" 192.0.2.066");
    cluster
        .add(service.clone())
        .endpoints(&service, [ep("10.244.1.7")]);
    cluster.compile();

    cluster.apply(Event::Protected(["192.0.2.66".parse().unwrap()].into()));

    assert!(!cluster.text().contains("vip  192.0.2.66"));
    cluster.apply(Event::Protected([].into()));
    assert!(cluster.text().contains("vip  192.0.2.66"));
}

#[test]
fn a_value_in_a_warning_is_cut() {
    let mut cluster = cluster();
    cluster.add(web().load_balancer(&"9".repeat(5_000)));

    let warnings = warned(&mut cluster, "Service default/web");

    let nines = "9".repeat(100);
    assert_eq!(
        warnings,
        [format!(
            "status.loadBalancer.ingress.ip: \"{nines}\"... is no address; it is ignored"
        )]
    );
}
