//! `cargo xtask chart`: what the real helm, kubectl and promtool make of deploy/,
//! and of the commands that the documents tell to type.

use anyhow::Result;

use crate::console::Outcome;
use crate::kube_tools::KubeTools;
use crate::paths::{Paths, cargo};
use crate::{promtool, tools};

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
        "--test",
        "alerts",
        "--",
        "--include-ignored",
    ];
    let result = tools::run(
        cargo()
            .current_dir(&paths.root)
            .args(tests)
            .env("KUBE_IPVS_HELM", programs.helm)
            .env("KUBE_IPVS_KUBECTL", programs.kubectl)
            .env("KUBE_IPVS_PROMTOOL", promtool::get(&paths)?),
    );
    if let Err(error) = result {
        eprintln!("xtask: {error:#}");
        return Ok(Outcome::TestsFailed);
    }
    Ok(Outcome::Passed)
}
