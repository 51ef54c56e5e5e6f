//! Destinations: who serves.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use netlink_exchange::attributes::Attribute;
use netlink_packet_core::{DecodeError, DefaultNla};

use crate::constants::*;
use crate::stats::StatsChoice;
use crate::wire::{
    Writer, keep, read_address, read_attributes, read_be16, read_u8, read_u16, read_u32,
    write_address, write_other,
};
use crate::{Family, ForwardingMethod, Stats, Tunnel, TunnelFlags};

/// What identifies a destination in its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationId {
    /// Its address; network order on the wire. Tunnels may lead to the other
    /// family than the service's.
    pub address: IpAddr,
    /// Its port in host order; network order on the wire.
    pub port: u16,
}

impl DestinationId {
    /// A destination by address and port.
    pub fn new(address: impl Into<IpAddr>, port: u16) -> Self {
        Self {
            address: address.into(),
            port,
        }
    }

    pub(crate) fn write(&self, out: &mut Writer<'_>) {
        write_address(out, IPVS_DEST_ATTR_ADDR, self.address);
        out.be16(IPVS_DEST_ATTR_PORT, self.port);
    }

    /// Apart from the rest, where the kernel itself puts it.
    pub(crate) fn write_family(&self, out: &mut Writer<'_>) {
        out.u16(
            IPVS_DEST_ATTR_ADDR_FAMILY,
            Family::of(self.address).number(),
        );
    }
}

impl fmt::Display for DestinationId {
    /// `10.244.1.7:8080`, `[fd00::7]:8080`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// A destination with its settings, connections and counters.
///
/// ```
/// use std::net::Ipv4Addr;
/// use ipvs_netlink::{Destination, DestinationId, ForwardingMethod};
///
/// // ipvsadm -a ... -r 10.244.1.7:8080 -m -w 3
/// let id = DestinationId::new(Ipv4Addr::new(10, 244, 1, 7), 8080);
/// let destination = Destination { weight: 3, ..Destination::new(id) };
/// assert_eq!(destination.forwarding, ForwardingMethod::Masquerade);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// What identifies it.
    pub id: DestinationId,
    /// How packets reach it.
    pub forwarding: ForwardingMethod,
    /// Its share of new connections, up to 2^31-1; 0 gives it none and keeps
    /// those it has.
    pub weight: u32,
    /// Connections at which it gets no more; 0 is no limit.
    pub upper_threshold: u32,
    /// Connections below which it gets them again; 0 is three quarters of the
    /// upper threshold.
    pub lower_threshold: u32,
    /// The tunnel, for [`ForwardingMethod::Tunnel`].
    pub tunnel: Tunnel,
    /// Established connections. Reported only.
    pub active_connections: u32,
    /// Other connections, closing ones among them. Reported only.
    pub inactive_connections: u32,
    /// Persistence templates. Reported only.
    pub persistent_connections: u32,
    /// Counters. Reported only.
    pub stats: Stats,
    /// Attributes this crate does not know. Sent as they are.
    pub other: Vec<DefaultNla>,
}

impl Destination {
    /// A destination reached by masquerading, of weight 1, without limits.
    pub fn new(id: DestinationId) -> Self {
        Self {
            id,
            forwarding: ForwardingMethod::Masquerade,
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel: Tunnel::IPIP,
            active_connections: 0,
            inactive_connections: 0,
            persistent_connections: 0,
            stats: Stats::default(),
            other: Vec::new(),
        }
    }

    /// Append the settings as the content of a destination nest. Connections
    /// and counters are the kernel's and not written.
    pub fn emit(&self, out: &mut Vec<u8>) {
        self.write(&mut Writer::new(out));
    }

    pub(crate) fn write(&self, out: &mut Writer<'_>) {
        self.id.write(out);
        out.u32(IPVS_DEST_ATTR_FWD_METHOD, self.forwarding.number());
        out.u32(IPVS_DEST_ATTR_WEIGHT, self.weight);
        // Absent is IPIP to the kernel, and kernels before 5.3 know no other.
        if self.tunnel != Tunnel::IPIP {
            out.u8(IPVS_DEST_ATTR_TUN_TYPE, self.tunnel.kind.number());
            out.be16(IPVS_DEST_ATTR_TUN_PORT, self.tunnel.port);
            out.u16(IPVS_DEST_ATTR_TUN_FLAGS, self.tunnel.flags.bits());
        }
        out.u32(IPVS_DEST_ATTR_U_THRESH, self.upper_threshold);
        out.u32(IPVS_DEST_ATTR_L_THRESH, self.lower_threshold);
        self.id.write_family(out);
        write_other(out, &self.other);
    }

    /// Read the content of a destination nest. `service` is the family of its
    /// service, which kernels before 3.18 leave unsaid.
    pub fn parse(attributes: &[u8], service: Family) -> Result<Self, DecodeError> {
        // Of no meaning until all is read.
        let nowhere = DestinationId::new(Ipv4Addr::UNSPECIFIED, 0);
        let mut destination = Self::new(nowhere);
        let mut stats = StatsChoice::default();
        let settings = DestinationSettings::read(attributes, service, |attribute| {
            let value = attribute.value();
            match attribute.kind() {
                IPVS_DEST_ATTR_STATS => stats.narrow(value),
                IPVS_DEST_ATTR_STATS64 => stats.wide(value),
                kind if destination.take(kind, value)? => {}
                _ => keep(&mut destination.other, attribute)?,
            }
            Ok(())
        })?;
        Ok(Self {
            id: settings.id,
            forwarding: settings.forwarding,
            weight: settings.weight,
            upper_threshold: settings.upper_threshold,
            lower_threshold: settings.lower_threshold,
            stats: stats.best()?,
            ..destination
        })
    }

    /// Its settings alone.
    pub fn settings(&self) -> DestinationSettings {
        DestinationSettings {
            id: self.id,
            forwarding: self.forwarding,
            weight: self.weight,
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
        }
    }

    /// Take one attribute that is none of its [settings](DestinationSettings);
    /// whether it is known.
    fn take(&mut self, kind: u16, value: &[u8]) -> Result<bool, DecodeError> {
        match kind {
            IPVS_DEST_ATTR_ACTIVE_CONNS => {
                self.active_connections = read_u32(value, "active connections")?;
            }
            IPVS_DEST_ATTR_INACT_CONNS => {
                self.inactive_connections = read_u32(value, "inactive connections")?;
            }
            IPVS_DEST_ATTR_PERSIST_CONNS => {
                self.persistent_connections = read_u32(value, "persistent connections")?;
            }
            IPVS_DEST_ATTR_TUN_TYPE => self.tunnel.kind = read_u8(value, "tunnel type")?.into(),
            IPVS_DEST_ATTR_TUN_PORT => self.tunnel.port = read_be16(value, "tunnel port")?,
            IPVS_DEST_ATTR_TUN_FLAGS => {
                let bits = read_u16(value, "tunnel flags")?;
                self.tunnel.flags = TunnelFlags::from_bits_retain(bits);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// What an audit looks at of a [`Destination`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestinationSettings {
    /// What identifies it.
    pub id: DestinationId,
    /// As [`Destination::forwarding`].
    pub forwarding: ForwardingMethod,
    /// As [`Destination::weight`].
    pub weight: u32,
    /// As [`Destination::upper_threshold`].
    pub upper_threshold: u32,
    /// As [`Destination::lower_threshold`].
    pub lower_threshold: u32,
}

impl DestinationSettings {
    /// As [`Destination::parse`].
    pub(crate) fn parse(attributes: &[u8], service: Family) -> Result<Self, DecodeError> {
        Self::read(attributes, service, |_| Ok(()))
    }

    /// The same; `rest` gets the attributes that are none of these settings.
    fn read<'a>(
        attributes: &'a [u8],
        service: Family,
        mut rest: impl FnMut(Attribute<'a>) -> Result<(), DecodeError>,
    ) -> Result<Self, DecodeError> {
        let mut id = IdParts::default();
        let mut forwarding = ForwardingMethod::Masquerade;
        let (mut weight, mut upper_threshold, mut lower_threshold) = (0, 0, 0);
        read_attributes(attributes, |attribute| {
            let value = attribute.value();
            match attribute.kind() {
                IPVS_DEST_ATTR_ADDR => id.address = Some(value),
                IPVS_DEST_ATTR_PORT => id.port = Some(read_be16(value, "port")?),
                IPVS_DEST_ATTR_ADDR_FAMILY => {
                    id.family = Some(Family::from_number(read_u16(value, "address family")?)?);
                }
                IPVS_DEST_ATTR_FWD_METHOD => {
                    forwarding = read_u32(value, "forwarding method")?.into();
                }
                IPVS_DEST_ATTR_WEIGHT => weight = read_u32(value, "weight")?,
                IPVS_DEST_ATTR_U_THRESH => upper_threshold = read_u32(value, "upper threshold")?,
                IPVS_DEST_ATTR_L_THRESH => lower_threshold = read_u32(value, "lower threshold")?,
                _ => rest(attribute)?,
            }
            Ok(())
        })?;
        Ok(Self {
            id: id.finish(service)?,
            forwarding,
            weight,
            upper_threshold,
            lower_threshold,
        })
    }
}

/// What identifies a destination, as it comes out of its attributes.
#[derive(Default)]
struct IdParts<'a> {
    family: Option<Family>,
    address: Option<&'a [u8]>,
    port: Option<u16>,
}

impl IdParts<'_> {
    fn finish(self, service: Family) -> Result<DestinationId, DecodeError> {
        let address = self.address.ok_or("destination without address")?;
        let family = self.family.unwrap_or(service);
        Ok(DestinationId {
            address: read_address(family, address, "destination address")?,
            port: self.port.ok_or("destination without port")?,
        })
    }
}
