//! What compiling costs: `cost [SERVICES [ENDPOINTS [CHANGES]]]`.
//!
//! Builds a cluster from nothing, compiles it, and then changes one endpoint
//! of one Service at a time, carrying each plan out on the model. It measures
//! nothing itself: run it under something that counts instructions or memory,
//! with and without changes, and take the difference.

use kube_ipvs_core::diff::{Terms, diff, diff_touched};
use kube_ipvs_core::event::{Event, Kind};
use kube_ipvs_core::{Cluster, KernelState, Object, Options};
use serde_json::json;

fn main() {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|n| n.parse().ok())
        .collect();
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let (services, endpoints, changes) = (number(0, 10_000), number(1, 10), number(2, 1_000));

    let mut cluster = Cluster::new(Options {
        node_name: "node-1".to_owned(),
        ..Options::default()
    });
    for n in 0..services {
        cluster.apply(Event::Upsert(service(n)));
        cluster.apply(Event::Upsert(slice(n, endpoints, 0)));
    }
    cluster.compile();
    let whole = diff(
        cluster.desired(),
        &KernelState::default(),
        &Terms::default(),
    );
    println!("whole: {} Services, {} steps", services, whole.ops.len());

    let before = cluster.desired().clone();
    let mut steps = 0;
    for change in 1..=changes {
        let n = change * 7_919 % services;
        cluster.apply(Event::Upsert(slice(n, endpoints, change)));
        let touched = cluster.compile();
        steps += diff_touched(cluster.desired(), &before, &touched, &Terms::default())
            .ops
            .len();
    }
    println!("changes: {changes}, {steps} steps");
}

fn object(kind: Kind, json: serde_json::Value) -> Object {
    Object::decode(kind, json).expect("it is written below")
}

fn service(n: usize) -> Object {
    object(
        Kind::Service,
        json!({
            "metadata": {"name": format!("service-{n}"), "namespace": "default"},
            "spec": {
                "clusterIP": format!("10.{}.{}.{}", 96 + n / 65_536, n / 256 % 256, n % 256),
                "ports": [{"port": 80, "protocol": "TCP"}]
            }
        }),
    )
}

/// The last endpoint is another one after each change.
fn slice(n: usize, endpoints: usize, change: usize) -> Object {
    let address = |e: usize| {
        let e = if e + 1 == endpoints {
            e + 1 + change
        } else {
            e
        };
        format!("172.{}.{}.{}", 16 + e / 256 % 16, e % 256, n % 254 + 1)
    };
    let endpoints = (0..endpoints).map(|e| {
        json!({
            "addresses": [address(e)], "nodeName": format!("node-{}", e % 50),
            "conditions": {"ready": true, "serving": true, "terminating": false}
        })
    });
    object(
        Kind::EndpointSlice,
        json!({
            "metadata": {
                "name": format!("service-{n}-1"), "namespace": "default",
                "labels": {"kubernetes.io/service-name": format!("service-{n}")}
            },
            "addressType": "IPv4",
            "endpoints": endpoints.collect::<Vec<_>>(),
            "ports": [{"port": 8080}]
        }),
    )
}
