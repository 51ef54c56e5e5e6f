//! Which endpoints are chosen.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::fixtures::*;
use crate::k8s::Endpoint;
use crate::state::Family;
use crate::{Cluster, TrafficPolicy};

/// The real servers of 10.96.0.1:80 on a node in zone `a`, with their weights.
fn chosen<const N: usize>(endpoints: [Endpoint; N]) -> Vec<String> {
    let mut cluster = cluster();
    cluster.add(node("node-1", "192.0.2.1").zone("a"));
    cluster.add(web()).endpoints(&web(), endpoints);
    real_servers(&mut cluster)
}

fn real_servers(cluster: &mut Cluster) -> Vec<String> {
    let state = cluster.state();
    let server = state
        .virtual_servers
        .get(&"10.96.0.1:80/TCP".parse().unwrap());
    let real = server.into_iter().flat_map(|server| &server.real_servers);
    real.map(|(key, to)| format!("{key} {to}")).collect()
}

#[test]
fn ready_endpoints_are_chosen_and_others_not() {
    assert_eq!(
        chosen([ep("10.244.1.7"), ep("10.244.1.8").not_ready()]),
        ["10.244.1.7:8080 weight 1"]
    );
    assert!(chosen([ep("10.244.1.8").not_ready()]).is_empty());
}

#[test]
fn absent_conditions_mean_ready() {
    let mut endpoint = ep("10.244.1.7");
    endpoint.conditions = Default::default();
    assert_eq!(chosen([endpoint]), ["10.244.1.7:8080 weight 1"]);
}

#[test]
fn terminating_endpoints_that_serve_drain_beside_ready_ones() {
    assert_eq!(
        chosen([ep("10.244.1.7").terminating(), ep("10.244.1.8")]),
        ["10.244.1.7:8080 weight 0", "10.244.1.8:8080 weight 1"]
    );
}

#[test]
fn terminating_endpoints_that_serve_stand_in_when_none_is_ready() {
    let mut gone = ep("10.244.1.9").terminating();
    gone.conditions.serving = Some(false);
    assert_eq!(
        chosen([
            ep("10.244.1.7").terminating(),
            ep("10.244.1.8").not_ready(),
            gone
        ]),
        ["10.244.1.7:8080 weight 1"]
    );
}

#[test]
fn terminating_udp_endpoints_leave_at_once() {
    let dns = bare("web", &["10.96.0.1"]).port("", "UDP", 80);
    let mut cluster = cluster();
    let both = [ep("10.244.1.7").terminating(), ep("10.244.1.8")];
    cluster.add(dns.clone()).endpoints(&dns, both);
    let state = cluster.state();
    let server = &state.virtual_servers[&"10.96.0.1:80/UDP".parse().unwrap()];
    assert_eq!(server.real_servers.len(), 1);
    assert!(cluster.draining().is_empty());
}

#[test]
fn what_drains_is_known_by_name() {
    let mut cluster = cluster();
    let both = [ep("10.244.1.7").terminating(), ep("10.244.1.8")];
    cluster.add(web()).endpoints(&web(), both);
    cluster.compile();
    let draining: Vec<String> = cluster
        .draining()
        .iter()
        .map(|(_, r)| r.to_string())
        .collect();
    assert_eq!(draining, ["10.244.1.7:8080"]);
    cluster.endpoints(&web(), [ep("10.244.1.8")]);
    cluster.compile();
    assert!(cluster.draining().is_empty());
}

#[test]
fn hints_for_our_zone_are_followed() {
    assert_eq!(
        chosen([
            ep("10.244.1.7").for_zone("a"),
            ep("10.244.1.8").for_zone("b")
        ]),
        ["10.244.1.7:8080 weight 1"]
    );
}

#[test]
fn one_endpoint_without_a_hint_switches_hints_off() {
    assert_eq!(
        chosen([ep("10.244.1.7").for_zone("a"), ep("10.244.1.8")]).len(),
        2
    );
}

#[test]
fn hints_that_leave_our_zone_without_any_are_not_followed() {
    let both = [
        ep("10.244.1.7").for_zone("b"),
        ep("10.244.1.8").for_zone("c"),
    ];
    assert_eq!(chosen(both).len(), 2);
}

#[test]
fn hints_of_endpoints_that_are_not_ready_do_not_count() {
    let unready = ep("10.244.1.8").not_ready();
    let other = ep("10.244.1.9").for_zone("b");
    assert_eq!(
        chosen([ep("10.244.1.7").for_zone("a"), unready, other]),
        ["10.244.1.7:8080 weight 1"]
    );
}

#[test]
fn a_node_without_a_zone_uses_all() {
    let mut cluster = cluster();
    let both = [
        ep("10.244.1.7").for_zone("a"),
        ep("10.244.1.8").for_zone("b"),
    ];
    cluster.add(web()).endpoints(&web(), both);
    assert_eq!(real_servers(&mut cluster).len(), 2);
    cluster.add(node("node-1", "192.0.2.1").zone("b"));
    assert_eq!(real_servers(&mut cluster), ["10.244.1.8:8080 weight 1"]);
}

#[test]
fn hints_for_our_node_go_before_those_for_our_zone() {
    let near = ep("10.244.1.7").for_zone("a").for_node("node-1");
    let far = ep("10.244.1.8").for_zone("a").for_node("node-2");
    assert_eq!(chosen([near, far]), ["10.244.1.7:8080 weight 1"]);
}

#[test]
fn without_a_hint_for_our_node_the_zone_decides() {
    let one = ep("10.244.1.7").for_zone("a").for_node("node-2");
    let other = ep("10.244.1.8").for_zone("b").for_node("node-3");
    assert_eq!(chosen([one, other]), ["10.244.1.7:8080 weight 1"]);
}

#[test]
fn hints_do_not_hold_for_those_that_stand_in() {
    let a = ep("10.244.1.7").terminating().for_zone("a");
    let b = ep("10.244.1.8").terminating().for_zone("b");
    assert_eq!(chosen([a, b]).len(), 2);
}

#[test]
fn local_policy_ignores_hints() {
    let mut cluster = cluster();
    cluster.add(node("node-1", "192.0.2.1").zone("a"));
    let here = ep("10.244.1.7").here().for_zone("b");
    let there = ep("10.244.1.8").for_zone("a");
    let web = web().internal_local();
    cluster.add(web.clone()).endpoints(&web, [here, there]);
    assert_eq!(real_servers(&mut cluster), ["10.244.1.7:8080 weight 1"]);
}

#[test]
fn slices_are_merged_and_target_ports_may_differ() {
    let mut cluster = cluster();
    cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
    let second = slice(&web(), [ep("10.244.1.7"), ep("10.244.1.8")]);
    cluster.add(second.named("web-2").target(9090));
    assert_eq!(
        real_servers(&mut cluster),
        [
            "10.244.1.7:8080 weight 1",
            "10.244.1.7:9090 weight 1",
            "10.244.1.8:9090 weight 1"
        ]
    );
}

#[test]
fn of_duplicates_in_two_slices_the_liveliest_counts_in_any_order() {
    for (first, second) in [("web-1", "web-2"), ("web-2", "web-1")] {
        let mut cluster = cluster();
        cluster.add(web());
        cluster.add(slice(&web(), [ep("10.244.1.7").terminating()]).named(first));
        cluster.add(slice(&web(), [ep("10.244.1.7")]).named(second));
        assert_eq!(real_servers(&mut cluster), ["10.244.1.7:8080 weight 1"]);
    }
}

#[test]
fn ports_are_matched_by_name_and_protocol_not_by_number() {
    let mut cluster = cluster();
    let mut other = slice(&web(), [ep("10.244.1.7")]);
    other.ports[0].name = Some("other".to_owned());
    cluster.add(web()).add(other);
    let mut udp = slice(&web(), [ep("10.244.1.8")]).named("web-2");
    udp.ports[0].protocol = Some("UDP".to_owned());
    cluster.add(udp);
    assert!(real_servers(&mut cluster).is_empty());
}

#[test]
fn an_absent_port_name_is_the_unnamed_port_and_an_absent_number_no_port() {
    let mut cluster = cluster();
    let mut unnamed = slice(&web(), [ep("10.244.1.7")]);
    unnamed.ports[0].name = None;
    unnamed.ports[0].protocol = None;
    cluster.add(web()).add(unnamed);
    let mut numberless = slice(&web(), [ep("10.244.1.8")]).named("web-2");
    numberless.ports[0].port = None;
    cluster.add(numberless);
    assert_eq!(real_servers(&mut cluster), ["10.244.1.7:8080 weight 1"]);
    assert!(cluster.warnings().is_empty());
}

#[test]
fn a_slice_of_names_is_ignored_without_a_word() {
    let mut cluster = cluster();
    let mut names = slice(&web(), [ep("example.org")]);
    names.address_type = "FQDN".to_owned();
    cluster.add(web()).add(names);
    assert!(real_servers(&mut cluster).is_empty());
    assert!(cluster.warnings().is_empty());
}

#[test]
fn a_slice_that_changes_its_service_moves() {
    let mut cluster = cluster();
    let other = service("other", "10.96.0.2");
    cluster.add(web()).add(other.clone());
    cluster.endpoints(&web(), [ep("10.244.1.7")]);
    assert_eq!(real_servers(&mut cluster).len(), 1);
    cluster.add(slice(&other, [ep("10.244.1.7")]).named("web-1"));
    assert!(real_servers(&mut cluster).is_empty());
}

#[test]
fn endpoints_that_come_before_their_service_are_kept_for_it() {
    let mut cluster = cluster();
    cluster.endpoints(&web(), [ep("10.244.1.7")]);
    cluster.compile();
    cluster.add(web());
    assert_eq!(real_servers(&mut cluster).len(), 1);
    cluster.remove(slice(&web(), []));
    assert!(real_servers(&mut cluster).is_empty());
}

#[test]
fn services_whose_local_policy_has_no_endpoint_here_are_counted() {
    use TrafficPolicy::{External, Internal};
    let mut cluster = cluster();
    let count = |cluster: &mut Cluster, policy| {
        cluster.compile();
        let v6 = cluster.without_local_endpoints(policy, Family::V6);
        assert_eq!(v6, 0, "there is no IPv6 Service");
        cluster.without_local_endpoints(policy, Family::V4)
    };
    let local = web().load_balancer("203.0.113.5").external_local();
    cluster.add(local.clone());
    assert_eq!(
        count(&mut cluster, External),
        0,
        "nobody serves it anywhere"
    );

    cluster.endpoints(&web(), [ep("10.244.2.9")]);
    assert_eq!(count(&mut cluster, External), 1);
    assert_eq!(count(&mut cluster, Internal), 0);

    cluster.add(local.clone().internal_local());
    assert_eq!(count(&mut cluster, Internal), 1);

    cluster.endpoints(&web(), [ep("10.244.2.9"), ep("10.244.1.7").here()]);
    assert_eq!(count(&mut cluster, External), 0);
    assert_eq!(count(&mut cluster, Internal), 0);

    cluster.endpoints(&web(), [ep("10.244.2.9")]);
    cluster.remove(local);
    assert_eq!(count(&mut cluster, External), 0);
}

/// Many endpoints have few lists of zones between them, which are kept once.
#[test]
fn so_many_lists_of_hints_are_told_apart_and_with_more_none_are_followed() {
    let many = |count: usize| {
        let mut cluster = cluster();
        cluster.add(node("node-1", "192.0.2.1").zone("a"));
        cluster.add(web());
        let mut slice = slice(&web(), []);
        let at = |n: usize| ep(&format!("10.244.{}.{}", 1 + n / 250, 1 + n % 250));
        let hinted = |n| at(n).for_zone(&format!("z{n}"));
        let ours = |n| at(n).for_zone("b").for_zone("a");
        let others = (2..=count).map(hinted);
        slice.endpoints = others.chain([ours(300), ours(301)]).collect();
        cluster.add(slice);
        let chosen = real_servers(&mut cluster);
        let told = cluster.warnings().into_iter().map(|w| w.message);
        (chosen, told.collect::<Vec<_>>())
    };

    let (chosen, told) = many(255);
    assert_eq!(
        chosen,
        ["10.244.2.51:8080 weight 1", "10.244.2.52:8080 weight 1"]
    );
    assert_eq!(told, [""; 0]);

    let (chosen, told) = many(256);
    assert_eq!(chosen.len(), 257);
    assert_eq!(
        told,
        ["its endpoints have more than 255 lists of hints; 255 are told apart"]
    );
}
