//! Binds virtual IP addresses (VIPs) to a dummy link and watches the host's
//! addresses, over rtnetlink.
//!
//! [`Binder`] is plain synchronous code on one socket, to be used from one
//! thread: requests go out in batches, with one acknowledgement for many. Its
//! socket keeps the network namespace of the thread that made it. [`watch`] is
//! asynchronous, since it waits.
//!
//! ```no_run
//! use kube_ipvs_vip::{Binder, Binding};
//!
//! # fn main() -> Result<(), kube_ipvs_vip::Error> {
//! let mut binder = Binder::new("kube-ipvs0", Binding::Address)?;
//! binder.ensure_link()?;
//! for (vip, error) in binder.bind(&["10.96.0.10".parse().expect("an address")])? {
//!     eprintln!("{vip}: {error}");
//! }
//! println!("{:?}", binder.bound()?);
//! # Ok(())
//! # }
//! ```

mod binder;
mod error;
mod host;
mod link;
mod listed;
mod message;
mod socket;
mod watch;

pub use binder::{Binder, Binding, ROUTE_METRIC, ROUTE_PROTOCOL};
pub use error::Error;
pub use host::HostAddress;
pub use link::Ensured;
pub use watch::{Notice, Watch, watch};

/// What the calls of this crate give.
pub type Result<T> = std::result::Result<T, Error>;
