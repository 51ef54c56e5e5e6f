//! Connections of real servers, asked for only where draining needs them.

use std::collections::BTreeMap;

use kube_ipvs_core::drain::{Key, Load};
use kube_ipvs_core::state::{RealServerKey, VirtualServerKey};
use kube_ipvs_dataplane::{Dataplane, Observed};

/// Asks the kernel once for each virtual server.
pub(super) struct Loads<'a, D> {
    dataplane: &'a mut D,
    seen: BTreeMap<VirtualServerKey, Option<BTreeMap<RealServerKey, Load>>>,
}

impl<'a, D: Dataplane> Loads<'a, D> {
    pub(super) fn of(dataplane: &'a mut D) -> Self {
        Self {
            dataplane,
            seen: BTreeMap::new(),
        }
    }

    /// None when there is no such real server. One that cannot be asked for
    /// counts as busy: nothing is cut off on partial knowledge.
    pub(super) fn of_server(&mut self, key: &Key) -> Option<Load> {
        let (server, real) = key;
        let loads = self.seen.entry(*server).or_insert_with(|| {
            let loads = self.dataplane.loads(server);
            loads.inspect_err(|error| tracing::warn!(%server, error = format!("{error:#}"), "cannot count connections")).ok()
        });
        match loads {
            Some(loads) => loads.get(real).copied(),
            None => Some(Load {
                weight: 0,
                active: 1,
                inactive: 0,
            }),
        }
    }
}

/// The same from a whole observation.
pub(super) fn observed(observed: &Observed, key: &Key) -> Option<Load> {
    let (server, real) = key;
    let state = observed
        .state
        .virtual_servers
        .get(server)?
        .real_servers
        .get(real)?;
    let connections = observed.connections.get(key).copied().unwrap_or_default();
    Some(Load {
        weight: state.weight,
        active: connections.active,
        inactive: connections.inactive,
    })
}
