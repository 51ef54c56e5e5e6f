//! Kinds of Services and where their fronts are.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::FrontKind;
use crate::fixtures::*;
use crate::k8s::{HEADLESS_LABEL, SERVICE_PROXY_NAME_LABEL, Service};
use crate::options::NodePortAddresses;
use crate::{Cluster, Event, HostAddress, Options};

/// All fronts that are served, as text.
fn fronts(cluster: &mut Cluster) -> Vec<String> {
    let state = cluster.state();
    state
        .virtual_servers
        .keys()
        .map(ToString::to_string)
        .collect()
}

fn with(options: Options, service: Service) -> Cluster {
    let mut cluster = cluster_with(options);
    cluster.endpoints(&service, [ep("10.244.1.7")]);
    cluster.add(service);
    cluster
}

fn vips(cluster: &mut Cluster) -> Vec<String> {
    cluster
        .state()
        .vips
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn one_number_in_tcp_udp_and_sctp_is_three_virtual_servers() {
    let dns = bare("dns", &["10.96.0.10"]);
    let dns = dns
        .port("dns", "UDP", 53)
        .port("dns-tcp", "TCP", 53)
        .port("x", "SCTP", 53);
    let mut cluster = with(options(), dns);
    assert_lines(
        &cluster.text(),
        "10.96.0.10:53/TCP rr  ClusterIP default/dns:dns-tcp
           -> 10.244.1.7:8081 weight 1
         10.96.0.10:53/UDP rr  ClusterIP default/dns:dns
           -> 10.244.1.7:8080 weight 1
         10.96.0.10:53/SCTP rr  ClusterIP default/dns:x
           -> 10.244.1.7:8082 weight 1
         vip  10.96.0.10
         front  10.96.0.10:53/TCP serve  ClusterIP default/dns:dns-tcp
         front  10.96.0.10:53/UDP serve  ClusterIP default/dns:dns
         front  10.96.0.10:53/SCTP serve  ClusterIP default/dns:x",
    );
}

#[test]
fn dual_stack_has_endpoints_of_its_family_each() {
    let web = bare("web", &["10.96.0.1", "fd00::1"]).port("", "TCP", 80);
    let mut cluster = with(options(), web.clone());
    cluster.add(slice(&web, [ep("fd00:244::7")]).named("web-6"));
    assert_lines(
        &cluster.text(),
        "10.96.0.1:80/TCP rr  ClusterIP default/web
           -> 10.244.1.7:8080 weight 1
         [fd00::1]:80/TCP rr  ClusterIP default/web
           -> [fd00:244::7]:8080 weight 1
         vip  10.96.0.1
         vip  fd00::1
         front  10.96.0.1:80/TCP serve  ClusterIP default/web
         front  [fd00::1]:80/TCP serve  ClusterIP default/web",
    );
}

#[test]
fn a_family_that_is_switched_off_is_not_served() {
    let web = bare("web", &["10.96.0.1", "fd00::1"]).port("", "TCP", 80);
    let mut options = options();
    options.families = vec![crate::state::Family::V4];
    assert_eq!(vips(&mut with(options, web)), ["10.96.0.1"]);
}

#[test]
fn headless_and_external_name_ask_for_nothing() {
    let others = [
        bare("web", &["None"]).port("", "TCP", 80),
        bare("web", &[])
            .port("", "TCP", 80)
            .external_ip("198.51.100.5"),
        bare("web", &[""]).port("", "TCP", 80),
        web().with(|s| s.spec.type_ = Some("ExternalName".to_owned())),
        web().with(|s| {
            let labels = &mut s.metadata.labels;
            labels.insert(SERVICE_PROXY_NAME_LABEL.to_owned(), "other".to_owned());
        }),
    ];
    for service in others {
        let mut cluster = with(options(), service);
        assert_eq!(cluster.text(), "");
    }
}

#[test]
fn the_headless_label_counts_on_slices_and_not_on_services() {
    let headless = |labels: &mut BTreeMap<String, String>| {
        _ = labels.insert(HEADLESS_LABEL.to_owned(), "false".to_owned());
    };
    let web = web().with(|s| headless(&mut s.metadata.labels));
    let mut cluster = cluster();
    cluster.add(web.clone()).endpoints(&web, [ep("10.244.1.7")]);
    assert!(cluster.text().contains("-> 10.244.1.7:8080 weight 1"));

    let mut slice = slice(&web, [ep("10.244.1.7")]);
    headless(&mut slice.metadata.labels);
    cluster.apply(Event::Upsert(slice.into()));
    assert!(!cluster.text().contains("10.244.1.7"));
    assert_eq!(vips(&mut cluster), ["10.96.0.1"]);
}

#[test]
fn a_label_gained_takes_the_service_away_and_a_label_lost_brings_it_back() {
    let mut cluster = with(options(), web());
    assert_eq!(vips(&mut cluster), ["10.96.0.1"]);
    cluster.add(web().with(|s| {
        let labels = &mut s.metadata.labels;
        labels.insert(SERVICE_PROXY_NAME_LABEL.to_owned(), "other".to_owned());
    }));
    assert!(vips(&mut cluster).is_empty());
    cluster.add(web());
    assert_eq!(vips(&mut cluster), ["10.96.0.1"]);
}

#[test]
fn the_proxy_name_that_was_asked_for_is_served_and_no_other() {
    let mut options = options();
    options.service_proxy_name = Some("mine".to_owned());
    let mine = web().with(|s| {
        let labels = &mut s.metadata.labels;
        labels.insert(SERVICE_PROXY_NAME_LABEL.to_owned(), "mine".to_owned());
    });
    assert_eq!(vips(&mut with(options.clone(), mine)), ["10.96.0.1"]);
    assert!(vips(&mut with(options, web())).is_empty());
}

#[test]
fn load_balancer_addresses_are_vips_unless_their_mode_is_proxy() {
    let service = web()
        .load_balancer("203.0.113.5")
        .load_balancer("203.0.113.6");
    let service = service.with(|s| {
        s.status.load_balancer.ingress[1].ip_mode = Some("Proxy".to_owned());
        let name_only = crate::k8s::LoadBalancerIngress::default();
        s.status.load_balancer.ingress.push(name_only);
    });
    let mut cluster = with(options(), service);
    assert_eq!(vips(&mut cluster), ["10.96.0.1", "203.0.113.5"]);
    assert!(cluster.warnings().is_empty());
}

#[test]
fn an_owner_says_of_load_balancers_that_say_nothing_that_they_are_proxies() {
    let annotated = |value: &str| {
        let service = web()
            .load_balancer("203.0.113.5")
            .load_balancer("203.0.113.6")
            .annotation("ipvs.kube-ipvs.dev/ip-mode", value);
        service.with(|s| {
            s.status.load_balancer.ingress[1].ip_mode = Some("VIP".to_owned());
        })
    };
    let left = ["10.96.0.1", "203.0.113.6"];
    assert_eq!(vips(&mut with(options(), annotated("Proxy"))), left);
    for (value, warnings) in [("VIP", 0), ("proxy", 1)] {
        let mut cluster = with(options(), annotated(value));
        assert_eq!(vips(&mut cluster).len(), 3, "{value}");
        assert_eq!(cluster.warnings().len(), warnings, "{value}");
    }
}

#[test]
fn external_addresses_need_to_be_allowed() {
    let service = web().external_ip("198.51.100.5").external_ip("8.8.8.8");
    let mut allowing = options();
    allowing.allow_external_ips = vec!["198.51.100.0/24".parse().unwrap()];
    let mut cluster = with(allowing, service.clone());
    assert_eq!(vips(&mut cluster), ["10.96.0.1", "198.51.100.5"]);
    assert_eq!(cluster.warnings().len(), 1);
    assert!(cluster.warnings()[0].message.contains("8.8.8.8"));

    assert_eq!(vips(&mut with(options(), service)), ["10.96.0.1"]);
}

#[test]
fn node_ports_are_on_all_addresses_but_loopback_link_local_and_our_link() {
    let mut cluster = with(options(), web().node_port(30080));
    let address = |address: &str, link: &str| HostAddress {
        address: address.parse().unwrap(),
        prefix: 24,
        link: link.to_owned(),
    };
    cluster.apply(Event::HostAddresses(vec![
        address("127.0.0.1", "lo"),
        address("192.0.2.1", "eth0"),
        address("198.51.100.1", "eth1"),
        address("169.254.3.4", "eth1"),
        address("fe80::1", "eth0"),
        address("10.96.0.7", "kube-ipvs0"),
    ]));
    assert_eq!(
        fronts(&mut cluster),
        [
            "10.96.0.1:80/TCP",
            "192.0.2.1:30080/TCP",
            "198.51.100.1:30080/TCP"
        ]
    );
    assert_eq!(
        vips(&mut cluster),
        ["10.96.0.1"],
        "node addresses are never bound"
    );
}

#[test]
fn node_ports_follow_the_addresses_of_the_host() {
    let mut cluster = with(options(), web().node_port(30080));
    cluster.host(&["192.0.2.1", "192.0.2.2"]);
    assert_eq!(
        fronts(&mut cluster),
        [
            "10.96.0.1:80/TCP",
            "192.0.2.1:30080/TCP",
            "192.0.2.2:30080/TCP"
        ]
    );
    cluster.host(&["192.0.2.2"]);
    assert_eq!(
        fronts(&mut cluster),
        ["10.96.0.1:80/TCP", "192.0.2.2:30080/TCP"]
    );
}

#[test]
fn node_ports_on_many_addresses_have_one_virtual_server_each() {
    let ports = 1000;
    let service = (0..ports).fold(bare("web", &["10.96.0.1"]), |service, n| {
        let service = service.port(&format!("p{n}"), "TCP", 8000 + n);
        service.with(|s| s.spec.ports[n as usize].node_port = Some(30_000 + n))
    });
    let mut cluster = with(options(), service);
    let addresses: Vec<String> = (1..=50).map(|n| format!("192.0.2.{n}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut count = |addresses: &[&str]| {
        cluster.host(addresses);
        let state = cluster.state();
        let servers = state.virtual_servers.keys();
        let of_node_ports = servers.filter(|key| cluster.kind_of(key) == Some(FrontKind::NodePort));
        let marked = state.table.rows.values().filter(|row| row.mark.is_some());
        (of_node_ports.count(), marked.count())
    };

    assert_eq!(count(&addresses), (1000, 50_000));
    assert_eq!(count(&addresses[1..]), (1000, 49_000));
    assert_eq!(
        count(&addresses[..8]),
        (8000, 0),
        "few addresses have one each"
    );
}

#[test]
fn node_ports_may_be_held_to_networks() {
    let mut options = options();
    let nets = vec!["198.51.100.0/24".parse().unwrap()];
    options.node_port_addresses = NodePortAddresses::Cidrs(nets);
    let mut cluster = with(options, web().node_port(30080));
    cluster.host(&["192.0.2.1", "198.51.100.1"]);
    assert_eq!(
        fronts(&mut cluster),
        ["10.96.0.1:80/TCP", "198.51.100.1:30080/TCP"]
    );
}

#[test]
fn primary_is_the_address_of_the_node_and_none_while_that_is_unknown() {
    let mut options = options();
    options.node_port_addresses = NodePortAddresses::Primary;
    let mut cluster = with(options, web().node_port(30080));
    cluster.host(&["192.0.2.1", "198.51.100.1"]);
    assert_eq!(fronts(&mut cluster), ["10.96.0.1:80/TCP"]);
    assert_eq!(cluster.warnings().len(), 1);

    cluster.add(node("node-1", "198.51.100.1"));
    assert_eq!(
        fronts(&mut cluster),
        ["10.96.0.1:80/TCP", "198.51.100.1:30080/TCP"]
    );
    assert!(cluster.warnings().is_empty());
}

#[test]
fn primary_stands_beside_networks_and_loopback_is_none_of_them() {
    let mut options = options();
    let nets = ["198.51.100.0/24", "127.0.0.0/8", "::1/128"];
    let nets = nets.map(|net| net.parse().unwrap()).to_vec();
    options.node_port_addresses = NodePortAddresses::PrimaryAnd(nets);
    let mut cluster = with(options, web().node_port(30080));
    cluster.host(&["127.0.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1"]);
    assert_eq!(
        fronts(&mut cluster),
        ["10.96.0.1:80/TCP", "198.51.100.1:30080/TCP"],
        "the node's own address is unknown, the network's is not"
    );
    assert_eq!(cluster.warnings().len(), 1);

    cluster.add(node("node-1", "192.0.2.1"));
    assert_eq!(
        fronts(&mut cluster),
        [
            "10.96.0.1:80/TCP",
            "192.0.2.1:30080/TCP",
            "198.51.100.1:30080/TCP"
        ]
    );
    assert!(cluster.warnings().is_empty());
}

#[test]
fn an_address_of_this_host_is_served_but_not_bound() {
    let mut cluster = with(options(), web().load_balancer("192.0.2.1"));
    assert_eq!(
        fronts(&mut cluster),
        ["10.96.0.1:80/TCP", "192.0.2.1:80/TCP"]
    );
    assert_eq!(vips(&mut cluster), ["10.96.0.1"]);
    let state = cluster.state();
    assert_eq!(
        state.table.guarded.len(),
        1,
        "no guard on the node's own address"
    );

    // The announcer moved it elsewhere.
    cluster.host(&["192.0.2.9"]);
    assert_eq!(vips(&mut cluster), ["10.96.0.1", "192.0.2.1"]);
}

#[test]
fn addresses_of_others_are_neither_bound_nor_served_here() {
    let service = || web().load_balancer("192.0.2.3");
    let protect: [fn(&mut Cluster); 3] = [
        |c| _ = c.add(node("node-3", "192.0.2.3")),
        |c| c.apply(Event::Protected(["192.0.2.3".parse().unwrap()].into())),
        |c| {
            let api = bare("kubernetes", &["10.96.0.100"]);
            c.add(slice(&api, [ep("192.0.2.3")]));
        },
    ];
    for protect in protect {
        let mut cluster = with(options(), service());
        assert_eq!(vips(&mut cluster), ["10.96.0.1", "192.0.2.3"]);
        protect(&mut cluster);
        assert_eq!(vips(&mut cluster), ["10.96.0.1"]);
        assert_eq!(fronts(&mut cluster), ["10.96.0.1:80/TCP"]);
        assert!(cluster.warnings()[0].message.contains("192.0.2.3"));
    }
}

#[test]
fn an_address_that_nobody_could_check_waits_and_the_warning_says_why() {
    let mut cluster = with(options(), web().load_balancer("192.0.2.3"));
    cluster.apply(Event::Unchecked(["192.0.2.3".parse().unwrap()].into()));
    assert_eq!(vips(&mut cluster), ["10.96.0.1"]);
    let message = cluster.warnings()[0].message.clone();
    assert!(message.contains("could not be listed"), "{message}");
    assert!(!message.contains("belongs"), "{message}");

    cluster.apply(Event::Unchecked([].into()));
    assert_eq!(vips(&mut cluster), ["10.96.0.1", "192.0.2.3"]);
}

#[test]
fn a_node_that_leaves_gives_its_address_free() {
    let mut cluster = with(options(), web().load_balancer("192.0.2.3"));
    cluster.add(node("node-3", "192.0.2.3"));
    assert_eq!(vips(&mut cluster), ["10.96.0.1"]);
    cluster.remove(node("node-3", "192.0.2.3"));
    assert_eq!(vips(&mut cluster), ["10.96.0.1", "192.0.2.3"]);
}

#[test]
fn vips_are_counted() {
    let other = bare("other", &["10.96.0.2"]).port("", "TCP", 443);
    let other = other.load_balancer("203.0.113.5");
    let mut cluster = with(options(), web().load_balancer("203.0.113.5"));
    cluster.add(other.clone());
    assert_eq!(
        vips(&mut cluster),
        ["10.96.0.1", "10.96.0.2", "203.0.113.5"]
    );
    cluster.remove(web());
    assert_eq!(vips(&mut cluster), ["10.96.0.2", "203.0.113.5"]);
    cluster.remove(other);
    assert!(vips(&mut cluster).is_empty());
}

#[test]
fn affinity_is_persistence_on_every_front() {
    let web = bare("web", &["10.96.0.1", "fd00::1"])
        .port("", "TCP", 80)
        .node_port(30080);
    let web = web.with(|s| s.spec.session_affinity = Some("ClientIP".to_owned()));
    let mut cluster = with(options(), web.clone());
    cluster.add(slice(&web, [ep("fd00:244::7")]).named("web-6"));
    let state = cluster.state();
    assert_eq!(state.virtual_servers.len(), 3);
    for (key, server) in &state.virtual_servers {
        let persistence = server.persistence.unwrap();
        assert_eq!(persistence.timeout, 10_800);
        assert_eq!(persistence.prefix, key.family().host_prefix());
    }
}

#[test]
fn health_checks_count_ready_endpoints_here_and_pass_the_guard() {
    let service = web().load_balancer("203.0.113.5").external_local();
    let service = service.with(|s| s.spec.health_check_node_port = Some(32000));
    let mut cluster = with(options(), service.clone());
    let here = [
        ep("10.244.1.7").here(),
        ep("10.244.1.8").here().terminating(),
        ep("10.244.2.9"),
    ];
    cluster.endpoints(&service, here);
    let text = cluster.text();
    assert!(text.contains("health check  default/web port 32000 local endpoints 1\n"));
    assert!(text.contains("front  203.0.113.5:32000/TCP serve  HealthCheck default/web\n"));

    cluster.add(web().load_balancer("203.0.113.5"));
    let text = cluster.text();
    assert!(!text.contains("32000"), "{text}");
}

#[test]
fn traffic_from_inside_gets_a_mark_that_leaves_other_bits_alone() {
    let service = web().load_balancer("203.0.113.5").external_local();
    let mut options = options();
    options.masquerade_bit = 3;
    let mut cluster = with(options, service);
    let state = cluster.state();
    let marks: Vec<u32> = state
        .virtual_servers
        .keys()
        .filter_map(|key| match key {
            crate::state::VirtualServerKey::Mark { mark, .. } => Some(*mark),
            _ => None,
        })
        .collect();
    assert_eq!(marks.len(), 1);
    assert_ne!(marks[0], 0);
    assert_eq!(
        marks[0] & (1 << 3 | 1 << 14 | 1 << 15 | 1 << 30 | 1 << 31),
        0
    );
}
