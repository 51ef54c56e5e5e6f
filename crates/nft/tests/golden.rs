//! The commands as a reviewer reads them. After a wanted change: `INSTA_UPDATE=always cargo test -p kube-ipvs-nft`.

use kube_ipvs_nft::{
    Config, Elements, Family, Invalid, LocalPods, Set, TableChange, Unallocated, render_change,
    render_delete, render_table,
};

mod example;
#[path = "example/untracked.rs"]
mod untracked;

use example::{cluster_v4, cluster_v6, config_v4, config_v6, elements};

fn shown(config: &Config, elements: &Elements) -> String {
    render_table(config, elements).expect("valid").to_string()
}

#[test]
fn table_v4_with_pods_known_by_cidr() {
    let config = Config {
        local_pods: LocalPods::Cidrs(vec![
            "10.244.1.0/24".parse().expect("a network"),
            "fd00:244::/64".parse().expect("a network"),
        ]),
        ..config_v4()
    };
    insta::assert_snapshot!(shown(&config, &cluster_v4()));
}

#[test]
fn table_v6_with_pods_known_by_interface_and_an_accept_bit() {
    insta::assert_snapshot!(shown(&config_v6(), &cluster_v6()));
}

#[test]
fn empty_table_with_pods_unknown() {
    let config = Config {
        unallocated: Unallocated::Forward,
        ..Config::new(Family::Ip)
    };
    insta::assert_snapshot!(shown(&config, &Elements::new()));
}

/// Beyond the table of whom everything is tracked.
#[test]
fn what_is_untracked_is_sets_and_chains_of_its_own() {
    let config = untracked::config();
    let tracked = Config {
        untracked: false,
        ..config.clone()
    };
    let usual = shown(&tracked, &Elements::new());
    let usual: Vec<&str> = usual.split("add ").collect();
    let all = shown(&config, &untracked::untracked());
    let more = all.split("add ").filter(|command| !usual.contains(command));
    insta::assert_snapshot!(more.collect::<Vec<_>>().concat());
}

/// Elsewhere the set of this host's addresses says that an answer is its own.
#[test]
fn routes_are_asked_for_answers_where_pods_are_not_known_by_networks() {
    let asks = |local_pods| {
        let config = Config {
            local_pods,
            ..untracked::config()
        };
        let all = shown(&config, &untracked::untracked());
        let rules = all.split("rule ip kube-ipvs ");
        let ours = rules.filter(|rule| rule.starts_with("untracked"));
        ours.filter(|rule| rule.contains("[ fib ")).count()
    };
    let by_link = LocalPods::InterfacePrefix("veth".to_owned());
    let by_network = untracked::config().local_pods;
    assert_eq!([LocalPods::None, by_link, by_network].map(asks), [2, 2, 0]);
}

#[test]
fn change_removes_first_and_keeps_marks_in_use() {
    let before = elements(&[
        (Set::Vips, &["10.96.0.10", "10.96.0.11"]),
        (
            Set::InsideMarks,
            &[
                "10.0.0.1 . tcp . 80 : 0x00000001",
                "10.0.0.2 . tcp . 80 : 0x00000002",
                "10.0.0.3 . tcp . 80 : 0x00000003",
            ],
        ),
        (Set::AllowedSources, &["10.0.0.1 . tcp . 80 . 10.1.0.0/16"]),
        (
            Set::NodePortMarks,
            &[
                "10.0.0.4 . tcp . 80 : 0x00000003",
                "10.0.0.5 . tcp . 80 : 0x00000005",
            ],
        ),
        (Set::Hairpin, &["10.244.1.2"]),
        (Set::ServiceCidrs, &["10.96.0.0/16"]),
    ]);
    let after = elements(&[
        (Set::Vips, &["10.96.0.10", "10.96.0.12"]),
        (Set::InsideMarks, &["10.0.0.1 . tcp . 80 : 0x00000009"]),
        (Set::NodePortMarks, &["10.0.0.4 . tcp . 80 : 0x00000003"]),
        (
            Set::AllowedSources,
            &["10.0.0.1 . tcp . 80-90 . 10.0.0.0/8"],
        ),
        (Set::ServiceCidrs, &["10.96.0.0/15"]),
    ]);
    let change = TableChange::between(&before, &after);

    let commands = render_change(&Config::new(Family::Ip), &change, |mark| {
        [2, 3].contains(&mark)
    });

    insta::assert_snapshot!(commands.expect("valid").to_string());
}

#[test]
fn the_first_mark_hangs_a_chain_and_the_last_takes_it_away() {
    let config = Config {
        local_pods: LocalPods::Cidrs(vec!["10.244.1.0/24".parse().expect("a network")]),
        ..Config::new(Family::Ip)
    };
    let marked = elements(&[
        (Set::Fronts, &["10.0.0.1 . tcp . 80 : goto served"]),
        (Set::InsideMarks, &["10.0.0.1 . tcp . 80 : 0x00000001"]),
    ]);
    let unmarked = elements(&[(Set::Served, &["10.0.0.1 . tcp . 80"])]);

    let there = TableChange::between(&unmarked, &marked);
    let back = TableChange::between(&marked, &unmarked);

    let shown = |change: &TableChange| {
        let commands = render_change(&config, change, |_| false);
        commands.expect("valid").to_string()
    };
    insta::assert_snapshot!(format!("{}\nand back\n\n{}", shown(&there), shown(&back)));
    let within = TableChange::between(&marked, &cluster_v4());
    assert_eq!(within.marking, None);
}

#[test]
fn no_change_is_no_command() {
    let change = TableChange::between(&cluster_v4(), &cluster_v4());

    let commands = render_change(&Config::new(Family::Ip), &change, |_| false);

    assert!(change.is_empty());
    assert!(commands.expect("valid").is_empty());
}

#[test]
fn delete_is_no_error_without_a_table() {
    insta::assert_snapshot!(render_delete(Family::Ip6).to_string());
}

#[test]
fn neither_a_table_nor_a_change_is_made_of_a_configuration_that_makes_no_sense() {
    let bit = config_v4().masquerade_bit;
    let config = Config {
        accept_bit: Some(bit),
        ..config_v4()
    };
    let same = Invalid::SameBit(bit);

    let table = render_table(&config, &cluster_v4()).unwrap_err();
    let change = render_change(&config, &TableChange::default(), |_| false).unwrap_err();

    assert_eq!((table, change), (same.clone(), same));
}
