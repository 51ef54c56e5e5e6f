//! What a kube-proxy in ipvs mode left on the node, taken over from inside the pod.

use kube_ipvs_tests::{KubeProxy, run, wait_until};

use crate::kubelet::PATIENCE;
use crate::lab::{Lab, all_answer};
use crate::spec::Pod;

/// A Service that is gone, and somebody else's virtual server.
const MORE: &str = "
ip address add 10.96.0.99/32 dev kube-ipvs0
ipvsadm -A -t 10.96.0.99:80 -s rr
ipvsadm -A -t 192.0.2.10:443 -s wlc
ipvsadm -a -t 192.0.2.10:443 -r 192.0.2.20:443 -m
";

#[test]
fn what_kube_proxy_left_is_taken_over_under_connections() {
    let lab = Lab::new();
    let node = lab.node();
    let kube_proxy = KubeProxy::of(&lab.small);
    kube_proxy.sync();
    node.run(|| run("sh", ["-ec", MORE]));
    let mut connections = lab.connections();
    all_answer(&mut connections);
    let calls = lab.calls();

    let mut daemon = lab.kubelet.start(&Pod::migration());

    daemon.wait_for_log("chains and sets of kube-proxy removed");
    all_answer(&mut connections);
    calls.finish();
    lab.must_be_served();
    assert_eq!(kube_proxy.leftovers(), [""; 0]);
    let log = daemon.log();
    // IPv6 ones too, which no Service has any more.
    let taken = "taken over from kube-proxy virtual_servers=5 vips=3";
    assert!(log.contains(taken), "{log}");
    let servers = || node.run(|| run("ipvsadm", ["-Sn"]));
    assert!(servers().contains("-A -t 192.0.2.10:443 -s wlc"));
    wait_until("what no Service wants is gone", PATIENCE, || {
        let addresses = node.run(|| run("ip", ["address", "show", "dev", "kube-ipvs0"]));
        !servers().contains("10.96.0.99") && !addresses.contains("10.96.0.99")
    });
    assert!(daemon.stop().success());
}
