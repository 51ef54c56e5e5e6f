//! `cargo xtask dist`: the static release binary.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::console::Outcome;
use crate::paths::{Paths, cargo, make_directory};
use crate::tools;

/// The commit that is built, for `--version` and the API server's audit.
fn commit(paths: &Paths) -> String {
    let git = Command::new("git")
        .current_dir(&paths.root)
        .args(["rev-parse", "--short=7", "HEAD"])
        .output();
    let said = git.ok().filter(|output| output.status.success());
    let named = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    named.unwrap_or_else(|| "unknown".to_owned())
}

pub(crate) fn run() -> Result<Outcome> {
    let placed = binary(&Paths::find()?)?;
    println!("{}", placed.display());
    Ok(Outcome::Passed)
}

/// The static release binary, in `target/dist`.
pub(crate) fn binary(paths: &Paths) -> Result<PathBuf> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    tools::run(
        cargo()
            .current_dir(&paths.root)
            .args([
                "build",
                "--release",
                "--locked",
                "-p",
                "kube-ipvs",
                "--target",
                &triple,
            ])
            .arg("--target-dir")
            .arg(paths.vm_build())
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .env("KUBE_IPVS_COMMIT", commit(paths)),
    )?;
    let built = paths.vm_build().join(triple).join("release/kube-ipvs");
    let placed = make_directory(paths.target.join("dist"))?.join("kube-ipvs");
    fs::copy(&built, &placed).with_context(|| format!("copy to {}", placed.display()))?;
    Ok(placed)
}
