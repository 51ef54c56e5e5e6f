//! `cargo xtask test` and `cargo xtask ci`: steps one after another.

use std::time::Instant;

use anyhow::Result;
use clap::Args;

use crate::bench;
use crate::chart;
use crate::console::Outcome;
use crate::container_test;
use crate::dist;
use crate::guest::Machine;
use crate::kernel_test;
use crate::licences;
use crate::paths::{Paths, cargo};
use crate::tools;

#[derive(Args)]
pub(crate) struct TestArguments {
    #[command(flatten)]
    kernel_test: kernel_test::Arguments,
}

#[derive(Args)]
pub(crate) struct CiArguments {
    /// Leave out the tests that need a kernel with IPVS.
    #[arg(long)]
    no_kernel_test: bool,
    #[command(flatten)]
    kernel_test: kernel_test::Arguments,
}

/// `cargo test`, then the kernel tests and those of the image.
pub(crate) fn test(arguments: &TestArguments) -> Result<Outcome> {
    let outcome = unit_tests()?;
    if outcome != Outcome::Passed {
        return Ok(outcome);
    }
    let arguments = &arguments.kernel_test;
    let outcome = step("kernel tests", || kernel_test::run(arguments))?;
    if outcome != Outcome::Passed || arguments.native || !arguments.filter.is_empty() {
        return Ok(outcome);
    }
    // What an engine does is the same on all kernels.
    let machine = one_kernel(&arguments.machine);
    let arguments = container_test::Arguments::all(machine);
    step("container tests", || container_test::run(&arguments))
}

/// A machine with the first of several kernels.
fn one_kernel(machine: &Machine) -> Machine {
    let mut machine = machine.clone();
    machine.kernel = machine.kernel.split(',').take(1).collect();
    machine
}

/// Everything CI asks for; stops at the first step that fails.
pub(crate) fn ci(arguments: &CiArguments) -> Result<Outcome> {
    let steps: &[(&str, &[&str])] = &[
        ("format", &["fmt", "--all", "--check"]),
        (
            "lints",
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ],
        ),
        (
            "what is fuzzed",
            &[
                "check",
                "--locked",
                "-p",
                "kube-ipvs-nft",
                "--features",
                "fuzz",
            ],
        ),
        (
            "documentation",
            &["doc", "--workspace", "--no-deps", "--locked", "--quiet"],
        ),
    ];
    for (name, words) in steps {
        let outcome = step(name, || run_cargo(words))?;
        if outcome != Outcome::Passed {
            return Ok(outcome);
        }
    }
    let outcome = step("licences and bans", licences)?;
    if outcome != Outcome::Passed {
        return Ok(outcome);
    }
    let outcome = step("chart and overlays", chart::run)?;
    if outcome != Outcome::Passed {
        return Ok(outcome);
    }
    if arguments.no_kernel_test {
        return unit_tests();
    }
    let outcome = test(&TestArguments {
        kernel_test: arguments.kernel_test.clone(),
    })?;
    if outcome != Outcome::Passed {
        return Ok(outcome);
    }
    // Where there is no guest there are no instructions to count.
    if !arguments.kernel_test.native {
        let machine = one_kernel(&arguments.kernel_test.machine);
        let outcome = step("costs", || bench::check(machine))?;
        if outcome != Outcome::Passed {
            return Ok(outcome);
        }
    }
    step(
        "files of a release",
        || dist::run(&dist::Arguments::quick()),
    )
}

/// By cargo-deny where it is installed, otherwise by ourselves.
pub(crate) fn licences() -> Result<Outcome> {
    let deny = cargo().args(["deny", "--version"]).output();
    if deny.is_ok_and(|output| output.status.success()) {
        return run_cargo(&["deny", "check", "licenses", "bans", "sources"]);
    }
    Ok(verdict(licences::check()))
}

fn unit_tests() -> Result<Outcome> {
    let outcome = step("unit tests", || run_cargo(&["test", "--locked"]))?;
    if outcome != Outcome::Passed {
        return Ok(outcome);
    }
    // The package of the tests is no default member: its kernel tests need root.
    let package = ["test", "--locked", "-p", "kube-ipvs-tests"];
    let targets = ["--lib", "--test", "source", "--test", "source_memory"];
    step("tests of the API source", || {
        run_cargo(&[&package[..], &targets[..]].concat())
    })
}

fn run_cargo(words: &[&str]) -> Result<Outcome> {
    let paths = Paths::find()?;
    let mut command = cargo();
    command
        .args(words)
        .current_dir(&paths.root)
        .env("RUSTDOCFLAGS", "-D warnings");
    Ok(verdict(tools::run(&mut command)))
}

fn verdict(result: Result<()>) -> Outcome {
    match result {
        Ok(()) => Outcome::Passed,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            Outcome::TestsFailed
        }
    }
}

fn step(name: &str, run: impl FnOnce() -> Result<Outcome>) -> Result<Outcome> {
    eprintln!("\nxtask: == {name}");
    let started = Instant::now();
    let outcome = run()?;
    let verdict = if outcome == Outcome::Passed {
        "ok"
    } else {
        "FAILED"
    };
    eprintln!(
        "xtask: == {name}: {verdict} after {:.0} s",
        started.elapsed().as_secs_f32()
    );
    Ok(outcome)
}
