//! Rollouts that are broken: of a Service's pods, of a DaemonSet's pod on this
//! node, and of kube-ipvs itself.

use kube_ipvs_tests::ways::{Way, rollout};
use kube_ipvs_tests::{Daemon, Protocol, kube_ipvs, wait_for};
use serde_json::json;

use super::{asked, found, said};
use crate::daemon::{QUICK, WEB};
use crate::traffic::site::{PATIENCE, Site};
use crate::traffic::web::{State, Web};

/// `default/web` with the old pod and the new one in these states.
fn web(site: &Site, old: State, new: State) -> Web {
    let [p1, p2] = &site.small.pods;
    let web = Web::new("web", &["10.96.0.10"]).port(Protocol::Tcp, 80, 8080);
    web.endpoint_in(p1.v4, old).endpoint_in(p2.v4, new)
}

/// Asks until it is answered so, since a change is on its way; then holds the whole answer
/// against what should be said.
#[track_caller]
fn becomes(site: &Site, way: Way) {
    let text = wait_for(PATIENCE, || {
        let (_, text) = said(site.node(), &way.ask.arguments());
        if text.contains(way.answer) {
            Ok(text)
        } else {
            Err(text)
        }
    });
    way.check(&text.unwrap_or_else(|text| panic!("{way:?}: not so but\n{text}")));
}

/// What a rollout is told as is what a client meets.
#[test]
fn a_rollout_that_is_broken_is_told_by_explain() {
    let mut site = Site::new();
    let _servers = [0, 1].map(|n| site.small.pods[n].serve(Protocol::Tcp, 8080));
    let called = |site: &Site| site.outside().call(Protocol::Tcp, WEB).name();
    site.write(&web(&site, State::Ready, State::Beginning));
    site.start(&QUICK);
    let (_, text) = said(site.node(), &rollout::BROKEN.ask.arguments());
    assert!(text.contains("served by 1 real server\n"), "{text}");
    assert!(text.contains(", 1 not ready\n"), "{text}");

    site.write(&web(&site, State::Leaving, State::Beginning));
    becomes(&site, rollout::BROKEN);
    assert_eq!(called(&site), "p1");

    site.write(&web(&site, State::Left, State::Beginning));
    becomes(&site, rollout::OVER);
    assert_eq!(called(&site), "Refused");

    site.write(&web(&site, State::Leaving, State::Leaving));
    becomes(&site, rollout::ALL_LEAVE);
    let called = site.outside().callees(Protocol::Tcp, WEB, 4);
    assert!(called.contains(&"p2".to_owned()), "{called:?}");

    site.write(&web(&site, State::Ready, State::Ready));
    let well = "from outside  served by 2 real servers\n";
    wait_for(PATIENCE, || {
        let (_, text) = said(site.node(), &rollout::BROKEN.ask.arguments());
        if text.contains(well) {
            Ok(())
        } else {
            Err(text)
        }
    })
    .expect("it is well again");
}

const NODE_PORT: &str = "192.168.50.1:30080";

#[test]
fn a_pod_of_this_node_that_is_replaced_is_told_by_explain_where_the_policy_is_local() {
    let mut site = Site::new();
    let _servers = [0, 1].map(|n| site.small.pods[n].serve(Protocol::Tcp, 8080));
    let outside = |site: &Site| site.outside().call(Protocol::Tcp, NODE_PORT).name();
    let inside = |site: &Site| site.host().call(Protocol::Tcp, WEB).name();
    let local = |site: &Site, here, policy| {
        let [p1, p2] = &site.small.pods;
        let web = Web::new("web", &["10.96.0.10"]).port(Protocol::Tcp, 80, 8080);
        let web = web.endpoint_in(p1.v4, here).endpoint_on("node-2", p2.v4);
        web.spec(policy, json!("Local"))
    };

    let external = "externalTrafficPolicy";
    site.write(&local(&site, State::Leaving, external).node_ports(30080));
    site.start(&QUICK);
    becomes(&site, rollout::HERE_LEAVES);
    assert_eq!(outside(&site), "p1");
    site.write(&local(&site, State::Left, external).node_ports(30080));
    becomes(&site, rollout::HERE_OVER);
    assert_eq!(outside(&site), "TimedOut");

    let internal = "internalTrafficPolicy";
    site.write(&local(&site, State::Leaving, internal));
    becomes(&site, rollout::AGENT_LEAVES);
    assert_eq!(inside(&site), "p1");
    site.write(&local(&site, State::Beginning, internal));
    becomes(&site, rollout::AGENT_OVER);
    assert_eq!(inside(&site), "Refused");
}

/// What the old one left serves on.
#[test]
fn a_rollout_of_kube_ipvs_itself_that_is_broken_is_told_by_status() {
    let mut site = Site::new();
    let _servers = [0, 1].map(|n| site.small.pods[n].serve(Protocol::Tcp, 8080));
    site.write(&web(&site, State::Ready, State::Ready));
    site.start(&QUICK);
    assert!(site.daemon().terminate().success());

    let wrong = ["run", "--ipvs-scheduler=none-such", "--manifests=/nowhere"];
    let mut new = Daemon::spawn(&mut kube_ipvs(site.node(), wrong));
    assert!(!new.wait(PATIENCE).success(), "{}", new.log());
    found(site.node(), 1, rollout::SELF);
    assert!(site.table().contains("10.244.1.2:8080"));

    site.make_unreadable("web");
    let _new = site.start_on(&site.small.node, "node-1", &QUICK);
    found(site.node(), 1, rollout::SELF_UNREADY);
    let mut called = site.outside().callees(Protocol::Tcp, WEB, 2);
    called.sort();
    assert_eq!(called, ["p1", "p2"]);
    asked(
        site.node(),
        Way {
            ask: kube_ipvs_tests::ways::Ask::Service("default/web"),
            answer: "from outside  served by 2 real servers",
            never: &["there is no Service", "no endpoints"],
            ..rollout::SELF_UNREADY
        },
    );
}
