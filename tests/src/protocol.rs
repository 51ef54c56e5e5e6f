//! TCP, UDP and SCTP by one code path.

use std::fmt;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

const SCTP: i32 = 132;

/// A protocol a Service may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP, one association a socket.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    pub(crate) fn socket(self, family_of: SocketAddr) -> Socket {
        let (kind, protocol) = match self {
            Self::Tcp => (Type::STREAM, socket2::Protocol::TCP),
            Self::Udp => (Type::DGRAM, socket2::Protocol::UDP),
            Self::Sctp => (Type::STREAM, socket2::Protocol::from(SCTP)),
        };
        let socket = Socket::new(Domain::for_address(family_of), kind, Some(protocol));
        socket.unwrap_or_else(|error| panic!("make a {self} socket: {error}"))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}
