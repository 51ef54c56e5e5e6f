//! What `nft list table` shows of our table.

use std::path::Path;

use kube_ipvs_nft::{
    Config, Elements, Family, LocalPods, Observed, Set, Unallocated, render_table,
};

use kube_ipvs_tests::run;

#[path = "../../../../crates/nft/tests/example/mod.rs"]
mod example;
#[path = "../../../../crates/nft/tests/example/untracked.rs"]
mod untracked;

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

/// A listing in a program's own words.
type Words = fn(&str) -> String;

/// The `nft` of this machine, and the newest that Debian has, which is in the
/// guest with the newest kernel; each with its own words for the same.
fn programs() -> Vec<(&'static str, Words)> {
    let mut programs: Vec<(_, Words)> = vec![("nft", str::to_owned)];
    if Path::new("/usr/bin/nft-newest").exists() {
        programs.push(("nft-newest", |listing| {
            let output = "type nat hook output priority ";
            listing.replace(&format!("{output}-101"), &format!("{output}dstnat - 1"))
        }));
    }
    programs
}

/// The listings are those that nft 1.0.6 makes of the table when it has been
/// written as text, by nft itself. 1.1.7 has a name for one priority more.
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

        for (program, words) in programs() {
            let listed = ["list", "table", config.family.name(), "kube-ipvs"];
            let listing = netns.run(|| run(program, listed));

            assert_eq!(in_order(&listing), in_order(&words(expected)), "{program}");
        }
    }
}

/// What nft says of the bytes that no capture of its own has.
#[test]
fn nft_shows_what_is_untracked_in_its_own_words() {
    let netns = Netns::new();
    let config = untracked::config();
    let table = render_table(&config, &untracked::untracked()).expect("valid");
    netns.run(|| nft().apply(&table)).expect("applied");
    let listing = |chain| netns.nft(&format!("list chain ip kube-ipvs {chain}"));

    let answer = "ip saddr . meta l4proto . th sport @untracked-endpoints";
    let answers =
        format!("ip daddr 10.244.1.0/24 {answer} ip daddr != @untracked-own notrack accept");
    let both = listing("untracked");
    for words in [
        "type filter hook prerouting priority raw;",
        "ip saddr 10.244.1.0/24 ip daddr . meta l4proto . th dport @untracked-fronts \
         ip saddr != @untracked-own notrack accept",
        "ip saddr 10.244.1.0/24 ip daddr . meta l4proto . th dport @untracked-endpoints \
         ip saddr != @untracked-own notrack accept",
        &answers,
    ] {
        assert!(both.contains(words), "{words}: {both}");
    }
    let here = listing("untracked-here");
    assert!(here.contains("hook output priority raw;"), "{here}");
    assert!(here.contains("ct state untracked accept"), "{here}");
    assert!(here.contains(&answers), "{here}");
    let forward = listing("forward");
    let accepted = format!("ct state untracked {answer} meta mark set meta mark | 0x00001000");
    assert!(forward.contains(&accepted), "{forward}");
    let read = read(&netns, Family::Ip);
    assert_eq!(read.elements, untracked::untracked());
    assert_eq!(read.is_intact(&config), Ok(true));
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
