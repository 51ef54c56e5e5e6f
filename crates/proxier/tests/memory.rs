//! What a Service takes of memory, counted by the allocator and so the same
//! everywhere: from its JSON to the round that brought it to the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use kube_ipvs::sync::Syncer;
use kube_ipvs_core::drain::Load;
use kube_ipvs_core::plan::Plan;
use kube_ipvs_core::state::{Front, RealServerKey, VirtualServerKey};
use kube_ipvs_core::{Cluster, Event, HostAddress, Kind, Object, Options};
use kube_ipvs_dataplane::record::RecordFile;
use kube_ipvs_dataplane::{ApplyReport, Dataplane, Observed, Prepared};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// A kernel that was empty and takes everything.
struct Sink;

impl Dataplane for Sink {
    fn observe(&mut self) -> anyhow::Result<Observed> {
        Ok(Observed::default())
    }

    fn prepare(&mut self, _observed: &Observed) -> anyhow::Result<Prepared> {
        Ok(Prepared::default())
    }

    fn apply(&mut self, plan: &Plan) -> ApplyReport {
        ApplyReport {
            done: plan.ops.len(),
            ..ApplyReport::default()
        }
    }

    fn forget_flows(
        &mut self,
        _fronts: &BTreeMap<Front, BTreeSet<RealServerKey>>,
    ) -> anyhow::Result<usize> {
        Ok(0)
    }

    fn loads(
        &mut self,
        _server: &VirtualServerKey,
    ) -> anyhow::Result<BTreeMap<RealServerKey, Load>> {
        Ok(BTreeMap::new())
    }

    fn host_addresses(&mut self) -> anyhow::Result<Vec<HostAddress>> {
        Ok(Vec::new())
    }

    fn lacks_scheduler(&mut self, _name: &str) -> anyhow::Result<bool> {
        Ok(false)
    }

    fn gateways(&mut self) -> anyhow::Result<BTreeSet<IpAddr>> {
        Ok(BTreeSet::new())
    }
}

const SERVICES: usize = 250;
/// Bytes a Service with ten endpoints takes while nothing happens, and at most
/// on the way there. The figures are the same on every machine: a tenth more
/// than they were is too much.
const LIVE: usize = 3230;
const PEAK: usize = 5130;

#[test]
fn a_service_takes_little_more_than_what_is_read_of_it() {
    let objects = |object: fn(usize) -> Value| -> Vec<String> {
        let all = (0..SERVICES).map(object);
        all.map(|object| object.to_string()).collect()
    };
    let lists = [
        (Kind::Service, objects(service)),
        (Kind::EndpointSlice, objects(slice)),
        (Kind::ServiceCidr, Vec::new()),
        (Kind::Node, Vec::new()),
    ];
    let state = tempfile::tempdir().unwrap();
    let record = RecordFile::open(state.path()).unwrap();
    let options = Options {
        node_name: "node-1".to_owned(),
        ..Options::default()
    };
    // `KUBE_IPVS_PROFILE` writes `dhat-heap.json`: who holds what, then and at the peak.
    let profile = std::env::var_os("KUBE_IPVS_PROFILE").is_some();
    let profiler = dhat::Profiler::builder();
    let profiler = if profile {
        profiler.build()
    } else {
        profiler.testing().build()
    };
    let mut syncer = Syncer::new(
        Cluster::new(options),
        Sink,
        record,
        Duration::from_secs(900),
    );
    for (kind, objects) in &lists {
        syncer.event(Event::ListStarted(*kind));
        for object in objects {
            let object = Object::decode_text(*kind, object).unwrap();
            syncer.event(Event::Upsert(object));
        }
        syncer.event(Event::ListCompleted(*kind));
    }
    let round = syncer.sync(0).unwrap().unwrap();
    assert!(
        round.summary().contains("real server +3000"),
        "{}",
        round.summary()
    );
    drop(round);

    if profile {
        drop(profiler);
        return;
    }
    let stats = dhat::HeapStats::get();
    let [live, peak] = [stats.curr_bytes, stats.max_bytes].map(|bytes| bytes / SERVICES);
    println!("{live} bytes a Service, {peak} at the peak");
    assert!(
        live <= LIVE && peak <= PEAK,
        "{live} bytes a Service, {peak} at the peak"
    );
}

/// As objects of a Helm chart have it: nearly nothing of it is read.
fn metadata(name: &str) -> Value {
    let labels = json!({
        "app.kubernetes.io/name": name, "app.kubernetes.io/instance": name,
        "app.kubernetes.io/version": "1.2.3", "app.kubernetes.io/component": "server",
        "app.kubernetes.io/part-of": "shop", "app.kubernetes.io/managed-by": "Helm",
        "helm.sh/chart": "web-1.2.3", "team": "payments",
    });
    json!({
        "name": name, "namespace": "default", "resourceVersion": "4711",
        "uid": "5d1c2d9a-0000-4000-8000-000000004711", "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": labels,
        "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": "x".repeat(1500),
            "meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": "default",
            "prometheus.io/scrape": "true",
        },
        "managedFields": [{"manager": "helm", "fieldsV1": fields()}],
    })
}

fn fields() -> Value {
    let mut fields = serde_json::Map::new();
    for n in 0..60 {
        fields.insert(format!("f:app.kubernetes.io/field-{n}"), json!({}));
    }
    json!({"f:metadata": fields})
}

fn service(number: usize) -> Value {
    let vip = format!("10.96.{}.{}", number / 250, number % 250 + 1);
    let mut ports =
        vec![json!({"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080})];
    if number.is_multiple_of(10) {
        ports.push(json!({"name": "https", "port": 443, "protocol": "TCP", "targetPort": 8443}));
        ports.push(json!({"name": "metrics", "port": 9090, "protocol": "TCP", "targetPort": 9090}));
    }
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": metadata(&format!("service-{number}")),
        "spec": {
            "type": "ClusterIP", "clusterIP": vip, "clusterIPs": [vip],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "selector": {"app": format!("service-{number}")},
            "ports": ports,
        },
        "status": {"loadBalancer": {}},
    })
}

fn slice(number: usize) -> Value {
    let endpoints: Vec<Value> = (0..10).map(|n| json!({
        "addresses": [format!("172.{}.{}.{}", 16 + n, number / 250, number % 250 + 1)],
        "nodeName": "node-2", "zone": "a",
        "targetRef": {"kind": "Pod", "namespace": "default", "name": format!("service-{number}-{n}")},
        "conditions": {"ready": true, "serving": true, "terminating": false},
    })).collect();
    let mut ports = vec![json!({"name": "http", "port": 8080, "protocol": "TCP"})];
    if number.is_multiple_of(10) {
        ports.push(json!({"name": "https", "port": 8443, "protocol": "TCP"}));
        ports.push(json!({"name": "metrics", "port": 9090, "protocol": "TCP"}));
    }
    let mut metadata = metadata(&format!("service-{number}-abc12"));
    metadata["labels"]["kubernetes.io/service-name"] = format!("service-{number}").into();
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata": metadata,
        "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
    })
}
