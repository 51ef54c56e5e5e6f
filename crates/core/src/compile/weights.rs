//! Shares of new connections: where an endpoint is, and what its slice says.
//!
//! Both are numbers from 1 to [`MOST_WEIGHT`], multiplied with each other. 0 is no
//! weight: in the kernel it means that an endpoint drains, which is said by its
//! conditions, so that the others know of it too.

use alloc::format;

use super::Warnings;
use crate::climb::{Climb, STEPS};
use crate::read::MOST_WEIGHT;
use crate::services::{Tuning, Weights, unheeded};
use crate::slices::{Endpoint, Slice};

/// The greatest one of which there are whole numbers for each step.
const MOST_CLIMBING: u16 = MOST_WEIGHT / STEPS;

/// Steps that the kernel may take for one connection. `wrr` counts from the
/// greatest weight down to 1 and looks at all real servers each time, as long as
/// those that weigh so much are at their threshold: with the virtual server
/// locked, and nothing else runs on that processor.
const STEPS_OF_WRR: usize = 65_536;

/// The greatest weight that each of so many real servers may have.
pub(super) fn most_of(real_servers: usize, tuning: &Tuning) -> u16 {
    if tuning.scheduler != "wrr" || tuning.upper_threshold == 0 {
        return MOST_WEIGHT;
    }
    let most = STEPS_OF_WRR / real_servers.max(1);
    u16::try_from(most).unwrap_or(MOST_WEIGHT).max(1)
}

/// Where this node is, and what it gives whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standpoint<'z> {
    /// The zone of this node.
    pub(super) zone: Option<&'z str>,
    /// None where the scheduler takes no notice of them.
    pub(super) weights: Option<Weights>,
    /// Who is new, where those begin with little.
    pub(super) climb: Option<&'z Climb>,
}

impl Standpoint<'_> {
    /// The weight of an endpoint that takes new connections.
    pub(super) fn weight(&self, slice: &Slice, endpoint: &Endpoint) -> u16 {
        let Some(weights) = self.weights else {
            return 1;
        };
        let zone = self.zone.filter(|zone| !zone.is_empty());
        let place = if endpoint.local {
            weights.node
        } else if zone.is_some() && slice.zone_of(endpoint) == zone {
            weights.zone
        } else {
            weights.other
        };
        let weight = place.saturating_mul(slice.weight.map_or(1, u16::from));
        match self.climb {
            Some(climb) => weight.min(MOST_CLIMBING) * climb.step(endpoint.address),
            None => weight,
        }
    }
}

/// Tells where weights are not what they say.
pub(super) fn tell<'s>(
    slices: impl Iterator<Item = &'s Slice>,
    tuning: &Tuning,
    climbs: bool,
    warnings: &mut Warnings,
) {
    let said = slices.filter_map(|slice| slice.weight);
    let greatest = said.map(u16::from).max();
    let Some(weights) = tuning.weights else {
        if greatest.is_some() {
            let why = unheeded(&tuning.scheduler);
            warnings.add(format!("the weight of its EndpointSlices {why}"));
        }
        return;
    };
    let most = weights.greatest();
    let mut product = u64::from(most);
    let mut said = format!("weight {most} of the Service");
    if let Some(greatest) = greatest {
        product *= u64::from(greatest);
        said += &format!(" times weight {greatest} of an EndpointSlice");
    }
    let mut taken = MOST_WEIGHT;
    if climbs {
        product *= u64::from(STEPS);
        said += &format!(" times {STEPS} for slow-start");
        taken = MOST_CLIMBING * STEPS;
    }
    if product > u64::from(taken) {
        warnings.add(format!("{said} is above {taken}, which is taken instead"));
    }
}
