//! Real clients and servers: manifests in, requests through VIPs, who answered.

pub(crate) mod site;
pub(crate) mod web;

mod addresses;
mod balance;
mod crowd;
mod deleted;
mod dns;
mod ecmp;
mod host_ports;
mod hosts;
mod idle;
mod kinds;
mod localhost;
mod mtu;
mod node_dns;
mod node_ports;
mod overlay;
mod ports;
mod probes;
mod quick;
mod ranges;
mod refusals;
mod replaced;
mod untracked;
mod wiped;

use kube_ipvs_tests::{Client, Protocol, Verdict, run, run_with_input};

use site::Site;
use web::Web;

const WEB: &str = "10.96.0.10:80";

#[test]
fn a_vip_answers_host_pod_and_outside_over_every_protocol_and_family() {
    let mut site = Site::new();
    let [p1, p2] = &site.small.pods;
    let mut web = Web::new("web", &["10.96.0.10", "fd00:96::10"]);
    for pod in [p1, p2] {
        web = web.endpoint(pod.v4).endpoint(pod.v6);
    }
    let mut servers = Vec::new();
    for (protocol, port) in Protocol::ALL.into_iter().zip(80..) {
        web = web.port(protocol, port, 8080);
        for pod in [p1, p2] {
            servers.push(pod.serve(protocol, 8080));
            servers.push(pod.serve_v6(protocol, 8080));
        }
    }
    site.write(&web);
    site.start(&[]);

    let from = [
        ("host", site.host()),
        ("pod", site.pod()),
        ("outside", site.outside()),
    ];
    let mut silent = Vec::new();
    for (protocol, port) in Protocol::ALL.into_iter().zip(80..) {
        for vip in ["10.96.0.10", "[fd00:96::10]"] {
            let vip = format!("{vip}:{port}");
            for (place, client) in &from {
                // rr: one of the two calls of a pod meets the pod itself.
                let verdicts = [0, 1].map(|_| client.call(protocol, &vip));
                let mut who: Vec<_> = verdicts.iter().filter_map(name).collect();
                who.sort_unstable();
                if who != ["p1", "p2"] {
                    silent.push(format!("{protocol} {vip} from {place}: {verdicts:?}"));
                }
            }
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

fn name(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Answered { who, .. } => Some(who),
        _ => None,
    }
}

#[test]
fn a_removed_endpoint_gets_no_new_connections() {
    let mut site = Site::new();
    let pods = &site.small.pods;
    let _servers = [0, 1].map(|n| pods[n].serve(Protocol::Tcp, 8080));
    site.write(&Web::over(pods));
    site.start(&[]);
    let client = site.outside();
    let mut held: Vec<_> = (0..2)
        .map(|_| client.connect(Protocol::Tcp, WEB).expect("it answers"))
        .collect();
    let callees: Vec<_> = held.iter_mut().map(|c| c.ask().who().to_owned()).collect();
    let stays = callees.iter().position(|who| who == "p1");

    site.write(&Web::over(&site.small.pods[..1]));
    site.wait_for_table("p2 is gone", |table| !table.contains("10.244.1.3"));

    assert_eq!(client.callees(Protocol::Tcp, WEB, 6), ["p1"; 6]);
    let stays = stays.expect("rr reached p1");
    assert_eq!(held[stays].ask().who(), "p1", "the other one is not cut");
}

#[test]
fn a_udp_client_leaves_a_removed_endpoint_at_once() {
    let mut site = Site::new();
    let pods = &site.small.pods;
    let _servers = [0, 1].map(|n| pods[n].serve(Protocol::Udp, 8080));
    let web = |pods: &[kube_ipvs_tests::Pod]| {
        let web = Web::new("web", &["10.96.0.10"]).port(Protocol::Udp, 53, 8080);
        pods.iter().fold(web, |web, pod| web.endpoint(pod.v4))
    };
    site.write(&web(&pods[..1]));
    site.start(&[]);
    // One socket: IPVS and conntrack both remember where it went.
    let mut flow = site
        .outside()
        .connect(Protocol::Udp, "10.96.0.10:53")
        .expect("UDP needs no answer");
    assert_eq!(flow.ask().who(), "p1");

    site.write(&web(&site.small.pods[1..]));
    site.wait_for_table("p1 is gone", |table| !table.contains("10.244.1.2"));

    assert_eq!(flow.ask().who(), "p2");
}

#[test]
fn foreign_virtual_servers_stay_untouched() {
    let mut site = Site::new();
    let foreign = "-A -t 10.96.0.200:80 -s sh\n-a -t 10.96.0.200:80 -r 192.0.2.1:80 -i -w 3 --tun-type ipip\n\
                   -A -u 192.168.50.1:53 -s wlc -p 77\n-a -u 192.168.50.1:53 -r 192.0.2.2:53 -m -w 2\n\
                   -A -f 7 -s rr\n";
    site.node()
        .run(|| run_with_input("ipvsadm", ["-R"], foreign));
    let before = site.table();
    site.write(&Web::over(&site.small.pods));

    site.start(&[]);
    site.wait_for_table("ours is there", |table| table.contains("10.244.1.3"));
    site.remove("web");
    site.wait_for_table("ours is gone", |table| !table.contains("10.96.0.10"));
    site.daemon().terminate();

    assert_eq!(site.table(), before);
}

#[test]
fn what_was_served_is_served_on_after_the_program_ended() {
    let mut site = Site::new();
    let _servers = [0, 1].map(|n| site.small.pods[n].serve(Protocol::Tcp, 8080));
    site.write(&Web::over(&site.small.pods));
    site.start(&[]);
    let table = site.table();

    assert!(site.daemon().terminate().success());

    assert_eq!(site.table(), table);
    let vips = site
        .node()
        .run(|| run("ip", ["-o", "addr", "show", "dev", "kube-ipvs0"]));
    assert!(vips.contains("10.96.0.10/32"), "{vips}");
    let client = Client::within(&site.small.outside.namespace);
    client.callees(Protocol::Tcp, WEB, 2);
}
