//! The sources of a run, each a task that sends events.

use std::path::Path;

use kube_ipvs_core::Event;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Sender;

use super::{Program, Source};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::source::manifests::{self, Manifests, Reading};
use crate::sync::reporter::WarningSink;

/// What keeps the sources going; they end when it is dropped.
pub(super) struct Sources {
    sink: std::cell::RefCell<Option<WarningSink>>,
}

impl Sources {
    /// Where warnings for owners of Services go, if anywhere.
    pub(super) fn sink(&self) -> Option<WarningSink> {
        self.sink.take()
    }
}

pub(super) fn start(
    runtime: &Runtime,
    program: &Program,
    events: Sender<Event>,
    health: &Health,
    _metrics: &Metrics,
) -> anyhow::Result<Sources> {
    match &program.source {
        Source::Manifests(path) => from_manifests(runtime, path, events, health)?,
        Source::Kubernetes => anyhow::bail!("the Kubernetes source is not built in yet"),
    }
    Ok(Sources {
        sink: std::cell::RefCell::new(None),
    })
}

fn from_manifests(
    runtime: &Runtime,
    path: &Path,
    events: Sender<Event>,
    health: &Health,
) -> anyhow::Result<()> {
    // Watched before it is read: what changes in between is seen by either.
    let (watcher, mut changed) = manifests::watch(path)?;
    let mut manifests = Manifests::at(path);
    let first = manifests.read()?;
    let health = health.clone();
    runtime.spawn(async move {
        let _watcher = watcher;
        let mut reading = first;
        loop {
            if !tell(reading, &events, &health).await || changed.changed().await.is_err() {
                return;
            }
            reading = match manifests.read() {
                Ok(reading) => reading,
                Err(error) => Reading::failed(format!("{error:#}")),
            };
        }
    });
    Ok(())
}

/// Passes a reading on; false when nobody listens any more.
async fn tell(reading: Reading, events: &Sender<Event>, health: &Health) -> bool {
    for problem in &reading.problems {
        tracing::warn!("{problem}");
    }
    health.set_reason("manifests", reading.unreadable());
    for event in reading.events {
        if events.send(event).await.is_err() {
            return false;
        }
    }
    true
}
