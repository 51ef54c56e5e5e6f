//! Kubernetes objects in, desired kernel state and plans out.
//!
//! This crate is pure: no clock, files, environment, sockets or async; being
//! `no_std`, it has none to reach for. What it decides, the `kube-ipvs` program
//! carries out over crates that know the kernel and that this one does not know.
//!
//! A change walks [`event`] → [`cluster`] → [`diff`](mod@diff) → [`plan`].

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod climb;
pub mod cluster;
mod compile;
pub mod diff;
pub mod drain;
mod due;
mod endpoint_address;
pub mod escape;
pub mod event;
#[cfg(test)]
mod fixtures;
pub mod k8s;
pub mod listing;
pub mod localhost;
mod metadata_texts;
pub mod model;
pub mod names;
mod object;
pub mod options;
mod order;
pub mod output;
pub mod plan;
pub mod read;
pub mod refused;
pub mod regarding;
pub mod row;
pub mod scheduler;
mod services;
mod slices;
pub mod state;
pub mod table;
pub mod text;
pub mod unknown;
mod warnings;

pub use cluster::{
    Account, Cluster, EndpointCounts, FrontAccount, HealthCheck, PortAccount, Unserved,
};
pub use compile::{TrafficPolicy, Withheld};
pub use diff::{Owned, Terms, Touched, diff, diff_touched};
pub use drain::{Drain, Load};
pub use event::{Event, HostAddress, Kind, Listener, ObjectRef};
pub use localhost::{LocalhostPort, LocalhostPorts};
pub use names::{ServiceName, ServicePortName, Warning};
pub use object::{DecodeError, Object};
pub use options::{NodePortAddresses, NodePortServers, Options};
pub use output::Output;
pub use plan::{Op, Plan, ServerSettings};
pub use refused::{Change, Refused};
pub use regarding::{Reference, Regarding, Uid};
pub use row::{Masquerade, Row, Verdict};
pub use scheduler::Scheduler;
pub use services::{FrontKind, annotation_words, annotations_of};
pub use state::KernelState;
pub use table::{Edit, Table};
pub use unknown::Unknown;

/// A stable number for a name (64-bit FNV-1a), the same in every build.
pub fn seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
