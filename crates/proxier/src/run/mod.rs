//! `kube-ipvs run`: sources, loop and servers put together.

mod logging;
mod node;
mod once;
pub(crate) mod plan;
mod preflight;
pub(crate) mod resolve;
mod servers;
mod sources;
pub(crate) mod stop;
mod traffic;
mod watch_file;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use kube_ipvs_core::state::Family;
use kube_ipvs_core::{Cluster, Event, Options};
use kube_ipvs_dataplane::Dataplane;
use kube_ipvs_dataplane::linux::{Linux, Setup};
use kube_ipvs_dataplane::lock::StateLock;
use kube_ipvs_dataplane::record::RecordFile;
use kube_ipvs_source::kube::KubeConfig;
use kube_ipvs_source::tasks::{Endings, Task, Tasks};
use kube_ipvs_vip::Watch;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, watch};

use crate::answers::NodeReport;
use crate::config::{Conntrack, Settings};
use crate::health::Health;
use crate::health::connections::Connections;
use crate::health::diagnostics::Pages;
use crate::health::node_ports::HealthCheckPorts;
use crate::localhost::LocalhostNodePorts;
use crate::metrics::Metrics;
use crate::sync::Syncer;
use crate::sync::driver::{Driver, Times};
use crate::sync::reporter::Reporter;
use crate::{adopt, answers, check, initialise};

pub use logging::start_logging;
pub use node::own_node;
pub(crate) use once::all_was_read;
pub use once::once;
use once::prepared;

/// Events that may wait between a source and the loop.
const EVENT_QUEUE: usize = 1024;

/// Where Services come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A directory or file of manifests.
    Manifests(PathBuf),
    /// The Kubernetes API.
    Kubernetes(KubeConfig),
}

/// Everything a run needs to know, decided and checked.
#[derive(Debug, Clone)]
pub struct Program {
    /// Where Services come from.
    pub source: Source,
    /// What is compiled, and how.
    pub options: Options,
    /// The kernel's side.
    pub setup: Setup,
    /// Periods of the loop.
    pub times: Times,
    /// How long a draining real server may keep its connections.
    pub drain_timeout: Duration,
    /// Passes of the audit in which all real servers are read; none is as many
    /// as their number asks for.
    pub real_server_passes: Option<u32>,
    /// Where the ownership record is kept.
    pub state_dir: PathBuf,
    /// The program ends when this file changes, to be started anew.
    pub config_file: Option<PathBuf>,
    /// Where `/healthz`, `/livez` and `/readyz` are served; none is nowhere.
    pub healthz: Option<SocketAddr>,
    /// Where `/metrics` and its neighbours are served; none is nowhere.
    pub metrics: Option<SocketAddr>,
    /// A port that cannot be bound ends the program.
    pub bind_hard_fail: bool,
    /// What `/configz`, `/flagz` and `/statusz` show.
    pub pages: Pages,
    /// Tell owners of Services by Kubernetes Events.
    pub events: bool,
    /// Sizes and time-outs of conntrack.
    pub conntrack: Conntrack,
    /// Take over what a kube-proxy in ipvs mode left.
    pub adopt: Option<adopt::Terms>,
}

impl Program {
    fn families(&self) -> Vec<Family> {
        self.options.families.clone()
    }

    /// A syncer over this machine's kernel.
    ///
    /// # Errors
    /// The kernel, `nft` or the ownership record cannot be used: with the remedy.
    pub fn syncer(&self) -> anyhow::Result<Syncer<Linux>> {
        let mut dataplane = Linux::open(self.setup.clone())?;
        self.require_scheduler(&mut dataplane)?;
        let record = self.record(&mut dataplane)?;
        let cluster = Cluster::new(self.options.clone());
        let syncer = Syncer::new(cluster, dataplane, record, self.drain_timeout);
        Ok(match self.real_server_passes {
            Some(passes) => syncer.real_servers_in_passes(passes),
            None => syncer,
        })
    }

    /// What is ours in the kernel now.
    fn record(&self, dataplane: &mut Linux) -> anyhow::Result<RecordFile> {
        let mut record = RecordFile::open(&self.state_dir)?;
        if let Some(terms) = &self.adopt {
            adopt::claim(&mut record, dataplane, terms)?;
        }
        Ok(record)
    }

    /// What a Service names may fall back to the default; for that there is no
    /// other.
    fn require_scheduler(&self, dataplane: &mut impl Dataplane) -> anyhow::Result<()> {
        let name = &self.options.scheduler;
        anyhow::ensure!(
            !dataplane.lacks_scheduler(name)?,
            "this node's kernel has no scheduler {name}, the default of all Services: \
             install the kernel's extra modules (`modprobe ip_vs_{name}` must work), \
             or choose another --ipvs-scheduler"
        );
        Ok(())
    }
}

/// Runs until SIGTERM or SIGINT, and ends within two seconds of it. What is in the
/// kernel stays and serves on.
///
/// # Errors
/// When something needed is missing at the start. Later errors are logged,
/// shown on `/readyz`, and tried again.
pub fn run(program: Program, settings: &Settings) -> anyhow::Result<ExitCode> {
    let _lock = StateLock::acquire(&program.state_dir)?;
    set_oom_score(settings.oom_score_adj);
    raise_descriptors();
    let (runtime, asked) = stop::runtime(2)?;
    let mut syncer = program.syncer()?;
    let changed = initialise::set_conntrack(&program.setup.sysctl_root, &program.conntrack);
    syncer.record().add_sysctls(changed);
    let metrics = Metrics::new();
    let health = Health::new(
        program.families(),
        program.times.sync_period,
        metrics.clone(),
    );
    if settings.http.service_metrics {
        metrics.show_traffic(traffic::traffic(program.state_dir.clone()));
    }
    let (tasks, endings) = Tasks::new(runtime.handle().clone());
    let connections = Connections::new(tasks.clone());
    let _servers = servers::start(&tasks, &connections, &program, &health);
    let syncer = syncer.telling(health.progress().clone());
    let about = about(health.clone(), metrics.clone());
    let (_answers, questions) = listen(&tasks, &program.state_dir, runtime.handle(), about);
    let (sender, events) = mpsc::channel(EVENT_QUEUE);
    let mut sources = sources::start(&runtime, &tasks, &program, sender, &health, &metrics)?;
    let ports = HealthCheckPorts::new(connections, health.clone());
    let localhost = LocalhostNodePorts::new(tasks.clone(), metrics.clone());
    let reporter = Reporter::new(program.families(), metrics, health)
        .with_health_checks(ports)
        .with_host(check::Watch::of_this_host(program.times.sync_period))
        .with_localhost(localhost)
        .with_sink(sources.sink.take())
        .with_node_sink(sources.node_sink.take());
    let (stop, stopped) = watch::channel(false);
    let (link, binding) = (program.setup.link.clone(), program.setup.binding);
    let times = program.times;
    let adopt = program.adopt.is_some();
    // What is not good is told, not waited for: serving comes first.
    let checks = preflight::after_the_first_sync(checked(&program, settings))?;
    let settled = move |linux: &mut Linux| {
        adopt::settle(linux, adopt);
        // They may have begun without being told.
        _ = checks.try_send(());
    };
    let heard = Heard { events, questions };
    let kernel = Tasks::thread("kernel", move || {
        let notices = || kube_ipvs_vip::watch(&link, binding);
        keep(syncer, times, reporter, heard, notices, settled, stopped)
    })?;
    let file = program.config_file.as_deref().map(watch_file::replaced);
    let finished = runtime.block_on(until_signal(&kernel, file, endings, asked));
    let _ = stop.send(true);
    if let Err(error) = &finished {
        stop::end_in_time(runtime.handle(), format!("{error:#}"));
    }
    let result = kernel
        .join()
        .unwrap_or_else(|_| Err(anyhow::anyhow!("the kernel's thread panicked")));
    sources.stop();
    runtime.shutdown_background();
    result?;
    finished?;
    Ok(ExitCode::SUCCESS)
}

/// What of this node is checked beside the program.
fn checked(program: &Program, settings: &Settings) -> check::CheckArgs {
    check::CheckArgs {
        ipvs_scheduler: settings.scheduler.clone(),
        state_dir: program.state_dir.clone(),
        adopt_kube_proxy: program.adopt.is_some(),
        nodeport_virtual_servers: settings.node_ports.servers.into(),
        ..check::CheckArgs::default()
    }
}

/// How willingly the kernel ends this process when memory is short. A negative
/// score needs CAP_SYS_RESOURCE; without it the one inherited stays.
fn set_oom_score(score: i32) {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        tracing::info!(%error, score, "the kernel keeps its out-of-memory score");
    }
}

/// As many descriptors as the hard limit allows: Go programs do the same, and
/// the soft one is low for the sake of programs that use `select`.
fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::info!(%error, "the limit of open files stays as it is");
    }
}

/// What comes to the loop from outside of it.
struct Heard {
    events: mpsc::Receiver<Event>,
    questions: Option<answers::Questions>,
}

/// What is known of this program without its loop.
fn about(health: Health, metrics: Metrics) -> impl Fn() -> NodeReport + Send + Sync {
    let since = Timestamp::now();
    move || NodeReport {
        reasons: health.not_ready(),
        warnings: health.warnings(),
        source_age_seconds: metrics.source_age(Instant::now()).map(|age| age.as_secs()),
        progress: health.progress().made(),
        ..NodeReport::new(since)
    }
}

/// Takes questions of tools on this node. Serving does not depend on it: that it
/// cannot be is told.
fn listen(
    tasks: &Tasks,
    state_dir: &Path,
    runtime: &Handle,
    about: impl Fn() -> NodeReport + Send + Sync + 'static,
) -> (Option<Task>, Option<answers::Questions>) {
    let _guard = runtime.enter();
    match answers::serve(state_dir, about) {
        Ok((serving, questions)) => {
            let task = tasks.spawn("answers", serving);
            (Some(task), Some(questions))
        }
        Err(error) => {
            tracing::warn!(
                error = format!("{error:#}"),
                "`kube-ipvs explain` and `status` will know only what is in the kernel"
            );
            (None, None)
        }
    }
}

/// The loop, on a thread and in a runtime of its own: it waits for the kernel
/// without a thought for others.
fn keep(
    syncer: Syncer<Linux>,
    times: Times,
    reporter: Reporter,
    heard: Heard,
    notices: impl FnOnce() -> kube_ipvs_vip::Result<Watch>,
    settled: impl FnOnce(&mut Linux) + 'static,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the loop")?;
    runtime.block_on(async {
        let changes = notices().context("watch the host's addresses")?;
        let mut driver = Driver::new(syncer, times, reporter).once_settled(settled);
        if let Some(questions) = heard.questions {
            driver = driver.answering(questions);
        }
        driver.run(heard.events, changes, stopped.clone()).await;
        anyhow::ensure!(
            *stopped.borrow(),
            "every source has ended, so nothing would change any more"
        );
        Ok(())
    })
}

/// Waits for SIGTERM or SIGINT, for another configuration file, for the loop to
/// end by itself, or for any task to end at all.
async fn until_signal(
    kernel: &std::thread::JoinHandle<anyhow::Result<()>>,
    file: Option<impl Future<Output = String>>,
    mut endings: Endings,
    mut asked: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let replaced = async {
        match file {
            Some(file) => file.await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(replaced);
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            _ = asked.wait_for(|asked| *asked) => return Ok(()),
            why = &mut replaced => anyhow::bail!("{why}; ending, to be started anew"),
            name = endings.next() => anyhow::bail!("the task {name} has ended; ending, to be started anew"),
            _ = tick.tick() => if kernel.is_finished() { return Ok(()) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_ends_the_run_and_is_named() {
        let (tasks, endings) = Tasks::new(tokio::runtime::Handle::current());
        let (_running, kept) = std::sync::mpsc::channel::<()>();
        let kernel = Tasks::thread("kernel", move || {
            _ = kept.recv();
            Ok(())
        });
        let _ends = tasks.spawn("watch of services", async {});

        let file = None::<std::future::Pending<String>>;
        let (_ask, asked) = watch::channel(false);
        let end = until_signal(&kernel.expect("a thread"), file, endings, asked).await;

        let message = end.expect_err("it cannot go on").to_string();
        assert!(message.contains("task watch of services"), "{message}");
    }
}
