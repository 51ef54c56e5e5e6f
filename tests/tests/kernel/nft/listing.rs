//! What `nft list table` shows of our table.

use kube_ipvs_nft::{
    Config, Elements, Family, LocalPods, Observed, Set, Unallocated, render_table,
};

use super::lab::{Netns, elements, nft};

/// A listing with the elements of each set in order, since the kernel has none,
/// and without the name of the fixed part.
fn in_order(listing: &str) -> String {
    let mut out = String::new();
    let mut rest = listing;
    while let Some((before, after)) = rest.split_once("elements = {") {
        let (inside, after) = after.split_once('}').expect("it is closed");
        let mut items: Vec<&str> = inside.split(',').map(str::trim).collect();
        items.sort_unstable();
        out += &format!("{before}elements = {{ {} }}", items.join(", "));
        rest = after;
    }
    out += rest;
    let named = |line: &str| {
        line.split_once("fixed-")
            .map(|(before, _)| before.to_owned())
    };
    let lines = out
        .lines()
        .map(|line| named(line).map_or(line.to_owned(), |line| line + "fixed-FINGERPRINT {"));
    lines.map(|line| line + "\n").collect()
}

fn all(pairs: &[(Set, &[&str])]) -> Elements {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let pairs = pairs.iter();
    pairs.map(|(set, list)| (*set, texts(list))).collect()
}

fn v4() -> (Config, Elements) {
    let config = Config {
        local_pods: LocalPods::Cidrs(vec!["10.244.1.0/24".parse().expect("a network")]),
        ..Config::new(Family::Ip)
    };
    let content = all(&[
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
    ]);
    (config, content)
}

fn v6() -> (Config, Elements) {
    let config = Config {
        local_pods: LocalPods::InterfacePrefix("veth".into()),
        masquerade_bit: 20,
        accept_bit: Some(12),
        unallocated: Unallocated::Reject,
        node_ports: 40000..=60000,
        ..Config::new(Family::Ip6)
    };
    let content = elements([
        (Set::Vips, "fd00:96::a".into()),
        (Set::Fronts, "fd00:96::a . udp . 53 : goto served".into()),
        (
            Set::InsideMarks,
            "fd00:96::a . udp . 53 : 0x0a8c0123".into(),
        ),
        (Set::Hairpin, "fd00:244::2".into()),
        (
            Set::AllowedSources,
            "fd00:96::a . udp . 53 . 2001:db8::/32".into(),
        ),
        (Set::ServiceCidrs, "fd00:96::/112".into()),
    ]);
    (config, content)
}

fn read(netns: &Netns, family: Family) -> Observed {
    let read = netns.run(|| nft().read(family)).expect("readable");
    read.expect("a table")
}

/// The listings are those that nft 1.0.6 makes of the table when it has been
/// written as text, by nft itself.
#[test]
fn nft_shows_the_table_as_if_it_had_written_it() {
    let tables = [
        (v4(), include_str!("listings/v4.nft")),
        (v6(), include_str!("listings/v6.nft")),
    ];
    for ((config, content), expected) in tables {
        let netns = Netns::new();
        let table = render_table(&config, &content).expect("valid");
        netns.run(|| nft().apply(&table)).expect("applied");

        let listing = netns.nft(&format!("list table {} kube-ipvs", config.family));

        assert_eq!(in_order(&listing), in_order(expected));
    }
}

/// What an earlier version wrote, and nft read. Without the rules for source
/// ranges: nft 1.0.6 puts a swap of bytes into them that Linux 7 refuses.
#[test]
fn a_table_written_as_text_is_read_and_replaced_with_all_it_holds() {
    let netns = Netns::new();
    netns.nft(include_str!("listings/text-of-0.1.0.nft"));
    let (config, content) = v4();

    let before = read(&netns, Family::Ip);
    let table = render_table(&config, &before.elements).expect("valid");
    netns.run(|| nft().apply(&table)).expect("applied");

    assert_eq!(before.elements, content);
    assert_eq!(before.strange, Vec::<String>::new());
    assert_eq!(before.is_intact(&config), Ok(false));
    let after = read(&netns, Family::Ip);
    assert_eq!(after.elements, content);
    assert_eq!(after.is_intact(&config), Ok(true));
}
