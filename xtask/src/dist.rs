//! `cargo xtask dist`: the static release binary.

use std::fs;

use anyhow::{Context, Result};

use crate::artifacts::TRIPLE;
use crate::console::Outcome;
use crate::paths::{Paths, cargo, make_directory};
use crate::tools;

pub(crate) fn run() -> Result<Outcome> {
    let paths = Paths::find()?;
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
                TRIPLE,
            ])
            .arg("--target-dir")
            .arg(paths.vm_build())
            .env("RUSTFLAGS", "-C target-feature=+crt-static"),
    )?;
    let built = paths.vm_build().join(TRIPLE).join("release/kube-ipvs");
    let placed = make_directory(paths.target.join("dist"))?.join("kube-ipvs");
    fs::copy(&built, &placed).with_context(|| format!("copy to {}", placed.display()))?;
    println!("{}", placed.display());
    Ok(Outcome::Passed)
}
