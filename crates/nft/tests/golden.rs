//! The commands as a reviewer reads them. After a wanted change: `INSTA_UPDATE=always cargo test -p kube-ipvs-nft`.

use kube_ipvs_nft::{
    Change, Config, Elements, Family, LocalPods, Set, Unallocated, render_change, render_delete,
    render_table,
};

fn elements(list: &[(Set, &[&str])]) -> Elements {
    list.iter()
        .map(|(set, texts)| (*set, texts.iter().map(ToString::to_string).collect()))
        .collect()
}

/// A ClusterIP, an externalIP with `Local`, a NodePort, source ranges, a Service without endpoints.
fn cluster_v4() -> Elements {
    elements(&[
        (Set::Vips, &["10.96.0.10", "10.96.7.7", "203.0.113.5"]),
        (
            Set::Served,
            &["10.96.0.10 . sctp . 5000", "10.96.0.10 . tcp . 53"],
        ),
        (Set::ServedOffCluster, &["10.96.0.10 . udp . 53"]),
        (
            Set::Fronts,
            &[
                "10.96.7.7 . tcp . 80 : goto refused",
                "192.168.50.1 . tcp . 30080 : goto closed-always",
                "203.0.113.5 . tcp . 80 : goto outside-restricted",
            ],
        ),
        (Set::InsideMarks, &["203.0.113.5 . tcp . 80 : 0x00000123"]),
        (
            Set::NodePortMarks,
            &["192.168.50.1 . tcp . 30080 : 0x00004456"],
        ),
        (Set::Hairpin, &["10.244.1.2"]),
        (
            Set::AllowedSources,
            &[
                "203.0.113.5 . tcp . 80 . 10.0.0.0/8",
                "203.0.113.5 . tcp . 80 . 192.0.2.7/32",
            ],
        ),
        (Set::ServiceCidrs, &["10.96.0.0/16", "10.98.0.7/32"]),
    ])
}

fn cluster_v6() -> Elements {
    elements(&[
        (Set::Vips, &["fd00:96::a"]),
        (Set::Fronts, &["fd00:96::a . udp . 53 : goto served"]),
        (Set::InsideMarks, &["fd00:96::a . udp . 53 : 0x0a8c0123"]),
        (Set::Hairpin, &["fd00:244::2"]),
        (
            Set::AllowedSources,
            &["fd00:96::a . udp . 53 . 2001:db8::/32"],
        ),
        (Set::ServiceCidrs, &["fd00:96::/112"]),
    ])
}

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
        ..Config::new(Family::Ip)
    };
    insta::assert_snapshot!(shown(&config, &cluster_v4()));
}

#[test]
fn table_v6_with_pods_known_by_interface_and_an_accept_bit() {
    let config = Config {
        local_pods: LocalPods::InterfacePrefix("veth".into()),
        masquerade_bit: 20,
        accept_bit: Some(12),
        unallocated: Unallocated::Reject,
        node_ports: 40000..=60000,
        ..Config::new(Family::Ip6)
    };
    insta::assert_snapshot!(shown(&config, &cluster_v6()));
}

#[test]
fn empty_table_with_pods_unknown() {
    let config = Config {
        unallocated: Unallocated::Forward,
        ..Config::new(Family::Ip)
    };
    insta::assert_snapshot!(shown(&config, &Elements::new()));
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
    let change = Change::between(&before, &after);

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

    let there = Change::between(&unmarked, &marked);
    let back = Change::between(&marked, &unmarked);

    let shown = |change: &Change| {
        let commands = render_change(&config, change, |_| false);
        commands.expect("valid").to_string()
    };
    insta::assert_snapshot!(format!("{}\nand back\n\n{}", shown(&there), shown(&back)));
    let within = Change::between(&marked, &cluster_v4());
    assert_eq!(within.marking, None);
}

#[test]
fn no_change_is_no_command() {
    let change = Change::between(&cluster_v4(), &cluster_v4());

    let commands = render_change(&Config::new(Family::Ip), &change, |_| false);

    assert!(change.is_empty());
    assert!(commands.expect("valid").is_empty());
}

#[test]
fn delete_is_no_error_without_a_table() {
    insta::assert_snapshot!(render_delete(Family::Ip6).to_string());
}
