//! `cargo xtask kernel-test`: the tests that need root and IPVS.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::artifacts::{self, Target};
use crate::console::{Outcome, SETUP_FAILED, Summary};
use crate::guest::{self, Machine, Run};
use crate::paths::Paths;
use crate::qemu::{self, Clock};
use crate::{apt, tools};

/// What shows within minutes whether a kernel will do: the client against
/// `ipvsadm`, our table against `nft`, the guard, and of the traffic matrix the
/// part that [`SLICE`] names.
const SMOKE: &[&str] = &["client::", "guard::", "matrix::", "nft::"];
/// Services by TCP and IPv4, VIPs bound as addresses.
const SLICE: (&str, &str) = ("KUBE_IPVS_MATRIX", "slice");

/// Fewer tests than this are not worth one more guest.
const WORTH_A_GUEST: usize = 4;

#[derive(Args, Clone)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) machine: Machine,
    /// Only what shows within minutes whether a kernel will do: client, nft,
    /// guard, and a slice of the traffic matrix.
    #[arg(long, conflicts_with_all = ["filter", "native"])]
    pub(crate) smoke: bool,
    /// Only tests whose name contains F; several are OR-ed.
    #[arg(long, value_name = "F")]
    pub(crate) filter: Vec<String>,
    /// No tests whose name contains F.
    #[arg(long, value_name = "F")]
    pub(crate) skip: Vec<String>,
    /// Only the tests of what a node lacks, which have a guest of their own.
    #[arg(long, conflicts_with_all = ["filter", "skip", "list", "smoke", "native"])]
    pub(crate) bare: bool,
    /// Run on this machine: needs root and a kernel with IPVS.
    #[arg(long)]
    pub(crate) native: bool,
    /// Show what tests print, of passing ones too.
    #[arg(long)]
    pub(crate) nocapture: bool,
    /// Only name the tests.
    #[arg(long)]
    pub(crate) list: bool,
    /// Tests that run at the same time in one guest.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) test_threads: u32,
    /// Guests that share the tests.
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub(crate) guests: u32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let kernels: Vec<&str> = arguments.machine.kernel.split(',').collect();
    let outcome = if arguments.native {
        native(arguments)?
    } else if kernels.len() > 1 {
        on_each(&kernels, arguments)
    } else {
        in_guest(arguments)?.outcome
    };
    Ok(match outcome {
        Outcome::Code(_) => Outcome::TestsFailed,
        other => other,
    })
}

/// The tests on one kernel after another, and one line about each at the end.
/// A kernel that cannot be had is a failure, and the others are tried.
fn on_each(kernels: &[&str], arguments: &Arguments) -> Outcome {
    let mut outcomes = Vec::new();
    let mut report = vec!["kernels:".to_owned()];
    for kernel in kernels {
        let mut arguments = arguments.clone();
        arguments.machine.kernel = kernel.trim().to_owned();
        eprintln!("xtask: -- kernel {kernel}");
        let run = in_guest(&arguments);
        report.push(line_of(kernel, &run));
        outcomes.push(run.map_or(Outcome::Code(SETUP_FAILED), |run| run.outcome));
    }
    report.iter().for_each(|line| qemu::say(line));
    Outcome::of_all(outcomes)
}

/// `6.1  6.1.0-56-cloud-amd64  150 passed`.
fn line_of(kernel: &str, run: &Result<Run>) -> String {
    match run {
        Ok(run) => {
            let words = run.summary.words();
            let ended = run.outcome.explanation();
            let words = ended.map_or(words.clone(), |ended| format!("{words}, {ended}"));
            format!("  {kernel:<10} {:<32} {words}", run.release)
        }
        Err(error) => format!("  {kernel:<10} not run: {error:#}"),
    }
}

/// The tests, and after all of them those of what a node lacks: a module that is
/// loaded stays, so these have a guest of their own.
fn in_guest(arguments: &Arguments) -> Result<Run> {
    if arguments.bare {
        return bare(arguments);
    }
    let run = together(arguments)?;
    let chosen = [&arguments.filter, &arguments.skip];
    let some = arguments.smoke || arguments.list || chosen.iter().any(|names| !names.is_empty());
    if some || run.outcome != Outcome::Passed {
        return Ok(run);
    }
    let mut bare = bare(arguments)?;
    bare.summary.add(run.summary);
    Ok(bare)
}

fn bare(arguments: &Arguments) -> Result<Run> {
    let target = Target::Test("bare");
    guest::run_parts(&arguments.machine, target, Clock::Wall, &[], |_| {
        Ok(vec![flags(arguments)])
    })
}

fn together(arguments: &Arguments) -> Result<Run> {
    let target = Target::Test("kernel");
    let slice: &[_] = if arguments.smoke { &[SLICE] } else { &[] };
    guest::run_parts(&arguments.machine, target, Clock::Wall, slice, |program| {
        if arguments.list {
            return Ok(vec![test_arguments(arguments)]);
        }
        let names = names(program, arguments)?;
        if names.is_empty() {
            bail!("no test has such a name: see --list");
        }
        Ok(deal(&names, arguments.guests)
            .into_iter()
            .map(|mut words| {
                words.push("--exact".to_owned());
                words.extend(flags(arguments));
                words
            })
            .collect())
    })
}

/// The tests that are asked for.
fn names(program: &Path, arguments: &Arguments) -> Result<Vec<String>> {
    let list = Arguments {
        list: true,
        ..arguments.clone()
    };
    let mut command = Command::new(program);
    command.args(test_arguments(&list));
    command.args(["--format", "terse"]);
    let listed = tools::text(&mut command).context("list the kernel tests")?;
    let names = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}

/// Deals out in turn, so that tests of one kind, which take alike, are spread.
pub(crate) fn deal(names: &[String], hands: u32) -> Vec<Vec<String>> {
    let hands = (hands as usize).clamp(1, names.len().div_ceil(WORTH_A_GUEST).max(1));
    (0..hands)
        .map(|hand| names.iter().skip(hand).step_by(hands).cloned().collect())
        .collect()
}

fn native(arguments: &Arguments) -> Result<Outcome> {
    native_ipvs().context("--native")?;
    apt::need_native()?;
    let mut child = program_here(Target::Test("kernel"), &test_arguments(arguments))?
        .stdout(Stdio::piped())
        .spawn()
        .context("start the kernel tests")?;
    let mut summary = Summary::default();
    let output = child.stdout.take().context("the tests' output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("read the tests' output")?;
        let line = String::from_utf8_lossy(&line);
        summary.note(&line);
        qemu::say(&line);
    }
    let outcome = outcome_of(child.wait().context("wait for the kernel tests")?);
    if let Some(line) = summary.line() {
        qemu::say(line);
    }
    Ok(outcome)
}

/// Builds a program of the tests and runs it on this machine.
pub(crate) fn run_here(target: Target, arguments: &[String]) -> Result<Outcome> {
    let mut command = program_here(target, arguments)?;
    let status = command.status();
    status
        .with_context(|| format!("start {command:?}"))
        .map(outcome_of)
}

fn program_here(target: Target, arguments: &[String]) -> Result<Command> {
    let paths = Paths::find()?;
    let programs = artifacts::build(&paths, &[target])?;
    let find = |name: &str| {
        let found = programs.iter().find(|program| program.name == name);
        found
            .map(|program| &program.path)
            .with_context(|| format!("cargo built no {name}"))
    };
    let name = match target {
        Target::Bin(name) | Target::Test(name) => name,
    };
    let mut command = Command::new(find(name)?);
    command
        .args(arguments)
        .env("KUBE_IPVS_BIN", find("kube-ipvs")?);
    Ok(command)
}

fn outcome_of(status: ExitStatus) -> Outcome {
    match status.code() {
        Some(0) => Outcome::Passed,
        Some(code) => Outcome::Code(u8::try_from(code).unwrap_or(u8::MAX)),
        None => Outcome::Vanished,
    }
}

/// Says why this machine cannot do it, or nothing.
pub(crate) fn native_ipvs() -> Result<()> {
    if !tools::is_root() {
        bail!("needs root: use sudo, or leave it out for a VM");
    }
    if std::path::Path::new("/proc/net/ip_vs").exists() {
        return Ok(());
    }
    let _ = tools::text(Command::new("modprobe").arg("ip_vs"));
    if !std::path::Path::new("/proc/net/ip_vs").exists() {
        bail!("this kernel has no IPVS (module ip_vs): load it, or leave it out for a VM");
    }
    Ok(())
}

fn test_arguments(arguments: &Arguments) -> Vec<String> {
    let mut words = arguments.filter.clone();
    if arguments.smoke {
        words.extend(SMOKE.iter().map(|start| (*start).to_owned()));
    }
    for skip in &arguments.skip {
        words.extend(["--skip".to_owned(), skip.clone()]);
    }
    words.extend(flags(arguments));
    words
}

fn flags(arguments: &Arguments) -> Vec<String> {
    let mut words = vec![format!("--test-threads={}", arguments.test_threads)];
    words.extend(arguments.nocapture.then(|| "--nocapture".to_owned()));
    words.extend(arguments.list.then(|| "--list".to_owned()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_what_came_of_a_kernel() {
        let mut summary = Summary::default();
        summary.note("test result: ok. 150 passed; 0 failed; 0 ignored");
        let run = |outcome| {
            Ok(Run {
                outcome,
                release: "6.1.0-56-cloud-amd64".into(),
                summary: summary.clone(),
            })
        };

        let passed = line_of("6.1", &run(Outcome::Passed));
        let late = line_of("6.1", &run(Outcome::TimedOut));
        let missing = line_of("sid", &Err(anyhow::anyhow!("no such suite")));

        assert_eq!(
            passed,
            "  6.1        6.1.0-56-cloud-amd64             150 passed"
        );
        assert!(late.contains("150 passed, out of time"), "{late}");
        assert_eq!(missing, "  sid        not run: no such suite");
    }

    #[test]
    fn tests_are_dealt_out_each_once() {
        let names: Vec<_> = (0..9).map(|n| n.to_string()).collect();

        assert_eq!(
            deal(&names, 2),
            [vec!["0", "2", "4", "6", "8"], vec!["1", "3", "5", "7"]]
        );
        assert_eq!(deal(&names, 1), [&names[..]]);
        assert_eq!(deal(&names[..2], 2), [&names[..2]], "not worth a guest");
    }
}
