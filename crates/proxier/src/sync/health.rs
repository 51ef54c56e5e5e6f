//! What load balancers hear of this node.

use std::collections::BTreeSet;

use kube_ipvs_core::state::VirtualServerKey;
use kube_ipvs_core::{HealthCheck, ServiceName};
use kube_ipvs_dataplane::Dataplane;

use super::Syncer;
use super::refusals::Subject;

impl<D: Dataplane> Syncer<D> {
    /// Health-check node ports as they are to be answered: of a Service that is
    /// closed here for a refusal, a load balancer should go to other nodes.
    pub fn health_checks(&self) -> Vec<HealthCheck> {
        let mut checks = self.cluster.health_checks();
        let closed = self.closed();
        for check in &mut checks {
            if closed.contains(&check.service) {
                check.local_endpoints = 0;
            }
        }
        checks
    }

    /// Services with a virtual server that is wanted, refused, and not there.
    fn closed(&self) -> BTreeSet<ServiceName> {
        let known = self.known().map(|state| &state.virtual_servers);
        let is_there = |key: &VirtualServerKey| known.is_some_and(|all| all.contains_key(key));
        let refused = self.refusals.iter();
        let refused = refused.filter_map(|(subject, _)| match subject {
            Subject::Change(change) => change.virtual_server(),
            Subject::Flows(_) => None,
        });
        let wanted = &self.cluster.desired().virtual_servers;
        let missing = refused.filter(|key| wanted.contains_key(key) && !is_there(key));
        missing
            .filter_map(|key| Some(self.cluster.service_of(&key)?.service))
            .collect()
    }
}
