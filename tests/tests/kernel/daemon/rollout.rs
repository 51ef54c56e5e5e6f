//! A pod leaves without a client noticing, though clients use the same source
//! ports again and leave TIME_WAIT behind.

use std::thread;
use std::time::{Duration, Instant};

use kube_ipvs_tests::{Protocol, wait_until};

use super::load::Load;
use super::{QUICK, WEB};
use crate::traffic::site::{PATIENCE, Site};
use crate::traffic::web::{State, Web};

/// 20 ports, each about every other second: sooner, the client's own TIME_WAIT
/// would be in the way.
const PORTS: std::ops::Range<u16> = 40_001..40_021;
const PAUSE: Duration = Duration::from_millis(100);
/// `TIME_WAIT` alone would hold a real server for two minutes. That it is held
/// for five seconds is shown by a clock of its own, in the tests of the loop:
/// an emulated machine is too slow to tell.
const HELD: Duration = Duration::from_secs(40);

fn web(site: &Site, first: State) -> Web {
    let [p1, p2] = &site.small.pods;
    let web = Web::new("web", &["10.96.0.10"]).port(Protocol::Tcp, 80, 8080);
    web.endpoint_in(p1.v4, first).endpoint(p2.v4)
}

#[test]
fn a_rolling_update_fails_nobody_and_holds_nothing() {
    let mut site = Site::new();
    let mut servers = [0, 1].map(|n| Some(site.small.pods[n].serve(Protocol::Tcp, 8080)));
    site.small
        .outside
        .namespace
        .sysctl("net/ipv4/tcp_tw_reuse", "1");
    site.write(&web(&site, State::Ready));
    site.start(&QUICK);
    let load = Load::from_ports(&site.small.outside.namespace, WEB, PORTS, PAUSE);
    thread::sleep(Duration::from_secs(4));

    // The pod is asked to end, and still answers: nothing new for it.
    site.write(&web(&site, State::Leaving));
    let p1 = |weight: &str| format!("-r 10.244.1.2:8080 -m -w {weight}");
    wait_until("p1 drains or is gone", PATIENCE, || {
        !site.table().contains(&p1("1"))
    });
    let drained = Instant::now();
    site.wait_for_table("p1 is gone", |table| !table.contains("10.244.1.2"));
    let took = drained.elapsed();
    eprintln!("gone {took:?} after its last new connection");
    assert!(took < HELD, "held by what is left of connections: {took:?}");

    // It has ended.
    site.write(&web(&site, State::Left));
    drop(servers[0].take());
    thread::sleep(Duration::from_secs(3));
    let seen = load.stop();

    assert_eq!(seen.failed, [""; 0]);
    assert!(seen.answered > 40, "{} is no load", seen.answered);
}

#[test]
fn a_connection_in_use_outlives_the_ready_endpoint() {
    let mut site = Site::new();
    let _servers = [0, 1].map(|n| site.small.pods[n].serve(Protocol::Tcp, 8080));
    site.write(&web(&site, State::Ready));
    site.start(&QUICK);
    let connect = || {
        site.outside()
            .connect(Protocol::Tcp, WEB)
            .expect("it answers")
    };
    let mut flows = [connect(), connect()];
    let who = flows.each_mut().map(|flow| flow.ask().who().to_owned());
    let mut flow = match who[0].as_str() {
        "p1" => flows.into_iter().next(),
        _ => flows.into_iter().nth(1),
    }
    .expect("there are two");

    site.write(&web(&site, State::Leaving));
    site.wait_for_table("p1 drains", |table| {
        table.contains("-r 10.244.1.2:8080 -m -w 0")
    });

    for _ in 0..8 {
        thread::sleep(Duration::from_secs(1));
        assert_eq!(flow.ask().who(), "p1");
    }
    assert_eq!(site.outside().callees(Protocol::Tcp, WEB, 3), ["p2"; 3]);
    drop(flow);
    site.wait_for_table("p1 is gone", |table| !table.contains("10.244.1.2"));
}
