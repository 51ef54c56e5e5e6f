//! Weights by where an endpoint is, as a Service says them.

use alloc::format;
use alloc::string::String;

use crate::read::{Quoted, weight};

/// Schedulers that give more to a greater weight. The others ask only whether it
/// is 0; `sh` hands out its 256 places in whole weights, so that great ones
/// leave nothing for whoever comes last.
const HEEDING: [&str; 10] = [
    "wrr", "wlc", "mh", "sed", "nq", "lblc", "lblcr", "fo", "ovf", "twos",
];

/// Whether a scheduler takes notice of weights.
pub(super) fn is_heeded_by(scheduler: &str) -> bool {
    HEEDING.contains(&scheduler)
}

/// What to say of weights to a scheduler that takes no notice of them.
pub(crate) fn unheeded(scheduler: &str) -> String {
    let heeding = HEEDING.join(", ");
    format!("means nothing to scheduler {scheduler}, every endpoint has weight 1 ({heeding} weigh)")
}

/// Weights of endpoints by where they are, seen from this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Weights {
    /// On this node.
    pub(crate) node: u16,
    /// On another one of its zone.
    pub(crate) zone: u16,
    /// Anywhere else.
    pub(crate) other: u16,
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

    pub(crate) fn greatest(&self) -> u16 {
        self.node.max(self.zone).max(self.other)
    }
}
