//! A node with many connections, and what `check` says of it.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use kube_ipvs_tests::{Daemon, Namespace, Protocol, kube_ipvs, wait_for};

use super::site::{PATIENCE, Site};
use super::web::Web;

/// More than eight for each row of the table that the kernel makes by itself.
const FLOWS: u16 = 34_000;
/// Of its rows.
const ROWS: u16 = 4096;

/// The line of `check` that begins with a verdict and this name.
fn finding(node: &Namespace, name: &str) -> String {
    let output = kube_ipvs(node, ["check"]).output().expect("start check");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| {
        let after = line.split_once("  ").map(|(_, rest)| rest.trim_start());
        after.is_some_and(|rest| rest.starts_with(&format!("{name}  ")))
    });
    line.unwrap_or_else(|| panic!("nothing of {name}:\n{text}"))
        .to_owned()
}

/// A datagram from each of many ports; nobody waits for an answer.
fn crowd(pod: &Namespace, to: SocketAddr) {
    pod.run(|| {
        for port in 20_000..20_000 + FLOWS {
            let socket = UdpSocket::bind(("0.0.0.0", port)).expect("a free port");
            socket.send_to(b"who", to).expect("send a datagram");
        }
    });
}

/// The shortest of many questions over one connection.
fn question(connection: &mut kube_ipvs_tests::Connection) -> Duration {
    let ask = |_| {
        let begin = Instant::now();
        assert_eq!(connection.ask().who(), "p2");
        begin.elapsed()
    };
    (0..200).map(ask).min().expect("some were asked")
}

#[test]
fn a_crowded_table_is_counted_by_check_and_slows_nobody_down() {
    let mut site = Site::new();
    let p2 = &site.small.pods[1];
    let web = Web::new("web", &["10.96.0.10"]).endpoint(p2.v4);
    let web = web.port(Protocol::Tcp, 80, 8080);
    site.write(&web.port(Protocol::Udp, 53, 8080));
    let _servers = [Protocol::Tcp, Protocol::Udp].map(|protocol| p2.serve(protocol, 8080));
    site.start(&[]);
    site.wait_for_vip("10.96.0.10");
    let client = site.pod();
    let mut open = client
        .connect(Protocol::Tcp, "10.96.0.10:80")
        .expect("it answers");
    let alone = question(&mut open);
    let before = finding(site.node(), "ipvs connections");
    assert!(before.starts_with("ok "), "{before}");
    assert!(before.ends_with(&format!(" in {ROWS} rows")), "{before}");

    let mut watch = Daemon::start(site.node(), ["check", "--watch"]);
    watch.wait_for_log(&format!(" in {ROWS} rows"), PATIENCE);

    let dns = "10.96.0.10:53".parse().expect("an address");
    crowd(&site.small.pods[0].namespace, dns);

    // A machine that is busy with something else is so for a while only.
    let beside = wait_for(PATIENCE, || {
        let beside = question(&mut open);
        let is_slow = beside >= 2 * alone;
        if is_slow { Err(beside) } else { Ok(beside) }
    });
    let after = finding(site.node(), "ipvs connections");
    assert!(after.starts_with("WARN"), "{after}");
    let counted = after
        .split_whitespace()
        .find_map(|word| word.parse::<u16>().ok());
    assert!(counted.is_some_and(|n| n > FLOWS), "{after}");
    watch.wait_for_log(": more than 8 a row", PATIENCE);
    println!("a question over an open connection: {alone:?} alone, {beside:?} beside {FLOWS}");
    assert!(beside.is_ok(), "{alone:?} alone, {beside:?} beside {FLOWS}");
}

#[test]
fn check_names_a_policy_engine_beside_services_that_may_pass_untracked() {
    let mut site = Site::new();
    site.write(&Web::new("web", &["10.96.0.10"]));
    site.start(&["--ipvs-untracked-services=annotated"]);
    let name = "untracked Services";
    let alone = finding(site.node(), name);
    assert!(alone.starts_with("ok "), "{alone}");

    site.node()
        .sh("nft 'add table ip filter; add chain ip filter cali-FORWARD'");

    let beside = finding(site.node(), name);
    assert!(beside.starts_with("WARN"), "{beside}");
    assert!(beside.contains("chains of Calico are here"), "{beside}");
}
