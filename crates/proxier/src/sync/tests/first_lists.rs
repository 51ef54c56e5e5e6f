//! A start beside a full table: whatever comes first, what belongs stays.

use kube_ipvs_core::state::VirtualServerKey;
use kube_ipvs_core::{Event, HostAddress, Kind, NodePortAddresses, Options};
use serde_json::json;

use super::fake::Fake;
use super::objects::upsert;
use super::{Host, key, syncer_with, tell};
use crate::sync::Syncer;

const NODE_PORT: &str = "192.0.2.11:30080/TCP";
pub(super) const OTHER_NODE_PORT: &str = "198.51.100.7:30080/TCP";
pub(super) const BALANCED: &str = "203.0.113.80";

fn node() -> Event {
    upsert(
        Kind::Node,
        json!({
            "metadata": {"name": "node-1", "labels": {"topology.kubernetes.io/zone": "a"}},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.11"}]},
        }),
    )
}

/// `edge`, with a node port and an address of a load balancer; endpoints of two
/// zones with hints.
pub(super) fn edge() -> [Event; 2] {
    let service = json!({
        "metadata": {"name": "edge", "namespace": "default"},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"],
            "ports": [{"name": "", "protocol": "TCP", "port": 80, "nodePort": 30080}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": BALANCED}]}},
    });
    let endpoint = |address, zone| {
        json!({
            "addresses": [address], "conditions": {"ready": true},
            "zone": zone, "hints": {"forZones": [{"name": zone}]},
        })
    };
    let slice = json!({
        "metadata": {
            "name": "edge-1", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "edge"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "protocol": "TCP", "port": 8080}],
        "endpoints": [endpoint("10.1.0.1", "a"), endpoint("10.1.0.2", "b")],
    });
    [
        upsert(Kind::Service, service),
        upsert(Kind::EndpointSlice, slice),
    ]
}

fn list(kind: Kind, object: impl IntoIterator<Item = Event>) -> Vec<Event> {
    let mut events = vec![Event::ListStarted(kind)];
    events.extend(object);
    events.push(Event::ListCompleted(kind));
    events
}

/// What each source says first.
fn sources() -> Vec<Vec<Event>> {
    let [service, slice] = edge();
    let cidr = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}});
    vec![
        list(Kind::Service, [service]),
        list(Kind::EndpointSlice, [slice]),
        list(Kind::ServiceCidr, [upsert(Kind::ServiceCidr, cidr)]),
        list(Kind::Node, [node()]),
        vec![Event::Protected(["192.0.2.12".parse().unwrap()].into())],
    ]
}

fn orders<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for first in 0..items.len() {
        let mut rest = items.to_vec();
        let first = rest.remove(first);
        for mut order in orders(&rest) {
            order.insert(0, first.clone());
            all.push(order);
        }
    }
    all
}

pub(super) fn host() -> Host {
    let host = Host::new();
    let address = |address: &str| HostAddress {
        address: address.parse().unwrap(),
        prefix: 24,
        link: "eth0".to_owned(),
    };
    host.fake.kernel().host = vec![address("192.0.2.11"), address("198.51.100.7")];
    host
}

/// The program starts, with node ports on these addresses.
fn start(host: &Host, node_port_addresses: NodePortAddresses) -> Syncer<Fake> {
    let options = Options {
        node_port_addresses,
        wait_for_node: true,
        wait_for_service_cidrs: true,
        ..Options::default()
    };
    syncer_with(host.fake.clone(), host.state.path(), options)
}

/// A host on which a previous run had carried everything out.
fn served(node_port_addresses: NodePortAddresses) -> Host {
    let host = host();
    let mut syncer = start(&host, node_port_addresses);
    let round = tell(&mut syncer, sources().into_iter().flatten());
    assert!(round.expect("every list is complete").is_clean());
    host.fake.kernel().done.clear();
    host
}

fn is_served(host: &Host, server: &str) -> bool {
    let server: VirtualServerKey = key(server);
    host.fake.state().virtual_servers.contains_key(&server)
}

/// Tells events one by one, with a sync behind each, and expects each to find
/// nothing to do.
fn finds_everything_in_place(host: &Host, events: &[Event]) {
    let mut syncer = start(host, NodePortAddresses::Primary);
    _ = syncer.look_at_host();
    let mut rounds = 0;
    for event in events {
        rounds += usize::from(tell(&mut syncer, [event.clone()]).is_some());
    }
    assert!(rounds > 0, "all lists are complete");
    assert_eq!(host.fake.kernel().done, [], "in this order: {events:#?}");
}

#[test]
fn first_lists_may_come_in_any_order() {
    let host = served(NodePortAddresses::Primary);
    assert!(is_served(&host, NODE_PORT));
    assert!(!is_served(&host, OTHER_NODE_PORT));
    assert_eq!(host.fake.weight(NODE_PORT, "10.1.0.1:8080"), Some(1));
    assert_eq!(host.fake.weight(NODE_PORT, "10.1.0.2:8080"), None);

    for order in orders(&sources()) {
        // One list after another, and all begun before any goes on.
        finds_everything_in_place(&host, &order.concat());
        let begun = |event: &Event| matches!(event, Event::ListStarted(_));
        let (mut events, rest): (Vec<_>, Vec<_>) = order.concat().into_iter().partition(begun);
        events.extend(rest);
        finds_everything_in_place(&host, &events);
    }
}

#[test]
fn a_node_that_the_server_does_not_know_is_an_answer() {
    let host = served(NodePortAddresses::Primary);
    let mut syncer = start(&host, NodePortAddresses::Primary);
    for events in sources() {
        if events[0] != Event::ListStarted(Kind::Node) {
            assert!(
                tell(&mut syncer, events).is_none(),
                "nothing of the Node yet"
            );
        }
    }

    let round = tell(&mut syncer, list(Kind::Node, []));

    assert!(round.expect("it goes on").is_clean());
    assert!(!is_served(&host, NODE_PORT), "its address is not known");
    assert!(is_served(&host, "10.96.0.1:80/TCP"));
}

#[test]
fn addresses_of_the_host_that_were_never_read_are_not_taken_for_none() {
    let host = served(NodePortAddresses::All);
    assert!(is_served(&host, OTHER_NODE_PORT));
    let mut syncer = start(&host, NodePortAddresses::All);
    host.fake.kernel().host_fails = true;
    assert!(syncer.look_at_host().is_err());

    let events = sources().into_iter().flatten();
    events.for_each(|event| syncer.event(event));
    let error = syncer.sync(0).expect_err("the host is not known");
    assert!(format!("{error:#}").contains("this host's addresses"));
    assert_eq!(host.fake.kernel().done, []);

    host.fake.heal();
    assert!(syncer.sync(0).unwrap().unwrap().is_clean());
    assert_eq!(host.fake.kernel().done, []);
}

#[test]
fn a_vip_that_is_there_stays_when_nobody_can_check_it() {
    let host = served(NodePortAddresses::Primary);
    let vip = BALANCED.parse().unwrap();
    let mut syncer = start(&host, NodePortAddresses::Primary);
    syncer.event(Event::Unchecked([vip].into()));
    tell(&mut syncer, sources().into_iter().flatten());
    assert_eq!(host.fake.kernel().done, []);
    // Said again while it is bound.
    tell(&mut syncer, [Event::Unchecked([vip].into())]);
    assert_eq!(host.fake.kernel().done, []);

    // Once it is another Node's, it goes, and that it was there counts no more.
    tell(&mut syncer, [Event::Protected([vip].into())]);
    assert!(!host.fake.state().vips.contains(&vip));
    tell(
        &mut syncer,
        [Event::Unchecked([vip].into()), Event::Protected([].into())],
    );
    assert!(!host.fake.state().vips.contains(&vip));
    tell(&mut syncer, [Event::Unchecked([].into())]);
    assert!(host.fake.state().vips.contains(&vip));
}

#[test]
fn a_vip_that_is_not_there_waits_until_it_is_checked() {
    let host = host();
    let vip = BALANCED.parse().unwrap();
    let mut syncer = start(&host, NodePortAddresses::Primary);
    syncer.event(Event::Unchecked([vip].into()));

    tell(&mut syncer, sources().into_iter().flatten());

    assert!(!host.fake.state().vips.contains(&vip));
}
