//! `loadBalancerSourceRanges`.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::fixtures::*;
use crate::state::KernelState;

/// What holds sources to fronts, as text.
fn held(ranges: &[&str]) -> Vec<String> {
    let web = bare("web", &["10.96.0.1", "fd00::1"])
        .port("", "TCP", 80)
        .node_port(30080);
    let web = web
        .load_balancer("203.0.113.5")
        .load_balancer("2001:db8::5");
    let web = web.with(|s| {
        s.spec.load_balancer_source_ranges = ranges.iter().map(|r| (*r).to_owned()).collect();
    });
    let mut cluster = cluster();
    cluster.host(&["198.18.0.1"]);
    cluster.add(web.clone()).endpoints(&web, [ep("10.244.1.7")]);
    sources(&cluster.state())
}

fn sources(state: &KernelState) -> Vec<String> {
    let rows = state.table.rows.iter();
    let held = rows.filter_map(|(front, row)| {
        let nets = row.sources.as_ref()?.iter().map(ToString::to_string);
        Some(format!("{front} {}", nets.collect::<Vec<_>>().join(" ")))
    });
    held.collect()
}

#[test]
fn no_ranges_let_everybody_in() {
    assert!(held(&[]).is_empty());
}

#[test]
fn ranges_hold_for_load_balancer_addresses_of_their_family_only() {
    assert_eq!(held(&["192.0.2.0/24"]), ["203.0.113.5:80/TCP 192.0.2.0/24"]);
}

#[test]
fn ranges_of_both_families_hold_for_both() {
    assert_eq!(
        held(&["192.0.2.0/24", "2001:db8:1::/48"]),
        [
            "203.0.113.5:80/TCP 192.0.2.0/24",
            "[2001:db8::5]:80/TCP 2001:db8:1::/48"
        ]
    );
}

#[test]
fn all_addresses_is_no_restriction_for_that_family() {
    assert_eq!(
        held(&["192.0.2.0/24", "0.0.0.0/0", "2001:db8:1::/48"]),
        ["[2001:db8::5]:80/TCP 2001:db8:1::/48"]
    );
}

#[test]
fn ranges_are_trimmed_cut_to_their_prefix_and_joined() {
    assert_eq!(
        held(&[
            " 192.0.2.1/25 ",
            "192.0.2.128/25",
            "192.0.2.7/32",
            "198.51.100.9"
        ]),
        ["203.0.113.5:80/TCP 192.0.2.0/24 198.51.100.9/32"]
    );
}

#[test]
fn a_range_that_cannot_be_read_closes_rather_than_opens() {
    assert_eq!(
        held(&["192.0.2.0/33", "198.51.100.0/24"]),
        [
            "203.0.113.5:80/TCP 198.51.100.0/24",
            "[2001:db8::5]:80/TCP "
        ]
    );
}

#[test]
fn ranges_change_in_one_transaction_before_anything_else() {
    let with = |range: &str| {
        let web = web().load_balancer("203.0.113.5");
        web.with(|s| s.spec.load_balancer_source_ranges = vec![range.to_owned()])
    };
    let mut cluster = cluster();
    cluster.host(&["198.18.0.1"]);
    let old = with("192.0.2.0/24");
    cluster.add(old.clone()).endpoints(&old, [ep("10.244.1.7")]);
    let before = cluster.state();
    cluster.add(with("198.51.100.0/24"));
    let plan = plan(&before, &cluster.state());
    assert_eq!(plan.ops.len(), 1);
    assert_lines(
        &plan,
        "front  edit  203.0.113.5:80/TCP serve masquerade always only 198.51.100.0/24",
    );
}

#[test]
fn a_load_balancer_address_among_external_ones_stays_restricted() {
    let web = web()
        .load_balancer("203.0.113.5")
        .external_ip("203.0.113.5");
    let web = web.with(|s| s.spec.load_balancer_source_ranges = vec!["192.0.2.0/24".to_owned()]);
    let mut options = options();
    options.allow_external_ips = vec!["0.0.0.0/0".parse().unwrap()];
    let mut cluster = cluster_with(options);
    cluster.add(web.clone()).endpoints(&web, [ep("10.244.1.7")]);
    // The host's own address is let in, so the VIP is too.
    assert_eq!(
        sources(&cluster.state()),
        ["203.0.113.5:80/TCP 192.0.2.0/24 203.0.113.5/32"]
    );
    assert!(cluster.warnings().is_empty());
}

#[test]
fn where_this_host_is_let_in_its_vip_is_too() {
    let web = bare("web", &["10.96.0.1"]).port("", "TCP", 80);
    let web = web
        .load_balancer("203.0.113.5")
        .with(|s| s.spec.load_balancer_source_ranges = vec!["192.0.2.0/24".to_owned()]);
    let mut cluster = cluster();
    cluster.host(&["198.18.0.1"]);
    cluster.add(web.clone()).endpoints(&web, [ep("10.244.1.7")]);
    cluster.host(&["198.18.0.1"]);
    let without = sources(&cluster.state());
    cluster.host(&["198.51.100.1", "192.0.2.9"]);

    assert_eq!(without, ["203.0.113.5:80/TCP 192.0.2.0/24"]);
    assert_eq!(
        sources(&cluster.state()),
        ["203.0.113.5:80/TCP 192.0.2.0/24 203.0.113.5/32"]
    );
}
