//! The walls of the house: what a crate is built upon, and what it is not.

use std::collections::BTreeSet;
use std::process::Command;

/// Packages of ours that do not bear our name.
const OURS: [&str; 2] = ["ipvs-netlink", "netlink-exchange"];

/// What `package` is built upon without its tests: itself and each dependency,
/// with its version and the features it is built with.
fn built_upon(package: &str) -> Vec<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--offline", "--locked", "--prefix", "none"])
        .args(["--edges", "normal", "--format", "{p} [{f}]"])
        .args(["--package", package])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .expect("cargo is started");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree {package}: {errors}");
    let text = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    let lines = text.lines().filter(|line| !line.contains("(proc-macro)"));
    lines.map(str::to_owned).collect()
}

/// Whether a line of [`built_upon`] has the feature `std`.
fn has_std(line: &str) -> bool {
    let features = line
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    features.is_some_and(|(list, _)| list.split(',').any(|feature| feature == "std"))
}

#[test]
fn nothing_that_core_is_built_upon_asks_for_std() {
    let source = include_str!("../../core/src/lib.rs");
    assert!(source.lines().any(|line| line == "#![no_std]"));

    let upon = built_upon("kube-ipvs-core");

    assert!(
        upon.iter().any(|line| line.starts_with("serde_core ")),
        "{upon:#?}"
    );
    let std: Vec<_> = upon.iter().filter(|line| has_std(line)).collect();
    assert!(std.is_empty(), "{std:#?}");
}

/// Our own packages, and what none of them may be built upon.
#[test]
fn arrows_go_only_where_the_map_says() {
    let asynchronous = ["tokio", "kube", "k8s-openapi", "hyper", "rustls", "axum"];
    for (package, ours, never) in [
        ("netlink-exchange", &[][..], &asynchronous[..]),
        ("ipvs-netlink", &["netlink-exchange"], &asynchronous),
        ("kube-ipvs-nft", &["netlink-exchange"], &asynchronous),
        (
            "kube-ipvs-vip",
            &["netlink-exchange"],
            &["kube", "hyper", "rustls"],
        ),
        ("kube-ipvs-core", &[], &asynchronous),
        (
            "kube-ipvs-dataplane",
            &[
                "ipvs-netlink",
                "kube-ipvs-core",
                "kube-ipvs-nft",
                "kube-ipvs-vip",
                "netlink-exchange",
            ],
            &["kube", "k8s-openapi", "hyper", "rustls", "axum"],
        ),
        (
            "kube-ipvs-source",
            &["kube-ipvs-core"],
            &["netlink-exchange", "axum", "clap"],
        ),
    ] {
        let upon: BTreeSet<String> = built_upon(package)
            .iter()
            .filter_map(|line| line.split(' ').next().map(str::to_owned))
            .filter(|name| name != package)
            .collect();

        let is_ours = |name: &&str| name.starts_with("kube-ipvs") || OURS.contains(name);
        let own: Vec<&str> = upon.iter().map(String::as_str).filter(is_ours).collect();
        assert_eq!(own, ours, "{package}");
        for name in never {
            assert!(!upon.contains(*name), "{package} is built upon {name}");
        }
    }
}

/// The VIP binder waits for rtnetlink, which is asynchronous; who carries a plan
/// out does not see that.
#[test]
fn the_dataplane_asks_for_no_runtime_itself() {
    let manifest = include_str!("../../dataplane/Cargo.toml");

    let asked = |name: &str| manifest.lines().any(|line| line.starts_with(name));
    assert!(asked("kube-ipvs-vip"), "the manifest is read");
    assert!(!asked("tokio") && !asked("futures"), "{manifest}");
}
