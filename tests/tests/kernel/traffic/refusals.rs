//! What the program will not do: start on nonsense, or lose what was good.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use kube_ipvs_core::options::SCHEDULERS;
use kube_ipvs_tests::{Namespace, Protocol, kube_ipvs};

use super::WEB;
use super::site::{HEALTH, PATIENCE, Site};
use super::web::Web;

#[test]
fn an_unknown_scheduler_is_refused_with_the_list() {
    let namespace = Namespace::enter();
    let manifests = tempfile::tempdir().expect("a directory");
    let mut command = kube_ipvs(
        &namespace,
        ["run", "--ipvs-scheduler=fastest", "--manifests"],
    );

    let output = command.arg(manifests.path()).output().expect("start it");

    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{text}");
    assert!(text.contains("fastest"), "{text}");
    let missing: Vec<_> = SCHEDULERS.iter().filter(|s| !text.contains(**s)).collect();
    assert!(missing.is_empty(), "not in the list: {missing:?}\n{text}");
}

/// 6.1 has no `twos`; a kernel that has it serves by it.
#[test]
fn a_scheduler_that_the_kernel_lacks_stops_no_service() {
    let mut site = Site::new();
    let _server = site.small.pods[0].serve(Protocol::Tcp, 8080);
    let twos = Web::over(&site.small.pods[..1]).option("scheduler", "twos");
    site.write(&twos);
    site.start(&[]);

    assert_eq!(site.outside().callees(Protocol::Tcp, WEB, 1), ["p1"]);
    let by = |scheduler: &str| {
        site.table()
            .contains(&format!("-A -t {WEB} -s {scheduler}"))
    };
    if by("twos") {
        return;
    }
    assert!(by("rr"), "{}", site.table());
    site.daemon()
        .wait_for_log("is not in this node's kernel (ip_vs_twos)", PATIENCE);

    let mut command = kube_ipvs(site.node(), ["run", "--ipvs-scheduler=twos", "--manifests"]);
    let state = tempfile::tempdir().expect("a directory");
    command
        .arg(state.path())
        .arg("--state-dir")
        .arg(state.path());
    let output = command.output().expect("start it");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("modprobe ip_vs_twos"), "{text}");
}

#[test]
fn without_root_one_error_names_the_capability() {
    // This thread is in the namespace, and what it starts is too.
    let _namespace = Namespace::enter();
    let manifests = tempfile::tempdir().expect("a directory");
    let open = tempfile::tempdir().expect("a directory");
    let everybody = Permissions::from_mode(0o777);
    fs::set_permissions(open.path(), everybody).expect("open it to everybody");
    for state in [Path::new("/run/kube-ipvs"), open.path()] {
        let program = std::env::var_os("KUBE_IPVS_BIN").expect("the program to test");
        let mut command = Command::new(program);
        command.arg("run").arg("--manifests").arg(manifests.path());
        command.arg("--state-dir").arg(state);
        let output = command.uid(65534).gid(65534).output().expect("start it");

        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("CAP_NET_ADMIN"), "{text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[test]
fn broken_manifests_keep_the_last_good_state() {
    let mut site = Site::new();
    let _servers = [0, 1].map(|n| site.small.pods[n].serve(Protocol::Tcp, 8080));
    site.write(&Web::over(&site.small.pods));
    site.start(&[]);

    site.write_text("web", "{this is: [no YAML\n");
    site.daemon().wait_for_log("web.yaml", PATIENCE);
    // What comes after it shows that the broken reading has been worked off.
    let other = Web::new("other", &["10.96.0.11"]).port(Protocol::Tcp, 80, 8080);
    site.write(&other.endpoint(site.small.pods[1].v4));
    site.wait_for_vip("10.96.0.11");
    assert_eq!(
        site.outside().call(Protocol::Tcp, "10.96.0.11:80").who(),
        "p2"
    );
    site.outside().callees(Protocol::Tcp, WEB, 2);

    site.make_unreadable("web");
    kube_ipvs_tests::wait_until("readyz is red", PATIENCE, || {
        let (code, why) = site.get(HEALTH, "/readyz");
        code == 503 && why.contains("web.yaml")
    });
    site.outside().callees(Protocol::Tcp, WEB, 2);

    site.write(&Web::over(&site.small.pods[..1]));
    site.wait_for_table("p2 is gone", |table| {
        !table.contains("-t 10.96.0.10:80 -r 10.244.1.3")
    });
    site.wait_until_ready();
    assert_eq!(site.outside().callees(Protocol::Tcp, WEB, 2), ["p1"; 2]);
}
