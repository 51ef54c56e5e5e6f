//! Memory of the source, the core and the sync loop together, over a kernel of
//! maps. Alone in its process, whose size it measures.
//!
//! `KUBE_IPVS_UPDATES` says how many updates; `CONTRIBUTING.md` has the command
//! for a million.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube_ipvs::health::Health;
use kube_ipvs::metrics::Metrics;
use kube_ipvs::sync::Syncer;
use kube_ipvs::sync::driver::{Driver, Times};
use kube_ipvs::sync::reporter::Reporter;
use kube_ipvs_core::drain::Load;
use kube_ipvs_core::model::Model;
use kube_ipvs_core::plan::Plan;
use kube_ipvs_core::state::{Family, Front, RealServerKey, VirtualServerKey};
use kube_ipvs_core::{Cluster, HostAddress, Options};
use kube_ipvs_dataplane::record::RecordFile;
use kube_ipvs_dataplane::{ApplyReport, Dataplane, Nature, Observed, Prepared, Refusal};
use kube_ipvs_source::kube::spawn;
use kube_ipvs_source::protected::{Timing, guard};
use kube_ipvs_source::tasks::Tasks;
use kube_ipvs_tests::apiserver::replica::{hasty, server};
use kube_ipvs_tests::apiserver::{Access, ApiServer, endpoint_slice, service};
use kube_ipvs_tests::{memory_kib, wait_until};
use nix::unistd::Pid;
use tokio::sync::{mpsc, watch};

const UPDATES: &str = "KUBE_IPVS_UPDATES";
/// What an unoptimised build does in well under a minute.
const USUAL: u32 = 40_000;
/// Until then caches fill and the allocator finds its size.
const WARM_UP: u32 = 25_000;
/// Updates between two looks at the kernel: fewer than the server remembers.
const BATCH: u32 = 5_000;
const SERVICES: u32 = 100;
const SLICES: u32 = 300;
const PATIENCE: Duration = Duration::from_secs(60);

/// A kernel that does everything at once and forgets nothing but what it is told to.
#[derive(Clone, Default)]
struct Maps(Arc<Mutex<Model>>);

impl Maps {
    fn model(&self) -> MutexGuard<'_, Model> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holds(&self, front: VirtualServerKey, real: RealServerKey) -> bool {
        let model = self.model();
        let server = model.state().virtual_servers.get(&front);
        server.is_some_and(|server| server.real_servers.contains_key(&real))
    }
}

impl Dataplane for Maps {
    fn observe(&mut self) -> anyhow::Result<Observed> {
        Ok(Observed {
            state: self.model().state().clone(),
            connections: BTreeMap::new(),
        })
    }

    fn prepare(&mut self, _observed: &Observed) -> anyhow::Result<Prepared> {
        Ok(Prepared::default())
    }

    fn apply(&mut self, plan: &Plan) -> ApplyReport {
        let mut report = ApplyReport::default();
        match self.model().apply(plan) {
            Ok(()) => report.done = plan.ops.len(),
            Err(refused) => report.refused.push(Refusal::general(
                "maps",
                Nature::Own,
                format!("{refused:?}"),
            )),
        }
        report
    }

    fn forget_flows(
        &mut self,
        _fronts: &BTreeMap<Front, BTreeSet<RealServerKey>>,
    ) -> anyhow::Result<usize> {
        Ok(0)
    }

    fn loads(
        &mut self,
        server: &VirtualServerKey,
    ) -> anyhow::Result<BTreeMap<RealServerKey, Load>> {
        let model = self.model();
        let server = model.state().virtual_servers.get(server);
        let reals = server.into_iter().flat_map(|server| &server.real_servers);
        let idle = |weight| Load {
            weight,
            active: 0,
            inactive: 0,
        };
        Ok(reals.map(|(key, real)| (*key, idle(real.weight))).collect())
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

/// The server's history is bounded, so what grows is ours.
#[test]
fn memory_does_not_grow_with_updates() {
    let updates = std::env::var(UPDATES).map_or(USUAL, |text| text.parse().expect("a number"));
    let server = server();
    for number in 0..SERVICES {
        let address = format!("10.96.1.{number}");
        server.upsert(service("default", &format!("web-{number}"), &address));
    }
    let kernel = Maps::default();
    let (stop, stopped) = watch::channel(false);

    let seen = kernel.clone();
    let kubeconfig = server.kubeconfig();
    let changer = std::thread::spawn(move || {
        // Dropped when this ends, well or not: then the program ends.
        let _stop = stop;
        let mut churn = Churn {
            server: &server,
            kernel: &seen,
            number: 0,
        };
        churn.update(WARM_UP);
        let (begun, before) = (Instant::now(), memory_kib(Pid::this(), "VmRSS"));
        churn.update(updates);
        let after = memory_kib(Pid::this(), "VmRSS");
        eprintln!(
            "{updates} updates in {:.1} s: {before} KiB before, {after} KiB after",
            begun.elapsed().as_secs_f64()
        );
        (before, after)
    });
    run_program(&kubeconfig, &kernel, stopped);

    let (before, after) = changer.join().expect("every update arrives");
    assert!(
        after < before + 5 * 1024,
        "{before} KiB, then {after} KiB after {updates} updates"
    );
}

/// The program's own parts, until told to stop.
fn run_program(kubeconfig: &str, kernel: &Maps, stopped: watch::Receiver<bool>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a current-thread runtime needs nothing special");
    let state = tempfile::tempdir().expect("a temporary directory");
    runtime.block_on(async {
        let access = Access::through(kubeconfig).await;
        let (sender, events) = mpsc::channel(1024);
        let timing = Timing::default();
        let (incoming, _guard) = guard(
            &Tasks::unwatched(),
            &access.client,
            "node-1",
            BTreeSet::new(),
            timing,
            sender,
        );
        let _tasks = spawn(
            &Tasks::unwatched(),
            &access.client,
            &hasty(),
            &incoming,
            &access.status,
        );
        let options = Options {
            node_name: "node-1".to_owned(),
            ..Options::default()
        };
        let record = RecordFile::open(state.path()).expect("there is none yet");
        let cluster = Cluster::new(options);
        let syncer = Syncer::new(cluster, kernel.clone(), record, Duration::from_secs(900));
        let times = Times {
            min_sync_period: Duration::from_millis(10),
            sync_period: Duration::from_secs(5),
        };
        let (families, metrics) = (vec![Family::V4], Metrics::new());
        let health = Health::new(families.clone(), times.sync_period, metrics.clone());
        let reporter = Reporter::new(families, metrics, health);
        let driver = Driver::new(syncer, times, reporter);
        driver
            .run(events, futures::stream::pending(), stopped)
            .await;
    });
}

/// Changes EndpointSlices and waits until the kernel has followed.
struct Churn<'a> {
    server: &'a ApiServer,
    kernel: &'a Maps,
    number: u32,
}

impl Churn<'_> {
    fn update(&mut self, count: u32) {
        for _ in 0..count {
            self.one();
            if self.number.is_multiple_of(BATCH) {
                self.wait();
            }
        }
        self.wait();
    }

    /// Another endpoint in one of the slices; now and then one goes, to come back later.
    fn one(&mut self) {
        self.number += 1;
        let slice = self.number % SLICES;
        let name = format!("slice-{slice}");
        if self.number.is_multiple_of(19) && self.server.delete("EndpointSlice", "default", &name) {
            return;
        }
        let service = format!("web-{}", slice % SERVICES);
        let address = address(self.number).to_string();
        let endpoints = [(address.as_str(), "node-1"), ("10.244.0.1", "node-1")];
        self.server
            .upsert(endpoint_slice("default", &service, &name, &endpoints));
    }

    /// Until the kernel has an endpoint that was told of last.
    fn wait(&self) {
        let address = address(self.number);
        let text = address.to_string();
        let last = endpoint_slice("default", "web-0", "last", &[(&text, "node-1")]);
        self.server.upsert(last);
        let front = "10.96.1.0:80/TCP".parse().expect("a front");
        let real = RealServerKey {
            address: IpAddr::V4(address),
            port: 8080,
        };
        wait_until("the kernel has followed", PATIENCE, || {
            self.kernel.holds(front, real)
        });
    }
}

/// 10.128.0.0/9 by number: each is another for eight million numbers.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a80_0000 + number % 0x0080_0000)
}
