//! From kube-proxy in ipvs mode to us, and back, under live connections.
//!
//! kube-proxy is played by a script that makes the kernel's state in its shape:
//! VIPs on a link that is down, `rr` virtual servers with masquerading real
//! servers, iptables chains over ipsets. Like it, the script adds what is
//! missing and removes virtual servers that it does not know.

mod modes;
mod remains;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kube_ipvs_tests::daemon::state_directory;
use kube_ipvs_tests::{
    Client, Connection, Daemon, KubeProxy, Namespace, Pod, Protocol, Server, Small, Topology,
    Verdict, kube_ipvs, kube_proxy, output_of, run, wait_until,
};
use serde_json::json;

use crate::manifests::{Manifests, web, web_slice};
use crate::snapshot::{assert_same, snapshot};

const SOON: Duration = Duration::from_secs(90);
const V4: &str = "10.96.0.10:80";
const V6: &str = "[fd00:96::10]:80";

/// A node that kube-proxy has programmed, and open connections through it.
struct Lab {
    small: Small,
    /// It serves nothing.
    client: Pod,
    kube_proxy: KubeProxy,
    manifests: Manifests,
    _servers: Vec<Server>,
}

impl Lab {
    fn new() -> Self {
        Self::with("Cluster", "node-1")
    }

    /// Outside traffic to the NodePort stays on the node, to `p1`; traffic from
    /// inside goes to both pods, by a mark.
    fn with_marks() -> Self {
        Self::with("Local", "node-2")
    }

    fn with(policy: &str, node_of_p2: &str) -> Self {
        let small = Topology::small();
        let servers = small.pods.iter().flat_map(|pod| {
            [
                pod.serve(Protocol::Tcp, 8080),
                pod.serve_v6(Protocol::Tcp, 8080),
            ]
        });
        let servers = servers.collect();
        let mut service = web();
        service["spec"]["externalTrafficPolicy"] = json!(policy);
        let slice = |name: &str, [p1, p2]: [String; 2]| {
            web_slice(name, &[(&p1, "node-1"), (&p2, node_of_p2)])
        };
        let manifests = Manifests::of(&[
            service,
            slice("web-4", small.pods.each_ref().map(|pod| pod.v4.to_string())),
            slice("web-6", small.pods.each_ref().map(|pod| pod.v6.to_string())),
        ]);
        let kube_proxy = KubeProxy::of(&small);
        Self {
            client: small.node.pod("client"),
            small,
            kube_proxy,
            manifests,
            _servers: servers,
        }
    }

    fn node(&self) -> &Namespace {
        &self.small.node.namespace
    }

    fn node_port(&self) -> String {
        format!("{}:30080", self.small.node.v4())
    }

    /// A connection to every front, from outside, from a pod and from the node.
    fn connections(&self) -> Vec<(String, Connection)> {
        let outside = &self.small.outside.namespace;
        let pod = &self.client.namespace;
        let node_port = self.node_port();
        let mut all = Vec::new();
        for (from, name, fronts) in [
            (outside, "outside", [V4, V6, &node_port].as_slice()),
            (pod, "pod", &[V4, V6]),
            (self.node(), "node", &[V4, V6]),
        ] {
            for front in fronts {
                // One to each endpoint, and to each once more.
                for _ in 0..4 {
                    let client = Client::within(from).timeout(Duration::from_secs(20));
                    let connection = client
                        .connect(Protocol::Tcp, front)
                        .unwrap_or_else(|verdict| panic!("{name} to {front}: {verdict:?}"));
                    all.push((format!("{name} to {front}"), connection));
                }
            }
        }
        all
    }

    /// Our daemon, started over what kube-proxy left, with its work done.
    fn adopt(&self, more: &[&str]) -> Daemon {
        let arguments = [&["--adopt-kube-proxy"], more].concat();
        let mut daemon = Daemon::start(self.node(), self.manifests.run(&arguments));
        daemon.wait_for_log("chains and sets of kube-proxy removed", SOON);
        daemon
    }
}

#[track_caller]
fn all_answer(connections: &mut [(String, Connection)]) {
    let mut lost = Vec::new();
    for (name, connection) in connections {
        let verdict = connection.ask();
        if !matches!(verdict, Verdict::Answered { .. }) {
            lost.push(format!("{name}: {verdict:?}"));
        }
    }
    assert!(lost.is_empty(), "lost connections: {lost:?}");
}

/// New connections, one after the other, until it is stopped.
struct Calls {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Vec<Verdict>)>,
}

impl Calls {
    fn start(from: &Namespace, front: &str) -> Self {
        // IPVS mistakes calls of one client and port to one endpoint by two
        // fronts (docs/limitations.md): none has the port of a connection that is open.
        from.sh("sysctl -qw net.ipv4.ip_local_port_range='61000 65500'");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let front = front.to_owned();
        let inside = from.spawn(move || {
            let client = Client::here().timeout(Duration::from_secs(20));
            let (mut good, mut bad) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                match client.call(Protocol::Tcp, &front) {
                    Verdict::Answered { .. } => good += 1,
                    verdict => bad.push(verdict),
                }
                thread::sleep(Duration::from_millis(50));
            }
            (good, bad)
        });
        Self {
            stop,
            thread: inside,
        }
    }

    #[track_caller]
    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (good, bad) = self.thread.join().expect("calls do not panic");
        assert_eq!(bad, [], "{good} calls were answered");
        assert!(good > 0, "nobody called");
    }
}

#[test]
fn kube_proxys_node_is_taken_over_without_a_lost_connection() {
    let lab = Lab::new();
    lab.kube_proxy.sync();
    lab.kube_proxy.leave_more();
    lab.node().sh(kube_proxy::FOREIGN);
    // With a port that kube-proxy has in no set.
    let node = lab.small.node.v4();
    lab.node().sh(&format!("ipvsadm -A -t {node}:30095 -s wlc"));
    let mut connections = lab.connections();
    all_answer(&mut connections);
    let calls = [V4, V6].map(|front| Calls::start(&lab.small.outside.namespace, front));

    let daemon = lab.adopt(&[]);

    all_answer(&mut connections);
    calls.into_iter().for_each(Calls::finish);
    assert_eq!(lab.kube_proxy.leftovers(), Vec::<String>::new());
    let log = daemon.log();
    assert!(log.contains("taken over from kube-proxy"), "{log}");
    // A Service that was deleted meanwhile, and others' servers.
    let servers = lab.node().sh("ipvsadm -Sn");
    assert!(!servers.contains("10.96.0.99"), "{servers}");
    assert!(!servers.contains(":8443"), "{servers}");
    for foreign in [
        "-A -t 192.0.2.10:30090 -s wlc",
        "-A -t 10.96.200.1:443",
        &format!("-A -t {node}:30095 -s wlc"),
    ] {
        assert!(servers.contains(foreign), "{servers}");
    }
    let link = lab.node().sh("ip address show dev kube-ipvs0");
    assert!(!link.contains("10.96.0.99"), "{link}");
    // The kubelet's chains and a stranger's.
    let chains = lab
        .node()
        .sh("iptables-nft-save; ip6tables-nft-save; iptables-legacy-save");
    for kept in [":KUBE-FIREWALL", ":KUBE-KUBELET-CANARY", "-A MINE"] {
        assert!(chains.contains(kept), "{kept} in {chains}");
    }
    assert_eq!(lab.node().sh("ipset list -n"), "stranger\n");
}

#[test]
fn kube_proxy_takes_its_node_back_without_a_lost_connection() {
    let lab = Lab::new();
    lab.kube_proxy.sync();
    let mut daemon = lab.adopt(&[]);
    let mut connections = lab.connections();
    all_answer(&mut connections);
    let calls = [V4, V6].map(|front| Calls::start(&lab.small.outside.namespace, front));

    let status = daemon.terminate();
    assert!(status.success(), "{status}");
    lab.kube_proxy.sync();
    let said = output_of(&mut kube_ipvs(lab.node(), ["cleanup", "--hand-over"]));

    all_answer(&mut connections);
    calls.into_iter().for_each(Calls::finish);
    assert!(
        said.contains("removed: nftables table ip kube-ipvs\n"),
        "{said}"
    );
    assert!(said.contains("left: virtual servers "), "{said}");
    let put_back = "put back: IPVS time-out tcp from 7800 to 900 seconds\n";
    assert!(said.contains(put_back), "{said}");
    assert_eq!(
        lab.node().sh("ipvsadm -l --timeout"),
        "Timeout (tcp tcpfin udp): 900 120 300\n"
    );
    let tables = lab.node().sh("nft list tables");
    assert!(!tables.contains("kube-ipvs"), "{tables}");
    let again = output_of(&mut kube_ipvs(lab.node(), ["cleanup"]));
    assert!(again.contains("nothing of ours is here"), "{again}");
    all_answer(&mut lab.connections());
}

#[test]
fn marks_and_routes_are_handed_over_when_they_carry_nothing() {
    let lab = Lab::with_marks();
    lab.kube_proxy.sync();
    let mut daemon = lab.adopt(&["--vip-binding=route"]);
    let mut connections = lab.connections();
    let node_port = lab.node_port();
    let inside = Client::within(lab.node()).timeout(Duration::from_secs(20));
    let mut marked: Vec<_> = (0..2)
        .map(|_| inside.connect(Protocol::Tcp, &node_port).expect("connect"))
        .collect();
    let mut who: Vec<_> = marked
        .iter_mut()
        .map(|x| x.ask().who().to_owned())
        .collect();
    who.sort();
    assert_eq!(who, ["p1", "p2"], "the mark leads to both");

    let status = daemon.terminate();
    assert!(status.success(), "{status}");
    lab.kube_proxy.sync();
    let hand_over = || output_of(&mut kube_ipvs(lab.node(), ["cleanup", "--hand-over"]));
    let said = hand_over();

    assert!(
        said.contains("carries 2 connections; run this again later"),
        "{said}"
    );
    let idle = said
        .lines()
        .any(|line| line.starts_with("removed: virtual server FWM ") && line.contains(" IPv6"));
    assert!(idle, "{said}");
    assert!(
        said.contains("removed: routes of 2 VIPs that are addresses too"),
        "{said}"
    );
    let ip = |arguments: &str| lab.node().run(|| run("ip", arguments.split(' ')));
    assert_eq!(ip("route show table local dev kube-ipvs0 proto 196"), "");
    assert!(ip("address show dev kube-ipvs0").contains("10.96.0.10/32"));
    all_answer(&mut connections);
    for connection in &mut marked {
        let verdict = connection.ask();
        assert!(matches!(verdict, Verdict::Answered { .. }), "{verdict:?}");
    }

    marked.into_iter().for_each(Connection::reset);
    wait_until("the mark carries nothing", SOON, || {
        !hand_over().contains("carries")
    });
    let servers = lab.node().sh("ipvsadm -Sn");
    assert!(!servers.contains(" -f "), "{servers}");
    assert!(servers.contains("-A -t 10.96.0.10:80"), "{servers}");
    assert!(!state_directory(lab.node()).join("owned.json").exists());
    all_answer(&mut connections);
    all_answer(&mut lab.connections());
}

#[test]
fn addresses_become_routes_and_routes_addresses() {
    let lab = Lab::new();
    lab.kube_proxy.sync();
    let mut connections = lab.connections();
    all_answer(&mut connections);

    let mut daemon = lab.adopt(&["--vip-binding=route"]);

    all_answer(&mut connections);
    // Not by a shell, whose own `ip` knows no protocols.
    let ip = |arguments: &str| lab.node().run(|| run("ip", arguments.split(' ')));
    let addresses = || ip("address show dev kube-ipvs0 scope global");
    let routes = || ip("route show table local dev kube-ipvs0 proto 196");
    wait_until("VIPs are routes", SOON, || {
        !addresses().contains("10.96.0.10") && routes().contains("10.96.0.10")
    });
    daemon.terminate();
    let _daemon = Daemon::start(lab.node(), lab.manifests.run(&[]));
    wait_until("VIPs are addresses", SOON, || {
        addresses().contains("10.96.0.10") && !routes().contains("10.96.0.10")
    });
    all_answer(&mut connections);
    all_answer(&mut lab.connections());
}

#[test]
fn the_init_container_sets_sysctls_and_nothing_else() {
    let node = Namespace::enter();
    node.sysctl("net/ipv4/ip_forward", "0");
    let sysctl = |name: &str| node.sh(&format!("cat /proc/sys/{name}")).trim().to_owned();
    let before = sysctl("net/netfilter/nf_conntrack_tcp_timeout_close_wait");
    let arguments = [
        "run",
        "--manifests=/nowhere",
        "--init-only",
        "--ipvs-strict-arp",
        "--ipvs-tcp-timeout=1h",
        "--conntrack-tcp-timeout-close-wait=50m",
        "--ipvs-run-estimation=false",
    ];

    output_of(&mut kube_ipvs(&node, arguments));

    for (name, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/vs/conntrack", "1"),
        ("net/ipv4/conf/all/arp_announce", "2"),
        ("net/netfilter/nf_conntrack_tcp_timeout_close_wait", "3000"),
        ("net/ipv4/vs/run_estimation", "0"),
    ] {
        assert_eq!(sysctl(name), value, "{name}");
    }
    assert!(node.sh("ipvsadm -L --timeout").contains(": 3600 120 300"));
    assert!(!node.sh("ip link").contains("kube-ipvs0"));
    assert_eq!(node.sh("nft list tables"), "");
    output_of(&mut kube_ipvs(&node, ["cleanup"]));
    assert_eq!(sysctl("net/ipv4/ip_forward"), "0");
    assert_eq!(sysctl("net/ipv4/vs/run_estimation"), "1");
    assert_eq!(
        sysctl("net/netfilter/nf_conntrack_tcp_timeout_close_wait"),
        before
    );
    assert!(node.sh("ipvsadm -L --timeout").contains(": 900 120 300"));
}

#[test]
fn sizes_and_time_outs_of_conntrack_stay_the_hosts_unless_asked_for() {
    let node = Namespace::enter();
    let manifests = tempfile::tempdir().expect("a directory");
    let conntrack = || {
        let all = snapshot(&node).into_iter();
        let of = all.filter(|(name, _)| name.contains("/nf_conntrack_"));
        of.collect::<std::collections::BTreeMap<_, _>>()
    };
    let before = conntrack();
    assert!(before.len() > 10, "{before:?}");
    for arguments in [&["run", "--init-only"][..], &["run", "--once"]] {
        let mut command = kube_ipvs(&node, arguments);
        output_of(command.arg("--manifests").arg(manifests.path()));
        assert_same(&before, &conntrack());
    }
}
