//! A client for the kernel's IP Virtual Server (IPVS) over netlink.
//!
//! Synchronous, without `unsafe` and without other programs: what `ipvsadm`
//! does, as a library. All commands and attributes of `linux/ip_vs.h` are here;
//! what a newer kernel says beyond them is kept.
//!
//! * [`Client`] has a method for each command, and [`Client::apply`] for many
//!   requests in few round trips.
//! * [`ServiceId`] and [`DestinationId`] identify; [`Service`] and
//!   [`Destination`] add the settings, and what the kernel counts.
//! * [`Error`] says what was asked, why it failed, and what to do about it.
//!
//! # Byte order
//!
//! Everything in this crate's types is in host order. On the wire ports and
//! addresses, IPv4 netmasks among them, are in network order; firewall marks,
//! time-outs, flags, weights, IPv6 prefix lengths, protocols and families, and
//! the port of a sync daemon, are in the machine's.
//!
//! # Needs
//!
//! `CAP_NET_ADMIN` in the network namespace, for reading too. `ip_vs` and the
//! schedulers are loaded by the kernel when it is asked for them.

mod batch;
mod client;
mod constants;
mod daemon;
mod destination;
mod error;
mod family;
mod flags;
mod forwarding;
mod generic;
mod netmask;
mod operation;
mod protocol;
mod query;
mod request;
mod scheduler;
mod service;
mod settings;
mod stats;
#[cfg(test)]
mod tests;
mod tunnel;
mod wire;

pub use client::Client;
pub use daemon::{Daemon, DaemonState};
pub use destination::{Destination, DestinationId, DestinationSettings};
pub use error::Error;
pub use family::Family;
pub use flags::ServiceFlags;
pub use forwarding::ForwardingMethod;
pub use netlink_packet_core::{DecodeError, DefaultNla};
pub use netmask::Netmask;
pub use nix::errno::Errno;
pub use operation::Operation;
pub use protocol::Protocol;
pub use request::{Batch, Request};
pub use scheduler::Scheduler;
pub use service::{Service, ServiceId, ServiceSettings};
pub use settings::{Info, Timeouts, Version};
pub use stats::Stats;
pub use tunnel::{Tunnel, TunnelFlags, TunnelKind};
