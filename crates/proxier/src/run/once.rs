//! One sync, then the end.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Context;
use kube_ipvs_core::Cluster;
use kube_ipvs_dataplane::linux::Linux;
use kube_ipvs_dataplane::lock::StateLock;
use kube_ipvs_source::manifests::Manifests;

use super::{Program, Source};
use crate::adopt;
use crate::sync::{Round, Syncer, Trigger};

/// `run --once`: one sync from manifests, then the end. What could be read is
/// served; nothing is removed unless all could.
///
/// # Errors
/// When something needed is missing, manifests could not be read, or the kernel
/// refused anything.
pub fn once(program: &Program) -> anyhow::Result<ExitCode> {
    let _lock = StateLock::acquire(&program.state_dir)?;
    let (mut syncer, unreadable) = prepared(program)?;
    let mut round = syncer
        .sync(0)?
        .context("the manifests were not a full list")?;
    round.trigger = Trigger::Start;
    round.log();
    for refusal in &round.report.refused {
        tracing::warn!(kind = refusal.kind, "{refusal}");
    }
    warn_of(syncer.cluster());
    if round.is_clean() && unreadable.is_none() {
        adopt::settle(syncer.dataplane(), program.adopt.is_some());
    }
    let report = report(&round)?;
    all_was_read(unreadable)?;
    Ok(report)
}

/// A syncer that has read the manifests and looked at the host, and what could
/// not be read.
pub(super) fn prepared(program: &Program) -> anyhow::Result<(Syncer<Linux>, Option<String>)> {
    let Source::Manifests(path) = &program.source else {
        anyhow::bail!("--once needs --manifests: the API server is watched, by a daemon or `plan`");
    };
    let mut manifests = Manifests::at(path);
    let reading = manifests.read()?;
    reading.log_problems();
    let unreadable = reading.unreadable();
    let mut syncer = program.syncer()?;
    syncer.look_at_host()?;
    for event in reading.events {
        syncer.event(event);
    }
    Ok((syncer, unreadable))
}

/// Manifests that could not be read are an error, after all that was safe.
pub(crate) fn all_was_read(unreadable: Option<String>) -> anyhow::Result<()> {
    match unreadable {
        Some(what) => anyhow::bail!("not all manifests could be read: {what}"),
        None => Ok(()),
    }
}

fn warn_of(cluster: &Cluster) {
    let warnings: BTreeSet<_> = cluster.warnings().into_iter().collect();
    for warning in warnings {
        tracing::warn!(object = %warning.object, "{}", warning.message);
    }
}

fn report(round: &Round) -> anyhow::Result<ExitCode> {
    let refused = &round.report.refused;
    anyhow::ensure!(
        refused.is_empty(),
        "{} operations were refused, see above",
        refused.len()
    );
    Ok(ExitCode::SUCCESS)
}
