//! What a node lacks, in a guest where nobody has asked for it yet: the kernel's
//! modules stay once they are loaded, so these tests have a guest of their own.
//! `cargo xtask kernel-test` runs them after the others, `--bare` them alone.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use kube_ipvs_tests::apiserver::{endpoint_slice, service};
use kube_ipvs_tests::{
    Client, Daemon, Namespace, Protocol, Small, Topology, kube_ipvs, wait_until, ways,
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
/// What `modprobe` is told: by us, and by the kernel that asks it.
const FORBIDDEN: &str = "/etc/modprobe.d/forbidden.conf";
/// No ipset, no iptables of either kind.
const NEVER: [&str; 4] = ["ip_set", "x_tables", "ip_tables", "ip6_tables"];

fn forbid(modules: &[&str]) {
    let lines: String = modules
        .iter()
        .map(|module| format!("install {module} /bin/false\n"))
        .collect();
    fs::create_dir_all("/etc/modprobe.d").expect("a directory");
    fs::write(FORBIDDEN, lines).expect("forbid modules");
}

fn is_loaded(module: &str) -> bool {
    Path::new("/sys/module").join(module).exists()
}

/// `default/web` at 10.96.0.10:80, over both pods.
fn manifests(small: &Small) -> TempDir {
    let pods = small.pods.each_ref().map(|pod| pod.v4.to_string());
    let endpoints = pods.each_ref().map(|pod| (pod.as_str(), "node-1"));
    let web = service("default", "web", "10.96.0.10");
    let slice = endpoint_slice("default", "web", "web-1", &endpoints);
    let directory = tempfile::tempdir().expect("a directory");
    for (name, object) in [("service", web), ("slice", slice)] {
        let file = directory.path().join(format!("{name}.json"));
        fs::write(file, object.to_string()).expect("write an object");
    }
    directory
}

/// What it said, and its exit code.
fn ends(node: &Namespace, manifests: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let mut command = kube_ipvs(node, ["run", "--hostname-override=node-1"]);
    command.arg("--manifests").arg(manifests).args(flags);
    let output = command.stdin(Stdio::null()).output().expect("start it");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// Nothing of ours, in the kernel or below `/run`.
fn is_untouched(node: &Namespace) -> bool {
    let links = node.sh("ip link");
    !links.contains("kube-ipvs0") && node.sh("nft list tables").is_empty()
}

#[test]
fn a_node_without_ipvs_says_so_and_without_ipset_and_iptables_it_serves() {
    assert!(
        !is_loaded("ip_vs") && !is_loaded("ip_set"),
        "needs a guest of its own: cargo xtask kernel-test --bare"
    );
    let node = Namespace::child("bare");
    let empty = tempfile::tempdir().expect("a directory");
    forbid(&[&NEVER[..], &["ip_vs"]].concat());
    let (code, text) = ends(&node, empty.path(), &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("modprobe ip_vs"), "{text}");
    assert!(is_untouched(&node), "{text}");
    let check = kube_ipvs(&node, ["check"]).output().expect("start it");
    let said = String::from_utf8_lossy(&check.stdout);
    assert_eq!(check.status.code(), Some(1), "{said}");
    assert!(said.contains("FAIL"), "{said}");
    assert!(said.contains("modprobe ip_vs"), "{said}");
    tools_name_the_module(&node);

    // Now with all but one scheduler.
    forbid(&[&NEVER[..], &["ip_vs_sed"]].concat());
    let (code, text) = ends(&node, empty.path(), &["--ipvs-scheduler=sed"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("modprobe ip_vs_sed"), "{text}");
    assert!(is_untouched(&node), "{text}");

    serves();
    for module in NEVER {
        assert!(!is_loaded(module), "{module} was asked for");
    }
}

/// Each of those that look, by itself.
fn tools_name_the_module(node: &Namespace) {
    for arguments in [
        ways::NO_MODULE.ask.arguments(),
        vec!["status"],
        vec!["top", "--once"],
    ] {
        let output = kube_ipvs(node, &arguments).output().expect("start it");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(!output.status.success(), "{arguments:?}: {text}");
        if arguments == ["status"] {
            assert!(text.contains(ways::NO_MODULE.says), "{text}");
        } else {
            ways::NO_MODULE.check(&text);
        }
    }
}

fn serves() {
    let small = Topology::small();
    let _servers = small
        .pods
        .each_ref()
        .map(|pod| pod.serve(Protocol::Tcp, 8080));
    let objects = manifests(&small);
    let node = &small.node.namespace;
    let mut command = kube_ipvs(node, ["run", "--hostname-override=node-1"]);
    let mut daemon = Daemon::spawn(command.arg("--manifests").arg(objects.path()));
    let bound = || node.sh("ip -o addr").contains("10.96.0.10/32");
    wait_until("it serves", PATIENCE, || {
        assert!(daemon.is_running(), "{}", daemon.log());
        bound()
    });
    let from = [node, &small.pods[0].namespace, &small.outside.namespace];
    for namespace in from {
        let mut who = Client::within(namespace).callees(Protocol::Tcp, "10.96.0.10:80", 2);
        who.sort();
        assert_eq!(who, ["p1", "p2"], "{}", daemon.log());
    }
    assert!(daemon.terminate().success());
    let cleanup = kube_ipvs(node, ["cleanup"]).output().expect("start it");
    assert!(cleanup.status.success(), "{cleanup:?}");
    assert!(is_untouched(node));
}
