//! Synchronous netlink: a request and its answers, nothing in between.
//!
//! * [`Connection::ask`] for one request; [`Connection::dump`] and
//!   [`Connection::list`] for a table, which comes whole or as an error;
//!   [`Connection::batch`] for many requests in few sends, with one
//!   acknowledgement each; [`Connection::transaction`] for nf_tables, where all
//!   of them are carried out or none.
//! * A [`Request`] writes itself with a [`Writer`]. What the payload is does not
//!   matter: messages of the netlink-packet crates go as they are
//!   ([`Writer::message`]), others attribute by attribute.
//! * [`attributes::read`] reads attributes, in one pass and without allocation.
//! * A [`Refusal`] has the errno, the kernel's own words, and the attribute
//!   that it objects to.
//!
//! # Who is heard
//!
//! The kernel alone. Answers to an exchange that was given up are not taken for
//! answers to the next one, and an answer to something never asked is an error.
//!
//! # Namespaces
//!
//! A socket belongs to the network namespace of the thread that opened it, for
//! good, whichever thread uses it.
//!
//! ```no_run
//! use netlink_exchange::{Connection, Request, Writer, attributes, protocols};
//!
//! const RTM_GETLINK: u16 = 18;
//! const IFLA_IFNAME: u16 = 3;
//!
//! struct ListLinks;
//!
//! impl Request for ListLinks {
//!     fn message_type(&self) -> u16 {
//!         RTM_GETLINK
//!     }
//!     fn write(&self, out: &mut Writer<'_>) {
//!         out.header(&[0; 16]); // struct ifinfomsg
//!     }
//! }
//!
//! # fn main() -> Result<(), netlink_exchange::Error> {
//! let mut connection = Connection::open(protocols::NETLINK_ROUTE)?;
//! let names = connection.list(&ListLinks, 5, |link| {
//!     let name = attributes::find(link.after(16)?, IFLA_IFNAME)?;
//!     Ok(name.map(|name| attributes::name(name.value())))
//! })?;
//! println!("{names:?}");
//! # Ok(())
//! # }
//! ```

pub mod attributes;
mod connection;
mod error;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod hear;
mod message;
pub mod nfnetlink;
mod outgoing;
mod refusal;
#[cfg(test)]
mod tests;
mod transport;
mod writer;

pub use connection::Connection;
pub use error::{Direction, Error};
pub use message::Content;
pub use netlink_packet_core::DecodeError;
pub use netlink_sys::protocols;
pub use nfnetlink::Transaction;
pub use nix::errno::Errno;
pub use outgoing::Request;
pub use refusal::{Place, Refusal};
pub use transport::{KernelSocket, Received, Transport};
pub use writer::Writer;
