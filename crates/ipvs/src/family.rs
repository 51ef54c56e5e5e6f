//! IP families.

use std::net::IpAddr;

use netlink_packet_core::DecodeError;

use crate::constants::{AF_INET, AF_INET6};

/// An IP family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

    /// `AF_INET` or `AF_INET6`.
    pub fn number(self) -> u16 {
        match self {
            Self::V4 => AF_INET,
            Self::V6 => AF_INET6,
        }
    }

    /// Prefix length of a single address: 32 or 128.
    pub fn host_prefix(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    pub(crate) fn from_number(number: u16) -> Result<Self, DecodeError> {
        match number {
            AF_INET => Ok(Self::V4),
            AF_INET6 => Ok(Self::V6),
            _ => Err(format!("address family {number} is not IPv4 or IPv6").into()),
        }
    }
}
