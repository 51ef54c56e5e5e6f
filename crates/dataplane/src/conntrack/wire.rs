//! The part of ctnetlink we speak: a filtered dump, an entry, a deletion.
//!
//! Numbers are big-endian on this wire, headers and filter flags are not.
//! Constants bear the names of `linux/netfilter/nfnetlink_conntrack.h`.

use std::net::IpAddr;

use kube_ipvs_core::state::Family;
use netlink_exchange::nfnetlink::{self, message_type};
use netlink_exchange::{Writer, attributes};

use super::{Entry, Filter, Tuple};

const NFNL_SUBSYS_CTNETLINK: u8 = 1;
pub(super) const CT_NEW: u16 = message_type(NFNL_SUBSYS_CTNETLINK, 0);
pub(super) const CT_GET: u16 = message_type(NFNL_SUBSYS_CTNETLINK, 1);
pub(super) const CT_DELETE: u16 = message_type(NFNL_SUBSYS_CTNETLINK, 2);

const NLA_F_NESTED: u16 = 0x8000;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;

const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const CTA_FILTER_F_CTA_IP_DST: u32 = 1 << 1;
const CTA_FILTER_F_CTA_PROTO_NUM: u32 = 1 << 3;
const CTA_FILTER_F_CTA_PROTO_DST_PORT: u32 = 1 << 5;

/// What a deletion must carry to hit this entry and no other: the original
/// tuple, the zone and the id, as the kernel gave them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Handle(Vec<u8>);

/// A body with the `nfgenmsg` that follows each netlink header.
fn body_of(family: Family) -> Vec<u8> {
    let number = match family {
        Family::V4 => 2,
        Family::V6 => 10,
    };
    nfnetlink::header(number, 0).to_vec()
}

/// The body of a dump request. Kernels before 5.8 do not know `CTA_FILTER`
/// and list everything.
pub(super) fn dump_body(filter: &Filter) -> Vec<u8> {
    // Not for IPv6: Linux 6.1 leaves out the address asked for.
    let address = filter.front.and_then(|front| match front.address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    let mut flags = CTA_FILTER_F_CTA_PROTO_NUM;
    if filter.front.is_some() {
        flags |= CTA_FILTER_F_CTA_PROTO_DST_PORT;
    }
    if address.is_some() {
        flags |= CTA_FILTER_F_CTA_IP_DST;
    }

    let mut body = body_of(filter.family);
    let mut out = Writer::new(&mut body);
    out.nest(CTA_TUPLE_ORIG, |out| {
        if let Some(address) = address {
            out.nest(CTA_TUPLE_IP, |out| {
                out.bytes(CTA_IP_V4_DST, &address.octets())
            });
        }
        out.nest(CTA_TUPLE_PROTO, |out| {
            out.u8(CTA_PROTO_NUM, filter.protocol.number());
            if let Some(front) = filter.front {
                out.be16(CTA_PROTO_DST_PORT, front.port);
            }
        });
    });
    out.nest(CTA_FILTER, |out| {
        out.u32(CTA_FILTER_ORIG_FLAGS, flags);
        out.u32(CTA_FILTER_REPLY_FLAGS, 0);
    });
    body
}

/// The body of a dump request without a filter, but for the family.
pub(super) fn plain_dump_body(family: Family) -> Vec<u8> {
    body_of(family)
}

/// The body of a deletion.
pub(super) fn delete_body(family: Family, handle: &Handle) -> Vec<u8> {
    let mut body = body_of(family);
    body.extend(&handle.0);
    body
}

/// Reads an entry of a dump: what follows the netlink header. `None` for one
/// that lacks what every entry has.
pub(super) fn parse(body: &[u8]) -> Option<(Entry, Handle)> {
    let (mut original, mut reply) = (None, None);
    let mut handle = Vec::new();
    let mut out = Writer::new(&mut handle);
    let mut has_id = false;
    let read = attributes::read(body.get(nfnetlink::HEADER..)?, |attribute| {
        let value = attribute.value();
        match attribute.kind() {
            CTA_TUPLE_ORIG => {
                original = tuple(value);
                // Without this attribute a deletion would empty the whole table.
                out.bytes(CTA_TUPLE_ORIG | NLA_F_NESTED, value);
            }
            CTA_TUPLE_REPLY => reply = tuple(value),
            CTA_ID => {
                has_id = true;
                out.bytes(CTA_ID, value);
            }
            CTA_ZONE => out.bytes(CTA_ZONE, value),
            _ => {}
        }
        Ok(())
    });
    read.ok()?;
    let entry = Entry {
        original: original?,
        reply: reply?,
    };
    has_id.then_some((entry, Handle(handle)))
}

fn tuple(value: &[u8]) -> Option<Tuple> {
    let (mut source, mut destination, mut protocol) = (None, None, None);
    let (mut source_port, mut destination_port) = (None, None);
    let read = attributes::read(value, |part| {
        attributes::read(part.value(), |attribute| {
            let value = attribute.value();
            match (part.kind(), attribute.kind()) {
                (CTA_TUPLE_IP, CTA_IP_V4_SRC | CTA_IP_V6_SRC) => source = address(value),
                (CTA_TUPLE_IP, CTA_IP_V4_DST | CTA_IP_V6_DST) => destination = address(value),
                (CTA_TUPLE_PROTO, CTA_PROTO_NUM) => protocol = value.first().copied(),
                (CTA_TUPLE_PROTO, CTA_PROTO_SRC_PORT) => {
                    source_port = Some(attributes::be16(value, "source port")?);
                }
                (CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT) => {
                    destination_port = Some(attributes::be16(value, "destination port")?);
                }
                _ => {}
            }
            Ok(())
        })
    });
    read.ok()?;
    Some(Tuple {
        source: source?,
        source_port: source_port.unwrap_or(0),
        destination: destination?,
        destination_port: destination_port.unwrap_or(0),
        protocol: protocol?,
    })
}

fn address(value: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(value).map(IpAddr::from);
    v4.or(v6).ok()
}
