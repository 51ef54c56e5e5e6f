//! Who gets a front or mark that several Services want: the oldest, then the
//! first by name. The same on every node and after every restart.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::placement::Footprint;
use crate::compile::Compiled;
use crate::names::ServiceName;
use crate::state::VirtualServerKey;

/// A Service in the order of precedence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claimant {
    /// No time of creation counts as the youngest.
    undated: bool,
    created: Option<Timestamp>,
    service: ServiceName,
}

impl Claimant {
    pub(super) fn new(created: Option<Timestamp>, service: &ServiceName) -> Self {
        Self {
            undated: created.is_none(),
            created,
            service: service.clone(),
        }
    }

    pub(super) fn service(&self) -> &ServiceName {
        &self.service
    }
}

/// All claims. Nearly every front is wanted once, so only the others have a list.
#[derive(Debug, Default)]
pub(super) struct Claims {
    owners: BTreeMap<VirtualServerKey, Claimant>,
    waiting: BTreeMap<VirtualServerKey, BTreeSet<Claimant>>,
}

impl Claims {
    /// Replaces the claims of a Service. Returns the other Services for which
    /// that changes who holds a front they want.
    pub(super) fn stake(
        &mut self,
        claimant: &Claimant,
        footprint: &mut Footprint,
        compiled: &Compiled,
    ) -> BTreeSet<ServiceName> {
        let wanted: BTreeSet<_> = compiled.claims.iter().map(|claim| claim.key).collect();
        let mut rivals = BTreeSet::new();
        if let Some(before) = footprint.claimant.take() {
            let same_age = before == *claimant;
            for key in &footprint.claims {
                if !same_age || !wanted.contains(key) {
                    self.remove(key, &before, &mut rivals);
                }
            }
        }
        for key in &wanted {
            self.add(*key, claimant, &mut rivals);
        }
        if !wanted.is_empty() {
            footprint.claimant = Some(claimant.clone());
        }
        footprint.claims = wanted.into_iter().collect();
        rivals.remove(&claimant.service);
        rivals
    }

    /// Who holds a front or mark.
    pub(super) fn owner(&self, key: &VirtualServerKey) -> Option<&ServiceName> {
        self.owners.get(key).map(|owner| &owner.service)
    }

    fn add(
        &mut self,
        key: VirtualServerKey,
        claimant: &Claimant,
        rivals: &mut BTreeSet<ServiceName>,
    ) {
        let Some(owner) = self.owners.get_mut(&key) else {
            self.owners.insert(key, claimant.clone());
            return;
        };
        if owner == claimant {
            return;
        }
        let waiting = self.waiting.entry(key).or_default();
        if claimant < owner {
            let former = std::mem::replace(owner, claimant.clone());
            waiting.remove(claimant);
            waiting.insert(former);
            rivals.extend(waiting.iter().map(|other| other.service.clone()));
        } else {
            waiting.insert(claimant.clone());
        }
    }

    fn remove(
        &mut self,
        key: &VirtualServerKey,
        claimant: &Claimant,
        rivals: &mut BTreeSet<ServiceName>,
    ) {
        let mut waiting = self.waiting.remove(key).unwrap_or_default();
        if self.owners.get(key) == Some(claimant) {
            rivals.extend(waiting.iter().map(|other| other.service.clone()));
            match waiting.pop_first() {
                Some(next) => self.owners.insert(*key, next),
                None => self.owners.remove(key),
            };
        } else {
            waiting.remove(claimant);
        }
        if !waiting.is_empty() {
            self.waiting.insert(*key, waiting);
        }
    }
}
