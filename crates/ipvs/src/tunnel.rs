//! Tunnels to destinations.

use crate::constants::*;

/// The tunnel to a destination whose forwarding method is
/// [`Tunnel`](crate::ForwardingMethod::Tunnel).
///
/// ```
/// use ipvs_netlink::{Tunnel, TunnelFlags, TunnelKind};
///
/// // ipvsadm -a ... -i --tun-type gue --tun-port 6080 --tun-csum
/// let tunnel = Tunnel::gue(6080, TunnelFlags::CHECKSUM);
/// assert_eq!(tunnel.kind, TunnelKind::Gue);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tunnel {
    /// How packets are wrapped (kernel 5.3).
    pub kind: TunnelKind,
    /// UDP port of GUE in host order, network order on the wire; 0 otherwise.
    pub port: u16,
    /// Checksums; host order on the wire.
    pub flags: TunnelFlags,
}

impl Tunnel {
    /// Plain IP in IP, the default.
    pub const IPIP: Self = Self {
        kind: TunnelKind::Ipip,
        port: 0,
        flags: TunnelFlags::empty(),
    };

    /// Generic UDP encapsulation to a port.
    pub const fn gue(port: u16, flags: TunnelFlags) -> Self {
        Self {
            kind: TunnelKind::Gue,
            port,
            flags,
        }
    }

    /// Generic routing encapsulation.
    pub const fn gre(flags: TunnelFlags) -> Self {
        Self {
            kind: TunnelKind::Gre,
            port: 0,
            flags,
        }
    }
}

impl Default for Tunnel {
    fn default() -> Self {
        Self::IPIP
    }
}

/// How a tunnel wraps packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TunnelKind {
    /// IP in IP.
    Ipip,
    /// Generic UDP encapsulation.
    Gue,
    /// Generic routing encapsulation.
    Gre,
    /// One this crate does not know.
    Other(u8),
}

impl TunnelKind {
    /// The kernel's number.
    pub fn number(self) -> u8 {
        match self {
            Self::Ipip => IP_VS_CONN_F_TUNNEL_TYPE_IPIP,
            Self::Gue => IP_VS_CONN_F_TUNNEL_TYPE_GUE,
            Self::Gre => IP_VS_CONN_F_TUNNEL_TYPE_GRE,
            Self::Other(number) => number,
        }
    }
}

impl From<u8> for TunnelKind {
    fn from(number: u8) -> Self {
        match number {
            IP_VS_CONN_F_TUNNEL_TYPE_IPIP => Self::Ipip,
            IP_VS_CONN_F_TUNNEL_TYPE_GUE => Self::Gue,
            IP_VS_CONN_F_TUNNEL_TYPE_GRE => Self::Gre,
            other => Self::Other(other),
        }
    }
}

bitflags::bitflags! {
    /// Checksums of a tunnel; none set is `ipvsadm --tun-nocsum`. Bits unknown
    /// to this crate are kept.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct TunnelFlags: u16 {
        /// A checksum over the wrapped packet (`--tun-csum`).
        const CHECKSUM = IP_VS_TUNNEL_ENCAP_FLAG_CSUM;
        /// Remote checksum offload, GUE only (`--tun-remcsum`).
        const REMOTE_CHECKSUM = IP_VS_TUNNEL_ENCAP_FLAG_REMCSUM;

        const _ = !0;
    }
}
