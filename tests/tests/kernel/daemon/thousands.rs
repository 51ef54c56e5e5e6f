//! Nodes among thousands of Services.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use kube_ipvs::sync::{Round, Trigger};
use kube_ipvs_tests::apiserver::{endpoint_slice, service};
use kube_ipvs_tests::{
    Client, Daemon, Namespace, Protocol, Topology, Verdict, kube_ipvs, run, run_with_input,
    wait_for, wait_until,
};
use kube_ipvs_vip::Binding;
use serde_json::{Value, json};

use super::alone::processor_ticks;
use super::api::Api;
use crate::matrix::proxy::{Proxy, sync};
use crate::traffic::site::{HEALTH, PATIENCE, page};

const SERVICES: u16 = 2_000;
/// Many times what the start takes on an emulated processor alone.
const COLD: Duration = Duration::from_secs(300);
/// Behind all others, by name and by number.
const API_SERVER: &str = "10.111.0.1";
const DNS: &str = "10.111.0.10";

fn number(n: u16) -> String {
    let [high, low] = n.to_be_bytes();
    format!("10.97.{high}.{low}")
}

/// So many Services with five endpoints each.
fn many(count: u16) -> Vec<Value> {
    let ends: Vec<String> = (1..=5).map(|n| format!("10.244.9.{n}")).collect();
    let ends: Vec<(&str, &str)> = ends.iter().map(|end| (&end[..], "node-2")).collect();
    (0..count)
        .flat_map(|n| {
            let name = format!("app-{n:04}");
            let slice = endpoint_slice("apps", &name, &format!("{name}-1"), &ends);
            [service("apps", &name, &number(n)), slice]
        })
        .collect()
}

/// Puts the two Services that the rest of a node waits for, over one pod.
fn put_first(api: &Api, pod: &str) {
    let ends = [(pod, "node-1")];
    let (server, dns) = (("default", "kubernetes"), ("kube-system", "kube-dns"));
    for ((namespace, name), vip) in [(server, API_SERVER), (dns, DNS)] {
        let mut object = service(namespace, name, vip);
        let mut slice = endpoint_slice(namespace, name, &format!("{name}-1"), &ends);
        if name == "kube-dns" {
            object["spec"]["ports"] = json!([{"port": 53, "protocol": "UDP", "targetPort": 8080}]);
            slice["ports"][0]["protocol"] = json!("UDP");
        }
        api.server.upsert(object);
        api.server.upsert(slice);
    }
}

/// VIPs, the one that was bound first before the others: so the kernel keeps them.
fn bound(node: &Namespace) -> Vec<String> {
    let shown = node.run(|| run("ip", ["-4", "-o", "address", "show", "dev", "kube-ipvs0"]));
    let address = |line: &str| {
        let word = line.split_whitespace().nth(3)?;
        Some(word.split('/').next()?.to_owned())
    };
    shown.lines().filter_map(address).collect()
}

fn wait_until_ready(node: &Namespace, daemon: &mut Daemon) {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, HEALTH));
    wait_until("it is ready", COLD, || {
        assert!(daemon.is_running(), "{}", daemon.log());
        page(node, at, "/readyz").is_some_and(|(code, _)| code == 200)
    });
}

/// What the last round changed, by what the running program says, as soon as its
/// loop has time: in the middle of a long look it has none.
fn last_changes(node: &Namespace) -> String {
    let told = wait_for(PATIENCE, || {
        let output = kube_ipvs(node, ["status", "-o", "json"]).output();
        let text = output.expect("start it").stdout;
        let page: Value = serde_json::from_slice(&text).expect("JSON");
        let changes = page["daemon"]["loop"]["last"]["changes"].as_str();
        changes.map(str::to_owned).ok_or(page)
    });
    told.unwrap_or_else(|page| panic!("it does not tell: {page:#}"))
}

#[test]
fn among_thousands_the_api_server_and_dns_come_first_and_one_change_is_one() {
    let topology = Topology::new();
    let node = topology.node();
    let pod = node.pod("p1");
    let _servers = [Protocol::Tcp, Protocol::Udp].map(|protocol| pod.serve(protocol, 8080));
    let api = Api::on(&node);
    api.register("node-1", &node);
    for object in many(SERVICES) {
        api.server.upsert(object);
    }
    put_first(&api, &pod.v4.to_string());

    let mut daemon = api.start_as("node-1", &node, &["--ipvs-min-sync-period=100ms"]);
    let asks = pod.namespace.run(|| {
        let client = Client::here().timeout(Duration::from_millis(500));
        let mut asks = 0;
        wait_until("the API server answers", COLD, || {
            asks += 1;
            let verdict = client.call(Protocol::Tcp, &format!("{API_SERVER}:80"));
            matches!(verdict, Verdict::Answered { .. })
        });
        asks
    });
    let then = bound(&node.namespace).len();
    wait_until_ready(&node.namespace, &mut daemon);
    let to_start = processor_ticks(daemon.pid());
    let all = bound(&node.namespace);
    eprintln!("asked {asks} times; {then} of {} were bound", all.len());
    assert_eq!(all.len(), usize::from(SERVICES) + 2);
    let mut first = [&all[0][..], &all[1][..]];
    first.sort_unstable();
    assert_eq!(first, [API_SERVER, DNS]);
    let dns = Client::within(&pod.namespace).call(Protocol::Udp, &format!("{DNS}:53"));
    assert!(matches!(dns, Verdict::Answered { .. }), "{dns:?}");

    for n in 1..=10 {
        let end = format!("10.244.8.{n}");
        let slice = endpoint_slice("apps", "app-0007", "app-0007-1", &[(&end, "node-2")]);
        api.server.upsert(slice);
        wait_until("the change is in IPVS", PATIENCE, || {
            let front = format!("{}:80", number(7));
            let table = node.namespace.run(|| run("ipvsadm", ["-Ln", "-t", &front]));
            table.contains(&end)
        });
    }
    let changes = last_changes(&node.namespace);
    assert!(changes.contains("real server"), "{changes}");
    assert!(!changes.contains("virtual server"), "{changes}");
    // A proxy that does all of it again for each takes ten times as much. With room
    // for what an audit takes meanwhile.
    let to_change = processor_ticks(daemon.pid()) - to_start;
    eprintln!("{to_start} ticks of processor to start, {to_change} for ten changes");
    assert!(
        to_change < 5 * to_start,
        "{to_change}, and {to_start} to start"
    );
}

/// Virtual servers of a namespace beside, which come and go together.
const BESIDE: u16 = 200;

/// Makes them and takes them away until it is told to stop.
fn come_and_go(beside: &Namespace, stop: &AtomicBool, rounds: &AtomicU32) {
    let made: String = (0..BESIDE)
        .map(|n| format!("-A -t {}:80 -s rr\n", number(n)))
        .collect();
    beside.run(|| {
        while !stop.load(Ordering::Relaxed) {
            run_with_input("ipvsadm", ["-R"], &made);
            run("ipvsadm", ["-C"]);
            rounds.fetch_add(1, Ordering::Relaxed);
        }
    });
}

fn found_nothing(round: &Round) {
    assert!(round.drift.is_empty(), "{:?}", round.drift);
    assert!(round.report.refused.is_empty(), "{:?}", round.report);
}

/// That is said, and looked at again; nothing follows from it.
fn is_disturbed(error: anyhow::Error) {
    let text = format!("{error:#}");
    assert!(
        text.contains("the table changed while it was read"),
        "{text}"
    );
}

/// Kernels with one table for all namespaces skip some of ours then.
#[test]
fn virtual_servers_that_go_in_other_namespaces_are_no_drift() {
    let topology = Topology::new();
    let node = topology.node();
    let beside = [(); 2].map(|()| Namespace::child("beside"));
    let proxy = Proxy::new(&node, "node-1", Binding::Address);
    let (stop, rounds) = (AtomicBool::new(false), AtomicU32::new(0));
    let look = || {
        let mut syncer = proxy.syncer(&many(500));
        sync(&mut syncer);
        let before = rounds.load(Ordering::Relaxed);
        let mut looks = 0;
        // As often as it takes for enough to come and go, within reason.
        while looks < 30 || (rounds.load(Ordering::Relaxed) < before + 10 && looks < 3_000) {
            looks += 1;
            for _ in 0..syncer.audit_steps() {
                let round = syncer.audit_step(0);
                round.map_or_else(is_disturbed, |round| round.iter().for_each(found_nothing));
            }
            let round = syncer.audit(0, Trigger::Audit);
            round.map_or_else(is_disturbed, |round| found_nothing(&round));
        }
        looks
    };

    let looks = std::thread::scope(|scope| {
        for namespace in &beside {
            scope.spawn(|| come_and_go(namespace, &stop, &rounds));
        }
        let looked = scope.spawn(|| node.namespace.run(look)).join();
        stop.store(true, Ordering::Relaxed);
        looked
    });

    let looks = looks.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    eprintln!("{looks} looks while {rounds:?} times they came and went");
}
