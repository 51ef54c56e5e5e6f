//! The host's own addresses and gateways.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netlink_packet_core::Parseable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressMessage, AddressScope,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia,
};

use crate::Result;
use crate::link::{self, Link};
use crate::message;
use crate::socket::RouteSocket;

/// An address of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAddress {
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
    /// The name of the link it is on.
    pub link: String,
    /// The index of that link.
    pub link_index: u32,
    /// `Universe` (`ip` says `global`), `Site`, `Link`, `Host`, ...
    pub scope: AddressScope,
    /// For IPv4 a further address of the same network; for IPv6 a temporary one.
    pub secondary: bool,
    /// No longer to be used for new connections.
    pub deprecated: bool,
    /// Not usable yet, or never: duplicate address detection runs or has failed.
    pub tentative: bool,
}

impl HostAddress {
    /// Valid beyond its link, which loopback and link-local addresses are not.
    pub fn is_global(&self) -> bool {
        matches!(self.scope, AddressScope::Universe | AddressScope::Site)
            && !self.address.is_loopback()
    }
}

/// All addresses that are not on the link named.
pub(crate) fn addresses(socket: &mut RouteSocket, except: &str) -> Result<Vec<HostAddress>> {
    // Of VIPs there may be ten thousand: they are told by their link alone.
    let passed = link::find(socket, except)?.map(|link| link.index);
    // Links last: an address that is listed has its link listed too, unless it
    // went away meanwhile, and then the address is gone as well.
    let found = socket.dump("list addresses", message::list_addresses(None), |content| {
        if Some(AddressHeader::parse(content.payload)?.index) == passed {
            return Ok(None);
        }
        AddressMessage::parse(content.payload).map(Some)
    })?;
    let links: BTreeMap<u32, String> = socket
        .dump("list links", message::list_links(), |content| {
            let link = Link::parse(content.payload).ok_or("a link without index or name")?;
            Ok(Some((link.index, link.name)))
        })?
        .into_iter()
        .collect();
    let mut all: Vec<_> = found
        .iter()
        .filter_map(|message| host_address(message, links.get(&message.header.index)?))
        .filter(|address| address.link != except)
        .collect();
    all.sort_by_key(|address| (address.link_index, address.address));
    Ok(all)
}

fn host_address(message: &AddressMessage, link: &str) -> Option<HostAddress> {
    let flags = flags(message);
    Some(HostAddress {
        address: local_address(message)?,
        prefix: message.header.prefix_len,
        link: link.into(),
        link_index: message.header.index,
        scope: message.header.scope,
        secondary: flags.contains(AddressFlags::Secondary),
        deprecated: flags.contains(AddressFlags::Deprecated),
        tentative: flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
    })
}

/// The flags: 32 bits where the kernel gives them, else the 8 of the header.
fn flags(message: &AddressMessage) -> AddressFlags {
    let header = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    let attribute = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Flags(flags) => Some(*flags),
            _ => None,
        });
    attribute.unwrap_or(header)
}

/// The address on this side: IPv6 gives it as `IFA_ADDRESS` alone, IPv4 as
/// `IFA_LOCAL`, where `IFA_ADDRESS` is the peer's on a point-to-point link.
pub(crate) fn local_address(message: &AddressMessage) -> Option<IpAddr> {
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(local) => return Some(*local),
            AddressAttribute::Address(other) => address = Some(*other),
            _ => {}
        }
    }
    address
}

/// The next hops of the default routes, of both families.
pub(crate) fn default_gateways(socket: &mut RouteSocket) -> Result<BTreeSet<IpAddr>> {
    let mut all = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let request = message::list_main_routes(family);
        let found = socket.dump("list default routes", request, |content| {
            let route = RouteMessage::parse(content.payload)?;
            Ok(Some(gateways(&route)))
        })?;
        all.extend(found.into_iter().flatten());
    }
    Ok(all)
}

/// The next hops of one route, if it is a default route.
fn gateways(route: &RouteMessage) -> Vec<IpAddr> {
    if route.header.destination_prefix_length != 0 || route.header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let hops = route
        .attributes
        .iter()
        .flat_map(|attribute| match attribute {
            RouteAttribute::MultiPath(hops) => {
                hops.iter().flat_map(|hop| &hop.attributes).collect()
            }
            other => vec![other],
        });
    hops.filter_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    })
    .collect()
}

pub(crate) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}
