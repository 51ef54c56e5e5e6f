//! The part of ctnetlink we speak: a filtered dump, an entry, a deletion.
//!
//! Numbers are big-endian on this wire, headers and filter flags are not.
//! Constants bear the names of `linux/netfilter/nfnetlink_conntrack.h`.

use std::net::IpAddr;

use kube_ipvs_core::state::Family;

use super::{Entry, Filter, Tuple};
use crate::dataplane::netfilter::attributes;

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
pub(super) const CT_NEW: u16 = NFNL_SUBSYS_CTNETLINK << 8;
pub(super) const CT_GET: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 1;
pub(super) const CT_DELETE: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 2;

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

/// The `nfgenmsg` that follows each netlink header.
pub(super) fn family_header(family: Family) -> [u8; 4] {
    let number = match family {
        Family::V4 => 2,
        Family::V6 => 10,
    };
    [number, 0, 0, 0]
}

/// The body of a dump request. Kernels before 5.8 do not know `CTA_FILTER`
/// and list everything.
pub(super) fn dump_body(filter: &Filter) -> Vec<u8> {
    let mut flags = CTA_FILTER_F_CTA_PROTO_NUM;
    let mut tuple = Vec::new();
    let mut proto = Vec::new();
    push(&mut proto, CTA_PROTO_NUM, &[filter.protocol.number()]);
    if let Some(front) = filter.front {
        flags |= CTA_FILTER_F_CTA_PROTO_DST_PORT;
        // Not for IPv6: Linux 6.1 leaves out the address asked for.
        if let IpAddr::V4(address) = front.address {
            flags |= CTA_FILTER_F_CTA_IP_DST;
            let mut ip = Vec::new();
            push(&mut ip, CTA_IP_V4_DST, &address.octets());
            push(&mut tuple, CTA_TUPLE_IP | NLA_F_NESTED, &ip);
        }
        push(&mut proto, CTA_PROTO_DST_PORT, &front.port.to_be_bytes());
    }
    push(&mut tuple, CTA_TUPLE_PROTO | NLA_F_NESTED, &proto);

    let mut what = Vec::new();
    push(&mut what, CTA_FILTER_ORIG_FLAGS, &flags.to_ne_bytes());
    push(&mut what, CTA_FILTER_REPLY_FLAGS, &0u32.to_ne_bytes());

    let mut body = family_header(filter.family).to_vec();
    push(&mut body, CTA_TUPLE_ORIG | NLA_F_NESTED, &tuple);
    push(&mut body, CTA_FILTER | NLA_F_NESTED, &what);
    body
}

/// The body of a dump request without a filter, but for the family.
pub(super) fn plain_dump_body(family: Family) -> Vec<u8> {
    family_header(family).to_vec()
}

/// The body of a deletion.
pub(super) fn delete_body(family: Family, handle: &Handle) -> Vec<u8> {
    let mut body = family_header(family).to_vec();
    body.extend(&handle.0);
    body
}

/// Reads an entry of a dump: what follows the netlink header. `None` for one
/// that lacks what every entry has.
pub(super) fn parse(body: &[u8]) -> Option<(Entry, Handle)> {
    let (mut original, mut reply) = (None, None);
    let mut handle = Vec::new();
    let mut has_id = false;
    for (kind, value) in attributes(body.get(4..)?) {
        match kind {
            CTA_TUPLE_ORIG => {
                original = tuple(value);
                // Without this attribute a deletion would empty the whole table.
                push(&mut handle, CTA_TUPLE_ORIG | NLA_F_NESTED, value);
            }
            CTA_TUPLE_REPLY => reply = tuple(value),
            CTA_ID => {
                has_id = true;
                push(&mut handle, CTA_ID, value);
            }
            CTA_ZONE => push(&mut handle, CTA_ZONE, value),
            _ => {}
        }
    }
    let entry = Entry {
        original: original?,
        reply: reply?,
    };
    has_id.then_some((entry, Handle(handle)))
}

fn tuple(value: &[u8]) -> Option<Tuple> {
    let (mut source, mut destination, mut protocol) = (None, None, None);
    let (mut source_port, mut destination_port) = (0, 0);
    for (kind, value) in attributes(value) {
        for (inner, value) in attributes(value) {
            match (kind, inner) {
                (CTA_TUPLE_IP, CTA_IP_V4_SRC | CTA_IP_V6_SRC) => source = address(value),
                (CTA_TUPLE_IP, CTA_IP_V4_DST | CTA_IP_V6_DST) => destination = address(value),
                (CTA_TUPLE_PROTO, CTA_PROTO_NUM) => protocol = value.first().copied(),
                (CTA_TUPLE_PROTO, CTA_PROTO_SRC_PORT) => source_port = port(value)?,
                (CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT) => destination_port = port(value)?,
                _ => {}
            }
        }
    }
    Some(Tuple {
        source: source?,
        source_port,
        destination: destination?,
        destination_port,
        protocol: protocol?,
    })
}

fn address(value: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(value).map(IpAddr::from);
    v4.or(v6).ok()
}

fn port(value: &[u8]) -> Option<u16> {
    value.try_into().ok().map(u16::from_be_bytes)
}

/// Appends one attribute, padded.
fn push(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).expect("our attributes are short");
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}
