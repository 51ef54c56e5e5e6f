//! A right that the pod lacks is named, with what to do.

use crate::kubelet::Kubelet;
use crate::lab::Lab;
use crate::spec::Pod;

/// What it says before it ends, or instead of becoming ready.
fn complaint(kubelet: &Kubelet, pod: &Pod, more: &[&str], text: &str) -> String {
    let mut running = kubelet.launch(pod, &pod.containers[0], more);
    running.wait_for_log(text);
    running.log()
}

#[test]
fn without_net_admin_the_capability_is_named() {
    let lab = Lab::new();
    let mut pod = Pod::base();
    lab.kubelet.init(&pod);
    pod.containers[0].security.add.clear();

    let said = complaint(&lab.kubelet, &pod, &[], "NET_ADMIN");

    assert!(said.contains("EPERM"), "{said}");
}

#[test]
fn without_the_init_container_the_sysctl_is_named() {
    let lab = Lab::new();
    let pod = Pod::base();

    let said = complaint(&lab.kubelet, &pod, &[], "--init-only");

    assert!(said.contains("net.ipv4.vs.conntrack"), "{said}");
}

#[test]
fn without_a_state_directory_the_mount_is_named() {
    let lab = Lab::new();
    let mut pod = Pod::base();
    lab.kubelet.init(&pod);
    pod.containers[0]
        .mounts
        .retain(|(_, at, _)| at != "/run/kube-ipvs");

    let said = complaint(&lab.kubelet, &pod, &[], "/run/kube-ipvs");

    assert!(said.contains("hostPath"), "{said}");
}

#[test]
fn a_user_namespace_is_named() {
    let lab = Lab::new();
    let pod = Pod::base();
    lab.kubelet.init(&pod);

    let map = ["--uidmap=0:100000:65536", "--gidmap=0:100000:65536"];
    let said = complaint(&lab.kubelet, &pod, &map, "user namespace");

    assert!(said.contains("hostUsers"), "{said}");
}

#[test]
fn without_its_configuration_the_file_is_named() {
    let lab = Lab::new();
    let mut pod = Pod::base();
    pod.containers[0]
        .mounts
        .retain(|(_, at, _)| at != "/var/lib/kube-proxy");

    let (status, said) = lab.kubelet.once(&pod);

    assert!(!status.success(), "{said}");
    assert!(said.contains("/var/lib/kube-proxy/config.conf"), "{said}");
}
