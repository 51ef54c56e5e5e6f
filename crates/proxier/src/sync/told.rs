//! What is told of refusals: each once, again when its reason changes, and its
//! end.

use std::collections::BTreeMap;

use kube_ipvs_core::state::VirtualServerKey;
use kube_ipvs_core::{Cluster, ServiceName, Warning};

use super::refusals::{Refusals, Subject};
use super::reporter::WarningSink;
use crate::metrics::Metrics;

/// Lines a round at most: what is wrong with thousands is not wrong with each.
const MOST_LINES: usize = 20;

/// What has been told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The reason by what is refused.
    reasons: BTreeMap<Subject, String>,
    /// Failures of the last round by kind.
    failures: BTreeMap<&'static str, String>,
}

impl Told {
    /// Tells what is new, in the log and to owners of Services, and what is over.
    pub(super) fn refusals(
        &mut self,
        refusals: &Refusals,
        cluster: &Cluster,
        sink: Option<&mut WarningSink>,
    ) {
        if self.reasons.is_empty() && refusals.iter().next().is_none() {
            return;
        }
        let now: BTreeMap<Subject, String> = refusals
            .iter()
            .map(|(subject, refusal)| (*subject, refusal.error.clone()))
            .collect();
        let new = now
            .iter()
            .filter(|(subject, error)| self.reasons.get(subject) != Some(error));
        tell_new(new.collect(), cluster, sink);
        let over: Vec<_> = self
            .reasons
            .keys()
            .filter(|subject| !now.contains_key(subject))
            .collect();
        for subject in over.iter().take(MOST_LINES) {
            tracing::info!(object = %subject, "no longer refused");
        }
        if over.len() > MOST_LINES {
            tracing::info!(more = over.len() - MOST_LINES, "no longer refused");
        }
        self.reasons = now;
    }

    /// Tells what failed, unless the last round failed for the same.
    pub(super) fn failures<'a>(
        &mut self,
        failures: impl Iterator<Item = &'a kube_ipvs_dataplane::Refusal>,
    ) {
        let mut now = BTreeMap::new();
        for failure in failures {
            now.entry(failure.kind)
                .or_insert_with(|| failure.error.clone());
        }
        for (kind, error) in &now {
            if self.failures.get(kind) != Some(error) {
                tracing::warn!(kind, "{error}");
            }
        }
        self.failures = now;
    }
}

fn tell_new(new: Vec<(&Subject, &String)>, cluster: &Cluster, mut sink: Option<&mut WarningSink>) {
    for (subject, error) in new.iter().take(MOST_LINES) {
        let service = service_of(subject, cluster).map(|name| name.to_string());
        let service = service.unwrap_or_default();
        tracing::warn!(object = %subject, service, "refused by the kernel: {error}");
    }
    if new.len() > MOST_LINES {
        let more = new.len() - MOST_LINES;
        tracing::warn!(more, "refused by the kernel; /readyz?verbose lists them");
    }
    let Some(sink) = &mut sink else { return };
    for (subject, error) in new {
        if let Some(service) = service_of(subject, cluster) {
            sink(&Warning {
                object: cluster.regarding(&service),
                message: format!("the kernel refuses {subject}: {error}; {}", effect(subject)),
            });
        }
    }
}

/// What that means for clients.
fn effect(subject: &Subject) -> &'static str {
    use kube_ipvs_core::Change;
    match subject {
        Subject::Change(Change::AddVirtualServer(_) | Change::Front(_)) => {
            "its clients are refused until it is accepted"
        }
        Subject::Change(Change::AddRealServer(..)) => {
            "the others serve; without any, clients are refused"
        }
        _ => "it stays as it was",
    }
}

/// The Service that something refused belongs to.
pub(super) fn service_of(subject: &Subject, cluster: &Cluster) -> Option<ServiceName> {
    let Subject::Change(change) = subject else {
        return None;
    };
    let key = match (change.virtual_server(), change.address()) {
        (Some(key), _) => key,
        (None, Some(vip)) => *cluster
            .fronts()
            .map(|(key, ..)| key)
            .find(|key| matches!(key, VirtualServerKey::Front(front) if front.address == vip))?,
        (None, None) => return None,
    };
    Some(cluster.service_of(&key)?.service)
}

/// What `/readyz?verbose` lists, and the gauge counts.
pub(super) fn show(refusals: &Refusals, metrics: &Metrics) -> Vec<String> {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for (_, refusal) in refusals.iter() {
        *counts.entry(refusal.kind).or_default() += 1;
    }
    metrics.refused(&counts);
    let lines = refusals.iter();
    lines
        .map(|(subject, refusal)| format!("{subject}: {refusal}"))
        .collect()
}
