//! What the daemon says of itself, for `kube-ipvs status`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kube_ipvs_dataplane::progress::Made;
use serde::{Deserialize, Serialize};

use super::VERSION;

/// The running daemon: what it knows without its loop, and what that says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeReport {
    /// See [`VERSION`].
    pub version: u32,
    /// Of the program: `0.1.0`.
    pub program: String,
    /// Its process.
    pub pid: u32,
    /// When it was started.
    pub since: Timestamp,
    /// Why this node is not ready, by a short word.
    pub reasons: BTreeMap<String, String>,
    /// What is told beside that, and keeps nobody from being ready: `api`.
    #[serde(default)]
    pub warnings: BTreeMap<String, String>,
    /// Since the source was heard last, or read whole; none before it ever was.
    pub source_age_seconds: Option<u64>,
    /// How far a long round is.
    pub progress: Option<Made>,
    /// What the loop says; none while it is in the middle of a round.
    #[serde(rename = "loop")]
    pub of_loop: Option<LoopReport>,
}

impl NodeReport {
    /// Of a program that was started then, and says nothing else.
    pub(crate) fn new(since: Timestamp) -> Self {
        Self {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since,
            reasons: BTreeMap::new(),
            warnings: BTreeMap::new(),
            source_age_seconds: None,
            progress: None,
            of_loop: None,
        }
    }
}

/// What the loop knows, between two rounds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopReport {
    /// Name of the node.
    pub node: String,
    /// Kinds whose first full list is still missing.
    pub awaited: Vec<String>,
    /// Services that are known, served or not.
    pub services: usize,
    /// Their EndpointSlices.
    pub endpoint_slices: usize,
    /// Fronts by kind: `ClusterIP` -> 12. Marks are not counted.
    pub fronts: BTreeMap<String, usize>,
    /// What it takes the kernel to hold; none when it is about to look.
    pub held: Option<Held>,
    /// The last round that changed or found something.
    pub last: Option<LastRound>,
    /// What the kernel refuses: the first ones.
    pub refused: Vec<RefusedThere>,
    /// How many there are.
    pub refused_count: usize,
    /// What somebody else changed within the last hour, by the operation that
    /// undoes it.
    pub drift: BTreeMap<String, u64>,
    /// Within what time that is found.
    #[serde(default)]
    pub audit: Option<AuditPace>,
    /// What is wrong with objects: the first ones.
    pub warnings: Vec<String>,
    /// How many there are.
    pub warning_count: usize,
    /// What another Service proxy has made on this node since this one runs.
    #[serde(default)]
    pub other_proxies: Vec<String>,
}

/// Within what time the kernel is compared with what it should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPace {
    /// Virtual servers, VIPs, tables and sysctls.
    pub seconds: u64,
    /// Real servers: longer while nobody changes anything.
    pub real_servers_seconds: u64,
}

impl AuditPace {
    /// Where real servers have their turn within so many periods. What is told is
    /// never too short.
    pub(crate) fn of(period: Duration, passes: u32) -> Self {
        let whole = |time: Duration| {
            let begun = u64::from(time.subsec_nanos() > 0);
            time.as_secs().saturating_add(begun)
        };
        Self {
            seconds: whole(period),
            real_servers_seconds: whole(period.saturating_mul(passes)),
        }
    }
}

/// How much of ours the kernel holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Virtual servers on record.
    pub virtual_servers: usize,
    /// Their real servers.
    pub real_servers: usize,
    /// Those of them that drain; not known without a daemon.
    pub draining: Option<usize>,
    /// Addresses of Services, bound on our link.
    pub vips: usize,
    /// Fronts that our table says something of.
    pub rows: usize,
}

/// A round that did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRound {
    /// `start`, `change`, `audit`.
    pub trigger: String,
    /// Since its end.
    pub seconds_ago: u64,
    /// From its begin to its end.
    pub took_ms: u64,
    /// `real server +2 -1, vip +1`; empty when nothing was to be done.
    pub changes: String,
    /// Nothing failed that is not one Service's.
    pub complete: bool,
}

/// Something that the kernel refuses, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedThere {
    /// `virtual server 10.96.0.10:80/TCP`.
    pub what: String,
    /// `namespace/name`, where it is one's.
    pub service: Option<String>,
    /// Operation, object, errno and remedy.
    pub error: String,
}
