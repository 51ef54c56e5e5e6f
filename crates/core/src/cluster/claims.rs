//! Who gets a front or mark that several Services want: what it is to them
//! counts first (a ClusterIP, a load balancer's address, a NodePort, an
//! externalIP), then the oldest, then the first by name. The same on every node
//! and after every restart.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;

use super::sources::Restricting;
use crate::compile::{Claim, Compiled};
use crate::names::ServiceName;
use crate::services::{Created, FrontKind};
use crate::state::VirtualServerKey;

/// A Service in the order of precedence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claimant {
    created: Created,
    service: ServiceName,
}

impl Claimant {
    pub(super) fn new(created: Created, service: &ServiceName) -> Self {
        Self {
            created,
            service: service.clone(),
        }
    }

    pub(super) fn service(&self) -> &ServiceName {
        &self.service
    }
}

/// What a Service has to say for one front or mark, in the order of precedence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Bid {
    rank: u8,
    claimant: Claimant,
}

impl Bid {
    /// A cluster hands its own addresses out and nobody else's object may take
    /// them; a load balancer's are handed out by its controller, a NodePort by
    /// the API server; externalIPs are whatever somebody wrote.
    fn rank(claim: &Claim) -> u8 {
        match (&claim.key, claim.kind) {
            (VirtualServerKey::Mark { .. }, _) => 0,
            (_, FrontKind::ClusterIp | FrontKind::InsideMark) => 0,
            (_, FrontKind::LoadBalancer) => 1,
            (_, FrontKind::NodePort) => 2,
            (_, FrontKind::ExternalIp) => 3,
        }
    }
}

/// What a Service claims, so that it can be taken back.
#[derive(Debug, Default)]
pub(super) struct Stake {
    /// As whom; none when it claims nothing.
    claimant: Option<Claimant>,
    /// Fronts and marks, whoever holds them.
    pub(super) claims: Box<[VirtualServerKey]>,
    /// Addresses with fronts that only some may use.
    pub(super) restricted: Box<[IpAddr]>,
}

/// A front or mark that a Service wants, and the rank of that.
type Wanted = (VirtualServerKey, u8);

/// Each key once, in their order; of several the last counts.
pub(super) fn by_key<K: Ord + Copy, V>(mut all: Vec<(K, V)>) -> Vec<(K, V)> {
    all.sort_by_key(|(key, _)| *key);
    all.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            core::mem::swap(later, kept);
        }
        same
    });
    all
}

/// All claims. Nearly every front is wanted once, so only the others have a list.
#[derive(Debug, Default)]
pub(super) struct Claims {
    owners: BTreeMap<VirtualServerKey, Bid>,
    waiting: BTreeMap<VirtualServerKey, BTreeSet<Bid>>,
    /// Those that somebody else has now: who waits has lost to another one.
    moved: BTreeSet<VirtualServerKey>,
    restricting: Restricting,
}

impl Claims {
    /// Replaces the claims of a Service. Returns the other Services for which
    /// that changes whether they hold a front they want; who only loses to
    /// another one than before is told of by [`Self::take_lost_to_others`].
    pub(super) fn stake(
        &mut self,
        claimant: &Claimant,
        stake: &mut Stake,
        compiled: &Compiled,
    ) -> BTreeSet<ServiceName> {
        let ranked = compiled.claims.iter();
        let ranked = ranked.map(|claim| (claim.key, Bid::rank(claim)));
        // By age alone: a mark says nothing of how it came about.
        let marks = compiled.marks.iter().map(|key| (*key, 0));
        let wanted = by_key(ranked.chain(marks).collect());
        let mut rivals = BTreeSet::new();
        if !self.stands(claimant, stake, &wanted) {
            self.restake(claimant, stake, wanted, &mut rivals);
        }
        let restricted = compiled.restricted_addresses();
        let service = &claimant.service;
        let before = &stake.restricted;
        rivals.extend(self.restricting.stake(service, before, &restricted));
        stake.restricted = restricted.into_iter().collect();
        rivals.remove(&claimant.service);
        rivals
    }

    /// Whether a Service claims just what it claimed before, as the same: that
    /// is so wherever only its endpoints changed.
    fn stands(&self, claimant: &Claimant, stake: &Stake, wanted: &[Wanted]) -> bool {
        let keys = wanted.iter().map(|(key, _)| key);
        stake.claimant.as_ref() == Some(claimant)
            && stake.claims.iter().eq(keys)
            && wanted
                .iter()
                .all(|(key, rank)| self.rank_of(key, claimant) == Some(*rank))
    }

    fn restake(
        &mut self,
        claimant: &Claimant,
        stake: &mut Stake,
        wanted: Vec<Wanted>,
        rivals: &mut BTreeSet<ServiceName>,
    ) {
        if let Some(before) = stake.claimant.take() {
            let same_age = before == *claimant;
            for key in &stake.claims {
                let rank = wanted.binary_search_by_key(key, |(key, _)| *key);
                let rank = rank.ok().map(|at| wanted[at].1);
                if !same_age || rank != self.rank_of(key, &before) {
                    self.remove(key, &before, rivals);
                }
            }
        }
        for &(key, rank) in &wanted {
            let claimant = claimant.clone();
            self.add(key, Bid { rank, claimant }, rivals);
        }
        if !wanted.is_empty() {
            stake.claimant = Some(claimant.clone());
        }
        stake.claims = wanted.into_iter().map(|(key, _)| key).collect();
    }

    /// Whether owners changed since [`Self::take_lost_to_others`].
    pub(super) fn has_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    /// The Services that wait for what has another owner since this was last
    /// asked. Each once, however many owners there were in between: were all
    /// told at every change, a thousand that want one front would cost a
    /// million compilations.
    pub(super) fn take_lost_to_others(&mut self) -> BTreeSet<ServiceName> {
        let moved = core::mem::take(&mut self.moved);
        let waiting = moved.iter().filter_map(|key| self.waiting.get(key));
        let waiting = waiting.flatten().map(|bid| bid.claimant.service.clone());
        waiting.collect()
    }

    /// Who restricts fronts where.
    pub(super) fn restricting(&self) -> &Restricting {
        &self.restricting
    }

    /// Who holds a front or mark.
    pub(super) fn owner(&self, key: &VirtualServerKey) -> Option<&ServiceName> {
        self.owners.get(key).map(|owner| &owner.claimant.service)
    }

    /// Whether a Service that goes before has a mark.
    pub(super) fn is_taken(&self, mark: VirtualServerKey, claimant: &Claimant) -> bool {
        let owner = self.owners.get(&mark);
        owner.is_some_and(|owner| owner.claimant < *claimant)
    }

    /// As what a front is claimed now.
    fn rank_of(&self, key: &VirtualServerKey, claimant: &Claimant) -> Option<u8> {
        let waiting = self.waiting.get(key).into_iter().flatten();
        let mut all = self.owners.get(key).into_iter().chain(waiting);
        all.find(|bid| bid.claimant == *claimant)
            .map(|bid| bid.rank)
    }

    fn add(&mut self, key: VirtualServerKey, bid: Bid, rivals: &mut BTreeSet<ServiceName>) {
        let Some(owner) = self.owners.get_mut(&key) else {
            self.owners.insert(key, bid);
            return;
        };
        if *owner == bid {
            return;
        }
        let waiting = self.waiting.entry(key).or_default();
        if bid < *owner {
            waiting.remove(&bid);
            rivals.insert(owner.claimant.service.clone());
            waiting.insert(core::mem::replace(owner, bid));
            self.moved.insert(key);
        } else {
            waiting.insert(bid);
        }
    }

    fn remove(
        &mut self,
        key: &VirtualServerKey,
        claimant: &Claimant,
        rivals: &mut BTreeSet<ServiceName>,
    ) {
        let mut waiting = self.waiting.remove(key).unwrap_or_default();
        let owner = self.owners.get(key);
        if owner.is_some_and(|owner| owner.claimant == *claimant) {
            match waiting.pop_first() {
                Some(next) => {
                    rivals.insert(next.claimant.service.clone());
                    self.moved.insert(*key);
                    self.owners.insert(*key, next)
                }
                None => self.owners.remove(key),
            };
        } else {
            waiting.retain(|bid| bid.claimant != *claimant);
        }
        if !waiting.is_empty() {
            self.waiting.insert(*key, waiting);
        }
    }
}
