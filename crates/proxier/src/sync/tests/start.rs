//! What the syncer looks at, in which order, and what it makes of answers that
//! do not come.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube_ipvs_core::plan::Op;
use kube_ipvs_core::state::{RealServerKey, VirtualServerKey};
use kube_ipvs_core::{Cluster, Event, Options};
use kube_ipvs_dataplane::record::RecordFile;
use kube_ipvs_vip::Notice;
use tokio::time::sleep;

use super::clock::stage;
use super::fake::Fate;
use super::first_lists::{BALANCED, OTHER_NODE_PORT, edge, host};
use super::objects::{endpoints_in, resolver, service_in};
use super::{DRAIN_TIMEOUT, Host, WEB, drain_when_due, key, lists, move_web, tell, web};
use crate::sync::Syncer;

#[test]
fn addresses_of_the_host_that_cannot_be_read_any_more_stay_in_force() {
    let host = host();
    stage(&host, |stage| async move {
        let is_served = || {
            let server: VirtualServerKey = key(OTHER_NODE_PORT);
            stage.fake.state().virtual_servers.contains_key(&server)
        };
        stage.tell(lists(edge())).await;
        sleep(Duration::from_secs(5)).await;
        assert!(is_served());

        stage.fake.kernel().host_fails = true;
        stage.notice(Notice::HostAddress("192.0.2.7".parse().unwrap()));
        sleep(Duration::from_secs(300)).await;
        assert!(is_served());
        assert!(stage.not_ready()["host-addresses"].contains("cannot be read"));

        stage.fake.heal();
        sleep(Duration::from_secs(61)).await;
        assert_eq!(stage.not_ready().get("host-addresses"), None);
    });
}

#[test]
fn connections_that_cannot_be_counted_count_as_some() {
    let host = Host::new();
    let mut syncer = host.started(web(&["10.1.0.1", "10.1.0.2"]));
    let weight = || host.fake.weight(WEB, "10.1.0.1:8080");
    host.fake.kernel().loads_fail = true;

    move_web(&mut syncer, &["-10.1.0.1", "10.1.0.2"]);
    let mut now = 0;
    while now < 60_000 {
        assert_eq!(weight(), Some(0));
        now = drain_when_due(&mut syncer);
    }

    host.fake.heal();
    while weight().is_some() {
        now = drain_when_due(&mut syncer);
    }
    assert!(now < 70_000, "it had none: {now} ms");
}

#[test]
fn a_weight_that_was_zero_at_the_start_is_put_right_at_once() {
    let host = Host::new();
    host.started(web(&["10.1.0.1", "10.1.0.2"]));
    host.fake.edit(|state| {
        let server = state.virtual_servers.get_mut(&key(WEB)).unwrap();
        for real in Arc::make_mut(server).real_servers.values_mut() {
            real.weight = 0;
        }
    });

    let mut syncer = host.start();
    let round = tell(&mut syncer, lists(web(&["10.1.0.1", "10.1.0.2"])));

    assert!(round.unwrap().is_clean());
    for real in ["10.1.0.1:8080", "10.1.0.2:8080"] {
        assert_eq!(host.fake.weight(WEB, real), Some(1));
    }
}

#[test]
fn a_gateway_is_never_a_vip() {
    let host = host();
    let gateway = BALANCED.parse().unwrap();
    let mut syncer = host.start();
    host.fake.kernel().gateways = [gateway].into();
    syncer.look_at_host().unwrap();
    tell(&mut syncer, lists(edge()));
    assert!(!host.fake.state().vips.contains(&gateway));

    // Nor with what others protect, and only as long as it is one.
    let other = Event::Protected(["192.0.2.12".parse().unwrap()].into());
    tell(&mut syncer, [other]);
    assert!(!host.fake.state().vips.contains(&gateway));
    host.fake.kernel().gateways.clear();
    assert!(syncer.look_at_host().unwrap(), "that is a change");
    syncer.sync(0).unwrap();
    assert!(host.fake.state().vips.contains(&gateway));
}

#[test]
fn the_api_server_and_dns_are_served_before_all_others() {
    let host = Host::new();
    let mut objects = Vec::new();
    for (namespace, name, vip) in [
        ("apps", "first-by-name", "10.96.0.1"),
        ("default", "kubernetes", "10.96.0.8"),
    ] {
        objects.push(service_in(namespace, name, vip, "TCP"));
        objects.push(endpoints_in(namespace, name, "TCP", &["10.1.0.1"]));
    }
    let outside = &["192.0.2.53"][..];
    for (namespace, name, vip, external) in [
        ("apps", "older-ones-address", "10.96.0.2", outside),
        ("kube-system", "kube-dns", "10.96.0.9", &[]),
        ("openshift-dns", "dns-default", "10.96.0.10", &[]),
    ] {
        objects.push(resolver(namespace, name, vip, external));
        objects.push(endpoints_in(namespace, name, "UDP", &["10.1.0.1"]));
    }

    host.started(objects);

    let done = host.fake.kernel().done.clone();
    let bound = done.iter().filter_map(|op| match op {
        Op::BindVips(vips) => Some(vips.iter().map(ToString::to_string).collect::<Vec<_>>()),
        _ => None,
    });
    let bound: Vec<_> = bound.collect();
    let first = vec!["10.96.0.8", "10.96.0.9", "10.96.0.10"];
    assert_eq!(bound, [first, vec!["10.96.0.1", "10.96.0.2"]]);
    assert_eq!(host.fake.kernel().observed, 1, "what was done is known");
}

#[test]
fn what_was_refused_to_the_first_is_looked_at_before_the_others() {
    let host = Host::new();
    host.fake.kernel().hook = Box::new(|number, _| match number {
        2 => Fate::Lost,
        _ => Fate::Done,
    });
    let mut objects = vec![service_in("default", "kubernetes", "10.96.0.8", "TCP")];
    objects.push(endpoints_in("default", "kubernetes", "TCP", &["10.1.0.1"]));

    let mut syncer = host.start();
    tell(
        &mut syncer,
        lists(objects.into_iter().chain(web(&["10.1.0.2"]))),
    );

    assert!(host.fake.kernel().observed > 1);
    assert_eq!(syncer.known(), Some(&host.fake.state()));
}

/// The order in which a node gives a virtual server its real servers.
fn order_on(node: &str) -> Vec<RealServerKey> {
    let host = Host::new();
    let options = Options {
        node_name: node.to_owned(),
        ..Options::default()
    };
    let record = RecordFile::open(host.state.path()).unwrap();
    let cluster = Cluster::new(options);
    let mut syncer = Syncer::new(cluster, host.fake.clone(), record, DRAIN_TIMEOUT);
    let addresses: Vec<String> = (1..9).map(|n| format!("10.1.0.{n}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    tell(&mut syncer, lists(web(&addresses)));
    let done = host.fake.kernel().done.clone();
    let added = done.iter().filter_map(|op| match op {
        Op::AddRealServer(_, real, _) => Some(*real),
        _ => None,
    });
    added.collect()
}

#[test]
fn each_node_begins_with_a_real_server_of_its_own() {
    let orders: BTreeSet<_> = (0..8).map(|n| order_on(&format!("node-{n}"))).collect();

    assert!(orders.len() > 4, "{orders:?}");
    assert_eq!(order_on("node-0"), order_on("node-0"));
}
