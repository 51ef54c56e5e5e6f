//! `cargo xtask chart`: what the real helm and kubectl make of deploy/, and of
//! the commands that the documents tell to type.

use anyhow::Result;

use crate::console::Outcome;
use crate::kube_tools::KubeTools;
use crate::paths::{Paths, cargo};
use crate::tools;

pub(crate) fn run() -> Result<Outcome> {
    let paths = Paths::find()?;
    let programs = KubeTools::get(&paths)?;
    let tests = [
        "test",
        "--locked",
        "-p",
        "kube-ipvs",
        "--test",
        "chart",
        "--test",
        "commands",
        "--",
        "--include-ignored",
    ];
    let result = tools::run(
        cargo()
            .current_dir(&paths.root)
            .args(tests)
            .env("KUBE_IPVS_HELM", programs.helm)
            .env("KUBE_IPVS_KUBECTL", programs.kubectl),
    );
    if let Err(error) = result {
        eprintln!("xtask: {error:#}");
        return Ok(Outcome::TestsFailed);
    }
    Ok(Outcome::Passed)
}
