//! Services whose packets pass without entries in conntrack.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use kube_ipvs_tests::{Client, Protocol, Verdict, wait_until};

use super::site::{PATIENCE, Site};
use super::web::Web;

const DNS: [&str; 2] = ["10.96.0.10:53", "[fd00:96::10]:53"];
const BOTH: [Protocol; 2] = [Protocol::Udp, Protocol::Tcp];

/// Over the second pod, by UDP and TCP.
fn dns(site: &Site, untracked: &str) -> Web {
    let pod = &site.small.pods[1];
    let dns = Web::new("dns", &["10.96.0.10", "fd00:96::10"]);
    let dns = dns
        .port(Protocol::Udp, 53, 8080)
        .port(Protocol::Tcp, 53, 8080);
    let dns = dns.endpoint(pod.v4).endpoint(pod.v6);
    dns.option("untracked", untracked)
}

fn site() -> (Site, Vec<kube_ipvs_tests::Server>) {
    let mut site = Site::new();
    let pod = &site.small.pods[1];
    let servers = BOTH.map(|protocol| [pod.serve(protocol, 8080), pod.serve_v6(protocol, 8080)]);
    let servers = servers.into_iter().flatten().collect();
    site.write(&dns(&site, "true"));
    site.start(&[
        "--ipvs-min-sync-period=100ms",
        "--cluster-cidr=10.244.0.0/16,fd00:244::/32",
        "--ipvs-untracked-services=annotated",
    ]);
    site.wait_for_vip("10.96.0.10");
    site.wait_for_vip("fd00:96::10");
    (site, servers)
}

/// What conntrack of the node holds of the Service and its endpoint.
fn entries(site: &Site) -> String {
    let of = |family| format!("conntrack -L -f {family} 2>/dev/null; ");
    let all = site.node().sh(&format!("{}{}", of("ipv4"), of("ipv6")));
    let its = |line: &&str| line.contains("port=53 ") || line.contains("port=8080 ");
    all.lines().filter(its).collect::<Vec<_>>().join("\n")
}

#[test]
fn questions_of_pods_leave_no_entry_and_those_of_others_are_masqueraded_as_ever() {
    let (site, _servers) = site();
    let p1 = &site.small.pods[0];
    for to in DNS {
        for _ in 0..50 {
            let mut resolver = site.pod().connect(Protocol::Udp, to).expect("UDP connects");
            for _ in 0..100 {
                assert_eq!(resolver.ask().who(), "p2", "{to}");
            }
        }
        let seen = site.pod().call(Protocol::Tcp, to).saw();
        assert!([p1.v4.into(), p1.v6.into()].contains(&seen), "{to}: {seen}");
    }
    let direct = format!("{}:8080", site.small.pods[1].v4);
    assert_eq!(site.pod().call(Protocol::Udp, &direct).name(), "p2");
    assert_eq!(entries(&site), "");

    let itself = Client::within(&site.small.pods[1].namespace);
    let clients = [
        ("outside", site.outside()),
        ("the host", site.host()),
        ("the endpoint itself", itself),
    ];
    for (who, client) in clients {
        for protocol in BOTH {
            for to in DNS {
                let answer = client.call(protocol, to);
                assert_eq!(answer.name(), "p2", "{who} by {protocol} to {to}");
            }
        }
    }
    assert_ne!(entries(&site), "", "they are tracked");
    // This host asks an endpoint itself from an address in the pods' network: what
    // it is answered is tracked as well.
    for protocol in BOTH {
        assert_eq!(site.host().call(protocol, &direct).name(), "p2");
    }
    let all = entries(&site);
    assert!(all.contains("src=10.244.1.1 "), "{all}");
    assert!(!all.contains("[UNREPLIED]"), "{all}");
}

#[test]
fn connections_outlive_the_change_from_untracked_to_tracked_and_back() {
    let (site, _servers) = site();
    let to = DNS[0];
    let mut open = site.pod().connect(Protocol::Tcp, to).expect("it answers");
    assert_eq!(open.ask().who(), "p2");
    assert_eq!(entries(&site), "");

    site.write(&dns(&site, "false"));
    wait_until("questions are tracked", PATIENCE, || {
        assert_eq!(site.pod().call(Protocol::Udp, to).name(), "p2");
        !entries(&site).is_empty()
    });
    assert_eq!(open.ask().who(), "p2");

    site.write(&dns(&site, "true"));
    let sets = "nft list set ip kube-ipvs untracked-fronts";
    wait_until("it is untracked again", PATIENCE, || {
        site.node().sh(sets).contains("10.96.0.10")
    });
    assert_eq!(open.ask().who(), "p2");
    assert_eq!(site.pod().call(Protocol::Tcp, to).name(), "p2");
}

/// Ends those who ask, also where a wait fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Asks without a pause, in turn from a port that stays and from a new one. What
/// became of the questions that `p2` did not answer.
fn keep_asking(client: &Client, to: &str, asked: &AtomicUsize, end: &AtomicBool) -> Vec<String> {
    let mut stays = client.connect(Protocol::Udp, to).expect("UDP connects");
    let mut lost = Vec::new();
    while !end.load(Ordering::SeqCst) {
        for verdict in [stays.ask(), client.call(Protocol::Udp, to)] {
            let number = asked.fetch_add(1, Ordering::SeqCst);
            if !matches!(&verdict, Verdict::Answered { who, .. } if who == "p2") {
                lost.push(format!("question {number} to {to}: {verdict:?}"));
            }
        }
    }
    lost
}

/// Whether the Service is in the sets of both families.
fn is_untracked(site: &Site) -> [bool; 2] {
    let has = |family: &str, vip: &str| {
        let set = format!("nft list set {family} kube-ipvs untracked-fronts");
        site.node().sh(&set).contains(vip)
    };
    [has("ip", "10.96.0.10"), has("ip6", "fd00:96::10")]
}

#[test]
fn no_question_is_lost_while_the_annotation_comes_and_goes() {
    let (site, _servers) = site();
    let (asked, end) = (AtomicUsize::new(0), AtomicBool::new(false));
    let clients = DNS.map(|to| (to, site.pod().timeout(PATIENCE / 2)));
    let lost = thread::scope(|scope| {
        let askers = clients.each_ref().map(|(to, client)| {
            let (asked, end) = (&asked, &end);
            scope.spawn(move || keep_asking(client, to, asked, end))
        });
        let ending = End(&end);
        for untracked in ["false", "true", "false", "true"] {
            site.write(&dns(&site, untracked));
            wait_until("the sets follow", PATIENCE, || {
                is_untracked(&site) == [untracked == "true"; 2]
            });
            let so_far = asked.load(Ordering::SeqCst);
            wait_until("questions go on", PATIENCE, || {
                asked.load(Ordering::SeqCst) >= so_far + 40
            });
        }
        drop(ending);
        askers.map(|asker| asker.join().expect("it asked"))
    });
    assert_eq!(lost.concat(), [""; 0], "of {asked:?}");
}

/// What portmap does for a pod with `hostPort` needs the entries of who is no pod.
#[test]
fn a_host_port_of_an_endpoint_answers_as_ever() {
    let (site, _servers) = site();
    let (node, pod) = (&site.small.node, &site.small.pods[1]);
    let rule = |protocol| {
        format!(
            "fib daddr type local {protocol} dport 9053 dnat to {}:8080",
            pod.v4
        )
    };
    site.node().sh(&format!(
        "nft 'table ip host-ports {{ chain prerouting {{ type nat hook prerouting priority dstnat;\n{}\n{}\n}}; }}'",
        rule("udp"),
        rule("tcp"),
    ));
    let to = format!("{}:9053", node.v4());
    for protocol in BOTH {
        let answer = site.outside().call(protocol, &to);
        assert_eq!(answer.name(), "p2", "{protocol}");
    }
}

/// What an endpoint answers to it must be tracked, as what it asks is.
#[test]
fn an_address_that_comes_to_the_node_is_its_own_until_it_goes() {
    let (site, _servers) = site();
    let set = || site.node().sh("nft list set ip kube-ipvs untracked-own");
    let address = "10.244.1.200";
    assert!(set().contains("10.244.1.1"), "{}", set());
    site.node()
        .sh("ip link add bridge type dummy; ip link set bridge up");
    for (verb, is_there) in [("add", true), ("del", false)] {
        let change = format!("ip address {verb} {address}/32 dev bridge");
        site.node().sh(&change);
        wait_until("the set follows", PATIENCE, || {
            set().contains(address) == is_there
        });
    }
}
