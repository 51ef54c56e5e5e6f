//! Events of small Services, in a few words.

use kube_ipvs_core::k8s::Object;
use kube_ipvs_core::{Event, Kind, ObjectRef};
use serde_json::{Value, json};

/// Service `default/NAME` at an address with one port 80.
pub(super) fn service(name: &str, vip: &str, protocol: &str) -> Event {
    service_in("default", name, vip, protocol)
}

/// Of every Service.
pub(super) const UID: &str = "5d1c2d9a-0000-4000-8000-000000004711";

/// The same in another namespace.
pub(super) fn service_in(namespace: &str, name: &str, vip: &str, protocol: &str) -> Event {
    let object = json!({
        "metadata": {"name": name, "namespace": namespace, "uid": UID},
        "spec": {
            "type": "ClusterIP", "clusterIP": vip, "clusterIPs": [vip],
            "ports": [{"name": "", "protocol": protocol, "port": 80}],
        },
    });
    upsert(Kind::Service, object)
}

/// A Service that answers at port 53 for UDP.
pub(super) fn resolver(namespace: &str, name: &str, vip: &str, external: &[&str]) -> Event {
    let object = json!({
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "type": "ClusterIP", "externalIPs": external, "clusterIP": vip, "clusterIPs": [vip],
            "ports": [{"name": "", "protocol": "UDP", "port": 53}],
        },
    });
    upsert(Kind::Service, object)
}

/// Service `default/NAME` with one port 80/TCP that has a node port too.
pub(super) fn node_port(name: &str, vip: &str, number: u16) -> Event {
    let object = json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "type": "NodePort", "clusterIP": vip, "clusterIPs": [vip],
            "ports": [{"name": "", "protocol": "TCP", "port": 80, "nodePort": number}],
        },
    });
    upsert(Kind::Service, object)
}

/// Its endpoints at port 8080: an address is ready, `-address` terminates.
pub(super) fn endpoints(name: &str, protocol: &str, addresses: &[&str]) -> Event {
    endpoints_in("default", name, protocol, addresses)
}

/// The same in another namespace.
pub(super) fn endpoints_in(
    namespace: &str,
    name: &str,
    protocol: &str,
    addresses: &[&str],
) -> Event {
    let endpoint = |address: &&str| {
        let leaving = address.starts_with('-');
        json!({
            "addresses": [address.trim_start_matches('-')],
            "conditions": {"ready": !leaving, "serving": true, "terminating": leaving},
        })
    };
    let object = json!({
        "metadata": {
            "name": format!("{name}-1"), "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "protocol": protocol, "port": 8080}],
        "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
    });
    upsert(Kind::EndpointSlice, object)
}

/// `web` at 10.96.0.1 (TCP) with these endpoints.
pub(super) fn web(addresses: &[&str]) -> [Event; 2] {
    [
        service("web", "10.96.0.1", "TCP"),
        endpoints("web", "TCP", addresses),
    ]
}

/// `dns` at 10.96.0.2 (UDP) with these endpoints.
pub(super) fn dns(addresses: &[&str]) -> [Event; 2] {
    [
        service("dns", "10.96.0.2", "UDP"),
        endpoints("dns", "UDP", addresses),
    ]
}

/// A Service and its slice are gone.
pub(super) fn gone(name: &str) -> [Event; 2] {
    let at = |kind, name: String| {
        Event::Delete(ObjectRef {
            kind,
            namespace: "default".to_owned(),
            name,
        })
    };
    [
        at(Kind::EndpointSlice, format!("{name}-1")),
        at(Kind::Service, name.to_owned()),
    ]
}

/// Both lists begin, hold these, and are complete.
pub(super) fn lists(objects: impl IntoIterator<Item = Event>) -> Vec<Event> {
    let kinds = [Kind::Service, Kind::EndpointSlice];
    let begin = kinds.map(Event::ListStarted);
    let end = kinds.map(Event::ListCompleted);
    begin.into_iter().chain(objects).chain(end).collect()
}

pub(super) fn upsert(kind: Kind, object: Value) -> Event {
    Event::Upsert(Object::decode(kind, object).unwrap())
}
