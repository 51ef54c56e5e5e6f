//! The real program as a process, with real traffic: killed, fought, misled.
//!
//! Loads are sized for a machine that is emulated: a tenth of what a node takes.

pub(crate) mod alone;
pub(crate) mod api;
mod beside;
mod closed;
mod edits;
mod faults;
mod flood;
mod foreign;
mod load;
mod memory;
mod neighbours;
mod plan;
mod protected;
mod restart;
mod rollout;
mod stop;
mod thousands;

/// Periods short enough for a test.
pub(crate) const QUICK: [&str; 2] = ["--ipvs-min-sync-period=100ms", "--ipvs-sync-period=3s"];
pub(crate) const WEB: &str = "10.96.0.10:80";
