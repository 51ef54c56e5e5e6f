//! Attributes as IPVS has them, beyond those of every netlink family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{DecodeError, DefaultNla};

pub(crate) use netlink_exchange::Writer;
pub(crate) use netlink_exchange::attributes::{
    be16 as read_be16, counter as read_counter, name as read_name, read as read_attributes,
    text as read_text, u8 as read_u8, u16 as read_u16, u32 as read_u32,
};

use netlink_exchange::attributes::{Attribute, bytes};

use crate::Family;

/// Bytes of `struct genlmsghdr`.
pub(crate) const GENERIC_HEADER: usize = 4;

/// `struct genlmsghdr`, which follows the netlink header.
pub(crate) fn generic_header(command: u8, version: u8) -> [u8; GENERIC_HEADER] {
    [command, version, 0, 0]
}

/// An address as the kernel's `union nf_inet_addr`: 16 bytes, network order, an
/// IPv4 address in the first four.
pub(crate) fn write_address(out: &mut Writer<'_>, kind: u16, address: IpAddr) {
    let mut octets = [0; 16];
    match address {
        IpAddr::V6(v6) => octets = v6.octets(),
        IpAddr::V4(v4) => octets[..4].copy_from_slice(&v4.octets()),
    }
    out.bytes(kind, &octets);
}

/// Attributes this crate does not know, as they are.
pub(crate) fn write_other(out: &mut Writer<'_>, attributes: &[DefaultNla]) {
    for attribute in attributes {
        out.nla(attribute);
    }
}

/// Keep an attribute this crate does not know.
pub(crate) fn keep(
    other: &mut Vec<DefaultNla>,
    attribute: Attribute<'_>,
) -> Result<(), DecodeError> {
    other.push(attribute.to_owned()?);
    Ok(())
}

pub(crate) fn read_address(
    family: Family,
    value: &[u8],
    what: &str,
) -> Result<IpAddr, DecodeError> {
    Ok(match family {
        Family::V4 => Ipv4Addr::from(bytes::<4>(value, what)?).into(),
        Family::V6 => Ipv6Addr::from(bytes::<16>(value, what)?).into(),
    })
}
