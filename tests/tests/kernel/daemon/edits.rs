//! Promise 8: what somebody else does to ours is undone within the audit
//! period and counted.

use kube_ipvs_tests::{Protocol, run, wait_until};

use super::{QUICK, WEB};
use crate::traffic::site::{PATIENCE, Site};
use crate::traffic::web::Web;

/// Shell lines, run on the node.
const EDITS: [&str; 12] = [
    "ipvsadm -C",
    "ipvsadm -D -t 10.96.0.10:80",
    "ipvsadm -d -t 10.96.0.10:80 -r 10.244.1.2:8080",
    "ipvsadm -a -t 10.96.0.10:80 -r 10.244.1.9:8080 -m",
    "ipvsadm -e -t 10.96.0.10:80 -r 10.244.1.3:8080 -m -w 77",
    "ipvsadm -E -t 10.96.0.10:80 -s wlc -p 100",
    "ip addr del 10.96.0.10/32 dev kube-ipvs0",
    "ip addr add 10.96.0.99/32 dev kube-ipvs0",
    "ip link del kube-ipvs0",
    "nft flush ruleset",
    "nft delete element ip kube-ipvs service-ports '{ 10.96.0.10 . tcp . 80 }'",
    "echo 0 > /proc/sys/net/ipv4/vs/conntrack; echo 0 > /proc/sys/net/ipv4/ip_forward",
];

#[test]
fn what_somebody_does_in_the_dark_is_undone_and_counted() {
    foreign_hands(7);
}

fn foreign_hands(seed: u64) {
    let mut site = Site::new();
    let _servers = [0, 1].map(|n| site.small.pods[n].serve(Protocol::Tcp, 8080));
    site.write(&Web::over(&site.small.pods));
    site.start(&QUICK);
    let wanted = everything(&site);
    let mut drift = 0.0;

    for edit in shuffled(seed) {
        site.node().sh(edit);
        let mut now = String::new();
        let healed = || {
            now = everything(&site);
            now == wanted
        };
        let told = format!("seed {seed}: heals {edit:?}");
        wait_until(&told, PATIENCE, healed);
        // Counted after it was carried out, so a moment later.
        wait_until(&format!("counts {edit:?}"), PATIENCE, || {
            site.metric("kube_ipvs_drift_total") > drift
        });
        drift = site.metric("kube_ipvs_drift_total");
        let mut who = site.outside().callees(Protocol::Tcp, WEB, 2);
        who.sort();
        assert_eq!(who, ["p1", "p2"], "seed {seed}: after {edit:?}");
    }
    let (code, why) = site.get(crate::traffic::site::HEALTH, "/readyz");
    assert_eq!(code, 200, "{why}");
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

/// All edits in an order that the seed decides.
fn shuffled(seed: u64) -> Vec<&'static str> {
    let mut edits = EDITS.to_vec();
    edits.sort_by_key(|edit| kube_ipvs_core::seed(&format!("{seed} {edit}")));
    edits
}
