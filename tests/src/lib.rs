//! Harness for the kernel, traffic and daemon tests.
//!
//! A test brings its own network: [`Namespace::enter`] puts the test's thread
//! into a fresh one, [`Namespace::child`] makes more of them (pods, clients).
//! Everything is taken down on drop.
//!
//! Run the tests with `cargo xtask kernel-test`: they need root and IPVS.

pub mod apiserver;
pub mod command;
pub mod netns;
pub mod wait;

pub use command::{output_of, require_ipvs, run, run_with_input};
pub use netns::{Entered, Namespace};
pub use wait::wait_until;
