//! One table a family with something of everything: for the snapshots here, for
//! what nft itself makes of the same, and for what it lists (tests of the guest).

use super::{Config, Elements, Family, LocalPods, Set, Unallocated};

/// Elements of these texts.
pub(crate) fn elements(list: &[(Set, &[&str])]) -> Elements {
    list.iter()
        .map(|(set, texts)| (*set, texts.iter().map(ToString::to_string).collect()))
        .collect()
}

/// A ClusterIP, an externalIP with `Local`, a NodePort, source ranges, a Service without endpoints.
pub(crate) fn cluster_v4() -> Elements {
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

/// A ClusterIP with source ranges.
pub(crate) fn cluster_v6() -> Elements {
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

/// Pods are known by their networks.
pub(crate) fn config_v4() -> Config {
    Config {
        local_pods: LocalPods::Cidrs(vec!["10.244.1.0/24".parse().expect("a network")]),
        ..Config::new(Family::Ip)
    }
}

/// Pods are known by their links; other bits and ports, and refusal.
pub(crate) fn config_v6() -> Config {
    Config {
        local_pods: LocalPods::InterfacePrefix("veth".into()),
        masquerade_bit: 20,
        accept_bit: Some(12),
        unallocated: Unallocated::Reject,
        node_ports: 40000..=60000,
        ..Config::new(Family::Ip6)
    }
}
