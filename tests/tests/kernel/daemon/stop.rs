//! SIGTERM, in the middle of what takes long.

use std::fs;
use std::time::{Duration, Instant};

use kube_ipvs_tests::{Protocol, run, wait_until};

use super::{QUICK, WEB};
use crate::traffic::site::{PATIENCE, Site};
use crate::traffic::web::Web;

/// Two seconds are promised; an emulated processor is late by itself, and where it
/// is later than this, some of the change must be left to do.
const SOON: Duration = Duration::from_secs(4);

/// So many Services that an emulated processor is at it for long.
const MANY: u16 = 3000;

/// Whether IPVS has one of the many: it is on its way to have all.
fn is_at_it() -> bool {
    let table = fs::read_to_string("/proc/thread-self/net/ip_vs").unwrap_or_default();
    // 10.97.
    table.contains("0A61")
}

/// How many of them are bound, which is the last step.
fn bound() -> usize {
    let shown = ["-o", "addr", "show", "to", "10.97.0.0/16"];
    run("ip", shown).lines().count()
}

#[test]
fn a_change_that_takes_long_delays_no_end() {
    let mut site = Site::new();
    let _pod = site.small.pods[0].serve(Protocol::Tcp, 8080);
    site.write(&Web::over(&site.small.pods[..1]));
    site.start_in(&QUICK, |_| {});
    site.wait_for_vip("10.96.0.10");

    let pod = site.small.pods[0].v4;
    let many = (0..MANY).map(|n| {
        let vip = format!("10.97.{}.{}", n / 250, n % 250 + 1);
        let web = Web::new(&format!("many-{n}"), &[&vip]).port(Protocol::Tcp, 80, 8080);
        web.endpoint(pod).to_yaml()
    });
    site.write_text("many", &many.collect::<Vec<_>>().join("---\n"));
    let node = site.node();
    wait_until("it is at it", PATIENCE, || node.run(is_at_it));
    let told = Instant::now();
    let status = site.daemon().terminate();
    let took = told.elapsed();

    assert_eq!(status.code(), Some(0));
    let bound = site.node().run(bound);
    assert!(
        took < SOON || bound < usize::from(MANY),
        "{took:?}, and {bound} are bound"
    );
    assert_eq!(site.outside().call(Protocol::Tcp, WEB).who(), "p1");
}
