//! The netmask that groups clients of a persistent service.

use std::fmt;
use std::net::Ipv4Addr;

use netlink_packet_core::DecodeError;

use crate::Family;
use crate::wire::read_u32;

/// By what part of their address clients are grouped when a service is
/// persistent (`ipvsadm -M`).
///
/// The kernel has one attribute for two things: an IPv4 mask in network byte
/// order, or an IPv6 prefix length in the machine's.
///
/// ```
/// use ipvs_netlink::{Family, Netmask};
///
/// let mask = Netmask::from_prefix(Family::V4, 24);
/// assert_eq!(mask.to_string(), "255.255.255.0");
/// assert_eq!(mask.prefix(), Some(24));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Netmask {
    /// A mask, as the kernel keeps it for IPv4.
    V4(Ipv4Addr),
    /// A prefix length, as the kernel keeps it for IPv6; it takes 1 to 128.
    V6(u32),
}

impl Netmask {
    /// Each client by itself: 255.255.255.255 or 128. What the kernel wants
    /// for a service that is not persistent, too.
    pub fn host(family: Family) -> Self {
        Self::from_prefix(family, family.host_prefix())
    }

    /// The netmask of a prefix length; a longer one than the family has counts
    /// as a single address.
    pub fn from_prefix(family: Family, prefix: u8) -> Self {
        let prefix = u32::from(prefix.min(family.host_prefix()));
        match family {
            Family::V4 => {
                let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
                Self::V4(Ipv4Addr::from_bits(mask))
            }
            Family::V6 => Self::V6(prefix),
        }
    }

    /// The prefix length; none for an IPv4 mask with holes in it, or for a
    /// length beyond 128.
    pub fn prefix(self) -> Option<u8> {
        match self {
            Self::V4(mask) => {
                let ones = mask.to_bits().leading_ones();
                let whole = ones == mask.to_bits().count_ones();
                whole.then(|| ones.try_into().ok()).flatten()
            }
            Self::V6(prefix) => u8::try_from(prefix).ok().filter(|p| *p <= 128),
        }
    }

    /// Whether each client stands by itself.
    pub fn is_host(self) -> bool {
        matches!(self, Self::V4(Ipv4Addr::BROADCAST) | Self::V6(128))
    }

    pub(crate) fn bytes(self) -> [u8; 4] {
        match self {
            Self::V4(mask) => mask.octets(),
            Self::V6(prefix) => prefix.to_ne_bytes(),
        }
    }

    pub(crate) fn read(family: Family, value: &[u8]) -> Result<Self, DecodeError> {
        match family {
            Family::V4 => {
                let mask = read_u32(value, "netmask")?.to_ne_bytes();
                Ok(Self::V4(Ipv4Addr::from(mask)))
            }
            Family::V6 => read_u32(value, "prefix length").map(Self::V6),
        }
    }
}

impl fmt::Display for Netmask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(mask) => mask.fmt(f),
            Self::V6(prefix) => prefix.fmt(f),
        }
    }
}
