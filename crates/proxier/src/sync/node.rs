//! What the loop says of itself.

use std::collections::BTreeMap;

use kube_ipvs_core::state::Family;
use kube_ipvs_dataplane::Dataplane;

use super::{Syncer, told};
use crate::answers::{Held, LoopReport, RefusedThere};
use crate::metrics::Tables;

/// Refusals and warnings that are told one by one.
const MOST: usize = 20;

impl<D: Dataplane> Syncer<D> {
    /// What is known without a clock: the last round and the drift of an hour
    /// are the driver's.
    pub(super) fn loop_report(&self) -> LoopReport {
        let cluster = self.cluster();
        let mut fronts: BTreeMap<String, usize> = BTreeMap::new();
        let by_address = cluster.fronts().filter(|(key, ..)| key.front().is_some());
        by_address.for_each(|(_, _, kind)| *fronts.entry(kind.to_string()).or_default() += 1);
        let refused = self.refusals().iter().take(MOST);
        let refused = refused.map(|(subject, refusal)| RefusedThere {
            what: subject.to_string(),
            service: told::service_of(subject, cluster).map(|name| name.to_string()),
            error: refusal.error.clone(),
        });
        let warnings = cluster.warnings();
        LoopReport {
            node: cluster.options().node_name.clone(),
            awaited: cluster.awaited().map(|kind| kind.to_string()).collect(),
            services: cluster.services().count(),
            endpoint_slices: cluster.endpoint_slices(),
            fronts,
            held: self.held(),
            last: None,
            refused: refused.collect(),
            refused_count: self.refusals().iter().count(),
            drift: BTreeMap::new(),
            audit: None,
            warnings: warnings
                .iter()
                .take(MOST)
                .map(|warning| warning.to_string())
                .collect(),
            warning_count: warnings.len(),
            other_proxies: self.others.came().into_iter().collect(),
        }
    }

    fn held(&self) -> Option<Held> {
        let families = [Family::V4, Family::V6];
        let sizes = families.map(|family| self.sizes(family));
        let mut held = Held {
            draining: Some(0),
            ..Held::default()
        };
        for sizes in sizes {
            let sizes = sizes?;
            held.virtual_servers += sizes.virtual_servers;
            held.real_servers += sizes.real_servers;
            held.draining = held.draining.map(|n| n + sizes.draining);
            held.vips += sizes.vips;
            held.rows += sizes.fronts;
        }
        Some(held)
    }

    /// How much the kernel holds for us of a family, as far as is known: a walk
    /// over the cluster.
    pub(super) fn sizes(&self, family: Family) -> Option<Tables> {
        let state = self.known()?;
        let all = state.virtual_servers.iter();
        let ours = all.filter(|(key, _)| key.family() == family && self.owns(key));
        let (mut virtual_servers, mut real_servers) = (0, 0);
        for (_, server) in ours {
            virtual_servers += 1;
            real_servers += server.real_servers.len();
        }
        let fronts = state.table.rows.keys();
        let vips = state.vips.iter();
        Some(Tables {
            virtual_servers,
            real_servers,
            draining: self.draining(family),
            vips: vips.filter(|vip| Family::of(**vip) == family).count(),
            fronts: fronts
                .filter(|front| Family::of(front.address) == family)
                .count(),
        })
    }
}
