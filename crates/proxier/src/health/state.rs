//! Whether this node serves: what the loop reports, and what is said of it.
//!
//! Pure; every question carries the time. An update that waits for longer
//! than the time-out makes a family unhealthy, as in kube-proxy: the program
//! counts as healthy while it starts, and while nothing asks it to sync.
//! Readiness is stricter and ours: not before the first complete sync, and not
//! while anybody has a reason against it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube_ipvs_core::state::Family;

/// What is known about the Node object of this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Node {
    /// Not seen yet, or gone from the API.
    #[default]
    Unknown,
    /// It takes traffic.
    Eligible,
    /// It is being deleted.
    Deleting,
    /// Tainted `ToBeDeletedByClusterAutoscaler`.
    Draining,
}

/// Syncs of one family.
#[derive(Debug, Clone, Copy, Default)]
struct Syncs {
    /// The oldest request that no complete sync has answered.
    queued: Option<Instant>,
    /// The end of the last complete sync.
    updated: Option<Instant>,
}

/// What the loop has reported.
#[derive(Debug)]
pub struct HealthState {
    timeout: Duration,
    syncs: BTreeMap<Family, Syncs>,
    node: Node,
    reasons: BTreeMap<String, String>,
    /// What a person should look at, and is no reason against readiness.
    warnings: BTreeMap<String, String>,
    /// The first of what the kernel refuses of single Services.
    refused: Vec<String>,
    refused_count: usize,
}

/// What is refused is listed up to this number, and counted.
const MOST_REFUSED: usize = 100;

/// One family, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilyReport {
    /// The end of the last complete sync.
    pub updated: Option<Instant>,
    /// No update waits for too long.
    pub healthy: bool,
}

/// What `/healthz` and `/livez` answer, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Every family is healthy.
    pub healthy: bool,
    /// New traffic may be sent to this node.
    pub node_eligible: bool,
    /// The families that are served.
    pub families: BTreeMap<Family, FamilyReport>,
}

impl Report {
    /// The oldest of the last complete syncs; none while a family has had none.
    pub fn updated(&self) -> Option<Instant> {
        self.families.values().map(|family| family.updated).min()?
    }
}

impl HealthState {
    /// Twice `sync_period` without a complete sync is unhealthy.
    pub fn new(families: impl IntoIterator<Item = Family>, sync_period: Duration) -> Self {
        Self {
            timeout: sync_period * 2,
            syncs: families
                .into_iter()
                .map(|family| (family, Syncs::default()))
                .collect(),
            node: Node::Unknown,
            reasons: BTreeMap::new(),
            warnings: BTreeMap::new(),
            refused: Vec::new(),
            refused_count: 0,
        }
    }

    /// Sets what the kernel refuses of single Services. It belongs to their
    /// owners and changes nothing of this node's health.
    pub fn set_refused(&mut self, mut refused: Vec<String>) {
        self.refused_count = refused.len();
        refused.truncate(MOST_REFUSED);
        self.refused = refused;
    }

    /// What is refused: the first ones, and how many there are.
    pub fn refused(&self) -> (&[String], usize) {
        (&self.refused, self.refused_count)
    }

    /// A sync was asked for; the oldest unanswered request counts.
    pub fn queued_update(&mut self, now: Instant) {
        for syncs in self.syncs.values_mut() {
            syncs.queued.get_or_insert(now);
        }
    }

    /// A sync of this family was complete.
    pub fn updated(&mut self, family: Family, now: Instant) {
        if let Some(syncs) = self.syncs.get_mut(&family) {
            syncs.queued = None;
            syncs.updated = Some(now);
        }
    }

    /// Sets or takes back a reason against readiness.
    pub fn set_reason(&mut self, key: &str, reason: Option<String>) {
        match reason {
            Some(reason) => self.reasons.insert(key.to_owned(), reason),
            None => self.reasons.remove(key),
        };
    }

    /// Sets or takes back a warning: it changes nothing of readiness.
    pub fn set_warning(&mut self, key: &str, warning: Option<String>) {
        match warning {
            Some(warning) => self.warnings.insert(key.to_owned(), warning),
            None => self.warnings.remove(key),
        };
    }

    /// The warnings, by key.
    pub fn warnings(&self) -> &BTreeMap<String, String> {
        &self.warnings
    }

    /// What the API says about this node.
    pub fn set_node(&mut self, node: Node) {
        self.node = node;
    }

    /// What `/healthz` and `/livez` say.
    pub fn report(&self, now: Instant) -> Report {
        let families: BTreeMap<_, _> = self
            .syncs
            .iter()
            .map(|(family, syncs)| (*family, self.family_report(syncs, now)))
            .collect();
        Report {
            healthy: families.values().all(|family| family.healthy),
            node_eligible: self.node == Node::Eligible,
            families,
        }
    }

    /// Why this node is not ready, by key; empty is ready.
    pub fn not_ready(&self, now: Instant) -> BTreeMap<String, String> {
        let mut reasons = self.reasons.clone();
        if self.syncs.values().any(|syncs| syncs.updated.is_none()) {
            reasons
                .entry("first-sync".into())
                .or_insert_with(|| "no sync has been complete since the start".into());
        }
        if let Some(waited) = self.overdue(now) {
            reasons
                .entry("sync".into())
                .or_insert_with(|| format!("an update has waited for {} s", waited.as_secs()));
        }
        reasons
    }

    fn family_report(&self, syncs: &Syncs, now: Instant) -> FamilyReport {
        FamilyReport {
            updated: syncs.updated,
            healthy: syncs
                .queued
                .is_none_or(|queued| now.saturating_duration_since(queued) < self.timeout),
        }
    }

    /// How long the longest overdue update has waited.
    fn overdue(&self, now: Instant) -> Option<Duration> {
        self.syncs
            .values()
            .filter_map(|syncs| syncs.queued)
            .map(|queued| now.saturating_duration_since(queued))
            .filter(|waited| *waited >= self.timeout)
            .max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(30);

    fn both() -> HealthState {
        HealthState::new([Family::V4, Family::V6], PERIOD)
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn healthy_while_nothing_is_asked_for() {
        let now = Instant::now();

        assert!(both().report(now + seconds(3600)).healthy);
    }

    #[test]
    fn unhealthy_when_an_update_waits_for_twice_the_sync_period() {
        let now = Instant::now();
        let mut state = both();

        state.queued_update(now);
        state.queued_update(now + seconds(59));

        assert!(state.report(now + seconds(59)).healthy);
        assert!(!state.report(now + seconds(60)).healthy);
    }

    #[test]
    fn one_family_that_lags_is_enough() {
        let now = Instant::now();
        let mut state = both();
        state.queued_update(now);

        state.updated(Family::V4, now + seconds(1));

        let report = state.report(now + seconds(61));
        assert!(!report.healthy);
        assert!(report.families[&Family::V4].healthy);
        assert!(!report.families[&Family::V6].healthy);
        assert_eq!(report.updated(), None);
    }

    #[test]
    fn a_complete_sync_answers_every_request_before_it() {
        let now = Instant::now();
        let mut state = both();
        state.queued_update(now);

        state.updated(Family::V4, now + seconds(70));
        state.updated(Family::V6, now + seconds(71));

        let report = state.report(now + seconds(3600));
        assert!(report.healthy);
        assert_eq!(report.updated(), Some(now + seconds(70)));
    }

    #[test]
    fn only_an_eligible_node_takes_traffic() {
        let mut state = both();
        let now = Instant::now();

        let eligible = [
            Node::Unknown,
            Node::Eligible,
            Node::Deleting,
            Node::Draining,
        ]
        .map(|node| {
            state.set_node(node);
            state.report(now).node_eligible
        });

        assert_eq!(eligible, [false, true, false, false]);
    }

    #[test]
    fn not_ready_before_the_first_complete_sync_of_every_family() {
        let now = Instant::now();
        let mut state = both();

        state.updated(Family::V4, now);
        assert!(state.not_ready(now).contains_key("first-sync"));

        state.updated(Family::V6, now);
        assert_eq!(state.not_ready(now), BTreeMap::new());
    }

    #[test]
    fn not_ready_while_anybody_has_a_reason() {
        let now = Instant::now();
        let mut state = both();
        state.updated(Family::V4, now);
        state.updated(Family::V6, now);

        state.set_reason("nft", Some("apply: EPERM".into()));
        state.set_reason("source", Some("silent for 90 s".into()));
        state.set_reason("source", None);

        assert_eq!(
            state.not_ready(now),
            BTreeMap::from([("nft".to_owned(), "apply: EPERM".to_owned())])
        );
    }

    #[test]
    fn an_overdue_update_is_a_reason() {
        let now = Instant::now();
        let mut state = both();
        state.updated(Family::V4, now);
        state.updated(Family::V6, now);

        state.queued_update(now);

        assert_eq!(
            state.not_ready(now + seconds(75)),
            BTreeMap::from([(
                "sync".to_owned(),
                "an update has waited for 75 s".to_owned()
            )])
        );
    }
}
