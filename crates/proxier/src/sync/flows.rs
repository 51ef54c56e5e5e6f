//! Flows that connection tracking keeps at real servers that are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use kube_ipvs_core::plan::{Op, Plan};
use kube_ipvs_core::row::Row;
use kube_ipvs_core::state::{Family, Front, Protocol, RealServerKey, VirtualServerKey};
use kube_ipvs_dataplane::{ApplyReport, Cleaned, Dataplane, Nature, Refusal};

use super::Syncer;
use super::refusals::Subject;

impl<D: Dataplane> Syncer<D> {
    /// Deletes connection tracking entries of UDP and SCTP fronts whose real
    /// servers changed, so that no client is kept at one that is gone. What
    /// failed is tried again later, and with the next such change.
    pub(super) fn forget_flows(&mut self, now: u64, plan: &Plan, report: &mut ApplyReport) {
        let stale = plan.ops.iter().flat_map(|op| self.stale_fronts(op));
        let stale: BTreeSet<_> = stale.filter(|f| f.protocol != Protocol::Tcp).collect();
        let is_new = |family| {
            stale
                .iter()
                .any(|front| Family::of(front.address) == family)
        };
        let families = [Family::V4, Family::V6].into_iter();
        let families = families
            .filter(|family| is_new(*family) || !self.refusals.holds(&Subject::Flows(*family)));
        let families: Vec<_> = families.collect();
        self.stale.extend(stale);
        for family in families {
            self.forget_flows_of(now, family, report);
        }
    }

    fn forget_flows_of(&mut self, now: u64, family: Family, report: &mut ApplyReport) {
        let stale = self.stale.iter();
        let stale = stale.filter(|front| Family::of(front.address) == family);
        let fronts: BTreeMap<_, _> = stale.map(|front| (*front, self.left(front))).collect();
        if fronts.is_empty() {
            return;
        }
        let begun = Instant::now();
        match self.dataplane.forget_flows(&fronts) {
            Ok(deleted) => {
                self.stale.retain(|front| !fronts.contains_key(front));
                self.refusals.over(&Subject::Flows(family));
                report.conntrack.push(Cleaned {
                    family,
                    took: begun.elapsed(),
                    deleted,
                });
            }
            Err(error) => {
                let error = format!("{error:#}");
                let refusal = Refusal::general("conntrack", Nature::Own, error);
                self.refusals
                    .hold(now, Subject::Flows(family), refusal.clone());
                report.refused.push(refusal);
            }
        }
    }

    /// The fronts for whose flows an operation left fewer ways.
    fn stale_fronts(&self, op: &Op) -> Vec<Front> {
        match op {
            Op::AddVirtualServer(key, _)
            | Op::RemoveVirtualServer(key)
            | Op::RemoveRealServer(key, _) => match key {
                VirtualServerKey::Front(front) => vec![*front],
                _ if self.cluster.protocol_of(key) == Some(Protocol::Tcp) => Vec::new(),
                VirtualServerKey::Mark { .. } => self.cluster.marked_with(key),
            },
            Op::Table(edit) => {
                let marks = |row: &Option<Row>| row.as_ref().map(|row| (row.inside, row.mark));
                let turns = edit.rows.iter();
                let led = turns.filter(|(_, turn)| {
                    let (from, to) = (marks(&turn.from), marks(&turn.to));
                    from.unwrap_or_default() != to.unwrap_or_default()
                });
                led.map(|(front, _)| *front).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The real servers that flows of a front may lead to: those of its own
    /// virtual server, and those of its marks.
    fn left(&self, front: &Front) -> BTreeSet<RealServerKey> {
        let desired = self.cluster.desired();
        let row = desired.row(front).into_iter();
        let marked = row.flat_map(|row| row.by_marks(front));
        let keys = marked.chain([VirtualServerKey::Front(*front)]);
        let servers = keys.filter_map(|key| desired.virtual_servers.get(&key));
        let reals = servers.flat_map(|server| server.real_servers.keys().copied());
        reals.collect()
    }
}
