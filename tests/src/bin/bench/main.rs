//! Benchmarks, to be run by `cargo xtask bench`: there guest time follows the
//! executed instructions and the figures are the same in every run.
//!
//! `bench [--check] [NAME]...` runs those named, or all. Each ends with one line
//! of figures; the exit code is 1 when one is beyond its bound or, with
//! `--check`, a tenth worse than what is written down.

mod audit;
mod binding;
mod compile;
mod connections;
mod daemon;
mod decode;
mod estimators;
mod filling;
mod messages;
mod programming;
mod replay;
mod restore;
mod top;

use std::process::ExitCode;

use anyhow::{Result, bail};
use kube_ipvs_tests::figures::Figures;

/// Says whether the bound was kept.
type Benchmark = fn(&mut Figures) -> Result<bool>;

const BENCHMARKS: &[(&str, Benchmark)] = &[
    ("audit", audit::run),
    ("binding", |_| binding::run()),
    ("compile", compile::run),
    ("connections", |_| connections::run()),
    ("daemon", daemon::run),
    ("decode", decode::run),
    ("estimators", |_| estimators::run()),
    ("filling", |_| filling::run()),
    ("programming", |_| programming::run()),
    ("restore", |_| restore::run()),
    ("shares", |_| connections::shares::run()),
    ("top", |_| top::run()),
];

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(6)
        }
    }
}

fn run(mut names: Vec<String>) -> Result<bool> {
    let all = names.len();
    names.retain(|name| name != "--check");
    let check = names.len() < all;
    let known: Vec<&str> = BENCHMARKS.iter().map(|(name, _)| *name).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no benchmark {name:?}; there are: {}", known.join(", "));
    }
    let mut kept = true;
    let mut figures = Figures::default();
    for (name, benchmark) in BENCHMARKS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            kept &= benchmark(&mut figures)?;
        }
    }
    if check {
        kept &= figures.check()?;
    }
    Ok(kept)
}
