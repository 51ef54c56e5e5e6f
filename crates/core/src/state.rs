//! What the kernel should hold, or was seen to hold: one type for both.
//!
//! Everything stands in ordered maps, so equal input gives equal output and a
//! diff is a comparison.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::row::Row;
use crate::scheduler::Scheduler;
use crate::table::Table;

/// An IP family. Each has a table of its own in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// Prefix length of a single address: 32 or 128.
    pub fn host_prefix(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    /// `IPv4`, `IPv6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A transport protocol that IPVS balances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP, IP protocol 6.
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
    /// SCTP, IP protocol 132.
    Sctp,
}

impl Protocol {
    /// The number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The name Kubernetes and `ipvsadm` print: `TCP`, `UDP`, `SCTP`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An address, port and protocol: where traffic arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Front {
    /// The VIP or node address.
    pub address: IpAddr,
    /// Port, host order.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

impl fmt::Display for Front {
    /// `10.96.0.10:53/UDP`, `[fd00::a]:53/UDP`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = core::net::SocketAddr::new(self.address, self.port);
        write!(f, "{socket}/{}", self.protocol)
    }
}

/// What identifies a virtual server in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VirtualServerKey {
    /// By address, port and protocol (`ipvsadm -t/-u/--sctp-service`).
    Front(Front),
    /// By firewall mark (`ipvsadm -f MARK [-6]`). Used where the traffic of one
    /// front must be told apart (`externalTrafficPolicy: Local` from inside), or
    /// that of many fronts goes together (NodePorts of many addresses).
    Mark {
        /// The mark, host order, never 0.
        mark: u32,
        /// Family of the packets.
        family: Family,
    },
}

impl VirtualServerKey {
    /// The family of the packets it takes.
    pub fn family(&self) -> Family {
        match self {
            Self::Front(front) => Family::of(front.address),
            Self::Mark { family, .. } => *family,
        }
    }

    /// The front, where it is one's and not a mark's.
    pub fn front(&self) -> Option<Front> {
        match self {
            Self::Front(front) => Some(*front),
            Self::Mark { .. } => None,
        }
    }
}

impl fmt::Display for VirtualServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Front(front) => front.fmt(f),
            Self::Mark {
                mark,
                family: Family::V4,
            } => write!(f, "FWM {mark}"),
            Self::Mark {
                mark,
                family: Family::V6,
            } => write!(f, "FWM {mark} IPv6"),
        }
    }
}

/// Flags of a virtual server, by meaning rather than by kernel bit.
///
/// The three scheduler bits mean other things to other schedulers; which ones
/// are set is decided by `scheduler` together with these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flags {
    /// `-o`, one-packet scheduling (UDP).
    pub one_packet: bool,
    /// `-b sh-fallback` or `mh-fallback`: another real server if the hashed one is out.
    pub fallback: bool,
    /// `-b sh-port` or `mh-port`: the source port is hashed too.
    pub port: bool,
}

impl Flags {
    /// The words `ipvsadm` and `compile -o json` use, for this scheduler:
    /// `one-packet`, `sh-fallback`, `mh-port`, ... Empty when none is set.
    pub fn words(&self, scheduler: &str) -> Vec<&'static str> {
        let pair = match scheduler {
            "sh" => ["sh-fallback", "sh-port"],
            "mh" => ["mh-fallback", "mh-port"],
            _ => ["flag-1", "flag-2"],
        };
        let all = [
            (self.one_packet, "one-packet"),
            (self.fallback, pair[0]),
            (self.port, pair[1]),
        ];
        all.iter().filter(|(on, _)| *on).map(|x| x.1).collect()
    }
}

/// A virtual server: what the kernel calls a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualServer {
    /// Name of the kernel's scheduler: `rr`, `mh`, ...
    pub scheduler: Scheduler,
    /// Flags besides persistence.
    pub flags: Flags,
    /// Persistence: time-out and netmask; none is off.
    pub persistence: Option<Persistence>,
    /// Real servers by address and port.
    pub real_servers: BTreeMap<RealServerKey, RealServer>,
}

impl VirtualServer {
    /// Whether all but the real servers is the same.
    pub fn has_settings_of(&self, other: &Self) -> bool {
        (&self.scheduler, self.flags, self.persistence)
            == (&other.scheduler, other.flags, other.persistence)
    }

    /// Whether it is the client's or its own address that says which real server
    /// a connection gets, out of their list.
    pub fn hashes(&self) -> bool {
        matches!(&*self.scheduler, "mh" | "sh" | "dh")
    }
}

/// Session affinity, as the kernel has it (`ipvsadm -p TIMEOUT -M NETMASK`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Persistence {
    /// Seconds, never 0.
    pub timeout: u32,
    /// Prefix length by which clients are grouped: 32 or 128 is one client.
    pub prefix: u8,
}

/// What identifies a real server in its virtual server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RealServerKey {
    /// Address of the endpoint.
    pub address: IpAddr,
    /// Port of the endpoint, host order.
    pub port: u16,
}

impl fmt::Display for RealServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::net::SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// A real server: what the kernel calls a destination. Always masqueraded (NAT).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RealServer {
    /// Share of new connections; 0 drains.
    pub weight: u32,
    /// Connections at which no more are given, 0 for no limit.
    pub upper_threshold: u32,
    /// Connections below which they are given again, 0 for three quarters of the upper.
    pub lower_threshold: u32,
}

impl fmt::Display for RealServer {
    /// `weight 1`, `weight 1 upper 100 lower 50`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weight {}", self.weight)?;
        if self.upper_threshold != 0 {
            write!(f, " upper {}", self.upper_threshold)?;
        }
        if self.lower_threshold != 0 {
            write!(f, " lower {}", self.lower_threshold)?;
        }
        Ok(())
    }
}

/// What the kernel should hold, or was seen to hold.
///
/// Virtual servers and the networks of rows are shared between states, so that
/// to be equal is to be the same, mostly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelState {
    /// Virtual servers with their real servers.
    pub virtual_servers: BTreeMap<VirtualServerKey, Arc<VirtualServer>>,
    /// Addresses bound to our link.
    pub vips: BTreeSet<IpAddr>,
    /// What becomes of each front, and what else is said of packets.
    pub table: Table,
}

impl KernelState {
    /// The row of a front, if there is one.
    pub fn row(&self, front: &Front) -> Option<&Row> {
        self.table.rows.get(front)
    }
}
