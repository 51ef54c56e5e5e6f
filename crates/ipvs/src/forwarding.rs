//! How packets reach a destination.

use std::fmt;

use crate::constants::*;

/// The forwarding method of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForwardingMethod {
    /// Addresses are rewritten, both ways (`ipvsadm -m`).
    Masquerade,
    /// Served by this host.
    Local,
    /// Wrapped into a tunnel (`ipvsadm -i`).
    Tunnel,
    /// Sent on unchanged, in the same link network (`ipvsadm -g`).
    DirectRoute,
    /// Passed by the cache.
    Bypass,
    /// One this crate does not know.
    Other(u32),
}

impl ForwardingMethod {
    /// The kernel's number; host order on the wire.
    pub fn number(self) -> u32 {
        match self {
            Self::Masquerade => IP_VS_CONN_F_MASQ,
            Self::Local => IP_VS_CONN_F_LOCALNODE,
            Self::Tunnel => IP_VS_CONN_F_TUNNEL,
            Self::DirectRoute => IP_VS_CONN_F_DROUTE,
            Self::Bypass => IP_VS_CONN_F_BYPASS,
            Self::Other(number) => number,
        }
    }
}

impl From<u32> for ForwardingMethod {
    fn from(number: u32) -> Self {
        match number {
            IP_VS_CONN_F_MASQ => Self::Masquerade,
            IP_VS_CONN_F_LOCALNODE => Self::Local,
            IP_VS_CONN_F_TUNNEL => Self::Tunnel,
            IP_VS_CONN_F_DROUTE => Self::DirectRoute,
            IP_VS_CONN_F_BYPASS => Self::Bypass,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for ForwardingMethod {
    /// `Masq`, `Local`, `Tunnel`, `Route` as `ipvsadm` says them, `Bypass`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Masquerade => f.pad("Masq"),
            Self::Local => f.pad("Local"),
            Self::Tunnel => f.pad("Tunnel"),
            Self::DirectRoute => f.pad("Route"),
            Self::Bypass => f.pad("Bypass"),
            Self::Other(number) => f.pad(&format!("Fwd{number}")),
        }
    }
}
