//! Bytes of the kernel and of nft 1.0.6, both ways.

use netlink_exchange::{Content, Request, Writer};

use super::expression::comment_of;
use super::{Expression, Item, Kind, ListedChain, ListedRule, ListedSet, elements, table_flags};
use crate::observe::{Observed, ReadSet};
use crate::wire::command::Command;
use crate::{Config, Elements, Family, LocalPods, Set, Unallocated, render_table};

#[path = "../../../tests/example/mod.rs"]
mod example;
mod properties;
mod tampered;

use example::{cluster_v4, cluster_v6, config_v4, config_v6};

/// What nft sent for the table when it was written as text, and what a kernel told
/// of it after that; and what one told of an earlier version's, that said the same.
struct Capture {
    config: Config,
    elements: Elements,
    sent: &'static [u8],
    told: &'static [u8],
    earlier: &'static [u8],
}

fn v4() -> Capture {
    Capture {
        config: config_v4(),
        elements: cluster_v4(),
        sent: include_bytes!("captures/nft-1.0.6-v4.bin"),
        told: include_bytes!("captures/linux-6.18-v4.bin"),
        earlier: include_bytes!("captures/earlier-v4.bin"),
    }
}

fn v6() -> Capture {
    Capture {
        config: config_v6(),
        elements: cluster_v6(),
        sent: include_bytes!("captures/nft-1.0.6-v6.bin"),
        told: include_bytes!("captures/linux-6.18-v6.bin"),
        earlier: include_bytes!("captures/earlier-v6.bin"),
    }
}

/// The messages in a capture.
fn messages(mut bytes: &[u8]) -> Vec<Content<'_>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let length = u32::from_ne_bytes(*bytes.first_chunk().expect("a header")) as usize;
        all.push(Content {
            message_type: u16::from_ne_bytes([bytes[4], bytes[5]]),
            payload: &bytes[16..length],
        });
        bytes = &bytes[length.next_multiple_of(4)..];
    }
    all
}

fn of(kind: Kind, bytes: &[u8]) -> Vec<Content<'_>> {
    let mut all = messages(bytes);
    all.retain(|content| content.message_type == kind.message_type());
    all
}

fn written(command: &Command) -> Vec<u8> {
    let mut bytes = Vec::new();
    command.write(&mut Writer::new(&mut bytes));
    bytes
}

/// nft puts in one that swaps the bytes of a protocol, which has one.
fn is_idle(expression: &Expression) -> bool {
    matches!(expression, Expression::Other { name, .. } if name == "byteorder")
}

fn rules(bytes: &[u8]) -> Vec<ListedRule> {
    let read = |content| ListedRule::read(content).expect("a rule");
    of(Kind::NewRule, bytes).into_iter().map(read).collect()
}

#[test]
fn our_rules_are_those_that_nft_makes_of_the_words() {
    for capture in [v4(), v6()] {
        let table = render_table(&capture.config, &capture.elements).expect("valid");
        let ours = table.iter().filter_map(|command| match command {
            Command::AddRule {
                chain, expressions, ..
            } => Some((chain.as_ref(), expressions)),
            _ => None,
        });
        let ours: Vec<_> = ours.collect();
        let theirs = rules(capture.sent);
        assert_eq!(ours.len(), theirs.len());
        for ((chain, expressions), mut rule) in ours.into_iter().zip(theirs) {
            rule.expressions.retain(|expression| !is_idle(expression));
            assert_eq!(chain, rule.chain);
            assert_eq!(expressions.len(), rule.expressions.len(), "{rule:?}");
            for (one, other) in expressions.iter().zip(&rule.expressions) {
                assert!(one.is_listed_as(other), "{one} for {other}");
            }
        }
    }
}

/// Chains, and elements but for the one by which nft says that an interval does
/// not begin with the first address.
#[test]
fn our_chains_and_elements_have_the_bytes_of_nft() {
    for capture in [v4(), v6()] {
        let table = render_table(&capture.config, &capture.elements).expect("valid");
        let ours: Vec<Vec<u8>> = table
            .iter()
            .filter(|command| matches!(command, Command::AddChain { .. }))
            .map(written)
            .collect();
        let theirs = of(Kind::NewChain, capture.sent);
        // The first has another fingerprint.
        let theirs: Vec<_> = theirs.iter().map(|content| content.payload).collect();
        assert_eq!(ours[1..], theirs[1..]);

        let mut ours = Vec::new();
        for command in table.iter() {
            if let Command::Elements { items, .. } = command {
                ours.extend(items.iter().copied());
            }
        }
        let mut theirs = Vec::new();
        for content in of(Kind::NewSetElem, capture.sent) {
            elements(content, |item| theirs.extend(item)).expect("elements");
        }
        let first = |item: &Item| item.ends && item.key.bytes().iter().all(|byte| *byte == 0);
        theirs.retain(|item| !first(item));
        for items in [&mut ours, &mut theirs] {
            items.sort_unstable();
        }
        assert_eq!(ours, theirs);
    }
}

#[test]
fn what_nft_sent_is_read_and_written_again_to_the_byte() {
    let mut same = 0;
    for capture in [v4(), v6()] {
        for content in of(Kind::NewRule, capture.sent) {
            let mut rule = ListedRule::read(content).expect("a rule");
            rule.expressions.retain(|expression| !is_idle(expression));
            let again = Command::AddRule {
                place: capture.config.family.place(),
                chain: rule.chain.clone().into(),
                first: false,
                expressions: rule.expressions.clone(),
                among: 0,
                comment: None,
            };
            let again = written(&again);
            let bytes = Content {
                payload: &again,
                ..content
            };
            assert_eq!(ListedRule::read(bytes).expect("a rule"), rule);
            same += usize::from(again == content.payload);
        }
    }
    // nft adds the numbers of sets to look-ups and an operation to some masks.
    assert!(same >= 20, "{same}");
}

fn read(family: Family, told: &[u8]) -> Observed {
    let chains = of(Kind::NewChain, told).into_iter();
    let chains = chains.map(|content| ListedChain::read(content).expect("a chain"));
    let mut sets: Vec<ReadSet> = Vec::new();
    for content in of(Kind::NewSet, told) {
        let set = ListedSet::read(content).expect("a set");
        if !set.is_anonymous() && sets.iter().all(|(known, _)| known.name != set.name) {
            sets.push((set, Vec::new()));
        }
    }
    for content in of(Kind::NewSetElem, told) {
        let name = ListedSet::read(content).map(|set| set.name).ok();
        let set = sets
            .iter_mut()
            .find(|(set, _)| Some(&set.name) == name.as_ref());
        if let Some((_, items)) = set {
            elements(content, |item| items.push(item)).expect("elements");
        }
    }
    let table = of(Kind::NewTable, told).into_iter().map(table_flags);
    let flags = table.map(|flags| flags.expect("flags")).next();
    Observed::new(
        family,
        flags.unwrap_or_default(),
        chains.collect(),
        rules(told),
        &sets,
    )
}

/// A table that was written as text: its rules are ours but for the name.
#[test]
fn what_a_kernel_told_of_the_table_is_read() {
    for capture in [v4(), v6()] {
        let observed = read(capture.config.family, capture.told);
        assert_eq!(observed.elements, capture.elements);
        assert_eq!(observed.strange, Vec::<String>::new());
        assert!(observed.fingerprint.is_some());
        assert_eq!(observed.is_intact(&capture.config), Ok(false));
    }
}

/// `nft add table ip kube-ipvs { flags dormant; }` leaves no other trace.
#[test]
fn a_table_that_sleeps_is_not_intact() {
    const NFT_TABLE_F_DORMANT: u32 = 1;
    let mut bytes = Vec::new();
    let mut out = Writer::new(&mut bytes);
    out.header(&netlink_exchange::nfnetlink::header(2, 0));
    out.name(1, crate::TABLE);
    out.be32(2, NFT_TABLE_F_DORMANT);
    let told = Content {
        message_type: Kind::NewTable.message_type(),
        payload: &bytes,
    };
    let flags = table_flags(told).expect("flags");
    assert_eq!(flags, NFT_TABLE_F_DORMANT);

    let observed = Observed::new(Family::Ip, flags, Vec::new(), Vec::new(), &[]);
    assert_eq!(observed.strange[0], "table flags 0x1");
}

#[test]
fn an_element_is_found_by_its_place_in_the_message() {
    let capture = v4();
    let table = Command::AddTable(capture.config.family.place());
    assert_eq!(table.item_at(30), None);
    let items: Vec<Item> = (0..9u8)
        .map(|n| Item::new(super::Key::EMPTY.with(&[0xa0 + n; 4])))
        .collect();
    let command = Command::Elements {
        verb: super::Verb::Add,
        place: capture.config.family.place(),
        set: "vips".into(),
        number: None,
        items: items.clone(),
    };
    let bytes = written(&command);
    for (n, item) in items.iter().enumerate() {
        let key = item.key.bytes();
        let found = bytes.windows(4).rposition(|window| window == key);
        let at = found.expect("it is in there") + 16;
        assert_eq!(command.item_at(at as u32), Some(item), "{n}");
    }
    assert_eq!(command.item_at(20), None);
    assert_eq!(command.item_at(bytes.len() as u32 + 16), None);
}

#[test]
fn a_comment_is_kept_as_nft_keeps_it() {
    let bytes = super::expression::comment("kube-ipvs");
    assert_eq!(bytes, b"\x00\x0akube-ipvs\x00");
    assert_eq!(comment_of(&bytes).as_deref(), Some("kube-ipvs"));
    assert_eq!(comment_of(b"\x01\x01x\x00\x02y\x00").as_deref(), Some("y"));
    assert_eq!(comment_of(b"\x00\x0akube"), None);
}

/// It had a set for each thing that can be said of a front: that is
/// read in the words of today, and the table must be replaced.
#[test]
fn what_a_kernel_told_of_an_earlier_table_says_the_same_today() {
    for capture in [v4(), v6()] {
        let observed = read(capture.config.family, capture.earlier);
        assert_eq!(observed.elements, capture.elements);
        assert_eq!(observed.strange, Vec::<String>::new());
        assert_eq!(observed.is_intact(&capture.config), Ok(false));
    }
}

/// The kernel finds a rule's set by a number that no other of the transaction has.
#[test]
fn the_first_marks_of_both_families_bring_sets_of_different_numbers() {
    let pods = ["10.0.0.0/16", "10.2.0.0/16", "fd00::/64", "fd00:0:0:2::/64"];
    let pods = pods.map(|net| net.parse().expect("a network"));
    let mut numbers = Vec::new();
    for family in Family::ALL {
        let config = Config {
            local_pods: LocalPods::Cidrs(pods.into()),
            ..Config::new(family)
        };
        let change = crate::TableChange {
            marking: Some(true),
            ..Default::default()
        };
        let commands = crate::render_change(&config, &change, |_| true).expect("valid");
        numbers.extend(commands.iter().filter_map(|command| match command {
            Command::AddSet { number, .. } => Some(*number),
            _ => None,
        }));
    }
    let [first, second] = numbers[..] else {
        panic!("a set a family: {numbers:?}");
    };
    assert_ne!(first, second);
}
