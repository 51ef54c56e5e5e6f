//! What changes beside a Service costs its clients nothing.

use std::time::Duration;

use kube_ipvs_tests::{Protocol, Verdict, wait_until};
use serde_json::json;

use super::load::Load;
use super::{QUICK, WEB};
use crate::traffic::site::{PATIENCE, Site};
use crate::traffic::web::Web;

/// New connections a second, of each load.
const NEW_A_SECOND: u32 = 20;
const CHANGES: u16 = 10;
const ROUNDS: u16 = 8;
/// A busy machine answers late; nobody waits it out.
const LATE: Duration = Duration::from_secs(15);
const NODE_PORT: u16 = 30_080;

#[test]
fn one_of_three_services_at_an_address_goes_and_the_others_serve_on() {
    const SHARED: &str = "198.51.100.10";
    let mut site = Site::new();
    let _server = site.small.pods[0].serve(Protocol::Tcp, 8080);
    let node = &site.small.node;
    site.small.outside.route("198.51.100.0/24", node);
    let pod = site.small.pods[0].v4;
    let service = |number: u16| {
        let name = ["one", "two", "three"][usize::from(number) - 1];
        let web = Web::new(name, &[&format!("10.96.0.{number}")]);
        let web = web.port(Protocol::Tcp, 80 + number, 8080).endpoint(pod);
        web.spec("externalIPs", json!([SHARED]))
    };
    (1..=3).for_each(|number| site.write(&service(number)));
    site.start(&[QUICK[0], QUICK[1], "--allow-external-ips=198.51.100.0/24"]);
    let outside = &site.small.outside.namespace;
    let loads = [81, 82]
        .map(|port| Load::new_connections(outside, &format!("{SHARED}:{port}"), NEW_A_SECOND));
    let third = format!("{SHARED}:83");
    for _ in 0..ROUNDS {
        wait_until("its port is open", PATIENCE, || {
            site.outside().call(Protocol::Tcp, &third) != Verdict::Refused
        });
        site.remove("three");
        wait_until("its port is closed", PATIENCE, || {
            site.outside().call(Protocol::Tcp, &third) == Verdict::Refused
        });
        site.write(&service(3));
    }

    for seen in loads.map(Load::stop) {
        assert_eq!(seen.failed, [""; 0]);
        assert!(seen.answered > 5, "{} is no load", seen.answered);
    }
}

/// Their lists are read while they change.
#[test]
fn links_that_come_and_go_take_no_node_port_away() {
    let mut site = Site::new();
    let _server = site.small.pods[0].serve(Protocol::Tcp, 8080);
    site.write(&Web::over(&site.small.pods[..1]).node_ports(NODE_PORT));
    site.start(&QUICK);
    let to = format!("{}:{NODE_PORT}", site.small.node.v4());
    let server = format!("-A -t {to} ");
    let calls = Load::new_connections(&site.small.outside.namespace, &to, NEW_A_SECOND);

    for number in 0..CHANGES {
        let links: String = (0..5)
            .map(|n| {
                format!(
                    "link add a{n} type veth peer name b{n}\nlink set a{n} up\n\
                     addr add 172.16.{number}.{n}/32 dev a{n}\naddr add fd00:16::{number}:{n}/128 dev a{n}\n"
                )
            })
            .collect();
        let gone: String = (0..5).map(|n| format!("link del a{n}\n")).collect();
        for change in [links, gone] {
            site.node().ip(&change);
            let table = site.table();
            assert!(table.contains(&server), "{table}");
        }
    }

    let seen = calls.stop();
    assert_eq!(seen.failed, [""; 0]);
    assert!(seen.answered > 5, "{} is no load", seen.answered);
}

/// kube-proxy once wiped all entries at each sync.
#[test]
fn the_entries_of_a_datagram_flow_outlive_changes_of_other_services() {
    let mut site = Site::new();
    let pods = &site.small.pods;
    let _servers = [0, 1].map(|n| pods[n].serve(Protocol::Udp, 8080));
    let dns = Web::new("dns", &["10.96.0.10"]).port(Protocol::Udp, 53, 8080);
    site.write(&pods.iter().fold(dns, |dns, pod| dns.endpoint(pod.v4)));
    site.start(&QUICK);
    let mut flow = site
        .outside()
        .timeout(LATE)
        .connect(Protocol::Udp, "10.96.0.10:53")
        .expect("UDP needs no answer");
    let who = flow.ask().who().to_owned();
    let entry = || {
        let list = "conntrack -L -p udp -d 10.96.0.10 -o id 2>/dev/null";
        let listed = site.node().sh(list);
        let (_, id) = listed.rsplit_once("id=").expect(&listed);
        id.trim().to_owned()
    };
    let before = entry();

    for number in 0..CHANGES {
        let pod = &site.small.pods[usize::from(number % 2)];
        let other = Web::new("other", &["10.96.0.11"]).port(Protocol::Udp, 53, 8080);
        site.write(&other.endpoint(pod.v4));
        let served = format!("-a -u 10.96.0.11:53 -r {}:8080", pod.v4);
        site.wait_for_table("it follows", |table| {
            table.contains(&served) && table.matches("-a -u 10.96.0.11:53").count() == 1
        });
        assert_eq!(flow.ask().who(), who);
    }

    assert_eq!(entry(), before);
}

/// A virtual server once stayed for as long as a connection was open.
#[test]
fn a_deleted_service_leaves_nothing_though_a_connection_is_open() {
    let mut site = Site::new();
    let _server = site.small.pods[0].serve(Protocol::Tcp, 8080);
    site.write(&Web::over(&site.small.pods[..1]).node_ports(NODE_PORT));
    site.start(&QUICK);
    let mut flows = [site.outside(), site.pod(), site.host()].map(|client| {
        let flow = client.connect(Protocol::Tcp, WEB);
        flow.expect("it answers")
    });
    let node_port = format!("{}:{NODE_PORT}", site.small.node.v4());
    let outside = site.outside().timeout(LATE);
    let mut local = outside
        .connect(Protocol::Tcp, &node_port)
        .expect("it answers");
    for flow in flows.iter_mut().chain([&mut local]) {
        assert_eq!(flow.ask().who(), "p1");
    }

    site.remove("web");
    site.wait_for_table("no virtual server", str::is_empty);
    wait_until("no address, and no word in the table", PATIENCE, || {
        let all = site
            .node()
            .sh("ip address show dev kube-ipvs0; nft list ruleset");
        !all.contains("10.96.0.10") && !all.contains(&NODE_PORT.to_string())
    });

    // The host itself is there still; where a VIP was, nobody is.
    assert_eq!(local.ask(), Verdict::Reset);
    for flow in &mut flows {
        let verdict = flow.ask();
        assert!(!matches!(verdict, Verdict::Answered { .. }), "{verdict:?}");
    }
}
