//! `promtool`, out of Debian's package prometheus, kept in target/tools.
//!
//! The package is not installed: it would start a server.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt;
use crate::paths::{Paths, make_directory};
use crate::tools;

/// The machine's own, the one kept from before, or one fetched now.
pub(crate) fn get(paths: &Paths) -> Result<PathBuf> {
    if let Some(installed) = tools::find("promtool") {
        return Ok(installed);
    }
    let kept = make_directory(paths.target.join("tools"))?.join("promtool");
    if !kept.exists() {
        if !apt::present() {
            bail!("missing program: promtool; install Prometheus and try again");
        }
        fetch(&kept).context("fetch promtool")?;
    }
    Ok(kept)
}

fn fetch(kept: &PathBuf) -> Result<()> {
    apt::refresh()?;
    eprintln!("xtask: fetching promtool");
    let scratch = tempfile::tempdir()?;
    let debs = make_directory(scratch.path().join("debs"))?;
    tools::run(
        Command::new("apt-get")
            .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
            .arg("prometheus")
            .current_dir(&debs),
    )?;
    let deb = fs::read_dir(&debs)?.next().context("apt fetched nothing")?;
    let root = scratch.path().join("root");
    tools::run(Command::new("dpkg").arg("-x").arg(deb?.path()).arg(&root))?;
    // Whole or not at all.
    let new = kept.with_extension("new");
    fs::copy(root.join("usr/bin/promtool"), &new)?;
    fs::rename(&new, kept)?;
    Ok(())
}
