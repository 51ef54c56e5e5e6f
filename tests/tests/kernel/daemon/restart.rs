//! Killed at any moment and started again, nobody notices.

use std::time::Instant;

use kube_ipvs_tests::daemon::state_directory;
use kube_ipvs_tests::{Protocol, run_with_input};
use serde_json::json;

use super::load::{Load, Seen};
use super::{QUICK, WEB};
use crate::traffic::site::{HEALTH, Site};
use crate::traffic::web::Web;

const TIMES: usize = 20;
/// What one emulated processor manages while it starts a program all the time;
/// asked for more, it answers no more of them, only later. The test says how many.
const NEW_A_SECOND: u32 = 60;
const FLOWS: u32 = 100;

#[test]
fn killed_and_started_twenty_times_under_load_fails_nobody() {
    let mut site = Site::new();
    let _servers = [0, 1].map(|n| site.small.pods[n].serve(Protocol::Tcp, 8080));
    site.write(&Web::over(&site.small.pods));
    site.start(&QUICK);
    let table = site.table();
    let outside = &site.small.outside.namespace;
    let begun = Instant::now();
    let calls = Load::new_connections(outside, WEB, NEW_A_SECOND);
    let flows = Load::flows(outside, WEB, FLOWS);

    for _ in 0..TIMES {
        site.daemon().kill();
        site.start(&QUICK);
    }

    let (calls, flows) = (calls.stop(), flows.stop());
    let seconds = begun.elapsed().as_secs_f64();
    let rate = |seen: &Seen| seen.answered as f64 / seconds;
    eprintln!(
        "{TIMES} kills in {seconds:.0} s: {} new connections ({:.0}/s), {} questions ({:.0}/s) on {FLOWS} flows",
        calls.answered,
        rate(&calls),
        flows.answered,
        rate(&flows),
    );
    assert_eq!(calls.failed, [""; 0]);
    assert_eq!(flows.failed, [""; 0]);
    assert!(calls.answered > 10 * TIMES, "{} is no load", calls.answered);
    assert!(flows.answered > 10 * TIMES, "{} is no load", flows.answered);
    assert_eq!(site.table(), table);
}

#[test]
fn what_changed_while_nobody_watched_is_made_good_at_the_start() {
    let mut site = Site::new();
    let _servers = [0, 1].map(|n| site.small.pods[n].serve(Protocol::Tcp, 8080));
    let old = Web::new("old", &["10.96.0.11"]).port(Protocol::Tcp, 80, 8080);
    site.write(&old.endpoint(site.small.pods[0].v4));
    site.write(&Web::over(&site.small.pods[..1]));
    site.start(&QUICK);
    let mut flow = site
        .outside()
        .connect(Protocol::Tcp, WEB)
        .expect("it answers");
    assert_eq!(flow.ask().who(), "p1");
    site.daemon().kill();

    site.remove("old");
    site.write(&Web::over(&site.small.pods));
    site.start(&QUICK);

    let table = site.table();
    assert!(!table.contains("10.96.0.11"), "{table}");
    assert!(table.contains("-r 10.244.1.3:8080"), "{table}");
    assert_eq!(flow.ask().who(), "p1", "nothing was made anew");
}

/// A start takes nothing as it is, though part of its first round fails; and no
/// audit comes to help.
#[test]
fn a_weight_that_somebody_took_is_back_with_the_first_round_of_a_start() {
    const NO_AUDIT: [&str; 2] = ["--ipvs-min-sync-period=100ms", "--ipvs-sync-period=1h"];
    let mut site = Site::new();
    let _server = site.small.pods[0].serve(Protocol::Tcp, 8080);
    let web = Web::over(&site.small.pods[..1]);
    site.write(&web);
    site.start(&NO_AUDIT);
    // No kernel takes the broadcast address of the node's network as a real server.
    for next in [web.clone(), web.endpoint([192, 168, 50, 255])] {
        site.daemon().kill();
        let without = format!("ipvsadm -e -t {WEB} -r 10.244.1.2:8080 -m -w 0");
        site.node().sh(&without);
        site.write(&next);

        site.start(&NO_AUDIT);

        let table = site.table();
        assert!(table.contains("-r 10.244.1.2:8080 -m -w 1"), "{table}");
        assert_eq!(site.outside().callees(Protocol::Tcp, WEB, 2), ["p1"; 2]);
    }
    let (_, listed) = site.get(HEALTH, "/readyz?verbose");
    assert!(listed.contains("192.168.50.255:8080"), "{listed}");
}

/// A mark of before may contain the bit that means masquerading now: such a
/// front is closed until it has another.
#[test]
fn started_with_a_masquerade_bit_that_its_marks_had_it_gives_others_and_serves() {
    const LOCAL: &str = "10.96.0.20:80";
    let mut site = Site::new();
    let _servers = [0, 1].map(|n| site.small.pods[n].serve(Protocol::Tcp, 8080));
    let web = Web::over(&site.small.pods).ingress(&["10.96.0.20"]);
    let web = web.spec("externalTrafficPolicy", json!("Local"));
    let mut slice = web.slices().remove(0);
    slice["endpoints"][1]["nodeName"] = json!("node-2");
    site.write_text("web", &format!("{:#}\n---\n{slice:#}\n", web.service()));
    site.start(&QUICK);
    let before = inside_mark(&site);
    let bit = before.trailing_zeros();

    let other = format!("--iptables-masquerade-bit={bit}");
    site.start(&[QUICK[0], QUICK[1], &other]);

    let after = inside_mark(&site);
    assert_eq!(after >> bit & 1, 0, "{after:#x}, was {before:#x}");
    let outside = site.outside().callees(Protocol::Tcp, LOCAL, 2);
    assert_eq!(outside, ["p1", "p1"]);
    let mut inside = site.host().callees(Protocol::Tcp, LOCAL, 2);
    inside.sort();
    assert_eq!(inside, ["p1", "p2"]);
}

/// The mark of the only front that has one for traffic from inside.
fn inside_mark(site: &Site) -> u32 {
    let map = site.node().sh("nft list map ip kube-ipvs inside-marks");
    let (_, mark) = map.split_once(" : 0x").expect(&map);
    let digits = mark.split(|digit: char| !digit.is_ascii_hexdigit()).next();
    u32::from_str_radix(digits.unwrap_or_default(), 16).expect(&map)
}

/// As it was kept before there was a journal.
const EARLIER_RECORD: &str = r#"{"virtual_servers":{
    "10.96.0.10:53/TCP":"default/web:dns-tcp","10.96.0.99:80/TCP":"default/gone:"},"sysctls":[]}"#;
const EARLIER_TABLE: &str = include_str!("../nft/listings/text-of-0.1.0.nft");
const EARLIER_SERVERS: &str = "-A -t 10.96.0.10:53 -s rr\n-a -t 10.96.0.10:53 -r 10.244.1.2:8080 -m -w 1\n\
    -A -t 10.96.0.99:80 -s rr\n-a -t 10.96.0.99:80 -r 10.244.1.2:8080 -m -w 1\n\
    -A -t 10.96.0.200:80 -s sh\n";

/// An upgrade from a version whose table, record and kernel state have another form.
#[test]
fn what_an_earlier_version_left_is_taken_over_without_a_gap() {
    const FRONT: &str = "10.96.0.10:53";
    let mut site = Site::new();
    let _server = site.small.pods[0].serve(Protocol::Tcp, 8080);
    let node = site.node();
    node.sysctl("net/ipv4/vs/conntrack", "1");
    node.ip("link add kube-ipvs0 type dummy\nlink set kube-ipvs0 up\naddr add 10.96.0.10/32 dev kube-ipvs0\n");
    node.run(|| {
        run_with_input("ipvsadm", ["-R"], EARLIER_SERVERS);
        run_with_input("nft", ["-f", "-"], EARLIER_TABLE);
    });
    let state = state_directory(node);
    std::fs::create_dir_all(&state).expect("a state directory");
    std::fs::write(state.join("owned.json"), EARLIER_RECORD).expect("a record");
    let web = Web::new("web", &["10.96.0.10"]).port(Protocol::Tcp, 53, 8080);
    site.write(&web.endpoint(site.small.pods[0].v4));
    let outside = &site.small.outside.namespace;
    let flows = Load::flows(outside, FRONT, 4);
    let calls = Load::new_connections(outside, FRONT, 20);

    site.start(&[
        "--ipvs-min-sync-period=100ms",
        "--cluster-cidr=10.244.1.0/24",
    ]);
    site.outside().callees(Protocol::Tcp, FRONT, 20);

    let (calls, flows) = (calls.stop(), flows.stop());
    assert_eq!(
        [calls.failed, flows.failed],
        [const { Vec::<String>::new() }; 2]
    );
    assert!(calls.answered > 0 && flows.answered > 0, "no load");
    let table = site.table();
    assert!(table.contains("-t 10.96.0.10:53"), "{table}");
    assert!(
        !table.contains("10.96.0.99"),
        "ours, and nobody's:\n{table}"
    );
    assert!(table.contains("10.96.0.200"), "somebody else's:\n{table}");
    let ours = site.node().sh("nft list table ip kube-ipvs");
    assert!(!ours.contains("set service-ports"), "{ours}");
    assert!(ours.contains("10.96.0.10"), "{ours}");
}
