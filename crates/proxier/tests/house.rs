//! The walls of the house: what a crate is built upon, and what it is not.

use std::process::Command;

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
