//! The `kube-ipvs` program: sources, sync loop, the Linux dataplane, inspect
//! and its sister commands, health and metrics.
//!
//! A library only so that tests can reach its parts; the interface is the
//! command line.

pub mod adopt;
pub mod check;
pub mod cleanup;
pub mod cli;
pub mod config;
pub mod dataplane;
pub mod events;
pub mod explain;
pub mod health;
pub mod initialise;
pub mod inspect;
pub mod metrics;
pub mod run;
pub mod source;
pub mod sync;
