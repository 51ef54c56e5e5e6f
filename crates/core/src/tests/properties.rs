//! What must hold for any objects in any order.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::diff::{Terms, diff_touched};
use crate::event::{Kind, ObjectRef};
use crate::fixtures::*;
use crate::k8s::Object;
use crate::model::Model;
use crate::options::{NodePortServers, Options};
use crate::output::Output;
use crate::state::{Front, Protocol, VirtualServerKey};
use crate::{Cluster, Event, FrontKind};

fn some_options() -> Options {
    let mut options = options();
    options.allow_external_ips = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
    options.detect_local = true;
    options.node_port_servers = NodePortServers::Mark;
    options.localhost_node_ports = options.families.clone();
    options
}

/// Few values, so that objects meet: Services of one name, fronts of several Services.
fn address() -> impl Strategy<Value = &'static str> {
    select(vec![
        "10.96.0.1",
        "10.96.0.2",
        "203.0.113.5",
        "192.0.2.1",
        "192.0.2.3",
        "fd00::1",
        "2001:db8::5",
        "127.0.0.1",
        "nonsense",
        "",
    ])
}

fn maybe<T: Clone + core::fmt::Debug + 'static>(all: Vec<T>) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(select(all))
}

fn some_service() -> impl Strategy<Value = Object> {
    let port = (
        select(vec!["", "a", "b"]),
        maybe(vec!["TCP", "UDP", "SCTP", "ICMP"]),
        select(vec![80, 81, 0, 70_000]),
        maybe(vec![30080, 30081, -1]),
    );
    let addresses = || proptest::collection::vec(address(), 0..3);
    let policy = || maybe(vec!["Local", "Cluster"]);
    let spec = (
        addresses(),
        addresses(),
        addresses(),
        proptest::collection::vec(port, 0..3),
        policy(),
        policy(),
        proptest::collection::vec(select(vec!["192.0.2.0/24", "::/0", "x"]), 0..2),
    );
    let meta = (
        select(vec!["web", "dns", "db"]),
        maybe(vec![
            "2026-01-01T00:00:00Z",
            "2026-02-01T00:00:00Z",
            "never",
        ]),
        maybe(vec!["mh", "lc", "fastest", "wrr", "wlc"]),
        (
            maybe(vec!["node=10,zone=3,other=1", "node=65535", "other=0"]),
            maybe(vec!["1s", "1h", "soon"]),
            maybe(vec!["never", "always", "auto", "maybe"]),
            maybe(vec!["true", "false"]),
            maybe(vec!["1", "0", "4294967295", "-1"]),
        ),
        select(vec!["default", "default", "tenant"]),
        select(vec!["ClusterIP", "LoadBalancer", "ExternalName"]),
        maybe(vec![32000, 80, -1]),
    );
    (meta, spec).prop_map(|(meta, spec)| {
        let (name, created, scheduler, weights, namespace, kind, health) = meta;
        let (cluster, balanced, external, ports, internal, outer, ranges) = spec;
        let ports = ports.into_iter().map(|(name, protocol, port, node_port)| {
            json!({"name": name, "protocol": protocol, "port": port, "nodePort": node_port})
        });
        let ingress = balanced.into_iter().map(|ip| json!({"ip": ip}));
        let (weights, slow_start, masquerade, local, threshold) = weights;
        let notes = [
            ("ipvs.kube-ipvs.dev/scheduler", scheduler),
            ("ipvs.kube-ipvs.dev/weights", weights),
            ("ipvs.kube-ipvs.dev/slow-start", slow_start),
            ("ipvs.kube-ipvs.dev/masquerade", masquerade),
            ("kube-router.io/service.local", local),
            ("ipvs.kube-ipvs.dev/upper-threshold", threshold),
        ];
        let notes = notes.into_iter();
        let notes = notes.filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
        let notes: serde_json::Map<String, Value> = notes.collect();
        let json = json!({
            "metadata": {"name": name, "namespace": namespace,
                         "creationTimestamp": created, "annotations": notes},
            "spec": {"type": kind, "clusterIPs": cluster, "externalIPs": external,
                     "ports": ports.collect::<Vec<_>>(), "healthCheckNodePort": health,
                     "internalTrafficPolicy": internal, "externalTrafficPolicy": outer,
                     "loadBalancerSourceRanges": ranges},
            "status": {"loadBalancer": {"ingress": ingress.collect::<Vec<_>>()}}
        });
        Object::decode(Kind::Service, json).unwrap()
    })
}

fn some_slice() -> impl Strategy<Value = Object> {
    let endpoint = (
        select(vec![
            "10.244.1.7",
            "10.244.1.8",
            "fd00:244::7",
            "x",
            "192.0.2.3",
            "10.96.0.1",
            "203.0.113.5",
            "2001:db8::5",
        ]),
        maybe(vec!["node-1", "node-2"]),
        (
            any::<Option<bool>>(),
            any::<Option<bool>>(),
            any::<Option<bool>>(),
        ),
        maybe(vec!["a", "b"]),
        maybe(vec!["node-1", "node-2"]),
        maybe(vec!["a", "b", ""]),
    );
    let slice = (
        (
            select(vec!["s1", "s2", "s3", "s4"]),
            select(vec!["default", "default", "tenant"]),
            maybe(vec!["7", "0", "65535"]),
        ),
        maybe(vec!["web", "dns", "db", "kubernetes"]),
        select(vec!["IPv4", "IPv4", "IPv6", "FQDN", "IPX"]),
        proptest::collection::vec(endpoint, 0..4),
        proptest::collection::vec((select(vec!["", "a", "b"]), select(vec![8080, 0])), 0..3),
    );
    slice.prop_map(|((name, namespace, weight), service, family, endpoints, ports)| {
        let endpoints = endpoints
            .into_iter()
            .map(|(address, node, conditions, zone, for_node, at)| {
                let (ready, serving, terminating) = conditions;
                let hint = |name: Option<&str>| name.map(|name| vec![json!({"name": name})]);
                json!({"addresses": [address], "nodeName": node, "zone": at,
                   "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
                   "hints": {"forZones": hint(zone), "forNodes": hint(for_node)}})
            });
        let ports = ports
            .into_iter()
            .map(|(name, port)| json!({"name": name, "port": port}));
        let labels = service.map(|name| json!({"kubernetes.io/service-name": name}));
        let json = json!({
            "metadata": {"name": name, "namespace": namespace, "labels": labels,
                         "annotations": weight.map(|w| json!({"ipvs.kube-ipvs.dev/weight": w}))},
            "addressType": family, "endpoints": endpoints.collect::<Vec<_>>(),
            "ports": ports.collect::<Vec<_>>()
        });
        Object::decode(Kind::EndpointSlice, json).unwrap()
    })
}

fn some_node() -> impl Strategy<Value = Object> {
    let parts = (
        select(vec!["node-1", "node-2", "node-3"]),
        address(),
        maybe(vec!["a", "b"]),
        maybe(vec!["203.0.113.0/29", "10.244.1.0/24", "0.0.0.0/0", "x"]),
    );
    parts.prop_map(|(name, address, zone, pods)| {
        let mut node = node(name, address);
        node.spec.pod_cidrs = pods.into_iter().map(str::to_owned).collect();
        zone.map_or(node.clone(), |zone| node.zone(zone)).into()
    })
}

fn some_service_cidr() -> impl Strategy<Value = Object> {
    let net = select(vec![
        "10.96.0.0/31",
        "203.0.113.0/29",
        "192.0.2.0/24",
        "0.0.0.0/0",
        "fd00::/64",
        "x",
    ]);
    let parts = (
        select(vec!["kubernetes", "more"]),
        proptest::collection::vec(net, 0..3),
    );
    parts.prop_map(|(name, cidrs)| {
        let json = json!({"metadata": {"name": name}, "spec": {"cidrs": cidrs}});
        Object::decode(Kind::ServiceCidr, json).unwrap()
    })
}

/// What a source does: an object comes or goes, the host changes.
#[derive(Debug, Clone)]
enum Change {
    Upsert(Object),
    Delete(ObjectRef),
    Host(Vec<&'static str>),
    Gateways(Vec<&'static str>),
    Later(u64),
    Compile,
}

fn some_change() -> impl Strategy<Value = Change> {
    let object = || {
        prop_oneof![
            4 => some_service(),
            4 => some_slice(),
            2 => some_node(),
            1 => some_service_cidr(),
        ]
    };
    let host = vec!["192.0.2.1", "203.0.113.5", "127.0.0.1", "fe80::1"];
    let gateways = vec!["192.0.2.3", "203.0.113.5"];
    prop_oneof![
        6 => object().prop_map(Change::Upsert),
        2 => object().prop_map(|object| Change::Delete(object.reference())),
        1 => proptest::sample::subsequence(host, 0..4).prop_map(Change::Host),
        1 => proptest::sample::subsequence(gateways, 0..3).prop_map(Change::Gateways),
        1 => select(vec![0, 1, 200, 400_000, 40_000_000]).prop_map(Change::Later),
        2 => Just(Change::Compile),
    ]
}

/// What remains in the end, whatever the way.
#[derive(Default)]
struct World {
    objects: BTreeMap<ObjectRef, Object>,
    host: Option<Vec<&'static str>>,
    gateways: Vec<&'static str>,
}

fn gateways(cluster: &mut Cluster, gateways: &[&str]) {
    let gateways = gateways.iter().map(|at| at.parse().unwrap());
    cluster.apply(Event::Gateways(gateways.collect()));
}

impl World {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Upsert(object) => _ = self.objects.insert(object.reference(), object.clone()),
            Change::Delete(object) => _ = self.objects.remove(object),
            Change::Host(host) => self.host = Some(host.clone()),
            Change::Gateways(gateways) => self.gateways.clone_from(gateways),
            Change::Later(_) | Change::Compile => {}
        }
    }

    fn fresh(&self, backwards: bool) -> Cluster {
        let mut cluster = Cluster::new(some_options());
        let mut objects: Vec<_> = self.objects.values().cloned().collect();
        if backwards {
            objects.reverse();
        }
        for object in objects {
            cluster.add(object);
        }
        if let Some(host) = &self.host {
            cluster.host(host);
        }
        gateways(&mut cluster, &self.gateways);
        cluster.compile();
        cluster
    }
}

fn same(one: &Cluster, other: &Cluster) {
    assert_eq!(one.desired(), other.desired());
    assert_eq!(Output::of(one), Output::of(other));
    assert_eq!(one.draining(), other.draining());
}

/// Compiles, and does to the kernel what that asks for.
fn round(cluster: &mut Cluster, kernel: &mut Model) {
    let touched = cluster.compile();
    let before = kernel.state().clone();
    let plan = diff_touched(cluster.desired(), &before, &touched, &Terms::default());
    kernel.apply(&plan).unwrap();
    assert_eq!(kernel.state(), cluster.desired());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_way_to_the_same_objects_ends_in_the_same_state(
        changes in proptest::collection::vec(some_change(), 0..25)
    ) {
        let mut world = World::default();
        let mut cluster = Cluster::new(some_options());
        let mut kernel = Model::default();
        let mut now = 0;
        for change in changes.into_iter().chain([Change::Compile]) {
            world.apply(&change);
            match change {
                Change::Upsert(object) => _ = cluster.add(object),
                Change::Delete(object) => cluster.apply(Event::Delete(object)),
                Change::Host(host) => _ = cluster.host(&host),
                Change::Gateways(all) => gateways(&mut cluster, &all),
                Change::Later(passed) => {
                    now += passed;
                    cluster.tick(now);
                }
                Change::Compile => round(&mut cluster, &mut kernel),
            }
        }
        // When all are where they climb to, nothing tells of the way.
        for step in 0.. {
            let Some(due) = cluster.step_due() else { break };
            prop_assert!(step < 100, "it never ends");
            cluster.tick(due);
            round(&mut cluster, &mut kernel);
        }
        same(&cluster, &world.fresh(false));
        same(&cluster, &world.fresh(true));
        is_sound(&cluster);
    }

    #[test]
    fn when_all_is_gone_nothing_is_left(objects in proptest::collection::vec(
        prop_oneof![some_service(), some_slice(), some_node(), some_service_cidr()], 0..15
    )) {
        let mut cluster = Cluster::new(some_options());
        for object in &objects {
            cluster.add(object.clone());
            cluster.compile();
        }
        for object in &objects {
            cluster.apply(Event::Delete(object.reference()));
        }
        cluster.compile();
        same(&cluster, &Cluster::new(some_options()));
        prop_assert_eq!(cluster.services().count(), 0);
    }

    #[test]
    fn no_json_makes_it_panic(
        kind in select(vec![Kind::Service, Kind::EndpointSlice, Kind::Node, Kind::ServiceCidr]),
        json in any_json()
    ) {
        if let Ok(object) = Object::decode(kind, json) {
            let mut cluster = Cluster::new(some_options());
            cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
            cluster.add(object);
            cluster.compile();
            let json = Output::of(&cluster).to_json();
            prop_assert!(serde_json::from_str::<Value>(&json).is_ok());
        }
    }
}

/// What must be true of any desired state.
fn is_sound(cluster: &Cluster) {
    let state = cluster.desired();
    let checks = cluster.health_checks().into_iter().flat_map(|check| {
        let port = check.port;
        let front = move |address| Front {
            address,
            port,
            protocol: Protocol::Tcp,
        };
        check.vips.into_iter().map(front)
    });
    let checks: BTreeSet<Front> = checks.collect();
    assert_eq!(
        Model::new(state.clone()).dangers(&checks),
        Vec::<String>::new()
    );
    let own: Vec<&IpAddr> = state.vips.intersection(cluster.host_addresses()).collect();
    assert_eq!(
        own,
        Vec::<&IpAddr>::new(),
        "a node's address is never a VIP"
    );
    for (key, server) in &state.virtual_servers {
        let taking = server.real_servers.values().any(|real| real.weight > 0);
        assert!(taking, "{key} has nobody for new connections");
        for real in server.real_servers.keys() {
            let ours = cluster.host_addresses().contains(&real.address);
            let loops = state.vips.contains(&real.address)
                || cluster
                    .service_cidrs()
                    .iter()
                    .any(|net| net.contains(&real.address));
            assert!(ours || !loops, "{key} -> {real} comes back");
        }
        if !matches!(
            cluster.kind_of(key),
            Some(FrontKind::LoadBalancer | FrontKind::ExternalIp)
        ) {
            continue;
        }
        if let VirtualServerKey::Front(front) = key {
            let cluster_address = |net: &ipnet::IpNet| net.contains(&front.address);
            assert!(
                !cluster.service_cidrs().iter().any(cluster_address),
                "{key}"
            );
        }
        assert!(cluster.service_of(key).is_some());
    }
}

/// Objects made of the fields that are looked at, with anything in them.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        address().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
        select(vec![
            "LoadBalancer",
            "Local",
            "ClientIP",
            "IPv4",
            "10.0.0.0/8"
        ])
        .prop_map(Value::from),
    ];
    let fields = vec![
        "metadata",
        "name",
        "namespace",
        "labels",
        "annotations",
        "creationTimestamp",
        "spec",
        "status",
        "type",
        "clusterIP",
        "clusterIPs",
        "externalIPs",
        "ports",
        "port",
        "protocol",
        "nodePort",
        "sessionAffinity",
        "loadBalancer",
        "ingress",
        "ip",
        "healthCheckNodePort",
        "loadBalancerSourceRanges",
        "addressType",
        "endpoints",
        "addresses",
        "conditions",
        "hints",
        "forZones",
        "cidrs",
        "podCIDRs",
        "kubernetes.io/service-name",
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map(select(fields.clone()), inner, 0..8)
                .prop_map(|map| map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}
