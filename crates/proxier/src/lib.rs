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
mod answers;
mod check;
pub mod cleanup;
pub mod cli;
mod compile;
pub mod config;
pub mod events;
mod explain;
pub mod health;
mod help;
mod initialise;
pub mod inspect;
mod localhost;
pub mod metrics;
mod pace;
pub mod panics;
pub mod plugin;
pub mod pods;
pub mod run;
mod status;
mod streams;
pub mod sync;
mod tool;
pub mod top;
mod usage;
