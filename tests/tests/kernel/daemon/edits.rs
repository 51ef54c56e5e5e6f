//! What somebody else does to ours is undone within the audit period and counted.

use std::time::Instant;

use kube_ipvs_tests::{Protocol, Verdict, run, wait_until};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::{QUICK, WEB};
use crate::traffic::site::{PATIENCE, Site};
use crate::traffic::web::Web;

/// What others do, as shell lines: every kind once, the particulars by chance.
fn edits(chance: &mut StdRng) -> Vec<String> {
    let mut any = |range: std::ops::Range<u32>| chance.random_range(range);
    let real = |n: u32| format!("-r 10.244.1.{n}:8080");
    vec![
        "ipvsadm -C".to_owned(),
        format!("ipvsadm -D -t {WEB}"),
        format!("ipvsadm -d -t {WEB} {}", real(any(2..4))),
        format!("ipvsadm -a -t {WEB} {} -m", real(any(9..200))),
        format!(
            "ipvsadm -e -t {WEB} {} -m -w {}",
            real(any(2..4)),
            any(2..99)
        ),
        format!("ipvsadm -E -t {WEB} -s wlc -p {}", any(1..1000)),
        "ip addr del 10.96.0.10/32 dev kube-ipvs0".to_owned(),
        format!("ip addr add 10.96.0.{}/32 dev kube-ipvs0", any(100..250)),
        "ip link del kube-ipvs0".to_owned(),
        "nft flush ruleset".to_owned(),
        "nft delete element ip kube-ipvs served '{ 10.96.0.10 . tcp . 80 }'".to_owned(),
        // A mark that would be masqueraded, and networks that overlap: what we
        // would never write.
        "nft add element ip kube-ipvs inside-marks '{ 10.96.0.10 . tcp . 80 : 0x4000 }'".to_owned(),
        "nft 'add element ip kube-ipvs fronts { 10.96.0.10 . tcp . 80 : goto served-restricted }; \
         add element ip kube-ipvs allowed-sources { 10.96.0.10 . tcp . 80 . 10.0.0.0/9 }; \
         add element ip kube-ipvs allowed-sources { 10.96.0.10 . tcp . 79-81 . 10.0.0.0/8 }'"
            .to_owned(),
        "echo 0 > /proc/sys/net/ipv4/vs/conntrack".to_owned(),
        "echo 0 > /proc/sys/net/ipv4/ip_forward".to_owned(),
        format!("ipvsadm --set {} 120 300", any(1..1000)),
    ]
}

/// The edits in some order, one to three at once. Within a group one may
/// undo what the next wants to change: only the first has to succeed, and the
/// shell ends at a failure unless it is told not to.
fn groups(chance: &mut StdRng) -> Vec<String> {
    let mut edits = edits(chance);
    edits.shuffle(chance);
    let mut groups = Vec::new();
    while !edits.is_empty() {
        let many = chance.random_range(1..=3).min(edits.len());
        let group: Vec<String> = edits.drain(..many).collect();
        let (first, rest) = group.split_first().expect("a group is not empty");
        let rest = rest.iter().map(|edit| format!("\n{edit} || true"));
        groups.push(first.clone() + &rest.collect::<String>());
    }
    groups
}

#[test]
fn what_somebody_does_in_the_dark_is_undone_and_counted() {
    let mut chance = kube_ipvs_tests::chance();
    let mut site = Site::new();
    let _servers = [0, 1].map(|n| site.small.pods[n].serve(Protocol::Tcp, 8080));
    site.write(&Web::over(&site.small.pods));
    site.start(&QUICK);
    let wanted = everything(&site);
    let mut drift = 0.0;

    for edit in groups(&mut chance) {
        site.node().sh(&edit);
        let done = Instant::now();
        wait_until(&format!("heals {edit:?}"), PATIENCE, || {
            everything(&site) == wanted
        });
        // Three seconds and a little on a machine that has nothing else to do.
        eprintln!("{:?} to heal {edit:?}", done.elapsed());
        // Counted after it was carried out, so a moment later.
        wait_until(&format!("counts {edit:?}"), PATIENCE, || {
            site.metric("kube_ipvs_drift_total") > drift
        });
        drift = site.metric("kube_ipvs_drift_total");
        let mut who = site.outside().callees(Protocol::Tcp, WEB, 2);
        who.sort();
        assert_eq!(who, ["p1", "p2"], "after {edit:?}");
    }
    let (code, why) = site.get(crate::traffic::site::HEALTH, "/readyz");
    assert_eq!(code, 200, "{why}");
}

/// No chain and no set of it tells that a table sleeps.
#[test]
fn a_table_that_somebody_puts_to_sleep_is_made_anew() {
    const BESIDE: &str = "10.96.0.10:81";
    let mut site = Site::new();
    let _server = site.small.pods[0].serve(Protocol::Tcp, 8080);
    site.write(&Web::over(&site.small.pods[..1]));
    site.start(&QUICK);
    let made = |site: &mut Site| site.daemon().log().matches("nftables table made").count();
    let before = made(&mut site);

    let sleep = "nft 'add table ip kube-ipvs { flags dormant; }'";
    site.node().sh(sleep);

    wait_until("it is made anew", PATIENCE, || made(&mut site) > before);
    let table = site.node().sh("nft list table ip kube-ipvs");
    assert!(!table.contains("dormant"), "{table}");
    assert_eq!(site.outside().call(Protocol::Tcp, BESIDE), Verdict::Refused);
    assert_eq!(site.outside().call(Protocol::Tcp, WEB).who(), "p1");
}

/// All that is ours, in an order of its own.
fn everything(site: &Site) -> String {
    site.node().run(|| {
        let mut lines: Vec<String> = run("ipvsadm", ["-Sn"]).lines().map(str::to_owned).collect();
        let shell = |script: &str| run("sh", ["-c", script]);
        lines.push(shell("ip -br addr show dev kube-ipvs0 2>&1 || true"));
        lines.push(shell(
            "cat /proc/sys/net/ipv4/vs/conntrack /proc/sys/net/ipv4/ip_forward",
        ));
        lines.push(run("ipvsadm", ["-l", "--timeout"]));
        // Sets have no order: their words do.
        let tables = shell(
            "nft list table ip kube-ipvs 2>/dev/null; nft list table ip6 kube-ipvs 2>/dev/null; true",
        );
        let mut words: Vec<_> = tables.split([' ', '\t', '\n', ',']).collect();
        words.sort_unstable();
        lines.push(words.join(" "));
        lines.sort_unstable();
        lines.join("\n")
    })
}
