//! `cargo xtask container-test`: the image in the guest, under podman, with what
//! `deploy/base` says; and the kernel tests in a privileged container.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::apt::{self, Need};
use crate::artifacts::Target;
use crate::console::Outcome;
use crate::cpio::Archive;
use crate::guest::{self, Equipment, Machine};
use crate::image;
use crate::initramfs::{self, Program};
use crate::kernel_test::deal;
use crate::paths::Paths;
use crate::tools;

#[derive(Args, Clone)]
pub(crate) struct Arguments {
    #[command(flatten)]
    machine: Machine,
    /// Only tests whose name contains F; several are OR-ed.
    #[arg(long, value_name = "F")]
    filter: Vec<String>,
    /// Not these, but the kernel tests in a privileged container, all of them
    /// or those of --filter.
    #[arg(long)]
    kernel_tests: bool,
    /// Guests that share the tests.
    #[arg(long, default_value_t = 2, value_name = "N")]
    guests: u32,
    /// Show what tests print, of passing ones too.
    #[arg(long)]
    nocapture: bool,
}

impl Arguments {
    /// All tests, in guests of this kind.
    pub(crate) fn all(machine: Machine) -> Self {
        Self {
            machine,
            filter: Vec::new(),
            kernel_tests: false,
            guests: 2,
            nocapture: false,
        }
    }
}

/// The engine, which goes into the guest.
const ENGINE: &[Need] = &[
    Need("podman", "podman"),
    Need("crun", "crun"),
    Need("conmon", "conmon"),
];

/// The profile that stands for a kubelet's `RuntimeDefault`.
const SECCOMP: &str = "/usr/share/containers/seccomp.json";

/// Files of the engine. The guest's root cannot be pivoted, since it is the
/// kernel's first one; and it is memory, where layers need no overlay.
const SETTINGS: &[(&str, &str)] = &[
    (
        "etc/containers/containers.conf",
        "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"crun\"\n\
         no_pivot_root = true\n",
    ),
    (
        "etc/containers/storage.conf",
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"/var/lib/containers/storage\"\n\
         runroot = \"/run/containers/storage\"\n",
    ),
    (
        "etc/containers/policy.json",
        "{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}\n",
    ),
    ("etc/containers/registries.conf", ""),
];

/// Before the tests: what an init system does for a container engine.
const PRELUDE: &str = "#!/bin/sh
cd /root
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for controller in cpu memory pids; do
  echo +$controller >/sys/fs/cgroup/cgroup.subtree_control
done
mkdir -p /native /var/tmp
mount --bind / /native
export KUBE_IPVS_BIN=/opt/kube-ipvs/bin/kube-ipvs KUBE_IPVS_IMAGE=/opt/kube-ipvs/image.tar
";

/// The kernel tests, with the guest's own files for the container's.
const NATIVE: &str = "#!/bin/sh
exec podman run --rm --privileged --network=none --log-driver=none --pids-limit=-1 \
  --env KUBE_IPVS_BIN=/opt/kube-ipvs/bin/kube-ipvs --rootfs /native \
  /opt/kube-ipvs/bin/kernel --test-threads=1 \"$@\"
";

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    apt::need(ENGINE.iter())?;
    let targets = [Target::Test("container"), Target::Test("kernel")];
    let outcome = guest::run_equipped(&arguments.machine, &targets, |paths, programs| {
        Ok(Equipment {
            files: files(paths, programs)?,
            scripts: scripts(arguments, programs)?,
        })
    })?;
    Ok(match outcome {
        Outcome::Code(_) => Outcome::TestsFailed,
        other => other,
    })
}

/// What each guest runs. The kernel tests in a container take one.
fn scripts(arguments: &Arguments, programs: &[Program]) -> Result<Vec<String>> {
    let mut flags: Vec<String> = Vec::new();
    flags.extend(arguments.nocapture.then(|| "--nocapture".to_owned()));
    if arguments.kernel_tests {
        let words = [&arguments.filter[..], &flags].concat();
        return Ok(vec![script("sh /opt/kube-ipvs/native", &words)]);
    }
    flags.extend(["--exact", "--test-threads=1"].map(str::to_owned));
    let names = names(arguments, programs)?;
    ensure!(!names.is_empty(), "no test has such a name");
    let hands = deal(&names, arguments.guests).into_iter();
    Ok(hands
        .map(|hand| {
            script(
                "/opt/kube-ipvs/bin/container",
                &[hand, flags.clone()].concat(),
            )
        })
        .collect())
}

fn script(program: &str, words: &[String]) -> String {
    format!("{PRELUDE}exec {program} {}\n", guest::quoted(words))
}

/// The tests that are asked for; their program also runs here.
fn names(arguments: &Arguments, programs: &[Program]) -> Result<Vec<String>> {
    let program = programs.iter().find(|program| program.name == "container");
    let program = program.context("cargo built no container tests")?;
    let mut command = Command::new(&program.path);
    command
        .args(&arguments.filter)
        .args(["--list", "--format", "terse"]);
    let listed = tools::text(&mut command).context("list the container tests")?;
    let names = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}

/// The engine, the image of the program that was built, and the script for a
/// privileged container.
fn files(paths: &Paths, programs: &[Program]) -> Result<Vec<u8>> {
    let program = programs.iter().find(|program| program.name == "kube-ipvs");
    let program = program.context("cargo built no kube-ipvs")?;
    let image = image::build(paths, &program.path)?;
    eprintln!("xtask: image {}", image.digest);
    let mut files = Files::default();
    for need in ENGINE {
        let program = tools::find(need.0).with_context(|| format!("no program {}", need.0))?;
        for file in std::iter::once(program.clone()).chain(tools::libraries(&program)) {
            files.copy(&file)?;
        }
    }
    files.copy(Path::new(SECCOMP))?;
    for (path, content) in SETTINGS {
        files.add(Path::new(path), 0o644, content.as_bytes());
    }
    files.add(Path::new("opt/kube-ipvs/image.tar"), 0o644, &image.archive);
    files.add(Path::new("opt/kube-ipvs/native"), 0o755, NATIVE.as_bytes());
    Ok(files.archive.finish())
}

/// An archive that makes the directories of its files.
#[derive(Default)]
struct Files {
    archive: Archive,
    made: BTreeSet<PathBuf>,
}

impl Files {
    /// A file of this machine, at the same place.
    fn copy(&mut self, file: &Path) -> Result<()> {
        let content = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        let place = initramfs::in_usr(file).context("an absolute path")?;
        self.add(&place, 0o755, &content);
        Ok(())
    }

    fn add(&mut self, path: &Path, mode: u32, content: &[u8]) {
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        for directory in above.into_iter().rev().filter(|at| *at != Path::new("")) {
            if self.made.insert(directory.to_owned()) {
                self.archive.directory(&directory.to_string_lossy());
            }
        }
        if self.made.insert(path.to_owned()) {
            self.archive.file(&path.to_string_lossy(), mode, content);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_runs_what_was_asked_for() {
        assert!(
            script("sh /opt/kube-ipvs/native", &["it's".to_owned()]).ends_with(
                r"exec sh /opt/kube-ipvs/native 'it'\''s'
"
            )
        );
    }

    #[test]
    fn files_come_with_their_directories_and_once() {
        let mut files = Files::default();
        files.add(Path::new("a/b/c"), 0o644, b"1");
        files.add(Path::new("a/b/d"), 0o644, b"2");
        files.add(Path::new("a/b/c"), 0o644, b"3");

        let made: Vec<_> = files.made.iter().map(|x| x.to_string_lossy()).collect();
        assert_eq!(made, ["a", "a/b", "a/b/c", "a/b/d"]);
    }
}
