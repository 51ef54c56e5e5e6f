//! A Service that is not tracked, for the snapshots here and for what nft lists.

use std::collections::BTreeSet;

use super::{Config, Elements, Family, LocalPods, Set};

/// A ClusterIP with two endpoints, the first on this node.
pub(crate) fn untracked() -> Elements {
    let all: [(_, &[&str]); 3] = [
        (Set::UntrackedFronts, &["10.96.0.10 . udp . 53"]),
        (
            Set::UntrackedEndpoints,
            &["10.244.1.2 . udp . 5353", "10.244.2.2 . udp . 5353"],
        ),
        (Set::UntrackedOwn, &["10.244.1.2"]),
    ];
    let texts =
        |texts: &[&str]| -> BTreeSet<String> { texts.iter().map(ToString::to_string).collect() };
    all.into_iter()
        .map(|(set, all)| (set, texts(all)))
        .collect()
}

/// What is accepted has a bit, and pods are known by their networks.
pub(crate) fn config() -> Config {
    Config {
        local_pods: LocalPods::Cidrs(vec!["10.244.1.0/24".parse().expect("a network")]),
        accept_bit: Some(12),
        untracked: true,
        ..Config::new(Family::Ip)
    }
}
