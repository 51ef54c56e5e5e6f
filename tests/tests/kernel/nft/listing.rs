//! What `nft list table` shows of our table.

use kube_ipvs_nft::{
    Config, Elements, Family, LocalPods, Observed, Set, Unallocated, render_table,
};

#[path = "../../../../crates/nft/tests/example/mod.rs"]
mod example;

use example::{cluster_v4, cluster_v6, config_v4, config_v6};

use super::lab::{Netns, nft};

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

fn read(netns: &Netns, family: Family) -> Observed {
    let read = netns.run(|| nft().read(family)).expect("readable");
    read.expect("a table")
}

/// The listings are those that nft 1.0.6 makes of the table when it has been
/// written as text, by nft itself.
#[test]
fn nft_shows_the_table_as_if_it_had_written_it() {
    let tables = [
        (config_v4(), cluster_v4(), include_str!("listings/v4.nft")),
        (config_v6(), cluster_v6(), include_str!("listings/v6.nft")),
    ];
    for (config, content, expected) in tables {
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
    let (config, content) = (config_v4(), cluster_v4());

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
