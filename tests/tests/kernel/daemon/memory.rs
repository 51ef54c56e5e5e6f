//! Memory of the program does not grow with changes.

use kube_ipvs_tests::apiserver::endpoint_slice;
use kube_ipvs_tests::{Topology, memory_kib, wait_until};

use super::api::{Api, table, wait_for_vip};
use crate::traffic::site::PATIENCE;

/// Sized for an emulated machine; `source_memory` sees more, and a million when asked.
const WARM_UP: u32 = 2_000;
const CHANGES: u32 = 6_000;

#[test]
fn memory_after_many_changes_is_memory_before() {
    let topology = Topology::new();
    let node = topology.node();
    let api = Api::of_one(&node, "10.244.1.2");
    let mut daemon = api.start("node-1", &node);
    wait_for_vip(&node, &mut daemon);
    let change = |count: u32| {
        for number in 0..count {
            let address = format!("10.244.1.{}", 2 + number % 200);
            let endpoints = [(address.as_str(), "node-1")];
            let slice = endpoint_slice("default", "web", "web-1", &endpoints);
            api.server.upsert(slice);
            if number % 100 == 99 {
                let wanted = format!("-r {address}:8080");
                wait_until("the change is carried out", PATIENCE, || {
                    table(&node.namespace).contains(&wanted)
                });
            }
        }
    };

    change(WARM_UP);
    let before = memory_kib(daemon.pid(), "VmRSS");
    change(CHANGES);
    let after = memory_kib(daemon.pid(), "VmRSS");

    eprintln!("{before} KiB before, {after} KiB after {CHANGES} changes");
    assert!(after < before + 5 * 1024, "{before} KiB, then {after} KiB");
}
