//! When the networks of an address change, in the order of a plan.
//!
//! Old and new ones may overlap, so they change in one transaction, and one
//! element may be for many ports (see [`Ports`]): for those of another Service
//! that goes, or comes, as well. At no moment is a front open to networks that
//! are not its own, and none that stays is closed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::diff::Touched;
use crate::refused::Goal;
use crate::state::{Front, NftElement, NftSet, NftState, Ports, Protocol};

/// In which transaction: before all else, or after all else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    First,
    Last,
}

/// What changes at an address.
#[derive(Debug, Default)]
struct Change {
    leaving: bool,
    arriving: BTreeSet<Front>,
    /// Of networks that go.
    old: BTreeSet<Ports>,
}

/// The moments for networks that go and for those that come, where they are not
/// both the first.
#[derive(Debug, Default)]
pub(crate) struct Moments(BTreeMap<IpAddr, (Moment, Moment)>);

impl Moments {
    pub(crate) fn of(touched: &Touched, goal: &Goal<'_>) -> Self {
        let mut changes: BTreeMap<IpAddr, Change> = BTreeMap::new();
        let sets = [NftSet::Restricted, NftSet::AllowedSources];
        let moved = touched
            .elements
            .iter()
            .filter(|(set, _)| sets.contains(set));
        for (set, element) in moved {
            let have = has(&goal.observed.nft, *set, element);
            match (element, have, goal.has(*set, element)) {
                (NftElement::Front(front), true, false) => {
                    changes.entry(front.address).or_default().leaving = true;
                }
                (NftElement::Front(front), false, true) => {
                    let change = changes.entry(front.address).or_default();
                    change.arriving.insert(*front);
                }
                (NftElement::Source(ports, _), true, false) => {
                    changes.entry(ports.address).or_default().old.insert(*ports);
                }
                _ => {}
            }
        }
        let leaving = changes.into_iter().filter(|(_, change)| change.leaving);
        Self(
            leaving
                .map(|(address, change)| (address, change.moments(address, goal)))
                .collect(),
        )
    }

    pub(crate) fn removal(&self, element: &NftElement) -> Moment {
        self.at(element).0
    }

    pub(crate) fn addition(&self, element: &NftElement) -> Moment {
        self.at(element).1
    }

    fn at(&self, element: &NftElement) -> (Moment, Moment) {
        let moments = match element {
            NftElement::Source(ports, _) => self.0.get(&ports.address),
            _ => None,
        };
        moments.copied().unwrap_or((Moment::First, Moment::First))
    }
}

impl Change {
    /// Where fronts leave.
    fn moments(&self, address: IpAddr, goal: &Goal<'_>) -> (Moment, Moment) {
        let mut covered = self.arriving.iter();
        if !covered.any(|front| self.old.iter().any(|ports| ports.contains(front))) {
            // The new ones may cover who leaves, who is served until then.
            return (Moment::Last, Moment::Last);
        }
        match stays_restricted(address, goal) {
            // One Service had the address, and what leaves is its own.
            true => (Moment::First, Moment::First),
            // One Service takes another's place: nobody is let in between.
            false => (Moment::First, Moment::Last),
        }
    }
}

fn stays_restricted(address: IpAddr, goal: &Goal<'_>) -> bool {
    let first = NftElement::Front(Front {
        address,
        port: 0,
        protocol: Protocol::Tcp,
    });
    let observed = goal.observed.nft.get(&NftSet::Restricted);
    let there = observed.into_iter().flat_map(|all| all.range(first..));
    let there =
        there.take_while(|x| matches!(x, NftElement::Front(front) if front.address == address));
    let mut there = there;
    there.any(|element| goal.has(NftSet::Restricted, element))
}

fn has(nft: &NftState, set: NftSet, element: &NftElement) -> bool {
    nft.get(&set).is_some_and(|all| all.contains(element))
}
