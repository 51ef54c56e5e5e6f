//! What became of a round, as one line and as numbers.

use std::collections::BTreeMap;
use std::fmt;

use kube_ipvs_core::plan::Plan;
use kube_ipvs_dataplane::{ApplyReport, Refusal};

/// Why a round was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The first one: what a previous run left is taken over.
    Start,
    /// A source told of a change, or a refusal is tried again.
    Change,
    /// The kernel was read again; whatever differs was done by somebody else.
    Audit,
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Change => "change",
            Self::Audit => "audit",
        })
    }
}

/// Differences that somebody else made, by the operation that undoes them:
/// `add-real-server` → 3.
pub type Drift = BTreeMap<String, u64>;

/// A plan and what became of it.
#[derive(Debug)]
pub struct Round {
    /// Why it was made.
    pub trigger: Trigger,
    /// What was to be done.
    pub plan: Plan,
    /// What was done.
    pub report: ApplyReport,
    /// What an audit found that was not as we left it. What we ourselves had
    /// yet to do, or try again, is none.
    pub drift: Drift,
}

impl Round {
    /// Whether everything that was to be done was done.
    pub fn is_clean(&self) -> bool {
        self.report.refused.is_empty()
    }

    /// Whether all was as it should be.
    pub fn is_without_work(&self) -> bool {
        self.plan.is_empty() && self.is_clean() && self.drift.is_empty()
    }

    /// What went wrong that is not one Service's: the kernel takes no change of
    /// a kind, or nobody knows what it did.
    pub fn failures(&self) -> impl Iterator<Item = &Refusal> {
        let refused = self.report.refused.iter();
        refused.filter(|refusal| refusal.nature.is_failure())
    }

    /// Writes the round to the log: one INFO line, and the plan at DEBUG. A
    /// round without work is not worth a line. What was refused is told once,
    /// by the reporter.
    pub fn log(&self) {
        if self.is_without_work() {
            tracing::debug!(trigger = %self.trigger, "nothing to do");
            return;
        }
        for line in self.plan.lines() {
            tracing::debug!("{line}");
        }
        if !self.drift.is_empty() {
            tracing::warn!(drift = ?self.drift, "somebody else changed what is ours");
        }
        tracing::info!(
            trigger = %self.trigger,
            changes = %self.summary(),
            refused = self.report.refused.len(),
            netlink_ms = self.report.netlink.as_millis() as u64,
            table_ms = self.report.table.as_millis() as u64,
            "synced"
        );
    }

    /// `real server +2 -1, vip +1`.
    pub fn summary(&self) -> String {
        let counts = self.plan.counts();
        let mut parts: Vec<String> = Vec::new();
        for ((object, action), count) in counts {
            let sign = match action {
                "add" | "bind" => '+',
                "edit" => '~',
                _ => '-',
            };
            match parts.iter_mut().find(|part| part.starts_with(object)) {
                Some(part) => part.push_str(&format!(" {sign}{count}")),
                None => parts.push(format!("{object} {sign}{count}")),
            }
        }
        parts.join(", ")
    }
}

/// Operations by kind: `add-virtual-server` → 3.
pub(super) fn counts(plan: &Plan) -> BTreeMap<String, u64> {
    let counts = plan.counts().into_iter();
    counts
        .map(|((object, action), n)| (format!("{action}-{}", object.replace(' ', "-")), n as u64))
        .collect()
}
