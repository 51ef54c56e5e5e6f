//! The pod of `deploy/base`, as it stands there.

use kube_ipvs_tests::apiserver::role;

use crate::kubelet::Running;
use crate::lab::{Lab, all_answer};
use crate::spec::Pod;

#[test]
fn the_pod_serves_and_is_replaced_and_killed_under_connections() {
    let lab = Lab::new();
    let pod = Pod::base();

    let daemon = lab.kubelet.start(&pod);

    lab.must_be_served();
    must_be_confined(&daemon);
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
    let log = daemon.log();
    let warnings = log.lines().filter(|line| line.contains("WARN"));
    assert_eq!(warnings.collect::<Vec<_>>(), [""; 0]);
    let called = role::calls(&lab.api.requests());
    let refused: Vec<_> = called.difference(&role::allowed()).cloned().collect();
    assert_eq!(refused, [], "not in the role of deploy/base");
}

/// As `deploy/base` says, by the kernel's own word.
#[track_caller]
fn must_be_confined(daemon: &Running) {
    const NET_ADMIN: u64 = 1 << 12;
    const FILTER: &str = "2";
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(daemon.status(set), format!("{NET_ADMIN:016x}"), "{set}");
    }
    assert_eq!(daemon.status("Seccomp"), FILTER);
    assert_eq!(daemon.status("NoNewPrivs"), "1");
}

/// Without swap, and with every page that counts to a container. The processor
/// is an emulated one, so it is limited to half, not to what is requested.
#[test]
fn it_lives_and_serves_under_limits() {
    let lab = Lab::new();
    let pod = Pod::base();
    let memory = pod.containers[0].memory;
    assert!(memory > 0, "it requests memory");
    lab.kubelet.init(&pod);

    let limits = ["--memory", "--memory-swap"].map(|flag| format!("{flag}={memory}"));
    let more = [&*limits[0], &limits[1], "--cpus=0.5"];
    let daemon = lab.kubelet.start_container(&pod, &more);

    assert_eq!(daemon.limit("cpu.max"), "50000 100000");
    assert_eq!(daemon.limit("memory.max"), memory.to_string());
    lab.must_be_served();
    let events = daemon.limit("memory.events");
    assert!(events.contains("oom_kill 0"), "{events}");
    assert!(daemon.stop().success());
}
