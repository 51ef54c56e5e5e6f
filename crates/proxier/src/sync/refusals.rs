//! What the kernel refuses at the moment, and when each is tried again.
//!
//! A refusal belongs to one thing and waits by itself, so that one that never
//! ends makes no other one late. A change of what it belongs to is tried at once.

use std::collections::BTreeMap;
use std::fmt;

use kube_ipvs_core::diff::Touched;
use kube_ipvs_core::state::{Family, KernelState};
use kube_ipvs_core::{Change, Refused};
use kube_ipvs_dataplane::Refusal;

use super::Backoff;

/// What is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A change of the kernel.
    Change(Change),
    /// To forget the flows of a family that lead to real servers that are gone.
    Flows(Family),
}

#[derive(Debug)]
struct Held {
    refusal: Refusal,
    backoff: Backoff,
    /// When it is tried again, in milliseconds.
    due: u64,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change(change) => change.fmt(f),
            Self::Flows(Family::V4) => f.write_str("stale flows of IPv4"),
            Self::Flows(Family::V6) => f.write_str("stale flows of IPv6"),
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Refusals {
    refused: Refused,
    held: BTreeMap<Subject, Held>,
    /// Those that this round tries again.
    tried: BTreeMap<Subject, Held>,
}

impl Refusals {
    /// What plans are made with.
    pub(super) fn refused(&self) -> &Refused {
        &self.refused
    }

    /// The table takes no change for the rest of this round, or may again.
    pub(super) fn set_tables(&mut self, refused: bool) {
        self.refused.set_tables(refused);
    }

    /// What is refused now, with the story of it.
    pub fn iter(&self) -> impl Iterator<Item = (&Subject, &Refusal)> {
        let all = self.held.iter();
        all.map(|(subject, held)| (subject, &held.refusal))
    }

    /// How many VIPs are not as they should be.
    pub(super) fn vips(&self) -> usize {
        let all = self.held.values();
        all.filter(|held| held.refusal.kind == "vip").count()
    }

    /// When the next one is to be tried again.
    pub(super) fn due(&self) -> Option<u64> {
        self.held.values().map(|held| held.due).min()
    }

    /// Whether this was refused and has to wait.
    pub(super) fn holds(&self, subject: &Subject) -> bool {
        self.held.contains_key(subject)
    }

    /// Takes one in; false when that was known.
    pub(super) fn hold(&mut self, now: u64, subject: Subject, refusal: Refusal) -> bool {
        let known = self.tried.remove(&subject);
        let known = known.or_else(|| self.held.remove(&subject));
        let mut backoff = known.map(|held| held.backoff).unwrap_or_default();
        let delay = u64::try_from(backoff.failed().as_millis()).unwrap_or(u64::MAX);
        let due = now.saturating_add(delay);
        let held = Held {
            refusal,
            backoff,
            due,
        };
        self.held.insert(subject, held);
        match subject {
            Subject::Change(change) => self.refused.insert(change),
            Subject::Flows(_) => true,
        }
    }

    /// Lets go of those that are due, and of those about what was touched, so
    /// that this round tries them; adds what they stand for to what is touched.
    pub(super) fn release(
        &mut self,
        now: u64,
        desired: &KernelState,
        observed: &KernelState,
        touched: &mut Touched,
    ) {
        if self.held.is_empty() {
            return;
        }
        let concerned = |change: &Change| match change {
            Change::Front(front) if touched.fronts.contains(front) => true,
            Change::Hairpin(address) if touched.hairpin.contains(address) => true,
            Change::Untracked(one) if touched.untracked.contains(one) => true,
            _ => {
                let server = change.virtual_server();
                let vip = change.address();
                server.is_some_and(|key| touched.virtual_servers.contains(&key))
                    || vip.is_some_and(|vip| touched.vips.contains(&vip))
            }
        };
        let ready = |subject: &Subject, held: &Held| {
            held.due <= now || matches!(subject, Subject::Change(change) if concerned(change))
        };
        let all = self.held.iter();
        let ready: Vec<Subject> = all
            .filter(|(subject, held)| ready(subject, held))
            .map(|(subject, _)| *subject)
            .collect();
        for subject in ready {
            if let Subject::Change(change) = &subject {
                self.refused.remove(change);
                Refused::touch(change, desired, observed, touched);
            }
            self.tried
                .extend(self.held.remove(&subject).map(|held| (subject, held)));
        }
    }

    /// It has been accepted.
    pub(super) fn over(&mut self, subject: &Subject) {
        self.held.remove(subject);
        self.tried.remove(subject);
    }

    /// The end of a round. What was tried and not refused again is over, unless
    /// the round ended before it came to that.
    pub(super) fn settle(&mut self, whole: bool) {
        for (subject, held) in std::mem::take(&mut self.tried) {
            if whole {
                continue;
            }
            if let Subject::Change(change) = subject {
                self.refused.insert(change);
            }
            self.held.entry(subject).or_insert(held);
        }
    }
}
