//! What is not tracked of a Service that asks for that.

use super::endpoints::{Choice, Servers};
use super::fronts::Compiler;
use crate::services::{FrontKind, asks_endpoints};
use crate::state::{Family, Front};
use crate::table::Untracked;

impl Compiler<'_> {
    /// Says of a ClusterIP's front and of those who answer that they are not tracked.
    pub(super) fn untrack(
        &mut self,
        kind: FrontKind,
        front: Front,
        servers: Option<&Servers>,
        choice: &Choice,
    ) {
        let asked = self.shape.service.untracked && kind == FrontKind::ClusterIp;
        let Some(servers) = servers.filter(|_| asked) else {
            return;
        };
        let own = choice.local_addresses().chain(choice.draining_here());
        let host = self.around.host.iter().copied();
        let family = Family::of(front.address);
        let host = host.filter(|at| Family::of(*at) == family && asks_endpoints(*at));
        let own = own.chain(host).map(Untracked::Own);
        let endpoints = servers.all_at(front.protocol).map(Untracked::Endpoint);
        let all = [Untracked::Front(front)].into_iter();
        self.out.untracked.extend(all.chain(own).chain(endpoints));
    }
}
