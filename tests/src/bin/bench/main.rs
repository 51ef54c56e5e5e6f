//! Benchmarks, to be run by `cargo xtask bench`: there guest time follows the
//! executed instructions and the figures are the same in every run.
//!
//! `bench [NAME]...` runs those named, or all. Each ends with one line of
//! figures; the exit code is 1 when one is beyond its bound.

mod audit;
mod binding;
mod compile;
mod connections;
mod daemon;
mod filling;
mod messages;
mod programming;
mod replay;
mod restore;
mod top;

use std::process::ExitCode;

use anyhow::{Result, bail};

/// Says whether the bound was kept.
type Benchmark = fn() -> Result<bool>;

const BENCHMARKS: &[(&str, Benchmark)] = &[
    ("audit", audit::run),
    ("binding", binding::run),
    ("compile", compile::run),
    ("connections", connections::run),
    ("daemon", daemon::run),
    ("filling", filling::run),
    ("programming", programming::run),
    ("restore", restore::run),
    ("top", top::run),
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

fn run(names: Vec<String>) -> Result<bool> {
    let known: Vec<&str> = BENCHMARKS.iter().map(|(name, _)| *name).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no benchmark {name:?}; there are: {}", known.join(", "));
    }
    let mut kept = true;
    for (name, benchmark) in BENCHMARKS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            kept &= benchmark()?;
        }
    }
    Ok(kept)
}
