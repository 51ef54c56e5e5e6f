//! `kube-ipvs cleanup`: everything of ours goes, everything else stays.

use std::time::Duration;

use kube_ipvs::cleanup::{CleanupArgs, Report, clean};
use kube_ipvs_tests::apiserver::service;
use kube_ipvs_tests::daemon::state_directory;
use kube_ipvs_tests::{
    Client, Daemon, Namespace, Pod, Protocol, Small, Topology, Verdict, kube_ipvs, run_with_input,
    wait_until,
};
use serde_json::{Value, json};

use crate::broken::said;
use crate::manifests::{Manifests, web, web_slice};
use crate::snapshot::{assert_same, snapshot};

const SOON: Duration = Duration::from_secs(60);
const FOREIGN: &str = "
ipvsadm -A -t 192.0.2.10:80 -s wlc
ipvsadm -a -t 192.0.2.10:80 -r 192.0.2.20:80 -g -w 3
ipvsadm -A -t 10.96.200.1:443 -s sh
ipvsadm -A -f 77 -s rr
ipvsadm --set 1000 0 0
ip link add other0 type dummy
ip address add 10.96.200.1/32 dev other0
ip link set other0 up
echo 0 > /proc/sys/net/ipv4/ip_forward
echo 0 > /proc/sys/net/ipv6/conf/all/forwarding
echo 1 > /proc/sys/net/ipv4/vs/expire_nodest_conn
echo 0 > /proc/sys/net/ipv4/vs/conn_reuse_mode
echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore
";
const FOREIGN_TABLE: &str = "
table inet other {
    set known { type ipv4_addr; elements = { 192.0.2.1, 10.96.0.10 } }
    chain input { type filter hook input priority 10; policy accept; ip saddr @known counter accept; }
}
";

/// A `Local` Service with one endpoint here and one elsewhere, and one without.
fn objects(pod: &Pod) -> [Value; 4] {
    let mut balanced = web();
    let spec = &mut balanced["spec"];
    spec["type"] = json!("LoadBalancer");
    spec["externalTrafficPolicy"] = json!("Local");
    spec["loadBalancerSourceRanges"] = json!(["192.168.0.0/16", "10.0.0.0/8"]);
    balanced["status"] = json!({"loadBalancer": {"ingress": [{"ip": "10.96.77.1"}]}});
    let [v4, v6] = [pod.v4.to_string(), pod.v6.to_string()];
    [
        balanced,
        service("default", "empty", "10.96.0.11"),
        web_slice("web-4", &[(&v4, "node-1"), ("10.244.99.9", "node-2")]),
        web_slice("web-6", &[(&v6, "node-1")]),
    ]
}

/// A node with foreign things on it, and Services to serve.
pub(crate) struct Lab {
    pub(crate) small: Small,
    manifests: Manifests,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let small = Topology::small();
        let node = &small.node.namespace;
        node.sh(FOREIGN);
        node.run(|| run_with_input("nft", ["-f", "-"], FOREIGN_TABLE));
        let manifests = Manifests::of(&objects(&small.pods[0]));
        Self { small, manifests }
    }

    pub(crate) fn node(&self) -> &Namespace {
        &self.small.node.namespace
    }

    /// A daemon that serves.
    pub(crate) fn daemon(&self, more: &[&str]) -> Daemon {
        let daemon = Daemon::start(self.node(), self.manifests.run(more));
        let _server = self.small.pods[0].serve(Protocol::Tcp, 8080);
        let client = Client::within(&self.small.outside.namespace);
        wait_until("the Service answers", SOON, || {
            matches!(
                client.call(Protocol::Tcp, "10.96.0.10:80"),
                Verdict::Answered { .. }
            )
        });
        daemon
    }

    fn arguments_of_cleanup(&self) -> CleanupArgs {
        CleanupArgs {
            state_dir: state_directory(self.node()),
            ..CleanupArgs::default()
        }
    }

    fn clean(&self, args: &CleanupArgs) -> Report {
        self.node().run(|| clean(args))
    }
}

fn leaves_no_trace(more: &[&str]) {
    let lab = Lab::new();
    let before = snapshot(lab.node());
    let mut daemon = lab.daemon(more);
    let status = daemon.terminate();
    assert!(status.success(), "{status}");
    let serving = snapshot(lab.node());
    assert_ne!(before, serving);

    let dry = lab.clean(&CleanupArgs {
        dry_run: true,
        ..lab.arguments_of_cleanup()
    });
    assert_same(&serving, &snapshot(lab.node()));
    let report = lab.clean(&lab.arguments_of_cleanup());

    assert_same(&before, &snapshot(lab.node()));
    assert!(!report.failed(), "{report}");
    let text = report.to_string();
    for line in [
        "removed: link kube-ipvs0 with 4 VIPs\n",
        "removed: virtual server 10.96.0.10:80/TCP (default/web:http)\n",
        "removed: virtual server [fd00:96::10]:80/TCP (default/web:http)\n",
        "removed: nftables table ip kube-ipvs\n",
        "removed: nftables table ip6 kube-ipvs\n",
        "put back: sysctl net/ipv4/ip_forward from 1 to 0\n",
        "removed: ownership record ",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
    let said = dry
        .to_string()
        .replace("would ", "")
        .replace("remove: ", "removed: ");
    let said: Vec<_> = said.lines().collect();
    let done: Vec<_> = text.lines().filter(|x| !x.contains("record")).collect();
    assert_eq!(said, done, "the dry run told what was then done");
    let again = lab.clean(&lab.arguments_of_cleanup());
    assert_eq!(again.to_string(), "nothing of ours is here\n");
    assert_same(&before, &snapshot(lab.node()));
}

#[test]
fn cleanup_leaves_no_trace_and_nothing_of_others_is_touched() {
    leaves_no_trace(&[]);
}

#[test]
fn cleanup_leaves_no_trace_of_routes_either() {
    leaves_no_trace(&["--vip-binding=route"]);
}

#[test]
fn what_somebody_has_changed_since_is_left_alone() {
    let lab = Lab::new();
    lab.daemon(&[]).terminate();
    lab.node().sh("echo 0 > /proc/sys/net/ipv4/vs/conntrack
         ipvsadm --set 60 0 0
         ipvsadm -D -t 10.96.0.10:80");

    let report = lab.clean(&lab.arguments_of_cleanup());

    assert!(!report.failed(), "{report}");
    let text = report.to_string();
    assert!(!text.contains("net/ipv4/vs/conntrack"), "{text}");
    assert!(!text.contains("10.96.0.10:80/TCP"), "{text}");
    let timeouts = lab.node().sh("ipvsadm -L --timeout");
    assert!(timeouts.contains(": 60 120 300"), "{timeouts}");
}

#[test]
fn a_virtual_server_in_an_excluded_network_outlives_service_and_cleanup() {
    let lab = Lab::new();
    lab.node().sh("ipvsadm -A -t 10.96.77.1:80 -s sh");
    let mut daemon = lab.daemon(&["--ipvs-exclude-cidrs=10.96.77.0/24"]);
    daemon.wait_for_log("10.96.77.1 lies in --ipvs-exclude-cidrs", SOON);
    let served = lab.node().sh("ipvsadm -Sn");
    let real = format!("-a -t 10.96.77.1:80 -r {}:8080", lab.small.pods[0].v4);
    assert!(served.contains(&real), "{served}");
    daemon.terminate();

    let report = lab.clean(&lab.arguments_of_cleanup());

    assert!(!report.failed(), "{report}");
    let servers = lab.node().sh("ipvsadm -Sn");
    assert!(servers.contains("-A -t 10.96.77.1:80"), "{servers}");
    assert!(!servers.contains("10.96.0.10"), "{servers}");
}

#[test]
fn a_link_without_a_record_is_somebody_elses() {
    let node = Namespace::enter();
    node.sh("ip link add kube-ipvs0 type dummy
         ip address add 10.96.0.10/32 dev kube-ipvs0
         ipvsadm -A -t 10.96.0.10:80 -s rr");
    let before = snapshot(&node);
    let args = CleanupArgs {
        state_dir: state_directory(&node),
        ..CleanupArgs::default()
    };

    let report = clean(&args);

    assert!(report.to_string().starts_with("left: link kube-ipvs0: "));
    assert_same(&before, &snapshot(&node));
}

#[test]
fn one_daemon_has_one_state_directory_and_cleanup_waits_for_its_end() {
    let lab = Lab::new();
    let mut first = lab.daemon(&[]);
    let serving = snapshot(lab.node());

    let mut second = Daemon::spawn(&mut kube_ipvs(lab.node(), lab.manifests.run(&[])));
    let status = second.wait(SOON);

    assert_eq!(status.code(), Some(1));
    let log = second.log();
    assert!(log.contains("another kube-ipvs runs"), "{log}");
    let args = lab.arguments_of_cleanup();
    let refused = lab.node().run(|| kube_ipvs::cleanup::run(&args));
    let error = refused.expect_err("a daemon runs").to_string();
    assert!(error.contains("stop it first"), "{error}");
    let dry = CleanupArgs {
        dry_run: true,
        ..lab.arguments_of_cleanup()
    };
    lab.node()
        .run(|| kube_ipvs::cleanup::run(&dry))
        .expect("a daemon is no hindrance to looking");
    let as_json = |arguments: &[&str]| {
        let (code, text) = said(lab.node(), arguments);
        assert_eq!(code, 0, "{text}");
        let said: Value = serde_json::from_str(&text).expect("JSON");
        said["daemon"].clone()
    };
    let [told, page] = [&["cleanup", "--dry-run"][..], &["status"]]
        .map(|command| as_json(&[command, &["-o", "json"]].concat()));
    // unshare and the shell became the program: the process is the same.
    assert_eq!(told["pid"], json!(first.pid().as_raw()));
    assert_eq!(
        (&told["pid"], &told["since"]),
        (&page["pid"], &page["since"])
    );
    assert!(told["since"].is_string(), "{told}");
    assert_same(&serving, &snapshot(lab.node()));
    first.kill();
    lab.node()
        .run(|| kube_ipvs::cleanup::run(&args))
        .expect("nobody holds the lock any more");
    assert!(!args.state_dir.join("lock").exists());
    assert!(!lab.node().sh("ip link").contains("kube-ipvs0"));
}
