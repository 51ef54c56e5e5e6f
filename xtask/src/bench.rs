//! `cargo xtask bench`: costs in guest time that follows executed instructions,
//! so that a busy machine gives the same figures as an idle one.

use anyhow::Result;
use clap::Args;

use crate::artifacts::Target;
use crate::console::Outcome;
use crate::guest::{self, Job, Machine};
use crate::qemu::Clock;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    machine: Machine,
    /// Benchmarks to run; all of them without a name.
    names: Vec<String>,
    /// Fail where a figure is a tenth worse than written down in
    /// tests/src/figures.txt.
    #[arg(long)]
    check: bool,
    /// Given to the benchmark itself.
    #[arg(last = true)]
    rest: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    guest::run(&arguments.machine, &job(arguments))
}

/// What CI asks for: the benchmarks that take no more than a minute, and no
/// notice of the kernel they run on.
pub(crate) fn check(machine: Machine) -> Result<Outcome> {
    run(&Arguments {
        machine,
        names: ["compile", "decode"].map(str::to_owned).to_vec(),
        check: true,
        rest: Vec::new(),
    })
}

fn job(arguments: &Arguments) -> Job<'static> {
    let check = arguments.check.then(|| "--check".to_owned());
    let words = check
        .into_iter()
        .chain(arguments.names.iter().chain(&arguments.rest).cloned())
        .collect();
    Job {
        target: Target::Bin("bench"),
        arguments: words,
        clock: Clock::Instructions,
    }
}
