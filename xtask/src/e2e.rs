//! `cargo xtask e2e`: our image as the only Service proxy of a kind cluster.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::console::Outcome;
use crate::image::{NAME, VERSION};
use crate::paths::Paths;
use crate::{image, tools};

/// The cluster's name, and kubectl's context for it behind `kind-`.
const CLUSTER: &str = "kube-ipvs";
const KIND: &str = include_str!("../e2e/kind.yaml");
const WORKLOAD: &str = include_str!("../e2e/workload.yaml");
const CONFORMANCE: &str = include_str!("../e2e/conformance.yaml");
/// What the manifests of deploy/base say where an operator puts the API server.
const PLACEHOLDER: &str = "control-plane.example:6443";
/// The pods' network there, which is kind's too, and kind's of the other family.
const PODS: &str = "clusterCIDR: 10.244.0.0/16\n";
const PODS_V6: &str = "fd00:10:244::/56";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Leave out Kubernetes' own tests of Services, which take half an hour.
    #[arg(long)]
    no_conformance: bool,
    /// Leave the cluster there, to look at: `kind delete cluster --name
    /// kube-ipvs` removes it.
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    need(&|program| tools::find(program).is_some())?;
    let paths = Paths::find()?;
    image::run()?;
    let archive = paths.target.join("dist").join(image::archive_name()?);
    feed(
        Command::new("kind").args(["create", "cluster", "--name", CLUSTER, "--config", "-"]),
        KIND,
    )?;
    let outcome = in_cluster(arguments, &paths, &archive);
    if !matches!(outcome, Ok(Outcome::Passed)) {
        show_state();
    }
    if !arguments.keep {
        tools::run(Command::new("kind").args(["delete", "cluster", "--name", CLUSTER]))?;
    }
    outcome
}

/// Says at once what is missing, rather than half-way.
fn need(has: &dyn Fn(&str) -> bool) -> Result<()> {
    let missing: Vec<&str> = ["kind", "kubectl"]
        .into_iter()
        .filter(|p| !has(p))
        .collect();
    ensure!(
        missing.is_empty(),
        "missing programs: {}; kind: https://kind.sigs.k8s.io, kubectl: https://kubernetes.io/docs/tasks/tools",
        missing.join(" ")
    );
    ensure!(
        ["docker", "podman", "nerdctl"].into_iter().any(has),
        "kind needs a container engine: docker, podman or nerdctl"
    );
    Ok(())
}

fn in_cluster(arguments: &Arguments, paths: &Paths, archive: &std::path::Path) -> Result<Outcome> {
    ensure!(
        fs::metadata(archive).is_ok(),
        "there is no {}",
        archive.display()
    );
    tools::run(
        Command::new("kind")
            .args(["load", "image-archive", "--name", CLUSTER])
            .arg(archive),
    )?;
    let base = kubectl(&["kustomize"])
        .arg(paths.root.join("deploy/base"))
        .output();
    let base = base.context("start kubectl kustomize deploy/base")?;
    ensure!(
        base.status.success(),
        "kubectl kustomize deploy/base: {}",
        base.status
    );
    let node = format!("{CLUSTER}-control-plane");
    let address = "jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}";
    let addresses = tools::text(&mut kubectl(&["get", "node", &node, "-o", address]))?;
    let server = addresses
        .split_whitespace()
        .next()
        .context("the node's address")?;
    let manifests = installed(&String::from_utf8_lossy(&base.stdout), server)?;
    feed(&mut kubectl(&["apply", "-f", "-"]), &manifests)?;
    let roll_out = ["rollout", "status", "--timeout=180s", "-n", "kube-system"];
    for what in ["daemonset/kube-ipvs", "deployment/coredns"] {
        tools::run(kubectl(&roll_out).arg(what))?;
    }
    feed(&mut kubectl(&["apply", "-f", "-"]), WORKLOAD)?;
    job("default", "client", "300s")?;
    if arguments.no_conformance {
        return Ok(Outcome::Passed);
    }
    let version = tools::text(&mut kubectl(&["version", "-o", "json"]))?;
    let tests = CONFORMANCE.replace("VERSION", &server_version(&version)?);
    feed(&mut kubectl(&["apply", "-f", "-"]), &tests)?;
    job("kube-system", "conformance", "3600s")
}

/// What kustomize makes of deploy/base, as it is run here: with the API server's
/// address, and the networks that kind gives pods of both families.
pub(crate) fn installed(base: &str, server: &str) -> Result<String> {
    let server = if server.contains(':') {
        format!("[{server}]:6443")
    } else {
        format!("{server}:6443")
    };
    let image = format!("image: {NAME}:{VERSION}\n");
    for needed in [PLACEHOLDER, PODS, &image] {
        ensure!(
            base.contains(needed),
            "deploy/base as kustomize makes it: there is no {:?} in it",
            needed.trim_end()
        );
    }
    let both = format!("{},{PODS_V6}\n", PODS.trim_end());
    Ok(base.replace(PLACEHOLDER, &server).replace(PODS, &both))
}

/// Waits for a Job's end and shows the last of what it said.
fn job(namespace: &str, name: &str, patience: &str) -> Result<Outcome> {
    let job = format!("job/{name}");
    let limit = format!("--timeout={patience}");
    let within = ["-n", namespace, &job];
    let mut wait = kubectl(&["wait", "--for=condition=complete", &limit]);
    let done = tools::run(wait.args(within));
    tools::run(kubectl(&["logs", "--tail=60"]).args(within)).or_else(|error| {
        eprintln!("xtask: {error:#}");
        done.is_ok().then_some(()).context("no logs")
    })?;
    match done {
        Ok(()) => Ok(Outcome::Passed),
        Err(error) => {
            eprintln!("xtask: {job}: {error:#}");
            Ok(Outcome::TestsFailed)
        }
    }
}

fn server_version(text: &str) -> Result<String> {
    let version: serde_json::Value = serde_json::from_str(text).context("kubectl version")?;
    match version["serverVersion"]["gitVersion"].as_str() {
        // What a builder adds behind `+` is no tag of an image.
        Some(version) => Ok(version.split('+').next().unwrap_or(version).to_owned()),
        None => bail!("kubectl version names no server"),
    }
}

fn kubectl(words: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command
        .args(["--context", &format!("kind-{CLUSTER}")])
        .args(words);
    command
}

/// Runs a program with `text` as its input.
fn feed(command: &mut Command, text: &str) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {command:?}"))?;
    let mut input = child.stdin.take().context("its input")?;
    input
        .write_all(text.as_bytes())
        .context("write its input")?;
    drop(input);
    let status = child.wait()?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// For whoever has to find out why.
fn show_state() {
    for words in [
        &["get", "pods", "-A", "-o", "wide"][..],
        &[
            "logs",
            "-n",
            "kube-system",
            "--tail=80",
            "--prefix",
            "-l",
            "app.kubernetes.io/name=kube-ipvs",
        ],
        &["get", "events", "-A", "--field-selector", "type=Warning"],
    ] {
        if let Err(error) = tools::run(&mut kubectl(words)) {
            eprintln!("xtask: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_before_anything_begins() {
        let nothing = need(&|_| false).expect_err("nothing is there").to_string();
        let no_engine = need(&|program| program.starts_with('k')).expect_err("no engine");

        assert!(
            nothing.contains("missing programs: kind kubectl"),
            "{nothing}"
        );
        assert!(
            no_engine.to_string().contains("docker, podman"),
            "{no_engine}"
        );
        assert!(need(&|program| program != "docker" && program != "nerdctl").is_ok());
    }

    /// `cargo xtask chart` asks the same of what kustomize makes.
    #[test]
    fn the_manifests_of_the_base_are_run_with_our_image_and_server() {
        let base: String = ["config-map.yaml", "daemon-set.yaml"]
            .map(|file| {
                let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
                let path = path.join("../deploy/base").join(file);
                fs::read_to_string(path).expect("a manifest of the base")
            })
            .concat();
        let untagged = super::installed(&base, "10.0.0.1").expect_err("kustomize adds the tag");
        assert!(untagged.to_string().contains(VERSION), "{untagged}");
        let base = base.replace(
            &format!("image: {NAME}\n"),
            &format!("image: {NAME}:{VERSION}\n"),
        );

        let installed = installed(&base, "fd00::2").expect("all is there");

        assert!(installed.contains("server: https://[fd00::2]:6443"));
        assert!(installed.contains("clusterCIDR: 10.244.0.0/16,fd00:10:244::/56\n"));
        let twice = super::installed(&installed, "10.0.0.1").expect_err("nothing is left");
        assert!(twice.to_string().contains(PLACEHOLDER), "{twice}");
    }

    #[test]
    fn the_tests_are_those_of_the_servers_version() {
        let version = r#"{"serverVersion": {"gitVersion": "v1.36.2+k3s1"}}"#;

        assert_eq!(server_version(version).expect("a version"), "v1.36.2");
        assert!(server_version("{}").is_err());
        assert_eq!(CONFORMANCE.matches("VERSION").count(), 1);
    }
}
