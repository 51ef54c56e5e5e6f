//! The requests we send: pure functions from what is wanted to a message.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoKind, LinkAttribute, LinkExtentMask, LinkFlags,
    LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::socket::Request;
use crate::{ROUTE_METRIC, ROUTE_PROTOCOL};

/// The routing table the kernel consults first, for what is delivered locally.
pub(crate) const TABLE_LOCAL: u8 = 255;

pub(crate) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// 32 or 128.
pub(crate) fn host_prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Equal to `ip address add VIP/32 dev LINK`, with `nodad` for IPv6.
pub(crate) fn add_address(link: u32, vip: IpAddr) -> Request {
    let mut message = address(link, vip);
    if vip.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    Request {
        message: RouteNetlinkMessage::NewAddress(message),
        flags: NLM_F_CREATE | NLM_F_EXCL,
    }
}

/// Equal to `ip address del VIP/32 dev LINK`.
pub(crate) fn remove_address(link: u32, vip: IpAddr) -> Request {
    Request {
        message: RouteNetlinkMessage::DelAddress(address(link, vip)),
        flags: 0,
    }
}

fn address(link: u32, vip: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(vip);
    message.header.prefix_len = host_prefix(vip);
    message.header.scope = AddressScope::Universe;
    message.header.index = link;
    message.attributes = vec![AddressAttribute::Local(vip), AddressAttribute::Address(vip)];
    message
}

/// Equal to `ip route replace local VIP dev LINK src SOURCE metric METRIC proto PROTOCOL`.
///
/// The metric is not that of the routes the kernel makes for addresses, so
/// that `replace` finds only ours.
pub(crate) fn add_route(link: u32, vip: IpAddr, source: Option<IpAddr>) -> Request {
    let mut message = route(link, vip);
    if let Some(source) = source {
        message
            .attributes
            .push(RouteAttribute::PrefSource(source.into()));
    }
    Request {
        message: RouteNetlinkMessage::NewRoute(message),
        flags: NLM_F_CREATE | NLM_F_REPLACE,
    }
}

/// Equal to `ip route del local VIP dev LINK metric METRIC proto PROTOCOL`.
pub(crate) fn remove_route(link: u32, vip: IpAddr) -> Request {
    Request {
        message: RouteNetlinkMessage::DelRoute(route(link, vip)),
        flags: 0,
    }
}

fn route(link: u32, vip: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(vip);
    message.header.destination_prefix_length = host_prefix(vip);
    message.header.table = TABLE_LOCAL;
    message.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    message.header.scope = RouteScope::Host;
    message.header.kind = RouteType::Local;
    message.attributes = vec![
        RouteAttribute::Destination(vip.into()),
        RouteAttribute::Oif(link),
        RouteAttribute::Priority(ROUTE_METRIC),
    ];
    message
}

/// Equal to `ip link add LINK type dummy`.
pub(crate) fn add_link(name: &str) -> Request {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Dummy)]),
    ];
    Request {
        message: RouteNetlinkMessage::NewLink(message),
        flags: NLM_F_CREATE | NLM_F_EXCL,
    }
}

/// Equal to `ip link set LINK addrgenmode none`.
pub(crate) fn no_autoconf_address(link: u32) -> Request {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let mut message = LinkMessage::default();
    message.header.index = link;
    message.attributes = vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
        vec![mode],
    )])];
    Request {
        message: RouteNetlinkMessage::SetLink(message),
        flags: 0,
    }
}

/// Equal to `ip link set LINK up arp off`.
pub(crate) fn up(link: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = link;
    message.header.flags = LinkFlags::Up | LinkFlags::Noarp;
    message.header.change_mask = LinkFlags::Up | LinkFlags::Noarp;
    Request {
        message: RouteNetlinkMessage::SetLink(message),
        flags: 0,
    }
}

/// Equal to `ip link del LINK`.
pub(crate) fn remove_link(link: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = link;
    Request {
        message: RouteNetlinkMessage::DelLink(message),
        flags: 0,
    }
}

/// Equal to `ip link show LINK`.
pub(crate) fn get_link(name: &str) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]),
    ];
    RouteNetlinkMessage::GetLink(message)
}

/// Equal to `ip link show`.
pub(crate) fn list_links() -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    RouteNetlinkMessage::GetLink(message)
}

/// Equal to `ip address show [dev LINK]`.
pub(crate) fn list_addresses(link: Option<u32>) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.index = link.unwrap_or(0);
    RouteNetlinkMessage::GetAddress(message)
}

/// Equal to `ip [-6] route show table local type local dev LINK proto PROTOCOL`.
pub(crate) fn list_our_routes(family: AddressFamily, link: u32) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = TABLE_LOCAL;
    message.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    message.header.kind = RouteType::Local;
    message.attributes = vec![
        RouteAttribute::Table(u32::from(TABLE_LOCAL)),
        RouteAttribute::Oif(link),
    ];
    RouteNetlinkMessage::GetRoute(message)
}

/// Equal to `ip [-6] route show table main`.
pub(crate) fn list_main_routes(family: AddressFamily) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = netlink_packet_route::route::RouteHeader::RT_TABLE_MAIN;
    message.attributes = vec![RouteAttribute::Table(254)];
    RouteNetlinkMessage::GetRoute(message)
}
