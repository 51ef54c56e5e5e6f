//! Project tasks: `cargo xtask --help` lists them.
//!
//! Exit codes: 0 all well, 1 tests (or the named check) failed, 2 wrong usage,
//! 3 the guest never booted, 4 its kernel crashed, 5 out of time, 6 something
//! needed could not be had or built. `demo` and `bench` pass on the exit code
//! of the program they run.

mod apt;
mod artifacts;
mod bench;
mod chart;
mod ci;
mod cli;
mod console;
mod container_test;
mod cpio;
mod demo;
mod dist;
mod e2e;
mod guest;
mod image;
mod initramfs;
mod kernel;
mod kernel_test;
mod kube_tools;
mod licences;
mod newest_nft;
mod paths;
mod pictures;
mod promtool;
mod qemu;
mod tools;
#[cfg(test)]
mod workflows;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(console::SETUP_FAILED)
        }
    }
}
