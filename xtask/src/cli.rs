//! The command line.

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::console::Outcome;
use crate::container_test;
use crate::guest::Machine;
use crate::{bench, chart, ci, demo, dist, e2e, guest, image, kernel_test, pictures};

/// Project tasks of kube-ipvs.
#[derive(Parser)]
#[command(
    bin_name = "cargo xtask",
    after_help = "Exit codes: 0 all well, 1 tests failed, 2 wrong usage, 3 the guest never booted,\n\
                  4 its kernel crashed, 5 out of time, 6 something needed is missing or did not build.\n\
                  demo and bench pass on the exit code of the program they run."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the main job working: manifests in, real traffic balanced.
    ///
    /// Runs on this machine's own IPVS when it has one and we are root,
    /// in a small VM otherwise.
    Demo(demo::Arguments),
    /// All tests: `cargo test`, the kernel tests, the container tests.
    Test(ci::TestArguments),
    /// Tests that need root and IPVS, in a VM (or here with --native).
    KernelTest(kernel_test::Arguments),
    /// The container image with the rights of deploy/base, in a VM with podman.
    ContainerTest(container_test::Arguments),
    /// The guest itself: build its image, or open a shell in it.
    Vm {
        #[command(subcommand)]
        command: VmCommand,
    },
    /// Measure cost in guest time that follows executed instructions.
    Bench(bench::Arguments),
    /// What CI runs: format, lints, docs, licences and bans, all tests, a release.
    Ci(ci::CiArguments),
    /// Hold every crate to deny.toml: licences, bans, sources.
    Licences,
    /// The container image, as an OCI archive in target/dist.
    ///
    /// As deploy/Containerfile says, without an engine, root or network. The
    /// times in it are SOURCE_DATE_EPOCH, or else the commit's.
    Image,
    /// Hold the Helm chart and the overlays to one another, by helm and kubectl.
    ///
    /// And the commands of helm and kubectl in README and docs to what these take,
    /// and the alerts to what promtool says of them.
    Chart,
    /// Draw the pictures of the documents anew: docs/pictures/*.svg from *.txt.
    Pictures,
    /// All files of a release, in target/dist/release.
    ///
    /// Static program, image, completions, man pages, manifests, chart, licences,
    /// components, and the sums of them all.
    Dist(dist::Arguments),
    /// Our image as the only Service proxy of a kind cluster.
    ///
    /// Needs kind, kubectl and a container engine. Makes the cluster, runs a
    /// workload and Kubernetes' own tests of Services, and removes the cluster.
    E2e(e2e::Arguments),
}

#[derive(Subcommand)]
enum VmCommand {
    /// Fetch the kernel and build the image, so that later runs start at once.
    Build(VmArguments),
    /// An interactive shell in the guest, with every tool and kube-ipvs.
    Shell(VmArguments),
}

#[derive(Args)]
struct VmArguments {
    #[command(flatten)]
    machine: Machine,
    /// Ask apt for the kernel again instead of using the one kept from before.
    #[arg(long)]
    update: bool,
}

impl Cli {
    pub(crate) fn run(self) -> Result<Outcome> {
        match self.command {
            Command::Demo(arguments) => demo::run(&arguments),
            Command::Test(arguments) => ci::test(&arguments),
            Command::KernelTest(arguments) => kernel_test::run(&arguments),
            Command::ContainerTest(arguments) => container_test::run(&arguments),
            Command::Vm {
                command: VmCommand::Build(a),
            } => guest::build(&a.machine, a.update),
            Command::Vm {
                command: VmCommand::Shell(a),
            } => guest::shell(&a.machine, a.update),
            Command::Bench(arguments) => bench::run(&arguments),
            Command::Ci(arguments) => ci::ci(&arguments),
            Command::Licences => ci::licences(),
            Command::Image => image::run(),
            Command::Chart => chart::run(),
            Command::Pictures => pictures::run(),
            Command::Dist(arguments) => dist::run(&arguments),
            Command::E2e(arguments) => e2e::run(&arguments),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::Cli;
    use crate::paths::Paths;

    /// What follows `cargo xtask ` in a text, up to the end of the code it stands in.
    fn commands(text: &str) -> impl Iterator<Item = &str> {
        text.split("cargo xtask ").skip(1).map(|rest| {
            let end = rest.find(['`', '\n', '#']).unwrap_or(rest.len());
            rest[..end].trim()
        })
    }

    #[test]
    fn commands_of_the_documents_are_taken() {
        let root = Paths::find().expect("paths").root;
        let files = fs::read_dir(root.join("docs")).expect("docs");
        let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
        files.retain(|file| file.extension().is_some_and(|x| x == "md"));
        files.extend(["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"].map(|x| root.join(x)));

        let mut seen = 0;
        for file in files {
            let text = fs::read_to_string(&file).expect("a document");
            for command in commands(&text).filter(|command| !command.contains('…')) {
                seen += 1;
                let words = ["cargo xtask"]
                    .into_iter()
                    .chain(command.split_whitespace());
                // Help is no error, and what is only mentioned needs no arguments.
                let words = words.chain(["--help"]);
                let taken = Cli::try_parse_from(words);
                let taken = taken.map_or_else(|error| !error.use_stderr(), |_| true);
                assert!(taken, "{}: cargo xtask {command}", file.display());
            }
        }
        assert!(seen >= 15, "{seen}");
    }
}
