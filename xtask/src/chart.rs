//! `cargo xtask chart`: what the real helm, kubectl and promtool make of deploy/,
//! and of the commands that the documents tell to type.

use std::process::Command;

use anyhow::Result;

use crate::console::Outcome;
use crate::kube_tools::KubeTools;
use crate::paths::{Paths, cargo};
use crate::{e2e, promtool, tools};

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
        "plugin",
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
            .env("KUBE_IPVS_KUBECTL", &programs.kubectl)
            .env("KUBE_IPVS_PROMTOOL", promtool::get(&paths)?),
    );
    let result = result.and_then(|()| {
        let mut kustomize = Command::new(&programs.kubectl);
        let base = kustomize
            .arg("kustomize")
            .arg(paths.root.join("deploy/base"));
        e2e::installed(&tools::text(base)?, "10.0.0.1").map(drop)
    });
    if let Err(error) = result {
        eprintln!("xtask: {error:#}");
        return Ok(Outcome::TestsFailed);
    }
    Ok(Outcome::Passed)
}
