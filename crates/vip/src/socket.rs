//! What is asked of rtnetlink: batches with a single acknowledgement, and lists
//! that are whole or an error.

use netlink_exchange::protocols::NETLINK_ROUTE;
use netlink_exchange::{Connection, Content, DecodeError, Writer};
use netlink_packet_route::RouteNetlinkMessage;

use crate::{Error, Result};

/// How often a dump is tried that changes under our eyes.
const DUMP_TRIES: u32 = 5;

/// A request with its flags, `NLM_F_REQUEST` and `NLM_F_ACK` excepted.
pub(crate) struct Request {
    pub(crate) message: RouteNetlinkMessage,
    pub(crate) flags: u16,
}

impl netlink_exchange::Request for Request {
    fn message_type(&self) -> u16 {
        self.message.message_type()
    }

    fn flags(&self) -> u16 {
        self.flags
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.message(&self.message);
    }
}

/// A question, which needs no flags.
impl From<RouteNetlinkMessage> for Request {
    fn from(message: RouteNetlinkMessage) -> Self {
        Self { message, flags: 0 }
    }
}

/// A request of a batch that was refused, by its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) index: usize,
    pub(crate) reason: netlink_exchange::Refusal,
}

pub(crate) struct RouteSocket(Connection);

impl RouteSocket {
    /// A socket in the network namespace of the calling thread.
    pub(crate) fn open() -> Result<Self> {
        Connection::open(NETLINK_ROUTE)
            .map(Self)
            .map_err(|error| Error::of("open rtnetlink socket", error))
    }

    /// How many times something was sent.
    pub(crate) fn sends(&self) -> u64 {
        self.0.sends()
    }

    /// Sends all requests in few sends and tells which were refused.
    pub(crate) fn batch(&mut self, operation: &str, requests: &[Request]) -> Result<Vec<Refusal>> {
        let failed = self
            .0
            .batch(requests)
            .map_err(|error| Error::of(operation, error))?;
        let refusal = |(index, error)| match error {
            netlink_exchange::Error::Refused(reason) => Ok(Refusal { index, reason }),
            error => Err(Error::of(operation, error)),
        };
        failed.into_iter().map(refusal).collect()
    }

    /// One request that the kernel answers with at most one message, which
    /// `parse` turns into a value.
    pub(crate) fn get<T>(
        &mut self,
        operation: &str,
        message: RouteNetlinkMessage,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>> {
        let mut value = None;
        let asked = self.0.ask(Request::from(message), |content| {
            value = Some(parse(content.payload).ok_or("a short message")?);
            Ok(())
        });
        asked
            .map(|()| value)
            .map_err(|error| Error::of(operation, error))
    }

    /// Lists a table: what `keep` makes of each message. A table that changed
    /// meanwhile is listed again; the answer is whole or an error.
    pub(crate) fn dump<T>(
        &mut self,
        operation: &str,
        message: RouteNetlinkMessage,
        keep: impl FnMut(Content<'_>) -> std::result::Result<Option<T>, DecodeError>,
    ) -> Result<Vec<T>> {
        self.0
            .list(Request::from(message), DUMP_TRIES, keep)
            .map_err(|error| match error {
                netlink_exchange::Error::Interrupted => Error::Interrupted {
                    operation: operation.into(),
                    tries: DUMP_TRIES,
                },
                error => Error::of(operation, error),
            })
    }
}

#[cfg(test)]
mod tests;
