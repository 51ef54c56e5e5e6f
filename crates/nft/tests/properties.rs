//! Whatever a caller gives: no panic, no broken text, and nothing in it that is not asked for.

use std::collections::BTreeSet;

use ipnet::{IpNet, Ipv4Net};
use kube_ipvs_nft::{
    Config, Elements, Family, LocalPods, Set, TableChange, aggregate, check, render_change,
    render_table,
};
use proptest::prelude::*;

fn one(set: Set, text: &str) -> Elements {
    Elements::from([(set, BTreeSet::from([text.to_owned()]))])
}

fn any_set() -> impl Strategy<Value = Set> {
    proptest::sample::select(Set::ALL.to_vec())
}

/// Near misses as well as noise.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[0-9a-f:./ ]{0,40}",
        "(10\\.0\\.0\\.1|fd00::1|::ffff:1\\.2\\.3\\.4)( \\. (tcp|udp|sctp|6|TCP)( \\. [0-9]{1,6}( (:|\\.) [0-9a-fx./]{1,12})?)?)?[ ;}#\n]?",
    ]
}

proptest! {
    #[test]
    fn an_element_is_written_as_one_element_or_refused(set in any_set(), text in any_text(), v6: bool) {
        // With all sets there, whatever is in them.
        let config = Config { untracked: true, ..Config::new(if v6 { Family::Ip6 } else { Family::Ip }) };
        let elements = one(set, &text);

        let Ok(table) = render_table(&config, &elements) else {
            prop_assert!(check(&config, &elements).is_err());
            return Ok(());
        };

        let empty = render_table(&config, &Elements::new()).expect("an empty table is valid");
        let marks = usize::from([Set::InsideMarks, Set::NodePortMarks].contains(&set));
        // A network begins, and mostly it ends before the last address.
        let ends = table.len() - empty.len() - 1 - marks;
        prop_assert!(ends <= usize::from(set == Set::ServiceCidrs));
        prop_assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || " .:/-".contains(c)), "{:?}", text);
        let change = TableChange { added: elements, ..TableChange::default() };
        let commands = render_change(&config, &change, |_| false).expect("valid in a table, valid in a change");
        prop_assert_eq!(commands.len(), 1 + marks + ends);
    }

    #[test]
    fn an_interface_name_is_one_that_nft_can_show(name in prop_oneof![any::<String>(), "[a-z\"*\\\\ ]{1,8}"]) {
        for local_pods in [LocalPods::Bridge(name.clone()), LocalPods::InterfacePrefix(name.clone())] {
            let config = Config { local_pods, ..Config::new(Family::Ip) };
            if render_table(&config, &Elements::new()).is_ok() {
                prop_assert!(name.chars().all(|c| c.is_ascii_graphic() && !"\"\\*/:$".contains(c)), "{:?}", name);
                prop_assert!((1..=15).contains(&name.len()));
            }
        }
    }

    #[test]
    fn aggregated_networks_never_overlap(networks in proptest::collection::vec((any::<u32>(), 0u8..=32), 0..20)) {
        let networks: Vec<IpNet> = networks
            .into_iter()
            .map(|(address, length)| IpNet::V4(Ipv4Net::new(address.into(), length).expect("at most 32")))
            .collect();
        let texts = aggregate(networks.clone()).into_iter().map(|net| format!("10.0.0.1 . tcp . 80 . {net}"));
        let elements = Elements::from([(Set::AllowedSources, texts.collect())]);

        prop_assert_eq!(check(&Config::new(Family::Ip), &elements), Ok(()));
        for net in networks {
            prop_assert!(aggregate([net]).iter().all(|net| aggregate([*net]).len() == 1));
        }
    }

    #[test]
    fn a_change_leads_there_and_back(
        before in proptest::collection::btree_set(0u8..20, 0..10),
        after in proptest::collection::btree_set(0u8..20, 0..10),
    ) {
        let elements = |numbers: &BTreeSet<u8>| {
            Elements::from([(Set::Vips, numbers.iter().map(|n| format!("10.96.0.{n}")).collect())])
        };
        let (before, after) = (elements(&before), elements(&after));

        let there = TableChange::between(&before, &after);
        let back = TableChange::between(&after, &before);

        prop_assert_eq!(&there.added, &back.removed);
        prop_assert_eq!(&there.removed, &back.added);
        prop_assert_eq!(there.is_empty(), before == after);
    }
}

fn refusal(set: Set, texts: &[&str]) -> String {
    let elements = Elements::from([(set, texts.iter().map(ToString::to_string).collect())]);
    match render_table(&Config::new(Family::Ip), &elements) {
        Ok(commands) => panic!("not refused:\n{commands}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn refusals_name_set_and_element() {
    assert_eq!(
        refusal(Set::Served, &["10.0.0.1 . tcp . 80 } ; flush ruleset"]),
        "set served: element \"10.0.0.1 . tcp . 80 } ; flush ruleset\": \
         expected address, protocol and port: 10.96.0.10 . tcp . 80"
    );
    assert_eq!(
        refusal(Set::Vips, &["fd00::1"]),
        "set vips: element \"fd00::1\" does not belong to family ip"
    );
    assert_eq!(
        refusal(Set::InsideMarks, &["10.0.0.1 . tcp . 80 : 0x00004001"]),
        "set inside-marks: element \"10.0.0.1 . tcp . 80 : 0x00004001\": mark 0, or it contains the accept bit or, without a need, the masquerade bit"
    );
    assert_eq!(
        refusal(
            Set::InsideMarks,
            &[
                "10.0.0.1 . tcp . 80 : 0x00000001",
                "10.0.0.1 . tcp . 80 : 0x00000002"
            ]
        ),
        "set inside-marks: \"10.0.0.1 . tcp . 80 : 0x00000001\" and \"10.0.0.1 . tcp . 80 : 0x00000002\": two marks for one front"
    );
    assert_eq!(
        refusal(
            Set::AllowedSources,
            &[
                "10.0.0.1 . tcp . 80 . 10.0.0.0/8",
                "10.0.0.1 . tcp . 80 . 10.0.0.0/16",
                "10.0.0.1 . tcp . 80 . 10.1.0.0/16",
            ]
        ),
        "set allowed-sources: \"10.0.0.1 . tcp . 80 . 10.0.0.0/8\" contains \
         \"10.0.0.1 . tcp . 80 . 10.0.0.0/16\": aggregate the networks of a front first"
    );
    assert!(
        refusal(Set::AllowedSources, &["10.0.0.1 . tcp . 80 . 10.0.0.1/8"])
            .contains("expected a front and a network")
    );
}

#[test]
fn networks_of_different_fronts_may_overlap() {
    let elements = Elements::from([(
        Set::AllowedSources,
        [
            "10.0.0.1 . tcp . 80 . 10.0.0.0/8".to_owned(),
            "10.0.0.1 . tcp . 81 . 10.1.0.0/16".to_owned(),
            "10.0.0.1 . udp . 80 . 10.1.0.0/16".to_owned(),
        ]
        .into(),
    )]);

    assert_eq!(check(&Config::new(Family::Ip), &elements), Ok(()));
}

#[test]
fn bits_that_make_no_sense_are_refused() {
    let with = |masquerade_bit, accept_bit| {
        let config = Config {
            masquerade_bit,
            accept_bit,
            ..Config::new(Family::Ip)
        };
        config.fingerprint().map_err(|error| error.to_string())
    };

    assert_eq!(
        with(32, None),
        Err("mark bit 32: a packet mark has bits 0 to 31".into())
    );
    assert_eq!(
        with(14, Some(14)),
        Err(
            "mark bit 14: used for masquerading and for accepting, choose another for one of them"
                .into()
        )
    );
    assert!(with(31, Some(0)).is_ok());
}

#[test]
fn masquerade_keeps_clear_of_node_ports() {
    let ports = |first: u16, last: u16| {
        let config = Config {
            node_ports: first..=last,
            ..Config::new(Family::Ip)
        };
        let table = render_table(&config, &Elements::new()).expect("valid");
        let table = table.to_string();
        let (before, _) = table.split_once("masq flags 0x12 ports reg 1 to reg 2")?;
        let loaded = before.rsplit("immediate reg ").take(2);
        let mut ports = loaded.map(|text| {
            let hex = text[4..].split_whitespace().next().expect("a number");
            u16::from_str_radix(hex, 16).expect("a port")
        });
        let (last, first) = (ports.next()?, ports.next()?);
        Some(format!(":{first}-{last}"))
    };

    assert_eq!(ports(30000, 32767).as_deref(), Some(":32768-65535"));
    assert_eq!(ports(40000, 60000).as_deref(), Some(":1024-39999"));
    assert_eq!(ports(60000, 65535).as_deref(), Some(":1024-59999"));
    assert_eq!(ports(1, 2000).as_deref(), Some(":2001-65535"));
    assert_eq!(ports(1, 80).as_deref(), Some(":1024-65535"));
    assert_eq!(ports(0, 65535), None);
    assert_eq!(ports(1024, 65535), None);
    assert_eq!(ports(2, 1), None);
}

#[test]
fn fingerprint_follows_the_configuration_only() {
    let config = Config::new(Family::Ip);
    let changed = [
        Config {
            masquerade_bit: 13,
            ..config.clone()
        },
        Config {
            accept_bit: Some(12),
            ..config.clone()
        },
        Config {
            node_ports: 20000..=22767,
            ..config.clone()
        },
        Config {
            local_pods: LocalPods::Bridge("cbr0".into()),
            ..config.clone()
        },
        Config {
            local_pods: LocalPods::InterfacePrefix("cbr0".into()),
            ..config.clone()
        },
        Config {
            untracked: true,
            ..config.clone()
        },
        Config {
            family: Family::Ip6,
            ..config.clone()
        },
    ];
    let all = std::iter::once(&config).chain(&changed);

    let fingerprints: BTreeSet<String> = all
        .map(|config| config.fingerprint().expect("valid"))
        .collect();

    assert_eq!(fingerprints.len(), changed.len() + 1);
    let other_family = LocalPods::Cidrs(vec!["fd00::/64".parse().expect("a network")]);
    let same = Config {
        local_pods: other_family,
        ..config.clone()
    };
    assert_eq!(same.fingerprint(), config.fingerprint());
}

#[test]
fn names_of_sets_are_read_back() {
    for set in Set::ALL {
        assert_eq!(Set::from_name(set.name()), Some(set));
    }
}

#[test]
fn networks_of_cluster_addresses_do_not_overlap() {
    let config = Config::new(Family::Ip);
    let both = |texts: [&str; 2]| {
        let texts = texts.map(str::to_owned);
        Elements::from([(Set::ServiceCidrs, BTreeSet::from(texts))])
    };
    assert_eq!(
        check(&config, &both(["10.96.0.0/16", "10.97.0.0/16"])),
        Ok(())
    );
    assert!(check(&config, &both(["10.96.0.0/12", "10.97.0.0/16"])).is_err());
    for bad in ["10.96.0.1/16", "10.96.0.0", "fd00::/64", "10.96.0.0/16 "] {
        assert!(
            check(&config, &one(Set::ServiceCidrs, bad)).is_err(),
            "{bad:?}"
        );
    }
}
