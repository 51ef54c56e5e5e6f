//! What decides the fixed part of the table.

use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::wire::Place;
use crate::{Invalid, Set};

/// The bit kube-proxy uses: mark `0x4000`.
pub const DEFAULT_MASQUERADE_BIT: u8 = 14;

/// A bit no well-known network program uses, for [`Config::accept_bit`]:
/// 13 is CNI portmap's, 14 and 15 kubelet's and kube-proxy's, 8 to 11 Cilium's,
/// 16 and up Calico's.
pub const DEFAULT_ACCEPT_BIT: u8 = 12;

/// An IP family: `table ip` or `table ip6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ip, Self::Ip6];

    /// As nft names it: `ip` or `ip6`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        }
    }

    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Ip => 2,
            Self::Ip6 => 10,
        }
    }

    /// Our table.
    pub(crate) fn place(self) -> Place {
        Place {
            family: self.number(),
            table: crate::TABLE.into(),
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How the packets of this node's pods are known (`--detect-local-mode`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LocalPods {
    /// They are not: only this host is inside.
    #[default]
    None,
    /// By source address. Networks of the other family are left aside; when
    /// none is of the table's family this is as [`LocalPods::None`].
    Cidrs(Vec<IpNet>),
    /// By the interface they come in on: the beginning of its name.
    InterfacePrefix(String),
    /// By the bridge they come in on.
    Bridge(String),
}

/// What becomes of a new connection to an address in
/// [`Set::ServiceCidrs`](crate::Set::ServiceCidrs) that is none of this host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unallocated {
    /// Dropped, as by kube-proxy's nftables mode: a client that comes before its
    /// Service does tries again.
    #[default]
    Drop,
    /// Refused at once, with RST or ICMP.
    Reject,
    /// Sent where the routes lead.
    Forward,
}

/// What decides chains and rules. Two tables with equal configuration have equal
/// [fingerprints](Config::fingerprint).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Which table.
    pub family: Family,
    /// Bit of the packet mark that asks for masquerading, 0 to 31. No inside mark
    /// may contain it; that of a node port does where it is masqueraded.
    pub masquerade_bit: u8,
    /// Bit of the packet mark that says "we serve this" to the accept rule in a
    /// foreign input or forward chain ([`Nft::accept_in`](crate::Nft::accept_in)): set
    /// at priority -1, cleared before IPVS takes the packet and before it leaves.
    /// None: not set, the default.
    pub accept_bit: Option<u8>,
    /// How local pods are known.
    pub local_pods: LocalPods,
    /// What becomes of traffic to cluster addresses that no Service has.
    pub unallocated: Unallocated,
    /// Ports that masquerading keeps clear of, since an answer to one of them
    /// would be taken for a call of a NodePort: it takes its source ports from
    /// the larger part above or below this range.
    pub node_ports: RangeInclusive<u16>,
    /// Whether some packets pass untracked: those of [`Set::UntrackedFronts`] and
    /// [`Set::UntrackedEndpoints`](crate::Set::UntrackedEndpoints). That takes hooks
    /// of its own, which all packets pass.
    pub untracked: bool,
}

impl Config {
    /// Kubernetes' defaults: bit 14, NodePorts 30000 to 32767, local pods unknown,
    /// cluster addresses of nobody dropped.
    pub fn new(family: Family) -> Self {
        Self {
            family,
            masquerade_bit: DEFAULT_MASQUERADE_BIT,
            accept_bit: None,
            local_pods: LocalPods::None,
            unallocated: Unallocated::Drop,
            node_ports: 30000..=32767,
            untracked: false,
        }
    }

    /// Names the fixed part: version of the rules and everything configured.
    /// Stands in the table as an empty chain `fixed-FINGERPRINT`.
    ///
    /// # Errors
    /// A configuration that makes no sense: see [`Invalid`].
    pub fn fingerprint(&self) -> Result<String, Invalid> {
        Ok(crate::fixed::Fixed::new(self)?.fingerprint)
    }

    pub(crate) fn masquerade_mask(&self) -> u32 {
        1 << self.masquerade_bit
    }

    pub(crate) fn accept_mask(&self) -> Option<u32> {
        self.accept_bit.map(|bit| 1 << bit)
    }

    /// Whether a front may have this mark (host order) in a map: not 0, which is
    /// no mark, and without the bits that mean something else. Only a node port's
    /// says by itself that its traffic is masqueraded.
    pub fn may_mark(&self, map: Set, mark: u32) -> bool {
        let accept = self.accept_mask().unwrap_or(0);
        let forbidden = match map {
            Set::NodePortMarks => accept,
            _ => accept | self.masquerade_mask(),
        };
        mark != 0 && mark & forbidden == 0
    }

    /// Whether a table can be made so. For the door too: what passes here never
    /// fails later.
    ///
    /// # Errors
    /// What makes no sense: a mark has no such bit, one bit has two meanings, a
    /// name could be misread.
    pub fn check(&self) -> Result<(), Invalid> {
        for bit in [Some(self.masquerade_bit), self.accept_bit]
            .into_iter()
            .flatten()
        {
            if bit > 31 {
                return Err(Invalid::Bit(bit));
            }
        }
        if self.accept_bit == Some(self.masquerade_bit) {
            return Err(Invalid::SameBit(self.masquerade_bit));
        }
        match &self.local_pods {
            LocalPods::None | LocalPods::Cidrs(_) => Ok(()),
            LocalPods::InterfacePrefix(name) | LocalPods::Bridge(name) => check_interface(name),
        }
    }

    /// Source ports for masquerading, none when every port may be taken.
    pub(crate) fn masquerade_ports(&self) -> Option<RangeInclusive<u16>> {
        const LOWEST: u16 = 1024;
        let (first, last) = (*self.node_ports.start(), *self.node_ports.end());
        if first > last {
            return None;
        }
        let below = LOWEST.max(1)..=first.saturating_sub(1);
        let above = last.saturating_add(1).max(LOWEST)..=u16::MAX;
        let below_size = usize::from(first).saturating_sub(usize::from(LOWEST));
        let above_size = usize::from(u16::MAX) - usize::from(last).max(usize::from(LOWEST) - 1);
        match (below_size, above_size) {
            (0, 0) => None,
            (b, a) if a >= b => Some(above),
            _ => Some(below),
        }
    }
}

/// nft shows an interface name between quotes, where it knows no escape but the
/// `*` at the end: what it could not read back as the same is refused.
fn check_interface(name: &str) -> Result<(), Invalid> {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '*' | '/' | ':' | '$');
    if name.is_empty() || name.len() > 15 || !name.chars().all(plain) {
        return Err(Invalid::Interface(name.to_owned()));
    }
    Ok(())
}
