//! What the rest of a node waits for comes first.

use kube_ipvs_core::ServiceName;
use kube_ipvs_core::diff::{Touched, diff_touched};
use kube_ipvs_core::model::Model;
use kube_ipvs_dataplane::{Dataplane, Observed};

use super::carry::Scope;
use super::{Syncer, Trigger};

/// The API server: with DNS what everything else on a node waits for.
const API_SERVER: (&str, &str) = ("default", "kubernetes");

impl<D: Dataplane> Syncer<D> {
    /// Carries out the Services that the rest of the node waits for, when they
    /// changed, before thousands of others are compiled (a cold start). Gives
    /// what the kernel holds then, which is only read again where that is not
    /// known.
    pub(super) fn serve_first(
        &mut self,
        now: u64,
        mut observed: Observed,
    ) -> anyhow::Result<Observed> {
        let mut first = vec![ServiceName::new(API_SERVER.0, API_SERVER.1)];
        first.extend(self.cluster.resolvers().cloned());
        let mut touched = Touched::default();
        for name in &first {
            touched.extend(self.cluster.compile_first(name));
        }
        let terms = self.terms(self.ownership.among(&touched.virtual_servers));
        let wanted = self.wanted(&observed.state);
        let plan = diff_touched(&wanted, &observed.state, &touched, &terms);
        if plan.is_empty() {
            return Ok(observed);
        }
        self.known = Some(Model::new(observed.state));
        let round = self.carry_out(now, Scope::Only(touched), Trigger::Start);
        round.log();
        match self.known.take().filter(|_| round.is_clean()) {
            Some(known) => observed.state = known.into_state(),
            None => observed = self.observe()?.0,
        }
        Ok(observed)
    }
}
