//! What the program takes on a node of a big cluster: memory, and work when
//! nothing happens. The requests in `deploy/base` rest on these figures.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kube_ipvs_tests::apiserver::{ApiServer, Options, endpoint_slice, node, service};
use kube_ipvs_tests::{Daemon, Topology, command, memory_kib};

const SIZES: [usize; 2] = [1_000, 10_000];
const ENDPOINTS: usize = 10;
/// `--ipvs-sync-period`: one pass of the audit.
const PERIOD: Duration = Duration::from_secs(30);
/// Guest time of one instruction (`-icount shift=1`).
const NANOSECONDS: u64 = 2;
/// MiB at the peak, with the most Services.
const WORST: u64 = 256;
const PATIENCE: Duration = Duration::from_secs(1200);

pub(crate) fn run() -> Result<bool> {
    let mut peak = 0;
    for services in SIZES {
        peak = measure(services)?;
    }
    Ok(peak <= WORST)
}

/// Gives the peak in MiB.
fn measure(services: usize) -> Result<u64> {
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
    server.upsert_all((0..services).flat_map(objects));
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
        "daemon: {services} Services x {ENDPOINTS} endpoints: in the kernel after {:.1} s, \
         peak memory {peak} MiB, then {resident} MiB, an idle period {} million instructions",
        took.as_secs_f64(),
        idle / NANOSECONDS / 1_000_000
    );
    daemon.terminate();
    machine.namespace.run(|| command::run("ipvsadm", ["-C"]));
    Ok(peak)
}

fn objects(number: usize) -> [serde_json::Value; 2] {
    let name = format!("service-{number}");
    let vip = format!("10.96.{}.{}", number / 250, number % 250 + 1);
    let addresses: Vec<String> = (0..ENDPOINTS)
        .map(|endpoint| {
            format!(
                "172.{}.{}.{}",
                16 + endpoint,
                number / 250,
                number % 250 + 1
            )
        })
        .collect();
    let endpoints: Vec<(&str, &str)> = addresses
        .iter()
        .map(|address| (address.as_str(), "node-2"))
        .collect();
    let slice = endpoint_slice("default", &name, &format!("{name}-1"), &endpoints);
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
