//! Shares of new connections: where an endpoint is, and what its slice says.
//!
//! Both are numbers from 1 to [`MOST_WEIGHT`], multiplied with each other. 0 is no
//! weight: in the kernel it means that an endpoint drains, which is said by its
//! conditions, so that the others know of it too.

use alloc::format;
use alloc::string::String;

use super::Warnings;
use super::annotations::Tuning;
use crate::climb::{Climb, STEPS};
use crate::read::{MOST_WEIGHT, Quoted, weight};
use crate::slices::{Endpoint, Slice};

/// The greatest one of which there are whole numbers for each step.
const MOST_CLIMBING: u16 = MOST_WEIGHT / STEPS;

/// Schedulers that give more to a greater weight. The others ask only whether it
/// is 0; `sh` hands out its 256 places in whole weights, so that great ones
/// leave nothing for whoever comes last.
const HEEDING: [&str; 10] = [
    "wrr", "wlc", "mh", "sed", "nq", "lblc", "lblcr", "fo", "ovf", "twos",
];

/// Whether a scheduler takes notice of weights.
pub(crate) fn is_heeded_by(scheduler: &str) -> bool {
    HEEDING.contains(&scheduler)
}

/// What to say of weights to a scheduler that takes no notice of them.
pub(super) fn unheeded(scheduler: &str) -> String {
    let heeding = HEEDING.join(", ");
    format!("means nothing to scheduler {scheduler}, every endpoint has weight 1 ({heeding} weigh)")
}

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

/// Weights of endpoints by where they are, seen from this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weights {
    /// On this node.
    node: u16,
    /// On another one of its zone.
    zone: u16,
    /// Anywhere else.
    other: u16,
}

impl Weights {
    /// The same for all.
    pub(super) const EVEN: Self = Self {
        node: 1,
        zone: 1,
        other: 1,
    };

    /// Reads `node=10,zone=3,other=1`: what is not named is as the next wider
    /// place, and `other` is 1. Says what is wrong with it.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let [mut node, mut zone, mut other] = [None; 3];
        for item in text.split(',').map(str::trim).filter(|i| !i.is_empty()) {
            let (word, value) = item.split_once('=').unwrap_or((item, ""));
            let place = match word.trim() {
                "node" => &mut node,
                "zone" => &mut zone,
                "other" => &mut other,
                _ => return Err(format!("{} is no place", Quoted(item))),
            };
            let value = weight(value.trim());
            let value = value.ok_or(format!("{} is no weight", Quoted(item)))?;
            if place.replace(value).is_some() {
                return Err(format!("{} comes twice", Quoted(word.trim())));
            }
        }
        let other = other.unwrap_or(1);
        let zone = zone.unwrap_or(other);
        let node = node.unwrap_or(zone);
        Ok(Self { node, zone, other })
    }

    fn greatest(&self) -> u16 {
        self.node.max(self.zone).max(self.other)
    }
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
