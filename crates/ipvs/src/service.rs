//! Services: what clients connect to.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use netlink_exchange::attributes::Attribute;
use netlink_packet_core::{DecodeError, DefaultNla};

use crate::constants::*;
use crate::stats::StatsChoice;
use crate::wire::{
    Writer, keep, read_address, read_attributes, read_be16, read_name, read_text, read_u16,
    read_u32, write_address, write_other,
};
use crate::{Family, Netmask, Protocol, Scheduler, ServiceFlags, Stats};

/// What identifies a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceId {
    /// By address, port and protocol (`ipvsadm -t`, `-u`, `--sctp-service`).
    Address {
        /// Its address; network order on the wire.
        address: IpAddr,
        /// Its port in host order; network order on the wire. 0 is every port,
        /// for persistent services only.
        port: u16,
        /// Its protocol.
        protocol: Protocol,
    },
    /// By the firewall mark of packets (`ipvsadm -f MARK`, `-6`).
    Fwmark {
        /// The mark, never 0; host order on the wire too.
        mark: u32,
        /// Family of the packets.
        family: Family,
    },
}

impl ServiceId {
    /// A TCP service.
    pub fn tcp(address: impl Into<IpAddr>, port: u16) -> Self {
        Self::address(address, port, Protocol::Tcp)
    }

    /// A UDP service.
    pub fn udp(address: impl Into<IpAddr>, port: u16) -> Self {
        Self::address(address, port, Protocol::Udp)
    }

    /// An SCTP service.
    pub fn sctp(address: impl Into<IpAddr>, port: u16) -> Self {
        Self::address(address, port, Protocol::Sctp)
    }

    /// A service by address, port and protocol.
    pub fn address(address: impl Into<IpAddr>, port: u16, protocol: Protocol) -> Self {
        Self::Address {
            address: address.into(),
            port,
            protocol,
        }
    }

    /// A service by firewall mark.
    pub fn fwmark(mark: u32, family: Family) -> Self {
        Self::Fwmark { mark, family }
    }

    /// The family of the packets it takes.
    pub fn family(&self) -> Family {
        match self {
            Self::Address { address, .. } => Family::of(*address),
            Self::Fwmark { family, .. } => *family,
        }
    }

    pub(crate) fn write(&self, out: &mut Writer<'_>) {
        out.u16(IPVS_SVC_ATTR_AF, self.family().number());
        match self {
            Self::Fwmark { mark, .. } => out.u32(IPVS_SVC_ATTR_FWMARK, *mark),
            Self::Address {
                address,
                port,
                protocol,
            } => {
                out.u16(IPVS_SVC_ATTR_PROTOCOL, protocol.number());
                write_address(out, IPVS_SVC_ATTR_ADDR, *address);
                out.be16(IPVS_SVC_ATTR_PORT, *port);
            }
        }
    }
}

impl fmt::Display for ServiceId {
    /// `10.96.0.10:53/UDP`, `[fd00::a]:53/UDP`, `FWM 7`, `FWM 7 IPv6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address {
                address,
                port,
                protocol,
            } => write!(f, "{}/{protocol}", SocketAddr::new(*address, *port)),
            Self::Fwmark { mark, family } => match family {
                Family::V4 => write!(f, "FWM {mark}"),
                Family::V6 => write!(f, "FWM {mark} IPv6"),
            },
        }
    }
}

/// A service with its settings and counters.
///
/// ```
/// use std::net::Ipv4Addr;
/// use ipvs_netlink::{Family, Netmask, Scheduler, Service, ServiceId};
///
/// // ipvsadm -A -t 10.96.0.10:80 -s rr -p 300 -M 255.255.255.0
/// let id = ServiceId::tcp(Ipv4Addr::new(10, 96, 0, 10), 80);
/// let service = Service::new(id, Scheduler::RR)
///     .persistent(300, Netmask::from_prefix(Family::V4, 24));
/// assert_eq!(service.id.to_string(), "10.96.0.10:80/TCP");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// What identifies it.
    pub id: ServiceId,
    /// Who picks destinations.
    pub scheduler: Scheduler,
    /// Its flags. The kernel reports [`ServiceFlags::HASHED`] too, which is
    /// never sent.
    pub flags: ServiceFlags,
    /// Which flags an add or edit sets; the others stay. All by default, and in
    /// what the kernel reports.
    pub flags_mask: ServiceFlags,
    /// Seconds for which a client stays with its destination, if persistent;
    /// host order on the wire.
    pub timeout: u32,
    /// How persistence groups clients.
    pub netmask: Netmask,
    /// Persistence engine (`ipvsadm --pe`); the kernel has `sip`.
    pub pe_name: Option<String>,
    /// Counters. Reported only.
    pub stats: Stats,
    /// Attributes this crate does not know. Sent as they are.
    pub other: Vec<DefaultNla>,
}

impl Service {
    /// A service without persistence or flags.
    pub fn new(id: ServiceId, scheduler: Scheduler) -> Self {
        Self {
            id,
            scheduler,
            flags: ServiceFlags::empty(),
            flags_mask: ServiceFlags::all(),
            timeout: 0,
            netmask: Netmask::host(id.family()),
            pe_name: None,
            stats: Stats::default(),
            other: Vec::new(),
        }
    }

    /// The same, persistent for `timeout` seconds.
    #[must_use]
    pub fn persistent(mut self, timeout: u32, netmask: Netmask) -> Self {
        self.flags |= ServiceFlags::PERSISTENT;
        self.timeout = timeout;
        self.netmask = netmask;
        self
    }

    /// The same, with more flags.
    #[must_use]
    pub fn with_flags(mut self, flags: ServiceFlags) -> Self {
        self.flags |= flags;
        self
    }

    /// Append the settings as the content of a service nest. Counters are the
    /// kernel's and not written.
    pub fn emit(&self, out: &mut Vec<u8>) {
        self.write(&mut Writer::new(out));
    }

    pub(crate) fn write(&self, out: &mut Writer<'_>) {
        self.id.write(out);
        out.name(IPVS_SVC_ATTR_SCHED_NAME, self.scheduler.as_str());
        if let Some(name) = &self.pe_name {
            out.name(IPVS_SVC_ATTR_PE_NAME, name);
        }
        // A new service that claims to be hashed never is: the kernel believes it.
        let sent = !ServiceFlags::HASHED;
        let mut flags = [0; 8];
        flags[..4].copy_from_slice(&(self.flags & sent).bits().to_ne_bytes());
        flags[4..].copy_from_slice(&(self.flags_mask & sent).bits().to_ne_bytes());
        out.bytes(IPVS_SVC_ATTR_FLAGS, &flags);
        out.u32(IPVS_SVC_ATTR_TIMEOUT, self.timeout);
        out.bytes(IPVS_SVC_ATTR_NETMASK, &self.netmask.bytes());
        write_other(out, &self.other);
    }

    /// Read the content of a service nest. Settings that it lacks get their
    /// defaults; what identifies the service must be there.
    pub fn parse(attributes: &[u8]) -> Result<Self, DecodeError> {
        let mut pe_name = None;
        let mut stats = StatsChoice::default();
        let mut other = Vec::new();
        let settings = ServiceSettings::read(attributes, |attribute| {
            let value = attribute.value();
            match attribute.kind() {
                IPVS_SVC_ATTR_PE_NAME => pe_name = Some(read_name(value)),
                IPVS_SVC_ATTR_STATS => stats.narrow(value),
                IPVS_SVC_ATTR_STATS64 => stats.wide(value),
                _ => keep(&mut other, attribute)?,
            }
            Ok(())
        })?;
        Ok(Self {
            id: settings.id,
            scheduler: (&*settings.scheduler).into(),
            flags: settings.flags,
            flags_mask: settings.flags_mask,
            timeout: settings.timeout,
            netmask: settings.netmask,
            pe_name,
            stats: stats.best()?,
            other,
        })
    }

    /// Its settings alone.
    pub fn settings(&self) -> ServiceSettings<'_> {
        ServiceSettings {
            id: self.id,
            scheduler: self.scheduler.as_str().into(),
            flags: self.flags,
            flags_mask: self.flags_mask,
            timeout: self.timeout,
            netmask: self.netmask,
        }
    }
}

/// What an audit looks at of a [`Service`]: all but its counters and its
/// persistence engine, and nothing of it copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSettings<'a> {
    /// What identifies it.
    pub id: ServiceId,
    /// The name of who picks destinations.
    pub scheduler: Cow<'a, str>,
    /// As [`Service::flags`].
    pub flags: ServiceFlags,
    /// As [`Service::flags_mask`].
    pub flags_mask: ServiceFlags,
    /// As [`Service::timeout`].
    pub timeout: u32,
    /// As [`Service::netmask`].
    pub netmask: Netmask,
}

impl<'a> ServiceSettings<'a> {
    /// As [`Service::parse`].
    pub(crate) fn parse(attributes: &'a [u8]) -> Result<Self, DecodeError> {
        Self::read(attributes, |_| Ok(()))
    }

    /// The same; `rest` gets the attributes that are none of these settings.
    fn read(
        attributes: &'a [u8],
        mut rest: impl FnMut(Attribute<'a>) -> Result<(), DecodeError>,
    ) -> Result<Self, DecodeError> {
        let mut id = IdParts::default();
        let mut scheduler = Cow::Borrowed(Scheduler::NONE_NAME);
        let mut flags = (ServiceFlags::empty(), ServiceFlags::all());
        let mut timeout = 0;
        let mut netmask = None;
        read_attributes(attributes, |attribute| {
            let value = attribute.value();
            match attribute.kind() {
                IPVS_SVC_ATTR_AF
                | IPVS_SVC_ATTR_PROTOCOL
                | IPVS_SVC_ATTR_ADDR
                | IPVS_SVC_ATTR_PORT
                | IPVS_SVC_ATTR_FWMARK => id.take(attribute.kind(), value)?,
                IPVS_SVC_ATTR_SCHED_NAME => scheduler = read_text(value),
                IPVS_SVC_ATTR_FLAGS => flags = read_flags(value)?,
                IPVS_SVC_ATTR_TIMEOUT => timeout = read_u32(value, "timeout")?,
                IPVS_SVC_ATTR_NETMASK => netmask = Some(value),
                _ => rest(attribute)?,
            }
            Ok(())
        })?;
        let id = id.finish()?;
        let family = id.family();
        let netmask = netmask.map(|value| Netmask::read(family, value));
        Ok(Self {
            id,
            scheduler,
            flags: flags.0,
            flags_mask: flags.1,
            timeout,
            netmask: netmask.transpose()?.unwrap_or(Netmask::host(family)),
        })
    }
}

/// `struct ip_vs_flags`: flags and mask, both in host order.
fn read_flags(value: &[u8]) -> Result<(ServiceFlags, ServiceFlags), DecodeError> {
    let flags = read_u32(value, "flags")?;
    let mask = read_u32(value.get(4..).unwrap_or_default(), "mask of flags")?;
    let retain = ServiceFlags::from_bits_retain;
    Ok((retain(flags), retain(mask)))
}

/// What identifies a service, as it comes out of its attributes.
#[derive(Default)]
struct IdParts<'a> {
    family: Option<Family>,
    protocol: Option<Protocol>,
    address: Option<&'a [u8]>,
    port: Option<u16>,
    mark: Option<u32>,
}

impl<'a> IdParts<'a> {
    fn take(&mut self, kind: u16, value: &'a [u8]) -> Result<(), DecodeError> {
        match kind {
            IPVS_SVC_ATTR_AF => {
                self.family = Some(Family::from_number(read_u16(value, "address family")?)?);
            }
            IPVS_SVC_ATTR_PROTOCOL => self.protocol = Some(read_u16(value, "protocol")?.into()),
            IPVS_SVC_ATTR_ADDR => self.address = Some(value),
            IPVS_SVC_ATTR_PORT => self.port = Some(read_be16(value, "port")?),
            IPVS_SVC_ATTR_FWMARK => self.mark = Some(read_u32(value, "firewall mark")?),
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<ServiceId, DecodeError> {
        let family = self.family.ok_or("service without address family")?;
        if let Some(mark) = self.mark {
            return Ok(ServiceId::fwmark(mark, family));
        }
        let address = self.address.ok_or("service without address or mark")?;
        Ok(ServiceId::Address {
            address: read_address(family, address, "service address")?,
            port: self.port.ok_or("service without port")?,
            protocol: self.protocol.ok_or("service without protocol")?,
        })
    }
}
