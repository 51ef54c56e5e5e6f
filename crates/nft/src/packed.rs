//! Elements as the kernel has them, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use crate::element::{Element, Front, Ports, Protocol};
use crate::set::Shape;
use crate::wire::{Data, Item, Key};
use crate::{Family, Set};

/// The bytes of an address in a packet.
pub(crate) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

fn address_key(key: Key, address: IpAddr) -> Key {
    match address {
        IpAddr::V4(address) => key.with(&address.octets()),
        IpAddr::V6(address) => key.with(&address.octets()),
    }
}

/// The address behind another, if it is not the last.
fn following(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4)
            .checked_add(1)
            .map(Ipv4Addr::from)
            .map(IpAddr::V4),
        IpAddr::V6(v6) => u128::from(v6)
            .checked_add(1)
            .map(Ipv6Addr::from)
            .map(IpAddr::V6),
    }
}

/// A network in a set of one part: where it begins, and where it is over.
pub(crate) fn network_items(network: &IpNet, items: &mut Vec<Item>) {
    items.push(Item::new(address_key(Key::EMPTY, network.network())));
    items.extend(following(network.broadcast()).map(|behind| Item {
        ends: true,
        ..Item::new(address_key(Key::EMPTY, behind))
    }));
}

impl Front {
    fn key(&self) -> Key {
        address_key(Key::EMPTY, self.address)
            .with(&[self.protocol as u8])
            .with(&self.port.to_be_bytes())
    }
}

impl Element {
    /// What the kernel has of it: mostly one, of a network its begin and end.
    pub(crate) fn items(&self, set: Set, items: &mut Vec<Item>) {
        match self {
            Self::Address(address) => {
                let mut key = address_key(Key::EMPTY, *address);
                if set.shape() == Shape::Pair {
                    key = address_key(key, *address);
                }
                items.push(Item::new(key));
            }
            Self::Front(front) => items.push(Item::new(front.key())),
            Self::Class(front, class) => items.push(Item {
                data: Some(Data::Goto(*class)),
                ..Item::new(front.key())
            }),
            Self::Mark(front, mark) => items.push(Item {
                data: Some(Data::Mark(mark.to_ne_bytes())),
                ..Item::new(front.key())
            }),
            Self::Network(network) => network_items(network, items),
            Self::Source(ports, network) => {
                let last = Front {
                    port: ports.last,
                    ..ports.front
                };
                items.push(Item {
                    last: Some(address_key(last.key(), network.broadcast())),
                    ..Item::new(address_key(ports.front.key(), network.network()))
                });
            }
        }
    }
}

/// Reads the elements of a set. What no element of ours looks like comes as
/// text. A range that is no network becomes several.
pub(crate) fn read_items(set: Set, family: Family, items: &[Item]) -> (Vec<Element>, Vec<String>) {
    if set.shape() == Shape::Network {
        return read_networks(family, items);
    }
    let (mut elements, mut strange) = (Vec::with_capacity(items.len()), Vec::new());
    for item in items {
        let read = read_item(set, family, item).filter(|read| !read.is_empty());
        match read {
            Some(read) => elements.extend(read),
            None => strange.push(item.to_string()),
        }
    }
    (elements, strange)
}

/// Reads one element, but of a set of networks, where begin and end are two.
pub(crate) fn read_item(set: Set, family: Family, item: &Item) -> Option<Vec<Element>> {
    let mut parts = Parts::of(family, &item.key);
    let shape = set.shape();
    if item.ends || (item.last.is_some() && shape != Shape::Source) {
        return None;
    }
    let element = match shape {
        Shape::Address => Element::Address(parts.address()?),
        Shape::Pair => {
            let (one, other) = (parts.address()?, parts.address()?);
            (one == other).then_some(Element::Address(one))?
        }
        Shape::Front if item.data.is_none() => Element::Front(parts.front()?),
        Shape::Class => match item.data? {
            Data::Goto(class) => Element::Class(parts.front()?, class),
            Data::Mark(_) => return None,
        },
        Shape::Mark => match item.data? {
            Data::Mark(mark) => Element::Mark(parts.front()?, u32::from_ne_bytes(mark)),
            Data::Goto(_) => return None,
        },
        Shape::Source => return read_source(family, item),
        Shape::Front | Shape::Network => return None,
    };
    let is_map = matches!(shape, Shape::Class | Shape::Mark);
    (parts.is_over() && item.data.is_some() == is_map).then(|| vec![element])
}

/// Reads a front of a set.
pub(crate) fn read_front(family: Family, item: &Item) -> Option<Front> {
    let mut parts = Parts::of(family, &item.key);
    let front = parts.front()?;
    parts.is_over().then_some(front)
}

fn read_source(family: Family, item: &Item) -> Option<Vec<Element>> {
    let last = item.last.unwrap_or(item.key);
    let (mut first, mut last) = (Parts::of(family, &item.key), Parts::of(family, &last));
    let (front, end) = (first.front()?, last.front()?);
    let same = (front.address, front.protocol) == (end.address, end.protocol);
    let (from, to) = (first.address()?, last.address()?);
    if !same || front.port > end.port || from > to || !first.is_over() || !last.is_over() {
        return None;
    }
    let ports = Ports {
        front,
        last: end.port,
    };
    let networks = networks(from, to).into_iter();
    Some(networks.map(|net| Element::Source(ports, net)).collect())
}

/// Begins and ends of intervals, in whatever order.
fn read_networks(family: Family, items: &[Item]) -> (Vec<Element>, Vec<String>) {
    let mut sorted: Vec<&Item> = items.iter().collect();
    // Where one interval ends and the next begins, the end comes first.
    sorted.sort_unstable_by_key(|item| (item.key, !item.ends));
    let (mut elements, mut strange) = (Vec::new(), Vec::new());
    let mut open = None;
    for item in sorted {
        let address = Parts::of(family, &item.key).address();
        match (address, open) {
            (Some(from), None) if !item.ends => open = Some(from),
            (Some(end), Some(from)) if item.ends => {
                elements.extend(until(from, end).into_iter().map(Element::Network));
                open = None;
            }
            // nft says of what lies before the first interval that it is in none.
            (Some(_), None) if item.key.bytes().iter().all(|byte| *byte == 0) => {}
            _ => strange.push(item.to_string()),
        }
    }
    if let Some(from) = open {
        let to: IpAddr = match family {
            Family::Ip => Ipv4Addr::BROADCAST.into(),
            Family::Ip6 => Ipv6Addr::from(u128::MAX).into(),
        };
        elements.extend(networks(from, to).into_iter().map(Element::Network));
    }
    (elements, strange)
}

/// The networks from one address up to another that is none of them.
fn until(from: IpAddr, end: IpAddr) -> Vec<IpNet> {
    let before = match end {
        IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).saturating_sub(1).into()),
        IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).saturating_sub(1).into()),
    };
    networks(from, before)
}

fn networks(from: IpAddr, to: IpAddr) -> Vec<IpNet> {
    match (from, to) {
        (IpAddr::V4(a), IpAddr::V4(b)) => Ipv4Subnets::new(a, b, 0).map(IpNet::V4).collect(),
        (IpAddr::V6(a), IpAddr::V6(b)) => Ipv6Subnets::new(a, b, 0).map(IpNet::V6).collect(),
        _ => Vec::new(),
    }
}

/// The parts of a key, four bytes or several times that each.
struct Parts<'a> {
    family: Family,
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(family: Family, key: &'a Key) -> Self {
        let rest = key.bytes();
        Self { family, rest }
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (part, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*part)
    }

    fn address(&mut self) -> Option<IpAddr> {
        Some(match self.family {
            Family::Ip => IpAddr::from(self.take::<4>()?),
            Family::Ip6 => IpAddr::from(self.take::<16>()?),
        })
    }

    fn front(&mut self) -> Option<Front> {
        let address = self.address()?;
        let [protocol, ..] = self.take::<4>()?;
        let [high, low, ..] = self.take::<4>()?;
        Some(Front {
            address,
            protocol: Protocol::from_number(protocol)?,
            port: u16::from_be_bytes([high, low]),
        })
    }

    fn is_over(&self) -> bool {
        self.rest.is_empty()
    }
}
