//! What the kernel should hold, or was seen to hold: one type for both.
//!
//! Everything stands in ordered maps, so equal input gives equal output and a
//! diff is a comparison.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

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

    /// Prefix length of a single address: 32 or 128.
    pub fn host_prefix(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
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

    /// The name nftables prints: `tcp`, `udp`, `sctp`.
    pub fn nft_name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An address, port and protocol: where traffic arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
        let socket = std::net::SocketAddr::new(self.address, self.port);
        write!(f, "{socket}/{}", self.protocol)
    }
}

/// Neighbouring ports of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// The VIP or node address.
    pub address: IpAddr,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The first port, host order.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

impl Ports {
    /// Whether a front is one of them.
    pub fn contains(&self, front: &Front) -> bool {
        (self.address, self.protocol) == (front.address, front.protocol)
            && (self.first..=self.last).contains(&front.port)
    }

    /// The first of them.
    pub fn front(&self) -> Front {
        Front {
            address: self.address,
            port: self.first,
            protocol: self.protocol,
        }
    }

    /// Whether a front may be in both.
    pub fn meets(&self, other: &Self) -> bool {
        (self.address, self.protocol) == (other.address, other.protocol)
            && self.first <= other.last
            && other.first <= self.last
    }
}

impl From<Front> for Ports {
    fn from(front: Front) -> Self {
        Self {
            address: front.address,
            protocol: front.protocol,
            first: front.port,
            last: front.port,
        }
    }
}

impl fmt::Display for Ports {
    /// As `nft` writes it: `10.96.0.10 . tcp . 80`, `10.96.0.10 . tcp . 80-90`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} . {} . {}",
            self.address,
            self.protocol.nft_name(),
            self.first
        )?;
        if self.first < self.last {
            write!(f, "-{}", self.last)?;
        }
        Ok(())
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
    pub scheduler: String,
    /// Flags besides persistence.
    pub flags: Flags,
    /// Persistence: time-out and netmask; none is off.
    pub persistence: Option<Persistence>,
    /// Real servers by address and port.
    pub real_servers: BTreeMap<RealServerKey, RealServer>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RealServerKey {
    /// Address of the endpoint.
    pub address: IpAddr,
    /// Port of the endpoint, host order.
    pub port: u16,
}

impl fmt::Display for RealServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::net::SocketAddr::new(self.address, self.port).fmt(f)
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

/// Sets and maps of our nftables table. The chains that read them are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NftSet {
    /// Addresses on our link: the guard refuses what is not in `ServicePorts`.
    Vips,
    /// Fronts that are served, health-check ports on VIPs among them.
    ServicePorts,
    /// Fronts without any endpoint: refused at once with RST or ICMP.
    Reject,
    /// Fronts dropped for traffic from outside (`Local`, no local endpoint).
    DropOutside,
    /// Fronts whose traffic is always masqueraded.
    Masquerade,
    /// Fronts whose traffic is masqueraded unless a local pod sent it.
    MasqueradeOffCluster,
    /// Map from front to mark, for traffic from inside (pods and the host).
    InsideMarks,
    /// Map from front to mark, for all traffic: the NodePorts of many addresses.
    NodePortMarks,
    /// Endpoints on this node: hairpin traffic is masqueraded.
    Hairpin,
    /// Fronts that only some sources may use.
    Restricted,
    /// The sources that may: ports and network. What lies between two ports of
    /// such is not asked for, unless it is restricted.
    AllowedSources,
    /// Networks of ClusterIPs: what is in them and no Service's leads nowhere.
    ServiceCidrs,
}

impl NftSet {
    /// All of them, in the order they are written.
    pub const ALL: [Self; 12] = [
        Self::Vips,
        Self::ServicePorts,
        Self::Reject,
        Self::DropOutside,
        Self::Masquerade,
        Self::MasqueradeOffCluster,
        Self::InsideMarks,
        Self::NodePortMarks,
        Self::Hairpin,
        Self::Restricted,
        Self::AllowedSources,
        Self::ServiceCidrs,
    ];

    /// The maps from front to mark, in the order in which the table asks them.
    pub const MARKS: [Self; 2] = [Self::InsideMarks, Self::NodePortMarks];

    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vips => "vips",
            Self::ServicePorts => "service-ports",
            Self::Reject => "reject",
            Self::DropOutside => "drop-outside",
            Self::Masquerade => "masquerade",
            Self::MasqueradeOffCluster => "masquerade-off-cluster",
            Self::InsideMarks => "inside-marks",
            Self::NodePortMarks => "node-port-marks",
            Self::Hairpin => "hairpin",
            Self::Restricted => "restricted",
            Self::AllowedSources => "allowed-sources",
            Self::ServiceCidrs => "service-cidrs",
        }
    }
}

/// One element of a set or map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NftElement {
    /// `Vips`, `Hairpin`: an address.
    Address(IpAddr),
    /// Most sets: a front.
    Front(Front),
    /// [`NftSet::MARKS`]: a front and its mark.
    Mark(Front, u32),
    /// `AllowedSources`: ports and a network, host bits zero.
    Source(Ports, IpNet),
    /// `ServiceCidrs`: a network, host bits zero.
    Network(IpNet),
}

impl NftElement {
    /// The family whose table it belongs to.
    pub fn family(&self) -> Family {
        match self {
            Self::Address(address) => Family::of(*address),
            Self::Front(front) | Self::Mark(front, _) => Family::of(front.address),
            Self::Source(ports, _) => Family::of(ports.address),
            Self::Network(net) => Family::of(net.addr()),
        }
    }
}

impl fmt::Display for NftElement {
    /// As `nft` writes it: `10.96.0.10 . udp . 53`, `... : 0x00000123`, `... . 192.0.2.0/24`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let front = |f: &mut fmt::Formatter<'_>, x: &Front| {
            write!(f, "{} . {} . {}", x.address, x.protocol.nft_name(), x.port)
        };
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Front(x) => front(f, x),
            Self::Mark(x, mark) => {
                front(f, x)?;
                write!(f, " : {mark:#010x}")
            }
            Self::Source(ports, net) => write!(f, "{ports} . {net}"),
            Self::Network(net) => net.fmt(f),
        }
    }
}

/// Elements by set. Both families stand together; an element knows its own.
pub type NftState = BTreeMap<NftSet, BTreeSet<NftElement>>;

/// What the kernel should hold, or was seen to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelState {
    /// Virtual servers with their real servers.
    pub virtual_servers: BTreeMap<VirtualServerKey, VirtualServer>,
    /// Addresses bound to our link.
    pub vips: BTreeSet<IpAddr>,
    /// Elements of our nftables sets. A set that is absent is empty.
    pub nft: NftState,
}

impl KernelState {
    /// The virtual server that traffic of a front is led to by one of
    /// [`NftSet::MARKS`], there or not.
    pub fn by_mark(&self, map: NftSet, front: Front) -> Option<VirtualServerKey> {
        let mark = mark_of(self.nft.get(&map)?, front)?;
        let family = Family::of(front.address);
        Some(VirtualServerKey::Mark { mark, family })
    }
}

/// The mark a map has for a front. The elements of one stand side by side: no
/// others are looked at.
pub(crate) fn mark_of(map: &BTreeSet<NftElement>, front: Front) -> Option<u32> {
    let mut of_front = map.range(NftElement::Mark(front, 0)..=NftElement::Mark(front, u32::MAX));
    of_front.find_map(|element| match element {
        NftElement::Mark(_, mark) => Some(*mark),
        _ => None,
    })
}
