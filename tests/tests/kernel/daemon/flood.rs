//! Clients that open connections and say nothing.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};

use kube_ipvs_tests::Protocol;
use kube_ipvs_tests::daemon::OPEN_FILES;

use super::QUICK;
use crate::traffic::site::{HEALTH, METRICS, Site};
use crate::traffic::web::Web;

/// Resident memory of a process, in KiB.
fn resident(pid: nix::unistd::Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|text| text.parse().ok()).expect("a number")
}

#[test]
fn connections_that_say_nothing_stop_neither_probes_nor_syncs() {
    let mut site = Site::new();
    site.write(&Web::over(&site.small.pods));
    site.start_in(&QUICK, |command| {
        command.env(OPEN_FILES, "256");
    });
    let pid = site.daemon().pid();
    let before = resident(pid);

    let silent: Vec<TcpStream> = site.node().run(|| {
        let port = |number: usize| [HEALTH, METRICS][number % 2];
        let open = |number| {
            let mut stream =
                TcpStream::connect((Ipv4Addr::LOCALHOST, port(number))).expect("connect");
            // One that was closed meanwhile is not the point.
            _ = stream.write_all(b"GET /livez HTTP/1.1\r\nX: ");
            stream
        };
        (0..400).map(open).collect()
    });

    assert_eq!(site.get(HEALTH, "/livez").0, 200);
    assert_eq!(site.get(METRICS, "/healthz").0, 200);
    let web = Web::new("web", &["10.96.0.10"]).port(Protocol::Tcp, 80, 8080);
    let last: Ipv4Addr = [10, 244, 1, 77].into();
    site.write(&web.endpoint(last));
    site.wait_for_table("the change", |table| table.contains("10.244.1.77:8080"));
    assert_eq!(site.get(HEALTH, "/livez").0, 200);
    let grown = resident(pid).saturating_sub(before);
    assert!(
        grown < 16 << 10,
        "{grown} KiB more for {} connections",
        silent.len()
    );
}
