//! Whatever comes: no panic; and what was written is what is read.

use netlink_exchange::{Content, Request, Writer};
use proptest::prelude::*;

use crate::packed::read_items;
use crate::set::Shape;
use crate::wire::{Key, Kind, decode};
use crate::{Class, Config, Elements, Family, Set, check};

use super::{elements, written};

fn any_kind() -> impl Strategy<Value = u16> {
    let kinds = [
        Kind::NewChain,
        Kind::NewRule,
        Kind::NewSet,
        Kind::NewSetElem,
        Kind::GetGen,
    ];
    proptest::sample::select(kinds.map(Kind::message_type).to_vec())
}

/// Bytes of messages with some of them changed.
fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
    let captures = [super::v4().told, super::v4().sent, super::v6().sent];
    let messages: Vec<Vec<u8>> = captures
        .into_iter()
        .flat_map(super::messages)
        .map(|content| content.payload.to_vec())
        .collect();
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (proptest::sample::select(messages), changes).prop_map(|(mut bytes, changes)| {
        for (at, to) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = to;
            }
        }
        bytes
    })
}

fn front(v6: bool) -> impl Strategy<Value = String> {
    (any::<u128>(), 0usize..3, any::<u16>()).prop_map(move |(bits, protocol, port)| {
        let protocol = ["tcp", "udp", "sctp"][protocol];
        format!("{} . {protocol} . {port}", address(v6, bits))
    })
}

fn address(v6: bool, bits: u128) -> std::net::IpAddr {
    if v6 {
        std::net::Ipv6Addr::from(bits).into()
    } else {
        std::net::Ipv4Addr::from(bits as u32).into()
    }
}

fn network(v6: bool) -> impl Strategy<Value = ipnet::IpNet> {
    let longest: u8 = if v6 { 128 } else { 32 };
    (any::<u128>(), 0..=longest).prop_map(move |(bits, prefix)| {
        let network = ipnet::IpNet::new(address(v6, bits), prefix);
        network.expect("a prefix of the family").trunc()
    })
}

/// Elements of every shape, a few of each.
fn any_elements(v6: bool) -> impl Strategy<Value = Elements> {
    let addresses = proptest::collection::btree_set(any::<u128>(), 0..5);
    let fronts = proptest::collection::btree_set(front(v6), 0..5);
    let class = proptest::sample::select(Class::all().collect::<Vec<_>>());
    let classes = proptest::collection::btree_map(front(v6), class, 0..5);
    let marks = proptest::collection::btree_map(front(v6), 1u32..0x4000, 0..5);
    let sources = proptest::collection::btree_map((front(v6), any::<u16>()), network(v6), 0..5);
    let networks = proptest::collection::vec(network(v6), 0..5);
    (addresses, fronts, classes, marks, sources, networks).prop_map(move |all| {
        let (addresses, fronts, classes, marks, sources, networks) = all;
        let texts: std::collections::BTreeSet<String> = addresses
            .into_iter()
            .map(|bits| address(v6, bits).to_string())
            .collect();
        let classes = classes
            .into_iter()
            .map(|(front, class)| format!("{front} : goto {class}"));
        let marks = marks
            .into_iter()
            .map(|(front, mark)| format!("{front} : {mark:#010x}"));
        let sources = sources.into_iter().map(|((front, more), net)| {
            let (_, port) = front.rsplit_once(" . ").expect("a front");
            let first: u16 = port.parse().expect("a port");
            match first.saturating_add(more) {
                last if last > first => format!("{front}-{last} . {net}"),
                _ => format!("{front} . {net}"),
            }
        });
        let mut all = Elements::from([
            (Set::Vips, texts.clone()),
            (Set::Hairpin, texts.clone()),
            (Set::UntrackedOwn, texts),
            (Set::UntrackedFronts, fronts.clone()),
            (Set::Served, fronts),
            (Set::Fronts, classes.collect()),
            (Set::InsideMarks, marks.collect()),
            (Set::AllowedSources, sources.collect()),
            (
                Set::ServiceCidrs,
                crate::aggregate(networks)
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            ),
        ]);
        all.retain(|_, texts| !texts.is_empty());
        all
    })
}

proptest! {
    #[test]
    fn nothing_that_comes_makes_it_panic(
        kind in any_kind(),
        bytes in prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), nearly_right()],
    ) {
        decode(kind, &bytes);
    }

    #[test]
    fn elements_survive_the_way_over_the_wire(
        (v6, texts) in any::<bool>().prop_flat_map(|v6| (Just(v6), any_elements(v6))),
    ) {
        let family = if v6 { Family::Ip6 } else { Family::Ip };
        prop_assert_eq!(check(&Config::new(family), &texts), Ok(()));
        let change = crate::TableChange { added: texts.clone(), ..Default::default() };
        let commands = crate::render_change(&Config::new(family), &change, |_| false).expect("valid");

        let mut read = Elements::new();
        for set in Set::ALL {
            let mut items = Vec::new();
            for command in commands.iter().filter(|command| matches!(
                command,
                crate::wire::Command::Elements { set: name, .. } if name == set.name()
            )) {
                let payload = written(command);
                let content = Content { message_type: command.message_type(), payload: &payload };
                elements(content, |item| items.extend(item)).expect("elements");
            }
            let (elements, strange) = read_items(set, family, &items);
            prop_assert_eq!(strange, Vec::<String>::new());
            if !elements.is_empty() {
                read.insert(set, elements.iter().map(ToString::to_string).collect());
            }
        }
        prop_assert_eq!(read, texts);
    }

    #[test]
    fn a_key_is_no_element_of_another_shape(bytes in proptest::collection::vec(any::<u8>(), 0..44)) {
        let Some(key) = Key::new(&bytes) else {
            prop_assert!(bytes.len() > 40);
            return Ok(());
        };
        prop_assert_eq!(key.bytes(), &bytes[..]);
        let item = crate::wire::Item::new(key);
        for set in Set::ALL.into_iter().filter(|set| set.shape() != Shape::Network) {
            let (elements, strange) = read_items(set, Family::Ip, &[item]);
            prop_assert_eq!(elements.len() + strange.len(), 1);
        }
    }

    #[test]
    fn what_is_long_stays_within_a_message(count in 1usize..3000) {
        let texts = (0..count as u128).map(|n| format!("{} . tcp . 80 . fd00::/64", address(true, n << 64 | 0xfd << 120)));
        let change = crate::TableChange {
            added: Elements::from([(Set::AllowedSources, texts.collect())]),
            ..Default::default()
        };
        let commands = crate::render_change(&Config::new(Family::Ip6), &change, |_| false).expect("valid");
        for command in commands.iter() {
            let mut bytes = Vec::new();
            let mut writer = Writer::new(&mut bytes);
            command.write(&mut writer);
            prop_assert!(!writer.is_too_long());
        }
        prop_assert!(commands.len() <= 64 || count > 64 * 400);
    }
}
