//! Which schedulers the kernel has, asked when a Service first names one.
//!
//! One that is missing is asked for again once in a pass of the audit, for as
//! long as a Service names it: modules can be installed on a running node.

use std::collections::BTreeMap;

use kube_ipvs_core::Event;
use kube_ipvs_dataplane::Dataplane;

use super::Syncer;

/// What the kernel answered: whether it has a scheduler.
pub(super) type Answers = BTreeMap<&'static str, bool>;

impl<D: Dataplane> Syncer<D> {
    /// Asks for schedulers that Services name since the last time.
    pub(super) fn ask_for_schedulers(&mut self) {
        let wanted: Vec<_> = self.cluster.wanted_schedulers().collect();
        if wanted.iter().copied().eq(self.schedulers.keys().copied()) {
            return;
        }
        self.schedulers.retain(|name, _| wanted.contains(name));
        for name in wanted {
            if !self.schedulers.contains_key(name) {
                self.ask_for(name);
            }
        }
        self.tell_missing();
    }

    /// Asks anew for schedulers that were missing.
    pub(super) fn ask_for_missing_schedulers(&mut self) {
        let missing = self.schedulers.iter().filter(|(_, has)| !**has);
        let missing: Vec<_> = missing.map(|(name, _)| *name).collect();
        for name in missing {
            self.ask_for(name);
            if self.schedulers[name] {
                tracing::info!(scheduler = name, "the kernel has this scheduler now");
            }
        }
        self.tell_missing();
    }

    /// A kernel that gives no answer counts as one that has it: making the
    /// virtual server will show.
    fn ask_for(&mut self, name: &'static str) {
        let lacks = self
            .dataplane
            .lacks_scheduler(name)
            .unwrap_or_else(|error| {
                tracing::debug!(error = format!("{error:#}"), "not known");
                false
            });
        self.schedulers.insert(name, !lacks);
    }

    fn tell_missing(&mut self) {
        let missing = self.schedulers.iter().filter(|(_, has)| !**has);
        let missing = missing.map(|(name, _)| (*name).to_owned()).collect();
        self.cluster.apply(Event::MissingSchedulers(missing));
    }
}
