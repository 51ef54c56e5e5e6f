//! `cargo xtask demo`: the main job, shown on a real kernel.

use anyhow::Result;
use clap::Args;

use crate::apt;
use crate::artifacts::Target;
use crate::console::Outcome;
use crate::guest::{self, Job, Machine};
use crate::kernel_test::{native_ipvs, run_here};
use crate::qemu::Clock;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    machine: Machine,
    /// Use a VM even if this machine has IPVS.
    #[arg(long)]
    vm: bool,
    /// Given to the demo itself.
    #[arg(last = true)]
    rest: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let target = Target::Bin("demo");
    if !arguments.vm && native_ipvs().is_ok() {
        apt::need_native()?;
        return run_here(target, &arguments.rest);
    }
    let job = Job {
        target,
        arguments: arguments.rest.clone(),
        clock: Clock::Wall,
    };
    guest::run(&arguments.machine, &job)
}
