//! Connections on which nothing happens.

use std::time::Duration;

use kube_ipvs_tests::{Protocol, Verdict, wait_until};

use super::WEB;
use super::site::{PATIENCE, Site};
use super::web::Web;

/// A busy machine answers late; nobody waits it out.
const LATE: Duration = Duration::from_secs(15);
/// Seconds after which the kernel sends the first keep-alive, unless told otherwise.
const KEEP_ALIVE: u32 = 7200;

/// State and seconds left of the connections that IPVS knows.
fn known(site: &Site) -> Vec<(String, u32)> {
    let table = site.node().sh("cat /proc/net/ip_vs_conn");
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some((words.get(7)?.to_string(), words.get(8)?.parse().ok()?))
    };
    table.lines().filter_map(entry).collect()
}

#[test]
fn an_idle_connection_outlives_keep_alive_and_one_that_is_forgotten_is_reset() {
    let mut site = Site::new();
    let _server = site.small.pods[0].serve(Protocol::Tcp, 8080);
    site.write(&Web::over(&site.small.pods[..1]));
    site.start(&[]);
    let connect = || {
        let client = site.outside().timeout(LATE);
        let connection = client.connect(Protocol::Tcp, WEB);
        connection.expect("it answers")
    };
    let mut flow = connect();
    assert_eq!(flow.ask().who(), "p1");

    let entries = known(&site);
    let [(state, left)] = &entries[..] else {
        panic!("{entries:?}");
    };
    assert_eq!(state, "ESTABLISHED");
    assert!(*left > KEEP_ALIVE, "{left} s");

    // Its time runs anew with every packet; on a slow machine it may be over already.
    site.start(&["--ipvs-tcp-timeout=2s"]);
    flow.ask();
    wait_until("it is forgotten", PATIENCE, || known(&site).is_empty());
    assert_eq!(flow.ask(), Verdict::Reset);
    assert_eq!(site.outside().callees(Protocol::Tcp, WEB, 1), ["p1"]);
}

/// Seconds left of the flow to the Service in conntrack's table, and in IPVS'.
fn left(site: &Site) -> [Option<u32>; 2] {
    let list = "conntrack -L -p udp -d 10.96.0.10 2>/dev/null || true";
    let tracked = site.node().sh(list);
    let tracked = tracked.split_whitespace().nth(2);
    let known = known(site);
    [
        tracked.and_then(|text| text.parse().ok()),
        known.first().map(|(_, left)| *left),
    ]
}

/// One that outlives the other is half a flow: its answers come from somewhere else.
#[test]
fn a_datagram_flow_is_kept_as_long_by_conntrack_as_by_ipvs() {
    const ASKED: u32 = 1000;
    let mut site = Site::new();
    let pod = &site.small.pods[0];
    let _server = pod.serve(Protocol::Udp, 8080);
    let web = Web::new("web", &["10.96.0.10"]).port(Protocol::Udp, 53, 8080);
    site.write(&web.endpoint(pod.v4));
    site.start(&[&*format!("--ipvs-udp-timeout={ASKED}s")]);
    let client = site.outside().timeout(LATE);
    let mut flow = client.connect(Protocol::Udp, "10.96.0.10:53");
    let flow = flow.as_mut().expect("UDP needs no answer");

    // To conntrack it is a stream after two seconds.
    wait_until("both keep it as long", PATIENCE, || {
        assert_eq!(flow.ask().who(), "p1");
        let enough = |left: &Option<u32>| left.is_some_and(|left| left > ASKED - 100);
        left(&site).iter().all(enough)
    });
}
