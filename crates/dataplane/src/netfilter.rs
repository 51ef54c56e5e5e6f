//! Netfilter over netlink. What the messages mean is said by
//! [`crate::conntrack`] and [`crate::linux`].

use netlink_exchange::protocols::NETLINK_NETFILTER;
use netlink_exchange::{Connection, Errno, Error as Exchange, Writer};

/// Why the kernel's netfilter did not give what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {source}{}", hint(.source))]
pub struct Error {
    /// What was asked for.
    operation: &'static str,
    /// Why not.
    source: Exchange,
}

impl Error {
    /// What is said of a failure while doing `operation`.
    pub(crate) fn of(operation: &'static str) -> impl Fn(Exchange) -> Self {
        move |source| Self { operation, source }
    }
}

fn hint(source: &Exchange) -> &'static str {
    match (source, source.errno()) {
        (Exchange::Open { .. }, _) => "; is nf_conntrack_netlink available?",
        (_, Some(Errno::EPERM | Errno::EACCES)) => "; CAP_NET_ADMIN is needed",
        (_, Some(Errno::EINVAL | Errno::EOPNOTSUPP)) => {
            "; are the modules nf_conntrack_netlink and nf_tables available?"
        }
        _ => "",
    }
}

/// A connection in the network namespace of the calling thread.
pub(crate) fn open() -> Result<Connection, Error> {
    Connection::open(NETLINK_NETFILTER).map_err(Error::of("open netfilter socket"))
}

/// A request by its type, and what follows the netlink header.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) message_type: u16,
    pub(crate) body: Vec<u8>,
}

impl netlink_exchange::Request for Request {
    fn message_type(&self) -> u16 {
        self.message_type
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.header(&self.body);
    }
}
