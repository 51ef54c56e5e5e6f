//! `kube-ipvs top` beside real traffic.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use kube_ipvs_tests::daemon::state_directory;
use kube_ipvs_tests::{Client, Namespace, Protocol, Topology, kube_ipvs, output_of, wait_until};
use serde_json::Value;

/// A virtual server that is called, and one that is not; one real server drains.
const TABLE: &str = "\
ip address add 10.96.0.10/32 dev lo
ipvsadm -A -t 10.96.0.10:80 -s rr
ipvsadm -a -t 10.96.0.10:80 -r $POD:8080 -m
ipvsadm -a -t 10.96.0.10:80 -r 10.244.99.9:8080 -m -w 0
ipvsadm -A -u 10.96.0.11:53 -s wlc
";
const RECORD: &str = r#"{"virtual_servers":{"10.96.0.10:80/TCP":"default/web:http"}}"#;

fn top(node: &Namespace) -> Value {
    let words = ["top", "--once", "--interval", "4", "-o", "json"];
    let json = output_of(&mut kube_ipvs(node, words));
    serde_json::from_str(&json).expect("JSON")
}

#[test]
fn who_is_called_has_rates_and_nobody_else() {
    let small = Topology::small();
    let node = &small.node.namespace;
    let pod = small.pods[0].v4.to_string();
    let _server = small.pods[0].serve(Protocol::Tcp, 8080);
    node.sh(&format!("set -e\n{}", TABLE.replace("$POD", &pod)));
    let state = state_directory(node);
    fs::create_dir_all(&state).expect("make the state directory");
    fs::write(state.join("owned.json"), RECORD).expect("write the record");

    let client = Client::within(&small.outside.namespace);
    let done = AtomicBool::new(false);
    let mut seen = Value::Null;
    thread::scope(|scope| {
        let calls = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                client.call(Protocol::Tcp, "10.96.0.10:80").who();
            }
        });
        // The kernel sums its counters up in its own time, which a busy machine stretches.
        wait_until("rates of what is called", Duration::from_secs(300), || {
            seen = top(node);
            let rates = &seen["virtual_servers"][0]["rates"];
            calls.is_finished() || rates["connections"].as_f64() > Some(0.0)
        });
        done.store(true, Ordering::Relaxed);
        calls.join().expect("all calls were answered");
    });

    let [web, dns] = [0, 1].map(|at| &seen["virtual_servers"][at]);
    assert_eq!(web["key"], "10.96.0.10:80/TCP");
    assert_eq!(web["service"], "default/web:http");
    assert_eq!(
        (&web["draining"], &web["real_server_count"]),
        (&1.into(), &2.into())
    );
    for rate in [
        "connections",
        "in_packets",
        "out_packets",
        "in_bytes",
        "out_bytes",
    ] {
        assert!(web["rates"][rate].as_f64() > Some(0.0), "{rate}: {seen:#}");
        assert_eq!(dns["rates"][rate], 0.0, "{rate}: {seen:#}");
    }
    let real = web["real_servers"].as_array().expect("a list");
    let by_address = |address: &str| real.iter().find(|one| one["address"] == address);
    let (called, drains) = (
        by_address(&pod).expect("it"),
        by_address("10.244.99.9").expect("it"),
    );
    assert!(
        called["rates"]["connections"].as_f64() > Some(0.0),
        "{seen:#}"
    );
    assert_eq!(
        (&drains["draining"], &drains["rates"]["connections"]),
        (&true.into(), &0.0.into())
    );
    assert_eq!(dns["service"], Value::Null);
    let table = output_of(&mut kube_ipvs(node, ["top", "--once", "--interval", "0.1"]));
    assert!(table.starts_with("SERVICE "), "{table}");
    assert!(table.contains("\ndefault/web "), "{table}");
}
