//! Whose an address is: Services, pods, this host, other nodes.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::event::Kind;
use crate::fixtures::*;
use crate::k8s::{Endpoint, EndpointSlice, Object, Service};
use crate::model::Model;
use crate::state::KernelState;
use crate::{Cluster, Event, Withheld};

fn at(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn service_cidr(name: &str, cidrs: &[&str]) -> Object {
    let json = serde_json::json!({"metadata": {"name": name}, "spec": {"cidrs": cidrs}});
    Object::decode(Kind::ServiceCidr, json).unwrap()
}

/// One that serves every externalIP.
fn generous() -> Cluster {
    let mut options = options();
    options.allow_external_ips = vec!["0.0.0.0/0".parse().unwrap()];
    cluster_with(options)
}

fn vips(cluster: &mut Cluster) -> Vec<String> {
    let vips = cluster.state().vips;
    vips.iter().map(ToString::to_string).collect()
}

/// Real servers of a front, as text.
fn behind(cluster: &mut Cluster, front: &str) -> Vec<String> {
    let state = cluster.state();
    let server = state.virtual_servers.get(&front.parse().unwrap());
    let all = server.into_iter().flat_map(|s| s.real_servers.keys());
    all.map(ToString::to_string).collect()
}

fn warned(cluster: &mut Cluster, part: &str) -> usize {
    cluster.compile();
    let all = cluster.warnings();
    all.iter().filter(|w| w.message.contains(part)).count()
}

/// Without a node, as somebody writes it by hand.
fn pointer(address: &str) -> Endpoint {
    let mut endpoint = ep(address);
    endpoint.node_name = None;
    endpoint
}

fn in_namespace(mut slice: EndpointSlice, namespace: &str) -> EndpointSlice {
    slice.metadata.namespace = namespace.to_owned();
    slice
}

fn every_order<T: Clone>(all: &[T]) -> Vec<Vec<T>> {
    if all.is_empty() {
        return vec![Vec::new()];
    }
    let mut orders = Vec::new();
    for (place, first) in all.iter().enumerate() {
        let mut rest = all.to_vec();
        rest.remove(place);
        for mut order in every_order(&rest) {
            order.insert(0, first.clone());
            orders.push(order);
        }
    }
    orders
}

#[test]
fn a_cluster_ip_is_nobody_elses_address_in_any_order() {
    let evil = service("evil", "10.96.3.1")
        .load_balancer("10.96.3.54")
        .external_ip("10.96.3.53")
        .port("more", "TCP", 81)
        .created("2026-01-01T00:00:00Z");
    let good = service("good", "10.96.3.53").created("2026-02-01T00:00:00Z");
    let good2 = service("good2", "10.96.3.54").created("2026-02-01T00:00:00Z");
    let slices = [&evil, &good, &good2].map(|s| Object::from(slice(s, [ep("10.244.1.7")])));
    let objects = [Object::from(evil), good.into(), good2.into()];
    for cidrs in [&[][..], &["10.96.0.0/16"]] {
        for order in every_order(&objects) {
            let mut cluster = generous();
            cluster.add(slices[0].clone()).add(slices[1].clone());
            for object in order {
                cluster.add(object);
                cluster.compile();
            }
            cluster.add(slices[2].clone());
            cluster.add(service_cidr("kubernetes", cidrs));
            for (front, owner) in [
                ("10.96.3.1:80/TCP", Some("default/evil")),
                ("10.96.3.53:80/TCP", Some("default/good")),
                ("10.96.3.54:80/TCP", Some("default/good2")),
                ("10.96.3.53:81/TCP", None),
                ("10.96.3.54:81/TCP", None),
            ] {
                cluster.compile();
                let found = cluster.service_of(&front.parse().unwrap());
                let found = found.map(|name| name.to_string());
                assert_eq!(found.as_deref(), owner, "{front}");
            }
            assert_eq!(cluster.withheld(Withheld::ClusterIp), 2);
        }
    }
}

#[test]
fn an_address_given_up_as_a_cluster_ip_is_free_again() {
    let mut cluster = generous();
    let good = service("good", "203.0.113.5");
    cluster
        .add(web().load_balancer("203.0.113.5"))
        .add(good.clone());
    assert_eq!(vips(&mut cluster), ["10.96.0.1", "203.0.113.5"]);
    assert_eq!(warned(&mut cluster, "203.0.113.5 is the ClusterIP"), 1);

    cluster.remove(good);
    assert_eq!(warned(&mut cluster, "203.0.113.5"), 0);
    let key = "203.0.113.5:80/TCP".parse().unwrap();
    assert_eq!(cluster.service_of(&key).unwrap().to_string(), "default/web");
    assert_eq!(cluster.withheld(Withheld::ClusterIp), 0);
}

#[test]
fn an_outside_address_in_a_service_cidr_is_never_served_in_any_order() {
    let web = web().load_balancer("10.96.9.9").external_ip("10.96.9.10");
    let objects = [
        Object::from(slice(&web, [ep("10.244.1.7")])),
        web.into(),
        service_cidr("kubernetes", &["10.96.0.0/16"]),
    ];
    for order in every_order(&objects) {
        let mut cluster = generous();
        for object in order {
            cluster.add(object);
        }
        assert_eq!(vips(&mut cluster), ["10.96.0.1"]);
        assert_eq!(warned(&mut cluster, "lies in a ServiceCIDR"), 2);
        assert_eq!(cluster.withheld(Withheld::ServiceCidr), 2);

        cluster.remove(service_cidr("kubernetes", &[]));
        assert_eq!(vips(&mut cluster), ["10.96.0.1", "10.96.9.9", "10.96.9.10"]);
        cluster.add(service_cidr("second", &["10.96.9.10/32"]));
        assert_eq!(vips(&mut cluster), ["10.96.0.1", "10.96.9.9"]);
    }
}

#[test]
fn a_pods_address_is_never_a_vip() {
    let other = service("other", "10.96.0.2");
    let mut cluster = generous();
    cluster.add(
        web()
            .load_balancer("10.244.1.1")
            .external_ip("10.244.2.9")
            .external_ip("203.0.113.7"),
    );
    cluster.add(slice(&other, [ep("10.244.1.1").here(), ep("10.244.2.9")]));
    assert_eq!(vips(&mut cluster), ["10.96.0.1", "203.0.113.7"]);
    assert_eq!(warned(&mut cluster, "is the address of an endpoint"), 2);
    assert_eq!(cluster.withheld(Withheld::Endpoint), 2);

    // Two slices have it: it is free when the last one lets it go.
    let twice = slice(&other, [ep("10.244.2.9")]).named("other-2");
    cluster.add(twice.clone());
    cluster.add(slice(&other, [ep("10.244.1.8")]));
    assert_eq!(
        vips(&mut cluster),
        ["10.96.0.1", "10.244.1.1", "203.0.113.7"]
    );
    cluster.remove(twice);
    assert_eq!(vips(&mut cluster).len(), 4);
    assert_eq!(warned(&mut cluster, "endpoint"), 0);

    // And withheld from the moment it comes, the Service itself being the same.
    cluster.add(slice(&other, [ep("10.244.1.1")]));
    assert_eq!(
        vips(&mut cluster),
        ["10.96.0.1", "10.244.2.9", "203.0.113.7"]
    );
}

#[test]
fn an_endpoint_of_the_service_itself_is_never_its_vip() {
    let web = web().load_balancer("10.244.1.1");
    let mut cluster = generous();
    cluster
        .add(web.clone())
        .endpoints(&web, [pointer("10.244.1.1")]);
    assert_eq!(vips(&mut cluster), ["10.96.0.1"]);
    assert_eq!(
        behind(&mut cluster, "10.96.0.1:80/TCP"),
        ["10.244.1.1:8080"]
    );
}

#[test]
fn a_slice_of_another_namespace_takes_no_load_balancers_address_away() {
    let front = "203.0.113.5:80/TCP";
    let mut tenant = service("tenant", "10.96.0.2");
    tenant.metadata.namespace = "tenant".to_owned();
    let pointing = slice(&tenant, [pointer("203.0.113.5"), pointer("198.51.100.1")]);
    let web = web().load_balancer("203.0.113.5");
    let objects = [
        Object::from(web.clone()),
        slice(&web, [ep("10.244.1.7")]).into(),
        tenant.into(),
        pointing.into(),
    ];
    for order in every_order(&objects) {
        let mut cluster = cluster();
        for object in order {
            cluster.add(object);
            cluster.compile();
        }
        assert_eq!(behind(&mut cluster, front), ["10.244.1.7:8080"]);
        // It would come back to IPVS: skipped while the address is a VIP here.
        let tenants = "10.96.0.2:80/TCP";
        assert_eq!(behind(&mut cluster, tenants), ["198.51.100.1:8080"]);
        assert_eq!(
            warned(
                &mut cluster,
                "endpoint 203.0.113.5 is an address of a Service"
            ),
            1
        );
        cluster.remove(web.clone());
        assert_eq!(
            behind(&mut cluster, tenants),
            ["198.51.100.1:8080", "203.0.113.5:8080"]
        );
    }
}

#[test]
fn an_external_ip_gives_way_to_any_endpoint() {
    let slice = slice(&service("tenant", "10.96.0.2"), [pointer("203.0.113.5")]);
    let mut cluster = generous();
    cluster.add(web().external_ip("203.0.113.5"));
    assert_eq!(vips(&mut cluster), ["10.96.0.1", "203.0.113.5"]);
    cluster.add(in_namespace(slice, "tenant"));
    assert_eq!(vips(&mut cluster), ["10.96.0.1"]);
}

#[test]
fn pods_in_this_hosts_network_take_nothing_away_from_its_addresses() {
    let web = web().load_balancer("192.0.2.1");
    let mut cluster = cluster();
    cluster
        .add(web.clone())
        .endpoints(&web, [ep("192.0.2.1").here(), ep("192.0.2.3")]);
    assert_eq!(vips(&mut cluster), ["10.96.0.1"]);
    for front in ["10.96.0.1:80/TCP", "192.0.2.1:80/TCP"] {
        let servers = ["192.0.2.1:8080", "192.0.2.3:8080"];
        assert_eq!(behind(&mut cluster, front), servers);
    }
    assert!(cluster.warnings().is_empty(), "{:?}", cluster.warnings());
}

#[test]
fn an_address_in_a_network_of_pods_is_never_a_vip() {
    let mut options = options();
    options.pod_networks = vec!["10.244.0.0/16".parse().unwrap()];
    let mut cluster = cluster_with(options);
    cluster.add(
        web()
            .load_balancer("10.244.3.4")
            .load_balancer("10.245.3.4"),
    );
    assert_eq!(vips(&mut cluster), ["10.96.0.1", "10.245.3.4"]);
    assert_eq!(
        warned(&mut cluster, "10.244.3.4 lies in a network of pods"),
        1
    );

    let mut ours = node("node-1", "192.0.2.1");
    ours.spec.pod_cidrs = vec!["10.245.3.0/24".to_owned()];
    cluster.add(ours.clone());
    assert_eq!(vips(&mut cluster), ["10.96.0.1"]);
    assert_eq!(cluster.withheld(Withheld::PodNetwork), 2);

    // A network that the nodes are in as well has addresses of others too.
    ours.spec.pod_cidrs = vec!["0.0.0.0/0".to_owned()];
    cluster.add(ours);
    assert_eq!(vips(&mut cluster), ["10.96.0.1", "10.245.3.4"]);
}

#[test]
fn an_endpoint_that_is_a_services_address_is_skipped_in_any_order() {
    let (front, back) = (service("front", "10.96.6.1"), service("back", "10.96.6.2"));
    let looping = [ep("10.96.6.2"), pointer("10.96.6.1"), pointer("192.0.2.1")];
    let objects = [
        Object::from(slice(&front, looping)),
        slice(&back, [ep("10.244.1.1")]).into(),
        front.clone().into(),
        back.clone().into(),
    ];
    for order in every_order(&objects) {
        let mut cluster = cluster();
        for object in order {
            cluster.add(object);
            cluster.compile();
        }
        let found = behind(&mut cluster, "10.96.6.1:80/TCP");
        assert_eq!(found, ["192.0.2.1:8080"], "this host may be an endpoint");
        assert_eq!(
            warned(&mut cluster, "is an address of a Service; it is skipped"),
            2
        );

        cluster.remove(back.clone());
        let found = behind(&mut cluster, "10.96.6.1:80/TCP");
        assert_eq!(found, ["10.96.6.2:8080", "192.0.2.1:8080"]);
        cluster.add(service_cidr("kubernetes", &["10.96.0.0/16"]));
        let found = behind(&mut cluster, "10.96.6.1:80/TCP");
        assert_eq!(found, ["192.0.2.1:8080"], "nobody is there");
    }
}

#[test]
fn a_skipped_endpoint_is_not_counted_by_the_health_check() {
    let web = web()
        .load_balancer("203.0.113.5")
        .external_local()
        .with(|s| s.spec.health_check_node_port = Some(32000));
    let mut cluster = cluster();
    cluster.add(service("other", "10.96.0.2"));
    cluster
        .add(web.clone())
        .endpoints(&web, [ep("10.96.0.2").here(), ep("10.244.1.7").here()]);
    cluster.compile();
    assert_eq!(cluster.health_checks()[0].local_endpoints, 1);
}

#[test]
fn no_object_takes_a_cluster_ip_away() {
    let dns = service("dns", "10.96.0.10");
    let mut api = service("kubernetes", "10.96.0.100");
    api.metadata.namespace = "default".to_owned();
    let take: [fn(&mut Cluster); 4] = [
        |c| _ = c.add(node("evil", "10.96.0.10")),
        |c| c.apply(Event::Protected([at("10.96.0.10")].into())),
        |c| c.apply(Event::Unchecked([at("10.96.0.10")].into())),
        |c| {
            _ = c.add(slice(
                &service("kubernetes", "10.96.0.100"),
                [ep("10.96.0.10")],
            ))
        },
    ];
    for take in take {
        let mut cluster = cluster();
        cluster.add(dns.clone()).endpoints(&dns, [ep("10.244.1.7")]);
        take(&mut cluster);
        assert_eq!(vips(&mut cluster), ["10.96.0.10"]);
        assert_eq!(
            behind(&mut cluster, "10.96.0.10:80/TCP"),
            ["10.244.1.7:8080"]
        );
    }
}

#[test]
fn addresses_of_nodes_in_a_service_cidr_are_ignored_with_a_warning() {
    let mut cluster = cluster();
    cluster
        .add(node("evil", "10.96.0.10"))
        .add(node("fine", "192.0.2.9"));
    cluster.apply(Event::Protected([at("10.96.0.11"), at("192.0.2.8")].into()));
    assert_eq!(warned(&mut cluster, "in a ServiceCIDR"), 0);

    cluster.add(service_cidr("kubernetes", &["10.96.0.0/16"]));
    let wanted = "2 of their addresses lie in a ServiceCIDR, 10.96.0.10 among them";
    assert_eq!(warned(&mut cluster, wanted), 1);
    let web = web().load_balancer("192.0.2.9").load_balancer("192.0.2.8");
    cluster.add(web);
    assert_eq!(vips(&mut cluster), ["10.96.0.1"], "the others still count");
    assert_eq!(cluster.withheld(Withheld::Protected), 2);
}

#[test]
fn a_gateway_is_never_a_vip() {
    let mut cluster = cluster();
    cluster.add(service("odd", "192.0.2.254").load_balancer("198.51.100.254"));
    assert_eq!(vips(&mut cluster).len(), 2);
    let gateways: BTreeSet<IpAddr> = [at("192.0.2.254"), at("198.51.100.254")].into();
    cluster.apply(Event::Gateways(gateways));
    assert_eq!(vips(&mut cluster), [""; 0]);
    assert_eq!(warned(&mut cluster, "a gateway"), 1);
}

#[test]
fn a_service_cidr_with_what_the_node_lives_by_is_ignored() {
    let mut ours = node("node-1", "198.51.100.7");
    ours.spec.pod_cidrs = vec!["10.245.3.0/24".to_owned()];
    let mut options = options();
    options.pod_networks = vec!["10.244.0.0/16".parse().unwrap()];
    for (cidr, why) in [
        ("0.0.0.0/0", "every address"),
        ("::/0", "every address"),
        ("192.0.0.0/8", "this host's address 192.0.2.1"),
        ("198.51.100.0/24", "this host's address 198.51.100.7"),
        ("203.0.113.0/24", "the gateway 203.0.113.254"),
        ("10.244.0.0/16", "the pods' network 10.244.0.0/16"),
        ("10.0.0.0/8", "the pods' network 10.244.0.0/16"),
        ("10.245.0.0/16", "the pods' network 10.245.3.0/24"),
    ] {
        let mut cluster = cluster_with(options.clone());
        cluster.apply(Event::Gateways([at("203.0.113.254")].into()));
        cluster.add(ours.clone());
        cluster.add(service_cidr("wrong", &[cidr, "10.96.0.0/16"]));
        let found: Vec<String> = cluster
            .service_cidrs()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, ["10.96.0.0/16"], "{cidr}");
        assert_eq!(
            warned(&mut cluster, why),
            1,
            "{cidr}: {:?}",
            cluster.warnings()
        );
    }
}

#[test]
fn a_service_cidr_inside_a_wider_network_counts() {
    let mut options = options();
    options.pod_networks = vec!["10.0.0.0/8".parse().unwrap()];
    let mut cluster = cluster_with(options);
    // A link of somebody else with a ClusterIP on it, as NodeLocal DNSCache has.
    let host = |address: &str, prefix| crate::HostAddress {
        address: at(address),
        prefix,
        link: "other".to_owned(),
    };
    let addresses = vec![host("10.1.2.3", 8), host("10.96.0.10", 32)];
    cluster.apply(Event::HostAddresses(addresses));
    cluster.add(service_cidr("kubernetes", &["10.96.0.0/16"]));
    assert_eq!(cluster.service_cidrs().len(), 1, "{:?}", cluster.warnings());
}

#[test]
fn what_a_service_asked_for_is_forgotten_with_it() {
    let web: Service = web().load_balancer("10.244.1.1");
    let mut cluster = cluster();
    cluster.add(web.clone());
    cluster.add(slice(&service("other", "10.96.0.2"), [ep("10.244.1.1")]));
    cluster.compile();
    assert_eq!(cluster.withheld(Withheld::Endpoint), 1);
    cluster.remove(web);
    cluster.compile();
    assert_eq!(cluster.withheld(Withheld::Endpoint), 0);
}

#[test]
fn a_pod_that_comes_touches_nobody_it_does_not_concern() {
    let mut cluster = cluster();
    for number in 1..50 {
        let name = format!("s{number}");
        let service = service(&name, &format!("10.96.1.{number}"));
        let service = service.load_balancer(&format!("203.0.113.{number}"));
        cluster
            .add(service.clone())
            .endpoints(&service, [ep("10.244.1.7")]);
    }
    cluster.compile();
    let other = service("other", "10.96.0.2");
    cluster
        .add(other.clone())
        .endpoints(&other, [ep("203.0.113.7")]);
    let touched = cluster.compile();
    let vips: Vec<String> = touched.vips.iter().map(ToString::to_string).collect();
    assert_eq!(vips, ["10.96.0.2", "203.0.113.7"]);
}

fn closed_networks(cluster: &mut Cluster) -> Vec<String> {
    let state = cluster.state();
    let all = state.table.networks.iter();
    all.map(ToString::to_string).collect()
}

#[test]
fn the_table_learns_of_cluster_addresses_when_the_vips_are_bound() {
    let mut cluster = cluster();
    cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
    cluster.add(service_cidr(
        "kubernetes",
        &["10.96.0.0/16", "fd00:96::/112"],
    ));
    let before = KernelState::default();
    let plan = plan(&before, &cluster.state()).to_string();
    let (bound, closed) = (plan.find("10.96.0.1").unwrap(), plan.find("10.96.0.0/16"));
    let last = plan.rfind("10.96.0.1").unwrap();
    assert!(closed.is_some_and(|at| at > last && at > bound), "{plan}");
    assert!(plan.contains("fd00:96::/112"), "{plan}");
}

#[test]
fn networks_of_cluster_addresses_come_and_go_by_themselves() {
    let mut cluster = cluster();
    cluster.compile();
    cluster.add(service_cidr("kubernetes", &["10.96.0.0/16"]));
    assert!(cluster.is_dirty(), "though no Service changed");
    let touched = cluster.compile();
    assert_eq!(touched.networks.len(), 1);
    assert!(cluster.compile().is_empty());

    // The kernel takes no networks that overlap.
    cluster.add(service_cidr(
        "more",
        &["10.96.4.0/24", "10.97.0.0/16", "192.0.2.0/24"],
    ));
    assert_eq!(closed_networks(&mut cluster), ["10.96.0.0/15"]);
    let before = cluster.state();
    cluster.remove(service_cidr("more", &[]));
    let after = cluster.state();
    let plan = plan(&before, &after);
    assert_eq!(plan.ops.len(), 1, "in one transaction: {plan}");
    let mut kernel = Model::new(before);
    kernel.apply(&plan).unwrap();
    assert_eq!(kernel.state(), &after);

    // A node that comes to live in it lets everything through again.
    cluster.host(&["10.96.0.77"]);
    assert_eq!(closed_networks(&mut cluster), [""; 0]);
    cluster.host(&["192.0.2.1"]);
    assert_eq!(closed_networks(&mut cluster), ["10.96.0.0/16"]);
    cluster.remove(service_cidr("kubernetes", &[]));
    assert_eq!(cluster.state(), KernelState::default());
}

#[test]
fn networks_of_cluster_addresses_stay_open_where_that_is_wanted() {
    let mut options = options();
    options.close_service_cidrs = false;
    let mut cluster = cluster_with(options);
    cluster.add(service_cidr("kubernetes", &["10.96.0.0/16"]));
    cluster.add(web().load_balancer("10.96.9.9"));
    assert_eq!(closed_networks(&mut cluster), [""; 0]);
    assert_eq!(
        vips(&mut cluster),
        ["10.96.0.1"],
        "its addresses stay the cluster's"
    );
}
