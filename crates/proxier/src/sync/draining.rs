//! Real servers that drain: which of them are done is asked before a round.

use kube_ipvs_core::Unknown;
use kube_ipvs_core::diff::Touched;
use kube_ipvs_core::state::Family;
use kube_ipvs_dataplane::{Dataplane, Observed};

use super::carry::Scope;
use super::loads::{self, Loads};
use super::{Round, Syncer, Trigger};

impl<D: Dataplane> Syncer<D> {
    /// Lets go of draining real servers that have nothing left to do.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub fn drain(&mut self, now: u64) -> anyhow::Result<Option<Round>> {
        if self.known.is_none() {
            return Ok(None);
        }
        let round = self.carry_out_touched(now, Touched::default(), Trigger::Change);
        Ok((!round.plan.is_empty()).then_some(round))
    }

    /// When [`Self::drain`] is due, in milliseconds.
    pub fn drain_due(&self) -> Option<u64> {
        self.known.is_some().then_some(self.drain_due).flatten()
    }

    /// How many real servers of a family drain.
    pub fn draining(&self, family: Family) -> usize {
        self.drain.waiting(family)
    }

    /// Whether anything may go at all: not before a list has been whole.
    fn may_drain(&self) -> bool {
        *self.cluster.unknown() != Unknown::Everything
    }

    /// Looks at draining real servers with the counts of a fresh observation.
    pub(super) fn look_at_drain(&mut self, now: u64, observed: &Observed) {
        if !self.may_drain() {
            return;
        }
        let ours = self.ownership.keys();
        let wanted = self.cluster.desired().virtual_servers.keys();
        let touched = Touched {
            virtual_servers: ours.chain(wanted).copied().collect(),
            ..Touched::default()
        };
        let step = self
            .drain
            .step(now, &self.cluster, &observed.state, &touched, |key| {
                loads::observed(observed, key)
            });
        self.drain_due = step.next;
    }

    /// Carries out what was touched, and what drained since.
    pub(super) fn carry_out_touched(
        &mut self,
        now: u64,
        mut touched: Touched,
        trigger: Trigger,
    ) -> Round {
        let known = self.known.as_ref().expect("the callers made sure").state();
        if self.may_drain() {
            let mut loads = Loads::of(&mut self.dataplane);
            let step = self.drain.step(now, &self.cluster, known, &touched, |key| {
                loads.of_server(key)
            });
            self.drain_due = step.next;
            touched.extend(step.touched);
        }
        self.refusals
            .release(now, self.cluster.desired(), known, &mut touched);
        self.carry_out(now, Scope::Only(touched), trigger)
    }
}
