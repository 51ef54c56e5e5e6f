//! Containers that run once, as docs/migration.md writes them.

use kube_ipvs_tests::{run, wait_until};

use crate::kubelet::PATIENCE;
use crate::lab::Lab;
use crate::spec::Pod;

#[test]
fn cleanup_from_a_pod_removes_all_of_it_and_refuses_beside_the_daemon() {
    let lab = Lab::new();
    let cleanup = Pod::on_node("node-1", &["cleanup"]);
    let daemon = lab.kubelet.start(&Pod::base());

    let (status, said) = lab.kubelet.once(&cleanup);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("runs"), "{said}");
    lab.must_be_served();

    assert!(daemon.stop().success());
    let (status, said) = lab.kubelet.once(&cleanup);
    assert!(status.success(), "{said}");
    let node = lab.node();
    assert_eq!(node.run(|| run("ipvsadm", ["-Sn"])), "");
    assert_eq!(node.run(|| run("nft", ["list", "tables"])), "");
    wait_until("the link is gone", PATIENCE, || {
        !node.run(|| run("ip", ["link"])).contains("kube-ipvs0")
    });
}

#[test]
fn check_from_a_pod_finds_its_rights_beside_the_daemon() {
    let lab = Lab::new();
    let _daemon = lab.kubelet.start(&Pod::base());
    lab.must_be_served();

    let (_, said) = lab.kubelet.once(&Pod::on_node("node-1", &["check"]));

    let about = |what: &str| said.lines().find(|line| line.contains(what));
    let rights = about("NET_ADMIN").unwrap_or_else(|| panic!("no word of rights: {said}"));
    assert!(rights.contains("granted"), "{said}");
    assert!(!rights.contains("not granted"), "{said}");
}

#[test]
fn cleanup_before_a_hand_over_leaves_what_carries_traffic() {
    let lab = Lab::new();
    let daemon = lab.kubelet.start(&Pod::base());
    lab.must_be_served();
    let node = lab.node();
    let served = node.run(|| run("ipvsadm", ["-Sn"]));
    assert_ne!(served, "");
    assert!(daemon.stop().success());

    let hand_over = Pod::on_node("node-1", &["cleanup", "--hand-over"]);
    let (status, said) = lab.kubelet.once(&hand_over);

    assert!(status.success(), "{said}");
    assert_eq!(node.run(|| run("nft", ["list", "tables"])), "");
    assert_eq!(node.run(|| run("ipvsadm", ["-Sn"])), served);
    assert!(node.run(|| run("ip", ["link"])).contains("kube-ipvs0"));
}
