//! Who may use a Service's load-balancer addresses, seen from this node.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;

use crate::services::Networks;
use crate::state::Family;

/// Networks that may; none is everybody.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    networks: Option<Arc<Networks>>,
    /// Families in which an address of this host is let in.
    ours: BTreeSet<Family>,
}

impl Ranges {
    pub(super) fn new(networks: Option<Arc<Networks>>, host: &BTreeSet<IpAddr>) -> Self {
        let nets = networks.iter();
        let ours = nets.flat_map(|nets| host.iter().filter(|at| nets.contain(**at)));
        let ours = ours.map(|address| Family::of(*address)).collect();
        Self { networks, ours }
    }

    /// Whether an address is for some only.
    pub(crate) fn restrict(&self, address: IpAddr) -> bool {
        self.of_family(address).is_some()
    }

    /// How many networks an address is for, at most.
    pub(crate) fn count(&self, address: IpAddr) -> usize {
        self.of_family(address).map_or(0, |nets| nets.len() + 1)
    }

    /// The networks that an address is for. Where an address of this host is let
    /// in, its own is too: a VIP that is bound as an address is the source of
    /// what the host sends to it.
    pub(crate) fn of(&self, address: IpAddr) -> Vec<IpNet> {
        let nets = self.of_family(address).into_iter().flatten().copied();
        let ours = self.ours.contains(&Family::of(address));
        let own = ours.then(|| IpNet::from(address));
        IpNet::aggregate(&nets.chain(own).collect())
    }

    fn of_family(&self, address: IpAddr) -> Option<&[IpNet]> {
        self.networks.as_ref()?.of(Family::of(address))
    }
}
