//! What belongs to IPVS as a whole: time-outs and versions.

use std::fmt;

use netlink_packet_core::{DecodeError, DefaultNla};

use crate::constants::*;
use crate::wire::{Writer, keep, read_attributes, read_u32};

/// How long idle connections are kept, in seconds; host order on the wire.
///
/// Equivalent to `ipvsadm --set` and `ipvsadm -L --timeout`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeouts {
    /// Established TCP connections. When set, 0 leaves it as it is; when read,
    /// 0 is a kernel without TCP in IPVS.
    pub tcp: u32,
    /// TCP connections after a FIN. 0 as for `tcp`.
    pub tcp_fin: u32,
    /// UDP. 0 as for `tcp`.
    pub udp: u32,
}

impl Timeouts {
    pub(crate) fn write(self, out: &mut Writer<'_>) {
        out.u32(IPVS_CMD_ATTR_TIMEOUT_TCP, self.tcp);
        out.u32(IPVS_CMD_ATTR_TIMEOUT_TCP_FIN, self.tcp_fin);
        out.u32(IPVS_CMD_ATTR_TIMEOUT_UDP, self.udp);
    }

    /// Read the attributes of a configuration message.
    pub fn parse(attributes: &[u8]) -> Result<Self, DecodeError> {
        let mut timeouts = Self::default();
        read_attributes(attributes, |attribute| {
            let field = match attribute.kind() {
                IPVS_CMD_ATTR_TIMEOUT_TCP => &mut timeouts.tcp,
                IPVS_CMD_ATTR_TIMEOUT_TCP_FIN => &mut timeouts.tcp_fin,
                IPVS_CMD_ATTR_TIMEOUT_UDP => &mut timeouts.udp,
                _ => return Ok(()),
            };
            *field = read_u32(attribute.value(), "time-out")?;
            Ok(())
        })?;
        Ok(timeouts)
    }
}

/// A version of IPVS. `Display` gives `1.2.1`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, major, minor, patch] = self.0.to_be_bytes();
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// What the kernel says about its IPVS; host order on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    /// Its version.
    pub version: Version,
    /// Rows of its connection hash table.
    pub conn_tab_size: u32,
    /// Attributes this crate does not know.
    pub other: Vec<DefaultNla>,
}

impl Info {
    /// Read the attributes of an info message.
    pub fn parse(attributes: &[u8]) -> Result<Self, DecodeError> {
        let mut info = Self::default();
        read_attributes(attributes, |attribute| {
            let value = attribute.value();
            match attribute.kind() {
                IPVS_INFO_ATTR_VERSION => info.version = Version(read_u32(value, "version")?),
                IPVS_INFO_ATTR_CONN_TAB_SIZE => {
                    info.conn_tab_size = read_u32(value, "connection table size")?;
                }
                _ => keep(&mut info.other, attribute)?,
            }
            Ok(())
        })?;
        Ok(info)
    }
}
