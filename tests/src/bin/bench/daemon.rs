//! What the program takes on a node of a big cluster: the time of a cold start
//! and of one endpoint that changes, memory, and work when nothing happens. The
//! requests in `deploy/base` rest on these figures.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube_ipvs_tests::apiserver::{ApiServer, Options, endpoint_slice, node, service};
use kube_ipvs_tests::{Daemon, Topology, command, memory_kib};

/// Services, and the endpoints of each.
const SIZES: [(usize, usize); 2] = [(1_000, 5), (10_000, 10)];
/// Changes whose median is the time of one.
const CHANGES: usize = 21;
/// How often the log is looked at meanwhile.
const GLANCE: Duration = Duration::from_micros(200);
/// `--ipvs-sync-period`: one pass of the audit.
const PERIOD: Duration = Duration::from_secs(30);
/// Guest time of one instruction (`-icount shift=1`).
const NANOSECONDS: u64 = 2;
/// MiB at the peak, with the most Services.
const WORST: u64 = 256;
const PATIENCE: Duration = Duration::from_secs(1200);

pub(crate) fn run() -> Result<bool> {
    let mut peak = 0;
    for (services, endpoints) in SIZES {
        peak = measure(services, endpoints)?;
    }
    Ok(peak <= WORST)
}

/// Gives the peak in MiB.
fn measure(services: usize, endpoints: usize) -> Result<u64> {
    let topology = Topology::new();
    let machine = topology.node();
    let options = Options {
        tls: true,
        ..Options::default()
    };
    let address = SocketAddr::from((machine.v4(), 6443));
    let server = machine
        .namespace
        .run(|| ApiServer::start_with(address, options));
    server.upsert(node("node-1", &[&machine.v4().to_string()]));
    server.upsert_all((0..services).flat_map(|number| objects(number, endpoints, 0)));
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("kubeconfig");
    server.write_kubeconfig(&file)?;

    let started = Instant::now();
    let kubeconfig = format!("--kubeconfig={}", file.display());
    let arguments = ["run", &kubeconfig, "--hostname-override=node-1"];
    let mut daemon = Daemon::start(&machine.namespace, arguments);
    daemon.wait_for_log("synced", PATIENCE);
    let took = started.elapsed();
    // What follows the start, then nothing but the audit.
    thread::sleep(PERIOD);
    let before = on_cpu(&daemon)?;
    thread::sleep(2 * PERIOD);
    let idle = (on_cpu(&daemon)? - before) / 2;

    let [peak, resident] = ["VmHWM", "VmRSS"].map(|field| memory_kib(daemon.pid(), field) / 1024);
    println!(
        "daemon: {services} Services x {endpoints} endpoints: in the kernel after {:.1} s, \
         peak memory {peak} MiB, then {resident} MiB, an idle period {} million instructions",
        took.as_secs_f64(),
        idle / NANOSECONDS / 1_000_000
    );
    changes(&daemon, &server, services, endpoints)?;
    daemon.terminate();
    machine.namespace.run(|| command::run("ipvsadm", ["-C"]));
    Ok(peak)
}

/// One endpoint after another is a new one of this node, so that an element of
/// our table comes and goes with it.
fn changes(daemon: &Daemon, server: &ApiServer, services: usize, endpoints: usize) -> Result<()> {
    let synced = || daemon.log().matches("synced").count();
    let mut times = Vec::with_capacity(CHANGES);
    for change in 1..=CHANGES {
        let [_, slice] = objects(change * 7_919 % services, endpoints, change);
        let done = synced();
        let started = Instant::now();
        server.upsert(slice);
        while synced() == done {
            ensure!(
                started.elapsed() < PATIENCE,
                "change {change} came to nothing"
            );
            thread::sleep(GLANCE);
        }
        times.push(started.elapsed().as_secs_f64() * 1e3);
        // The next round waits for nothing of this one.
        thread::sleep(Duration::from_secs(2));
    }
    times.sort_by(f64::total_cmp);
    println!(
        "daemon: {services} Services x {endpoints} endpoints: one endpoint that changes is in the \
         kernel after {:.1} ms, the API server's part included",
        times[CHANGES / 2]
    );
    Ok(())
}

/// A Service and its slice, the last endpoint of which differs from change to
/// change.
fn objects(number: usize, endpoints: usize, change: usize) -> [serde_json::Value; 2] {
    let name = format!("service-{number}");
    let vip = format!("10.96.{}.{}", number / 250, number % 250 + 1);
    let endpoint = |endpoint| {
        let (network, node) = if change > 0 && endpoint + 1 == endpoints {
            (100 + change, "node-1")
        } else {
            (16 + endpoint, "node-2")
        };
        let address = format!("172.{network}.{}.{}", number / 250, number % 250 + 1);
        (address, node)
    };
    let all: Vec<_> = (0..endpoints).map(endpoint).collect();
    let all: Vec<_> = all.iter().map(|(a, node)| (a.as_str(), *node)).collect();
    let slice = endpoint_slice("default", &name, &format!("{name}-1"), &all);
    [service("default", &name, &vip), slice]
}

/// Nanoseconds that its main thread and all others have run.
fn on_cpu(daemon: &Daemon) -> Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{}/task", daemon.pid()))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let time = text.split_whitespace().next().context("read schedstat")?;
        total += time.parse::<u64>()?;
    }
    Ok(total)
}
