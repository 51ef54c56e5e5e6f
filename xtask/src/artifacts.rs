//! Builds the static programs that run in the guest.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::initramfs::Program;
use crate::paths::{Paths, cargo};

pub(crate) const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// What to build of the package `kube-ipvs-tests`.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a> {
    Bin(&'a str),
    Test(&'a str),
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
    target: Option<BuiltTarget>,
}

#[derive(Deserialize)]
struct BuiltTarget {
    name: String,
    kind: Vec<String>,
}

/// `kube-ipvs` itself and `targets` of the tests, statically linked. Always both
/// packages in one call: the features of what they share are then the same each
/// time, and it is compiled once.
pub(crate) fn build(paths: &Paths, targets: &[Target]) -> Result<Vec<Program>> {
    let mut wanted = vec!["--bin", "kube-ipvs"];
    for target in targets {
        wanted.extend(match target {
            Target::Bin(name) => ["--bin", name],
            Target::Test(name) => ["--test", name],
        });
    }
    let mut command = cargo();
    command
        .current_dir(&paths.root)
        .args([
            "build",
            "--profile",
            "vm",
            "--message-format",
            "json-render-diagnostics",
        ])
        .args(["--target", TRIPLE, "--target-dir"])
        .arg(paths.vm_build())
        .args(["-p", "kube-ipvs", "-p", "kube-ipvs-tests"])
        .args(&wanted)
        // With --target these flags leave build scripts and macros alone.
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("start cargo build")?;
    let stdout = child.stdout.take().context("cargo's output")?;
    let mut programs = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let Ok(message) = serde_json::from_str::<Message>(&line?) else {
            continue;
        };
        if message.reason != "compiler-artifact" {
            continue;
        }
        if let (Some(path), Some(target)) = (message.executable, message.target)
            && !target.kind.iter().any(|kind| kind == "custom-build")
        {
            programs.push(Program {
                name: target.name,
                path,
            });
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("cargo build {}: {status}", wanted.join(" "));
    }
    Ok(programs)
}
