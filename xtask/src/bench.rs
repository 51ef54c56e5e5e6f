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
    /// Benchmark to run; all of them without a name.
    name: Option<String>,
    /// Given to the benchmark itself.
    #[arg(last = true)]
    rest: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let words = arguments
        .name
        .iter()
        .chain(&arguments.rest)
        .cloned()
        .collect();
    let job = Job {
        target: Target::Bin("bench"),
        arguments: words,
        clock: Clock::Instructions,
    };
    guest::run(&arguments.machine, &job)
}
