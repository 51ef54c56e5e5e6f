//! What one Service may ask of a node. An object of 1.4 MB can name 10,000 ports,
//! as many addresses, and any number of slices: their products are bounded here.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Shape, Surroundings};
use crate::services::Port;
use crate::state::{Family, RealServer, RealServerKey};

/// Fronts of a Service, ports times addresses, without its NodePorts.
pub(super) const FRONTS: usize = 16_384;
/// Real servers in all virtual servers of a Service.
pub(super) const REAL_SERVERS: usize = 65_536;
/// Endpoints that are looked at for all ports of a Service.
const LOOKS: usize = 4_194_304;
/// Places in the table of the kernel's `mh`: more real servers would never be
/// asked, and each that is added fills the whole table anew.
const MH_TABLE: usize = 4093;

/// The shares of one Service.
#[derive(Debug)]
pub(super) struct Bounds {
    /// Real servers of one virtual server.
    pub(super) real_servers: usize,
    /// Endpoints that are looked at for one port.
    pub(super) endpoints: usize,
    /// Orders real servers where not all are taken; each node takes others.
    seed: u64,
}

impl Bounds {
    pub(super) fn of(shape: &Shape<'_>, around: &Surroundings<'_>) -> Self {
        let ports: &[Port] = &shape.service.ports;
        let marks = if shape.service.external_local || ports.iter().any(|p| p.node_port.is_some()) {
            2 * ports.len() * around.options.families.len()
        } else {
            0
        };
        let (mut fronts, mut at_node) = (0, 0);
        for family in &around.options.families {
            let node = around.node_ports.iter();
            let node = node.filter(|at| Family::of(**at) == *family).count();
            fronts += ports.len() * shape.addresses.of(*family).count();
            if !around.options.node_port_servers.by_mark(node) {
                at_node += node * ports.iter().filter(|p| p.node_port.is_some()).count();
            }
        }
        let servers = fronts.min(FRONTS) + at_node + marks;
        let share = (REAL_SERVERS / servers.max(1)).max(1);
        Self {
            real_servers: match shape.tuning.scheduler.as_str() {
                "mh" => share.min(MH_TABLE),
                _ => share,
            },
            endpoints: (LOOKS / ports.len().max(1)).max(share),
            seed: crate::seed(&around.options.node_name),
        }
    }

    /// Whether a virtual server may have so many real servers.
    pub(super) fn allow(&self, real_servers: usize) -> bool {
        real_servers <= self.real_servers
    }

    /// As many real servers as a virtual server may have: of those that take new
    /// connections and of those that keep theirs, each by its place on this node.
    pub(super) fn keep(&self, all: &mut BTreeMap<RealServerKey, RealServer>) {
        if self.allow(all.len()) {
            return;
        }
        let mut placed: Vec<_> = core::mem::take(all).into_iter().collect();
        placed.sort_by_cached_key(|(key, real)| {
            let place = crate::diff::place(self.seed, key);
            (real.weight == 0, place, *key)
        });
        placed.truncate(self.real_servers);
        all.extend(placed);
    }
}
