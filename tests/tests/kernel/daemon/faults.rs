//! The whole program on an API server that fails in every way while objects
//! change: the kernel ends at what the final objects say.

use std::fs;
use std::path::Path;
use std::time::Duration;

use kube_ipvs_tests::apiserver::{ApiServer, Fault, Options, endpoint_slice, service};
use kube_ipvs_tests::{
    Client, Namespace, Protocol, Topology, chance, kube_ipvs, wait_for, wait_until,
};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::WEB;
use super::api::{Api, wait_for_vip};
use crate::traffic::site::PATIENCE;

const ROUNDS: u32 = 4;
const CHANGES: u32 = 15;
const NAMES: u32 = 8;

/// Where one kind meets all the faults of a round, its last tries are up to a
/// minute apart.
const AGAIN: Duration = Duration::from_secs(300);

#[test]
fn many_faults_by_chance_end_in_what_a_fresh_compile_says() {
    let mut chance = chance();
    let topology = Topology::new();
    let node = topology.node();
    let pod = node.pod("p1");
    let _server = pod.serve(Protocol::Tcp, 8080);
    // Plain HTTP: a machine without certificates must do.
    let options = Options {
        streaming_lists: chance.random(),
        ..Options::default()
    };
    let api = Api::with(&node, options);
    api.register("node-1", &node);
    api.web(&[(&pod.v4.to_string(), "node-1")]);
    let past = api.server.version();
    let mut daemon = api.start("node-1", &node);
    wait_for_vip(&node, &mut daemon);

    let watched = ["services", "endpointslices"];
    for _ in 0..ROUNDS {
        for _ in 0..chance.random_range(1..=3) {
            let at = ["", watched[0], watched[1]];
            let at = *at.choose(&mut chance).expect("there are three");
            api.server.fault_at(at, fault(&mut chance, past));
        }
        (0..CHANGES / 2).for_each(|_| change(&mut chance, &api.server));
        let strike = [Fault::Gone, Fault::Reset];
        let strike = strike.choose(&mut chance).expect("there are two");
        api.server.fault(strike.clone());
        (0..CHANGES / 2).for_each(|_| change(&mut chance, &api.server));
        wait_until("it watches again", AGAIN, || {
            watched.iter().all(|at| api.server.watches(at) > 0)
        });
    }
    api.server.heal();
    let failed = |request: &kube_ipvs_tests::apiserver::Request| request.status >= 400;
    let (all, failed) = {
        let requests = api.server.requests();
        (
            requests.len(),
            requests.iter().filter(|r| failed(r)).count(),
        )
    };
    eprintln!("{all} requests, {failed} of them refused");

    let objects = tempfile::tempdir().expect("make a directory");
    write_objects(&api.server, objects.path());
    let settled = wait_for(PATIENCE, || {
        let left = left_to_do(&node.namespace, objects.path());
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    settled.unwrap_or_else(|left| panic!("a fresh compile would still do:\n{left}"));
    assert!(daemon.is_running(), "kube-ipvs ended:\n{}", daemon.log());
    let who = Client::within(&node.namespace).callees(Protocol::Tcp, WEB, 1);
    assert_eq!(who, ["p1"]);
}

/// Any of the faults, but for those that lie for good.
fn fault(chance: &mut StdRng, past: u64) -> Fault {
    let times = chance.random_range(1..=2);
    let refusal = |code| Fault::status(code, times);
    let all = [
        Fault::Gone,
        Fault::GoneStatus { times },
        Fault::Reset,
        refusal(500),
        refusal(429),
        refusal(410),
        Fault::StaleResourceVersion(past),
        Fault::DuplicateEvents,
        Fault::OutOfOrder,
        Fault::Slow(Duration::from_millis(30)),
        Fault::None,
    ];
    all.choose(chance).expect("there are many").clone()
}

/// A Service or a slice comes, changes or goes; never those of `default/web`.
fn change(chance: &mut StdRng, server: &ApiServer) {
    let number = chance.random_range(0..NAMES);
    let name = format!("app-{number}");
    match chance.random_range(0..10) {
        0 => _ = server.delete("Service", "default", &name),
        1 => _ = server.delete("EndpointSlice", "default", &name),
        2..5 => _ = server.upsert(service("default", &name, &format!("10.96.1.{number}"))),
        _ => {
            let many = chance.random_range(0..4);
            let addresses: Vec<String> = (0..many)
                .map(|_| format!("10.244.1.{}", chance.random_range(20..30)))
                .collect();
            let endpoints: Vec<(&str, &str)> =
                addresses.iter().map(|at| (at.as_str(), "node-1")).collect();
            server.upsert(endpoint_slice("default", &name, &name, &endpoints));
        }
    }
}

/// Everything the server has, as manifests.
fn write_objects(server: &ApiServer, directory: &Path) {
    for kind in ["Service", "EndpointSlice", "ServiceCIDR", "Node"] {
        for (number, object) in server.objects(kind).into_iter().enumerate() {
            let file = directory.join(format!("{kind}-{number}.json"));
            fs::write(file, object.to_string()).expect("write an object");
        }
    }
}

/// What `kube-ipvs plan` would change in the kernel, that is: how far it is from
/// what a fresh compile of these objects asks for. Empty is not at all.
fn left_to_do(of: &Namespace, objects: &Path) -> String {
    let manifests = format!("--manifests={}", objects.display());
    let arguments = ["plan", &manifests, "--hostname-override=node-1"];
    let output = kube_ipvs(of, arguments).output().expect("start kube-ipvs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.code() {
        Some(0) => String::new(),
        Some(2) => text(&output.stdout),
        other => panic!("plan ended with {other:?}: {}", text(&output.stderr)),
    }
}
