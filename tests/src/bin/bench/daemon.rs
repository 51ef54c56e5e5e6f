//! What the program takes on a node of a big cluster: the time of a cold start
//! and of one endpoint that changes, what such a change asks of the kernel,
//! memory, and work when nothing happens. The requests in `deploy/base` rest on
//! these figures.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube_ipvs_tests::apiserver::{ApiServer, Options, endpoint_slice, node, service};
use kube_ipvs_tests::figures::Figures;
use kube_ipvs_tests::{Daemon, Namespace, Topology, command, kube_ipvs, memory_kib};
use serde_json::{Value, json};

use crate::messages::{Ear, Messages};

/// Services, and the endpoints of each.
const SIZES: [(usize, usize); 2] = [(1_000, 5), (10_000, 10)];
/// Changes whose median is the time of one.
const CHANGES: usize = 21;
/// Changes of which the median is told by its netlink messages: the audit asks
/// now and then too.
const HEARD: usize = 9;
/// Netlink messages of one change at most.
const WORST_MESSAGES: usize = 6;
/// How often the log is looked at meanwhile.
const GLANCE: Duration = Duration::from_micros(200);
/// The next round waits for nothing of the one before.
const BETWEEN: Duration = Duration::from_secs(2);
/// `--ipvs-sync-period`: one pass of the audit.
const PERIOD: Duration = Duration::from_secs(30);
/// Guest time of one instruction (`-icount shift=1`).
const NANOSECONDS: u64 = 2;
/// MiB at the peak, with the most Services.
const WORST: u64 = 256;
const PATIENCE: Duration = Duration::from_secs(1200);

/// What a container of the image starts with.
const CONTAINERFILE: &str = include_str!("../../../../deploy/Containerfile");

/// Names and values of its `ENV NAME="VALUE"`.
fn environment() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = CONTAINERFILE.lines();
    let set = lines.filter_map(|line| line.strip_prefix("ENV "));
    let pairs = set.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name, value.trim_matches('"')))
}

pub(crate) fn run(figures: &mut Figures) -> Result<bool> {
    let mut peak = 0;
    let mut kept = true;
    for (services, endpoints) in SIZES {
        let messages;
        (peak, messages) = measure(services, endpoints, figures)?;
        kept &= messages <= WORST_MESSAGES;
    }
    Ok(kept && peak <= WORST)
}

/// Gives the peak in MiB, and the netlink messages of one change.
fn measure(services: usize, endpoints: usize, figures: &mut Figures) -> Result<(u64, usize)> {
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
    let mut command = kube_ipvs(&machine.namespace, arguments);
    let mut daemon = Daemon::spawn(command.envs(environment()));
    daemon.wait_for_log("synced", PATIENCE);
    let took = started.elapsed();
    let own = on_cpu(&daemon)? / NANOSECONDS / 1_000_000;
    // What follows the start, then nothing but the audit.
    thread::sleep(PERIOD);
    let before = on_cpu(&daemon)?;
    thread::sleep(2 * PERIOD);
    let idle = (on_cpu(&daemon)? - before) / 2;

    let fields = ["VmHWM", "VmRSS", "RssAnon"];
    let [peak, resident, own_memory] = fields.map(|field| memory_kib(daemon.pid(), field) / 1024);
    println!(
        "daemon: {services} Services x {endpoints} endpoints: in the kernel after {:.1} s, \
         {own} million instructions of its own, peak memory {peak} MiB, then {resident} MiB, \
         {own_memory} MiB of it not of the program's file, an idle period {} million instructions",
        took.as_secs_f64(),
        idle / NANOSECONDS / 1_000_000
    );
    let second = 1e6 * (NANOSECONDS * PERIOD.as_secs()) as f64;
    for (what, value) in [
        ("start-million-instructions", own as f64),
        ("peak-mib", peak as f64),
        ("resident-mib", resident as f64),
        ("idle-million-instructions-a-second", idle as f64 / second),
    ] {
        figures.tell(&format!("daemon/{services}/{what}"), value);
    }
    let change = Change {
        daemon: &daemon,
        server: &server,
        services,
        endpoints,
    };
    change.times()?;
    let messages = change.messages(&machine.namespace)?;
    daemon.terminate();
    machine.namespace.run(|| command::run("ipvsadm", ["-C"]));
    Ok((peak, messages))
}

/// One endpoint after another is a new one of this node, so that an element of
/// our table comes and goes with it.
struct Change<'a> {
    daemon: &'a Daemon,
    server: &'a ApiServer,
    services: usize,
    endpoints: usize,
}

impl Change<'_> {
    /// The n-th; comes back when it is in the kernel.
    fn make(&self, number: usize) -> Result<Duration> {
        let synced = || self.daemon.log().matches("synced").count();
        let [_, slice] = objects(number * 7_919 % self.services, self.endpoints, number);
        let done = synced();
        let started = Instant::now();
        self.server.upsert(slice);
        while synced() == done {
            ensure!(
                started.elapsed() < PATIENCE,
                "change {number} came to nothing"
            );
            thread::sleep(GLANCE);
        }
        Ok(started.elapsed())
    }

    fn times(&self) -> Result<()> {
        let mut times = Vec::with_capacity(CHANGES);
        for number in 1..=CHANGES {
            times.push(self.make(number)?.as_secs_f64() * 1e3);
            thread::sleep(BETWEEN);
        }
        times.sort_by(f64::total_cmp);
        println!(
            "daemon: {} Services x {} endpoints: one endpoint that changes is in the \
             kernel after {:.1} ms, the API server's part included",
            self.services,
            self.endpoints,
            times[CHANGES / 2]
        );
        Ok(())
    }

    /// Gives how many there were.
    fn messages(&self, namespace: &Namespace) -> Result<usize> {
        let mut ear = Ear::at(namespace)?;
        let mut heard: Vec<Messages> = Vec::with_capacity(HEARD);
        for number in CHANGES + 1..=CHANGES + HEARD {
            thread::sleep(BETWEEN);
            ear.requests()?;
            self.make(number)?;
            heard.push(ear.requests()?);
        }
        heard.sort_by_key(|messages| (messages.all(), *messages));
        let usual = heard[HEARD / 2];
        println!(
            "daemon: {} Services x {} endpoints: one endpoint that changes is {usual} \
             netlink messages, {} at most with those of the audit",
            self.services,
            self.endpoints,
            heard[HEARD - 1]
        );
        Ok(usual.all())
    }
}

/// A Service and its slice, the last endpoint of which differs from change to
/// change.
pub(crate) fn objects(number: usize, endpoints: usize, change: usize) -> [Value; 2] {
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
    let mut slice = endpoint_slice("default", &name, &format!("{name}-1"), &all);
    let mut service = service("default", &name, &vip);
    if number.is_multiple_of(10) {
        let ports = [("http", 80), ("https", 443), ("metrics", 9090)];
        let port = |(name, port)| json!({"name": name, "port": port, "protocol": "TCP"});
        service["spec"]["ports"] = ports.map(port).into();
        slice["ports"] = ports.map(port).into();
    }
    service["spec"]["selector"] = json!({"app.kubernetes.io/instance": name});
    [service, slice].map(|object| dressed(object, &name))
}

/// With the labels, annotations and managed fields that objects of a Helm chart
/// have. Nobody here reads them, and all of them come over the wire.
fn dressed(mut object: Value, name: &str) -> Value {
    let metadata = &mut object["metadata"];
    for label in [
        "name",
        "instance",
        "version",
        "component",
        "part-of",
        "managed-by",
        "team",
        "tier",
    ] {
        metadata["labels"][format!("app.kubernetes.io/{label}")] = name.into();
    }
    metadata["annotations"] = json!({
        "kubectl.kubernetes.io/last-applied-configuration": "{\"spec\":{}}".repeat(120),
        "meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": "default",
        "prometheus.io/scrape": "true",
    });
    let fields = (0..60).map(|n| (format!("f:app.kubernetes.io/field-{n:02}"), json!({})));
    let fields: serde_json::Map<String, Value> = fields.collect();
    metadata["managedFields"] = json!([{"manager": "helm", "fieldsV1": {"f:metadata": fields}}]);
    object
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
