//! Counters and rates.

use netlink_packet_core::{DecodeError, DefaultNla};

use crate::constants::*;
use crate::wire::{keep, read_attributes, read_counter};

/// Counters of a service or destination since it was made or zeroed, and the
/// kernel's estimate of the current rates. Reported only.
///
/// The kernel sums its counters up about every two seconds, so they lag behind;
/// zeroing takes the last sum as the new zero.
///
/// Kernels since 4.1 report all in 64 bits; from older ones the counters of
/// connections and packets, and the rates, wrap at 2^32.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes to clients.
    pub out_bytes: u64,
    /// Connections a second.
    pub connection_rate: u64,
    /// Packets from clients a second.
    pub in_packet_rate: u64,
    /// Packets to clients a second.
    pub out_packet_rate: u64,
    /// Bytes from clients a second.
    pub in_byte_rate: u64,
    /// Bytes to clients a second.
    pub out_byte_rate: u64,
    /// Attributes this crate does not know.
    pub other: Vec<DefaultNla>,
}

impl Stats {
    /// Read the content of a stats nest, of 32 or of 64 bits.
    pub fn parse(attributes: &[u8]) -> Result<Self, DecodeError> {
        let mut stats = Self::default();
        read_attributes(attributes, |attribute| {
            let field = match attribute.kind() {
                IPVS_STATS_ATTR_CONNS => &mut stats.connections,
                IPVS_STATS_ATTR_INPKTS => &mut stats.in_packets,
                IPVS_STATS_ATTR_OUTPKTS => &mut stats.out_packets,
                IPVS_STATS_ATTR_INBYTES => &mut stats.in_bytes,
                IPVS_STATS_ATTR_OUTBYTES => &mut stats.out_bytes,
                IPVS_STATS_ATTR_CPS => &mut stats.connection_rate,
                IPVS_STATS_ATTR_INPPS => &mut stats.in_packet_rate,
                IPVS_STATS_ATTR_OUTPPS => &mut stats.out_packet_rate,
                IPVS_STATS_ATTR_INBPS => &mut stats.in_byte_rate,
                IPVS_STATS_ATTR_OUTBPS => &mut stats.out_byte_rate,
                IPVS_STATS_ATTR_PAD => return Ok(()),
                _ => return keep(&mut stats.other, attribute),
            };
            *field = read_counter(attribute.value(), "counter")?;
            Ok(())
        })?;
        Ok(stats)
    }
}

/// Takes whichever of the two stats nests says more.
#[derive(Default)]
pub(crate) struct StatsChoice<'a> {
    narrow: Option<&'a [u8]>,
    wide: Option<&'a [u8]>,
}

impl<'a> StatsChoice<'a> {
    pub(crate) fn narrow(&mut self, nest: &'a [u8]) {
        self.narrow = Some(nest);
    }

    pub(crate) fn wide(&mut self, nest: &'a [u8]) {
        self.wide = Some(nest);
    }

    pub(crate) fn best(self) -> Result<Stats, DecodeError> {
        let nest = self.wide.or(self.narrow);
        nest.map_or_else(|| Ok(Stats::default()), Stats::parse)
    }
}
