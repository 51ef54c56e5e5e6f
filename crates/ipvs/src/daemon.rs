//! Daemons that synchronise connections between hosts.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_core::{DecodeError, DefaultNla};

use crate::Family;
use crate::constants::*;
use crate::wire::{
    Writer, keep, read_address, read_attributes, read_name, read_u8, read_u16, read_u32,
    write_other,
};

/// Which of the two a daemon is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DaemonState {
    /// Sends connections to the group.
    Master,
    /// Receives connections from the group.
    Backup,
    /// One this crate does not know.
    Other(u32),
}

impl DaemonState {
    /// The kernel's number; host order on the wire.
    pub fn number(self) -> u32 {
        match self {
            Self::Master => IP_VS_STATE_MASTER,
            Self::Backup => IP_VS_STATE_BACKUP,
            Self::Other(number) => number,
        }
    }
}

impl From<u32> for DaemonState {
    fn from(number: u32) -> Self {
        match number {
            IP_VS_STATE_MASTER => Self::Master,
            IP_VS_STATE_BACKUP => Self::Backup,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for DaemonState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master => f.pad("master"),
            Self::Backup => f.pad("backup"),
            Self::Other(number) => write!(f, "state {number}"),
        }
    }
}

/// A connection synchronisation daemon (`ipvsadm --start-daemon`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Master or backup. A host may run one of each.
    pub state: DaemonState,
    /// Interface whose network it speaks on.
    pub interface: String,
    /// Which group of hosts it belongs to, 0 to 255; host order on the wire.
    pub sync_id: u32,
    /// Longest payload in bytes; 0 lets the kernel choose. Host order.
    pub sync_maxlen: u16,
    /// Multicast group; none lets the kernel choose (224.0.0.81).
    pub group: Option<IpAddr>,
    /// UDP port; 0 lets the kernel choose (8848). Host order on the wire too,
    /// unlike every other port.
    pub port: u16,
    /// Multicast TTL; 0 lets the kernel choose (1).
    pub ttl: u8,
    /// Attributes this crate does not know. Sent as they are.
    pub other: Vec<DefaultNla>,
}

impl Daemon {
    /// A daemon on an interface, with the kernel's choices.
    pub fn new(state: DaemonState, interface: impl Into<String>, sync_id: u32) -> Self {
        Self {
            state,
            interface: interface.into(),
            sync_id,
            sync_maxlen: 0,
            group: None,
            port: 0,
            ttl: 0,
            other: Vec::new(),
        }
    }

    /// Append as the content of a daemon nest.
    pub fn emit(&self, out: &mut Vec<u8>) {
        self.write(&mut Writer::new(out));
    }

    /// Choices left to the kernel are left out.
    pub(crate) fn write(&self, out: &mut Writer<'_>) {
        out.u32(IPVS_DAEMON_ATTR_STATE, self.state.number());
        out.name(IPVS_DAEMON_ATTR_MCAST_IFN, &self.interface);
        out.u32(IPVS_DAEMON_ATTR_SYNC_ID, self.sync_id);
        if self.sync_maxlen != 0 {
            out.u16(IPVS_DAEMON_ATTR_SYNC_MAXLEN, self.sync_maxlen);
        }
        match self.group {
            Some(IpAddr::V4(v4)) => out.bytes(IPVS_DAEMON_ATTR_MCAST_GROUP, &v4.octets()),
            Some(IpAddr::V6(v6)) => out.bytes(IPVS_DAEMON_ATTR_MCAST_GROUP6, &v6.octets()),
            None => {}
        }
        if self.port != 0 {
            out.u16(IPVS_DAEMON_ATTR_MCAST_PORT, self.port);
        }
        if self.ttl != 0 {
            out.u8(IPVS_DAEMON_ATTR_MCAST_TTL, self.ttl);
        }
        write_other(out, &self.other);
    }

    /// Read the content of a daemon nest.
    pub fn parse(attributes: &[u8]) -> Result<Self, DecodeError> {
        let mut daemon = Self::new(DaemonState::Other(0), "", 0);
        let mut state = None;
        read_attributes(attributes, |attribute| {
            let value = attribute.value();
            match attribute.kind() {
                IPVS_DAEMON_ATTR_STATE => state = Some(read_u32(value, "daemon state")?),
                IPVS_DAEMON_ATTR_MCAST_IFN => daemon.interface = read_name(value),
                IPVS_DAEMON_ATTR_SYNC_ID => daemon.sync_id = read_u32(value, "sync id")?,
                IPVS_DAEMON_ATTR_SYNC_MAXLEN => {
                    daemon.sync_maxlen = read_u16(value, "sync length")?;
                }
                IPVS_DAEMON_ATTR_MCAST_GROUP => daemon.read_group(Family::V4, value)?,
                IPVS_DAEMON_ATTR_MCAST_GROUP6 => daemon.read_group(Family::V6, value)?,
                IPVS_DAEMON_ATTR_MCAST_PORT => daemon.port = read_u16(value, "port")?,
                IPVS_DAEMON_ATTR_MCAST_TTL => daemon.ttl = read_u8(value, "TTL")?,
                _ => keep(&mut daemon.other, attribute)?,
            }
            Ok(())
        })?;
        daemon.state = state.ok_or("daemon without state")?.into();
        Ok(daemon)
    }

    /// An unspecified group is none.
    fn read_group(&mut self, family: Family, value: &[u8]) -> Result<(), DecodeError> {
        let group = read_address(family, value, "multicast group")?;
        self.group = (!group.is_unspecified()).then_some(group);
        Ok(())
    }
}
