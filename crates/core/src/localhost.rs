//! NodePorts on this host's loopback addresses. IPVS refuses to cross from the
//! loopback network, so a program listens there; this says on which ports, and
//! where a connection goes.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::names::ServicePortName;
use crate::regarding::Uid;
use crate::state::Family;

/// A TCP port to listen on, and where a new connection may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalhostPort {
    /// Whose NodePort it is.
    pub service: ServicePortName,
    /// The uid of that Service.
    pub uid: Option<Uid>,
    /// Endpoints that take new connections, in the order of address and port;
    /// never empty, since a port without one is not listened on.
    pub endpoints: Box<[SocketAddr]>,
    /// Session affinity: seconds after a connection in which the next one goes
    /// to the same endpoint.
    pub affinity: Option<u32>,
}

/// By the socket to listen on: `127.0.0.1:30080`, `[::1]:30080`. One that does
/// not change stays the same pointer.
pub type LocalhostPorts = BTreeMap<SocketAddr, Arc<LocalhostPort>>;

/// `127.0.0.1`, `::1`.
pub(crate) fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}
