//! Which Services a change concerns beside the one that it is about: they are
//! compiled too.

use alloc::collections::BTreeSet;
use core::net::IpAddr;

use super::Cluster;
use super::ground::Change;

impl Cluster {
    /// Marks the Services that a change of the surroundings concerns.
    pub(super) fn ground_changed(&mut self, change: &Change) {
        if change.is_empty() {
            return;
        }
        self.networks_moved |= change.moves_networks();
        let concerned = self.entries.iter().filter(|(_, entry)| {
            let service = entry.service.as_ref();
            service.is_some_and(|service| change.concerns(service))
                || (change.moves_networks()
                    && entry.addresses().any(|at| change.concerns_endpoint(at)))
        });
        self.dirty.extend(concerned.map(|(name, _)| name.clone()));
        self.mark_endpoints(change.addresses());
    }

    /// Marks the Services that ask for one of these addresses from outside or
    /// have an endpoint there: whose it is has changed.
    pub(super) fn mark_around(&mut self, addresses: &BTreeSet<IpAddr>) {
        self.dirty.extend(self.territory.outside(addresses));
        self.mark_endpoints(addresses);
    }

    /// Marks the Services with an endpoint at one of these addresses. Only where
    /// there is one are all looked through: it is a mistake to begin with.
    pub(super) fn mark_endpoints(&mut self, addresses: &BTreeSet<IpAddr>) {
        let is_endpoint = |at: &&IpAddr| self.territory.is_endpoint(**at, None);
        let addresses: BTreeSet<IpAddr> = addresses.iter().filter(is_endpoint).copied().collect();
        if addresses.is_empty() {
            return;
        }
        let concerned = self.entries.iter().filter(|(_, entry)| {
            let mut endpoints = entry.addresses();
            endpoints.any(|at| addresses.contains(&at))
        });
        self.dirty.extend(concerned.map(|(name, _)| name.clone()));
    }

    /// Marks the Services that lose something to another one than before: they
    /// have nothing more or less by it, but their warnings name the other.
    pub(super) fn mark_lost_to_others(&mut self) {
        self.dirty.extend(self.claims.take_lost_to_others());
        self.dirty.extend(self.health_ports.take_lost_to_others());
    }
}
