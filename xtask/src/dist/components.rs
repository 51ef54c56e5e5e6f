//! The list of components (SBOM) in CycloneDX, by `cargo-cyclonedx`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::image;
use crate::paths::{Paths, cargo};
use crate::tools;

const TOOL: &str = "cargo-cyclonedx";
const TOOL_VERSION: &str = "0.5.9";

/// What the program is made of, for this machine's architecture.
pub(crate) fn list(paths: &Paths) -> Result<String> {
    let tool = tool(paths)?;
    // It writes beside every Cargo.toml: so into a copy of the commit.
    let copy = tempfile::tempdir()?;
    let packed = copy.path().join("commit.tar");
    tools::run(
        Command::new("git")
            .current_dir(&paths.root)
            .args(["archive", "--output"])
            .arg(&packed)
            .arg("HEAD"),
    )?;
    tools::run(
        Command::new("tar")
            .arg("-xf")
            .arg(&packed)
            .arg("-C")
            .arg(copy.path()),
    )?;
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    tools::run(
        Command::new(tool)
            .current_dir(copy.path())
            .args(["cyclonedx", "--format", "json", "--spec-version", "1.5"])
            .args(["--manifest-path", "crates/proxier/Cargo.toml"])
            .args(["--override-filename", "components", "--target", &triple])
            .env("SOURCE_DATE_EPOCH", image::time(paths)?.to_string()),
    )?;
    let written = copy.path().join("crates/proxier/components.json");
    let text = fs::read_to_string(&written).context("read the list of components")?;
    // Where the copy was is nobody's business, and another one next time.
    Ok(text.replace(&*copy.path().to_string_lossy(), "/kube-ipvs"))
}

/// On the path, or installed under the target directory.
fn tool(paths: &Paths) -> Result<PathBuf> {
    let directory = paths.target.join("tools");
    let kept = directory.join("bin").join(TOOL);
    if let Some(found) = tools::find(TOOL) {
        return Ok(found);
    }
    if !kept.exists() {
        eprintln!("xtask: cargo install {TOOL}");
        tools::run(
            cargo()
                .args(["install", "--quiet", "--locked", TOOL])
                .args(["--version", TOOL_VERSION, "--root"])
                .arg(&directory),
        )?;
    }
    Ok(kept)
}
