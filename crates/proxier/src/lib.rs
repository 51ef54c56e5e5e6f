//! The `kube-ipvs` program: sources, sync loop, the Linux dataplane, inspect
//! and its sister commands, health and metrics.
//!
//! A library only so that tests can reach its parts; the interface is the
//! command line.

#![cfg_attr(
    not(test),
    deny(
        clippy::print_stdout,
        clippy::print_stderr,
        reason = "they panic when the stream is closed or full: write by `streams`"
    )
)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests have servers and threads of their own"
    )
)]

pub mod adopt;
pub mod answers;
pub mod check;
pub mod cleanup;
pub mod cli;
mod compile;
pub mod config;
pub mod events;
pub mod explain;
pub mod health;
pub mod initialise;
pub mod inspect;
pub mod localhost;
pub mod metrics;
pub mod panics;
pub mod plugin;
pub mod run;
pub mod status;
mod streams;
pub mod sync;
pub mod tool;
pub mod top;
pub mod usage;
