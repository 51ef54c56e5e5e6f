//! The pod of `deploy/base`, as it stands there.

use kube_ipvs_tests::apiserver::role;

use crate::lab::{Lab, all_answer};
use crate::spec::Pod;

#[test]
fn the_pod_serves_and_is_replaced_and_killed_under_connections() {
    let lab = Lab::new();
    let pod = Pod::base();

    let daemon = lab.kubelet.start(&pod);

    lab.must_be_served();
    let liveness = pod.containers[0].liveness.as_ref().expect("a probe");
    lab.kubelet.ask(liveness).expect("it is alive");
    let mut connections = lab.connections();
    all_answer(&mut connections);
    let calls = lab.calls();

    // An upgrade: the new pod comes when the old one is gone.
    let status = daemon.stop();
    assert!(status.success(), "{status}");
    let daemon = lab.kubelet.start(&pod);
    all_answer(&mut connections);

    // A crash: the kubelet starts the container anew, and no init container.
    daemon.kill();
    let daemon = lab.kubelet.start_container(&pod, &[]);
    all_answer(&mut connections);
    calls.finish();
    lab.must_be_served();
    // Of a namespace that is not the first one, nobody may set that.
    let log = daemon.log();
    let warnings = log.lines().filter(|line| line.contains("WARN"));
    let warnings: Vec<_> = warnings
        .filter(|x| !x.contains("nf_conntrack_max"))
        .collect();
    assert_eq!(warnings, [""; 0]);
    let called = role::calls(&lab.api.requests());
    let refused: Vec<_> = called.difference(&role::allowed()).cloned().collect();
    assert_eq!(refused, [], "not in the role of deploy/base");
}

/// Without swap, and with every page that counts to a container. The processor
/// is not limited: that of an emulated node is slow enough.
#[test]
fn the_memory_it_requests_is_enough_as_its_limit() {
    let lab = Lab::new();
    let pod = Pod::base();
    let memory = pod.containers[0].memory;
    assert!(memory > 0, "it requests memory");
    lab.kubelet.init(&pod);

    let limits = ["--memory", "--memory-swap"].map(|flag| format!("{flag}={memory}"));
    let more: Vec<&str> = limits.iter().map(String::as_str).collect();
    let _daemon = lab.kubelet.start_container(&pod, &more);

    lab.must_be_served();
}
