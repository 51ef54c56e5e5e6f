//! What sources tell the cluster.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::escape::Escaped;
use crate::k8s::Object;
use crate::regarding::Reference;
use crate::state::Protocol;

/// The kinds of objects the cluster takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// `v1` Service.
    Service,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `networking.k8s.io/v1` ServiceCIDR.
    #[serde(rename = "ServiceCIDR")]
    ServiceCidr,
    /// `v1` Node.
    Node,
}

impl Kind {
    /// As in `kind:` of a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::ServiceCidr => "ServiceCIDR",
            Self::Node => "Node",
        }
    }
}

impl fmt::Display for Kind {
    /// Its name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which object is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for Nodes and ServiceCIDRs.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    /// `Service default/web`, `Node node-1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, Escaped(&self.name)),
            namespace => {
                let (namespace, name) = (Escaped(namespace), Escaped(&self.name));
                write!(f, "{} {namespace}/{name}", self.kind)
            }
        }
    }
}

/// An address of this host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostAddress {
    /// The address.
    pub address: IpAddr,
    /// Length of its network prefix.
    pub prefix: u8,
    /// Name of the link it is on.
    pub link: String,
}

/// A socket of this host that takes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listener {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The unspecified address for all; that of IPv6 for both families.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

/// One thing a source saw.
///
/// A full list is bracketed by `ListStarted` and `ListCompleted`: objects of
/// that kind that were neither upserted nor unreadable in between are gone.
/// Without the second nothing is removed.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An object is there, new or changed.
    Upsert(Object),
    /// An object is there, but cannot be decoded: what it was when it last could
    /// stays in force.
    Unreadable(Reference),
    /// An object is gone.
    Delete(ObjectRef),
    /// A full list of a kind begins.
    ListStarted(Kind),
    /// It was complete.
    ListCompleted(Kind),
    /// It ended, but not all of it could be read: what was named may be served,
    /// nothing is gone, and whatever the kernel holds besides stays.
    ListIncomplete(Kind),
    /// All addresses of this host, ours on the dummy link left out.
    HostAddresses(Vec<HostAddress>),
    /// Default gateways of this host: they never become VIPs here.
    Gateways(BTreeSet<IpAddr>),
    /// Health-check node ports that could not be opened here, on one address or
    /// on all: the guard does not let them pass, since behind it would be
    /// whoever has the port instead.
    UnopenedHealthPorts(BTreeSet<u16>),
    /// Sockets that take calls on one of [`Cluster::host_ports`](crate::Cluster::host_ports).
    /// A ClusterIP's front that one has for itself is left to it.
    Listeners(BTreeSet<Listener>),
    /// Addresses of other Nodes and API server endpoints: they do not become
    /// VIPs here, but for a ClusterIP, which nobody's object can take away.
    Protected(BTreeSet<IpAddr>),
    /// Schedulers that this node's kernel lacks, of those that Services name.
    MissingSchedulers(BTreeSet<String>),
    /// Addresses that Services claim and nobody could hold against those of other
    /// Nodes: they do not become VIPs here until somebody has.
    Unchecked(BTreeSet<IpAddr>),
}
