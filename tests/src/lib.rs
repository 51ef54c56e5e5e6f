//! Harness for the kernel, traffic and daemon tests.
//!
//! A test brings its own network: [`Namespace::enter`] puts the test's thread
//! into a fresh one, [`Namespace::child`] makes more of them, and [`Topology`]
//! lays out a small cluster. [`Server`] and [`Client`] make traffic, [`Verdict`]
//! says how it went, [`Daemon`] is the real program. All is taken down on drop.
//!
//! Run the tests with `cargo xtask kernel-test`: they need root and IPVS.

pub mod apiserver;
pub mod client;
pub mod command;
pub mod daemon;
pub mod figures;
pub mod kube_proxy;
pub mod memory;
pub mod netns;
pub mod protocol;
pub mod seed;
pub mod server;
pub mod topology;
pub mod wait;
pub mod ways;

pub use client::{Client, Connection, Verdict};
pub use command::{output_of, require_ipvs, run, run_with_input};
pub use daemon::{Daemon, kube_ipvs};
pub use kube_proxy::KubeProxy;
pub use memory::memory_kib;
pub use netns::{Entered, Inside, Namespace};
pub use protocol::Protocol;
pub use seed::chance;
pub use server::Server;
pub use topology::{Node, Outside, Pod, Small, Topology};
pub use wait::{wait_for, wait_until};
