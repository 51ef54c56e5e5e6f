//! The sources of a run, each a task that sends events.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use kube::Client;
use kube_ipvs_core::Event;
use kube_ipvs_source::kube::{self as api, SourceStatus};
use kube_ipvs_source::manifests::{Manifests, Reading, Watched};
use kube_ipvs_source::protected::{self, Checked, Guard, Timing};
use kube_ipvs_source::tasks::{Task, Tasks};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;

use super::{Program, Source};
use crate::events::{Fact, Pace, Recorder};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::sync::reporter::{NodeSink, WarningSink};

/// How often the state of the watches is written to `/readyz`.
const STATUS_TICK: Duration = Duration::from_secs(1);

/// What the sources of a run need from the loop, and the loop from them.
#[derive(Default)]
pub(super) struct Sources {
    /// Where warnings for owners of Services go, if anywhere.
    pub(super) sink: Option<WarningSink>,
    /// And what those in charge of this Node should know.
    pub(super) node_sink: Option<NodeSink>,
    tasks: Vec<Task>,
    guard: Option<Guard>,
}

impl Sources {
    /// Ends them.
    pub(super) fn stop(self) {
        drop((self.tasks, self.guard));
    }
}

pub(super) fn start(
    runtime: &Runtime,
    tasks: &Tasks,
    program: &Program,
    events: Sender<Event>,
    health: &Health,
    metrics: &Metrics,
) -> anyhow::Result<Sources> {
    let _inside = runtime.enter();
    match &program.source {
        Source::Manifests(path) => from_manifests(path, tasks, events, health, metrics),
        Source::Kubernetes(config) => {
            let status = Arc::new(SourceStatus::default());
            let client = runtime
                .block_on(api::connect(config, &status))
                .context("connect to the API server")?;
            metrics.show_source(
                config.server.as_deref().unwrap_or("kubernetes"),
                status.clone(),
            );
            Ok(from_api(&client, tasks, program, events, health, status))
        }
    }
}

fn from_api(
    client: &Client,
    tasks: &Tasks,
    program: &Program,
    events: Sender<Event>,
    health: &Health,
    status: Arc<SourceStatus>,
) -> Sources {
    let node = &program.options.node_name;
    let settings = api::WatchSettings {
        service_proxy_name: program.options.service_proxy_name.clone(),
        ..api::WatchSettings::new(node)
    };
    // The loop adds gateways by itself.
    let always = BTreeSet::new();
    let (incoming, guard) =
        protected::guard(tasks, client, node, always, Timing::default(), events);
    let mut running = api::spawn(tasks, client, &settings, &incoming, &status);
    running.push(tasks.spawn("state of the watches", tell_status(status, health.clone())));
    let checks = tell_checks(guard.checked.clone(), health.clone());
    running.push(tasks.spawn("state of protected addresses", checks));
    let recorder = || Recorder::spawn(tasks, client, node, Pace::default());
    let recorder = program.events.then(recorder);
    Sources {
        sink: recorder.clone().map(sink),
        node_sink: recorder.map(|recorder| node_sink(recorder, node.clone())),
        tasks: running,
        guard: Some(guard),
    }
}

fn node_sink(recorder: Recorder, node: String) -> NodeSink {
    Box::new(move |uid, note| recorder.record(Fact::of_node(&node, uid, note)))
}

fn sink(recorder: Recorder) -> WarningSink {
    Box::new(move |warning| {
        if let Some(fact) = Fact::of_warning(warning) {
            recorder.record(fact);
        }
    })
}

/// Says on `/readyz` what the watches wait for, and how old the state is when
/// the API server has been silent; as a warning, when it cannot be followed for
/// now. What is known is served meanwhile.
async fn tell_status(status: Arc<SourceStatus>, health: Health) {
    let mut tick = tokio::time::interval(STATUS_TICK);
    loop {
        tick.tick().await;
        let reason = status.reason(Instant::now());
        health.set_warning("api", status.behind().filter(|_| reason.is_none()));
        health.set_reason("api", reason);
    }
}

/// Says on `/readyz` when the addresses of other Nodes cannot be listed.
async fn tell_checks(mut checked: watch::Receiver<Checked>, health: Health) {
    while checked.changed().await.is_ok() {
        let failure = checked.borrow_and_update().failure.clone();
        health.set_reason(
            "nodes",
            failure.map(|why| {
                format!(
                    "the addresses of other Nodes are not known, new outside addresses wait: {why}"
                )
            }),
        );
    }
}

fn from_manifests(
    path: &Path,
    tasks: &Tasks,
    events: Sender<Event>,
    health: &Health,
    metrics: &Metrics,
) -> anyhow::Result<Sources> {
    // Watched before it is read: what changes in between is seen by either.
    let mut watched = Watched::new(path);
    let mut manifests = Manifests::at(path);
    let mut reading = manifests.read()?;
    let (health, metrics) = (health.clone(), metrics.clone());
    // Without an API server nobody deletes or taints this node.
    health.set_node(crate::health::Node::Eligible);
    let reader = tasks.spawn("manifests", async move {
        let mut said = Said::default();
        loop {
            let unreadable = reading.unreadable();
            said.say(&reading);
            health.set_reason("manifests", unreadable.clone());
            metrics.source_current(unreadable.is_none(), Instant::now());
            for event in reading.events {
                if events.send(event).await.is_err() {
                    return;
                }
            }
            watched.look_again(unreadable.is_some()).await;
            let read = tokio::task::spawn_blocking(move || {
                let reading = manifests.read();
                (manifests, reading)
            });
            // A reading that panics ends the task, as one that is cancelled does.
            let Ok((back, read)) = read.await else {
                return;
            };
            manifests = back;
            reading = read.unwrap_or_else(|error| Reading::failed(format!("{error:#}")));
        }
    });
    Ok(Sources {
        tasks: vec![reader],
        ..Sources::default()
    })
}

/// What was said of the manifests last: it is said again when it changes.
#[derive(Default)]
struct Said {
    problems: Vec<String>,
    others: Vec<String>,
}

impl Said {
    fn say(&mut self, reading: &Reading) {
        if self.problems != reading.problems {
            reading.log_problems();
            self.problems.clone_from(&reading.problems);
        }
        if self.others != reading.others {
            reading
                .others
                .iter()
                .for_each(|other| tracing::info!("{other}"));
            self.others.clone_from(&reading.others);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// Waits until the metric says so, an hour from now.
    async fn age_becomes(metrics: &Metrics, wanted: impl Fn(f64) -> bool) {
        let later = Instant::now() + Duration::from_secs(3600);
        let name = "kube_ipvs_source_age_seconds ";
        let reached = || {
            let text = metrics.render(later);
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.is_some_and(|age| wanted(age.parse().expect("a number")))
        };
        let waited = async {
            while !reached() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(LONG, waited).await;
        assert!(waited.is_ok(), "{}", metrics.render(later));
    }

    #[tokio::test]
    async fn manifests_age_only_while_they_cannot_be_read() {
        let folder = tempfile::tempdir().expect("make a directory");
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, "apiVersion: v1\nkind: List\nitems: []\n").expect("write");
        let (events, mut received) = mpsc::channel(64);
        tokio::spawn(async move { while received.recv().await.is_some() {} });
        let metrics = Metrics::new();
        let health = Health::new([], LONG, metrics.clone());
        let tasks = Tasks::unwatched();

        let sources = from_manifests(folder.path(), &tasks, events, &health, &metrics);
        let sources = sources.expect("a source");
        age_becomes(&metrics, |age| age == 0.0).await;

        std::fs::write(&file, "kind: [").expect("write");
        age_becomes(&metrics, |age| age > 3500.0).await;

        std::fs::remove_file(&file).expect("remove");
        age_becomes(&metrics, |age| age == 0.0).await;
        sources.stop();
    }
}
