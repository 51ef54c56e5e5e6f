//! The one nftables table of kube-ipvs: model, commands, apply, read back.
//!
//! IPVS picks an endpoint; this table does the rest: it guards the VIPs,
//! refuses fronts without endpoints, filters by source, marks and masquerades.
//! Chains and rules are fixed ([`Config`] decides them once); everything that
//! changes is an element of a named set or map ([`Set`], [`Elements`]).
//!
//! * [`render_table`], [`render_change`] and [`render_delete`] are pure: model
//!   in, [`Commands`] for the kernel out.
//! * [`Nft`] talks nf_tables netlink: it carries commands out, reads the table
//!   back as [`Observed`], reports foreign chains that drop what we serve. No
//!   program is run. What `nft` itself writes to name types is written as well,
//!   so that `nft list table ip kube-ipvs` shows the table as it is meant.
//!
//! ```
//! use kube_ipvs_nft::{Config, Elements, Family, Set, render_table};
//!
//! let mut elements = Elements::new();
//! elements.entry(Set::Vips).or_default().insert("10.96.0.10".into());
//! elements.entry(Set::Served).or_default().insert("10.96.0.10 . udp . 53".into());
//! let commands = render_table(&Config::new(Family::Ip), &elements)?.to_string();
//! assert!(commands.contains("add element ip kube-ipvs vips 0a60000a"));
//! # Ok::<(), kube_ipvs_nft::Invalid>(())
//! ```
//!
//! # How a packet walks
//!
//! IPVS takes packets at the hook `input` (priority 98 and 99) and packets of
//! this host at `output` (-99 and -98). What it forwards it sends through
//! `output` a second time, translated, and then through `postrouting`.
//!
//! | chain | hook, priority | does |
//! | --- | --- | --- |
//! | `input` | input, -1 | front to the chain of its class; guard of the VIPs |
//! | `before-ipvs` | input, 50 | marks for IPVS, only while a front has one |
//! | `output` | output, -150 | as `input`, and marks, for this host; second pass: takes our mark off |
//! | `postrouting` | nat postrouting, 99 | masquerades; drops what no Service has |
//!
//! Some configurations need more: `forward` (-1) and `output-last` (0) refuse what
//! no Service has, with [`Unallocated::Reject`]; `forward` and `clear-marks`
//! (postrouting, 101) mark answers and unmark, with [`Config::accept_bit`].
//!
//! Decisions that are not obvious:
//!
//! * A front has one element: in `fronts`, which says the chain of its [`Class`],
//!   or in the set of that name if it is [of most](Class::USUAL). For the kernel
//!   goes through all of `fronts` when a front comes into it.
//! * Established TCP and SCTP pass first: a changed source range or a front
//!   that lost its endpoints refuses new connections only. UDP has no
//!   connection worth the name, so each datagram is judged.
//! * Replies pass first (`ct direction reply`): they are answers to what this
//!   host, or somebody behind it, asked.
//! * The bit that asks for masquerading is on the first packet of a flow only. That
//!   always comes to `postrouting`, which takes it off before a tunnel can copy it.
//! * `inside` is a packet of a local pod ([`LocalPods`]) or of this host. With
//!   [`LocalPods::None`] only the host is inside, and
//!   [`Masquerading::OffCluster`] does nothing beyond the rule for VIPs as source.
//! * A mark of ours takes the place of the masquerade bit, since IPVS
//!   compares marks whole. The mark of a node port may contain it; behind IPVS
//!   what this host sent to a node address gets it too.
//! * In address binding the host's own packets carry the VIP as source when
//!   source ranges are checked: who allows a node address must also allow the
//!   VIP itself for that front.
//! * Packets that conntrack calls INVALID are not dropped. IPVS translates
//!   replies by its own table, so they do not leak untranslated as they do
//!   behind DNAT, and dropping them harms asymmetric routes.
//! * An `accept` in this table cannot override a `drop` in another one: see
//!   [`ForeignChain`].

mod class;
mod commands;
mod config;
mod earlier;
mod element;
mod error;
mod fixed;
mod foreign;
mod generation;
mod nft;
mod observe;
mod packed;
mod phrase;
mod redirect;
mod remains;
mod render;
mod set;
mod told;
mod wire;

pub use class::{Class, Fate, Masquerading};
pub use commands::Commands;
pub use config::{
    Config, DEFAULT_ACCEPT_BIT, DEFAULT_MASQUERADE_BIT, Family, LocalPods, Unallocated,
};
pub use element::{Invalid, aggregate, check};
pub use error::NftError;
pub use foreign::{ForeignChain, Hook, Reason, SomeDropped, render_foreign_accept};
pub use nft::{NamedChain, Nft};
pub use observe::Observed;
pub use redirect::SomeRedirected;
pub use remains::Remains;
pub use render::{TableChange, render_change, render_delete, render_table};
pub use set::{Elements, Set};

/// Reads a message of nf_tables whatever it is: never to panic.
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub fn decode(message_type: u16, payload: &[u8]) {
    wire::decode(message_type, payload);
}

/// Name of our table, in both families.
pub const TABLE: &str = "kube-ipvs";
