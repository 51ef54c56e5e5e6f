//! One run in a guest: kernel, image, programs, job.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::apt;
use crate::artifacts::{self, Target};
use crate::console::{Outcome, Summary};
use crate::initramfs::{self, Program};
use crate::kernel::Kernel;
use crate::paths::Paths;
use crate::qemu::{self, Clock, Emulator};

/// The guest's machine.
#[derive(Args, Clone)]
pub(crate) struct Machine {
    /// Kernel: a version (5.10, 6.1, 6.12), `newest`, `system` for the one of
    /// this machine's own release, or a Debian suite such as trixie;
    /// kernel-test takes several, as in `5.10,6.1,newest`.
    #[arg(long, default_value_t = default_kernel(), value_name = "K")]
    pub(crate) kernel: String,
    /// Processors of a guest: 2 with KVM; 1 when emulated, since QEMU now and
    /// then hangs or miscounts with several.
    #[arg(long, default_value_t = qemu::trusted_cpus(), value_name = "N")]
    pub(crate) cpus: u32,
    /// Memory of the guest in MiB.
    #[arg(long, default_value_t = 2048, value_name = "MIB")]
    pub(crate) memory: u32,
    /// Stop the guest after so many seconds.
    #[arg(long, default_value_t = 2400, value_name = "SECONDS")]
    pub(crate) timeout: u64,
    /// Run this `kube-ipvs` in the guest instead of the one that is built with
    /// the tests: `target/dist/kube-ipvs` is what is released. It has to be static.
    #[arg(long, value_name = "FILE")]
    pub(crate) program: Option<PathBuf>,
}

impl Machine {
    /// The programs of a run: those of the tests, and the one that is tested.
    fn programs(&self, paths: &Paths, targets: &[Target]) -> Result<Vec<Program>> {
        let mut programs = artifacts::build(paths, targets)?;
        if let Some(file) = &self.program {
            let file = file
                .canonicalize()
                .with_context(|| format!("--program {}", file.display()))?;
            let tested = programs.iter_mut().find(|program| program.name == TESTED);
            tested.context("cargo built no kube-ipvs")?.path = file;
        }
        Ok(programs)
    }
}

/// The program under test.
const TESTED: &str = "kube-ipvs";

/// 6.1 where the system is Debian; Ubuntu has other suites, so its own kernel.
fn default_kernel() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let debian = release.lines().any(|line| line == "ID=debian");
    if debian { "6.1" } else { "system" }.to_owned()
}

/// What to run in the guest.
pub(crate) struct Job<'a> {
    pub(crate) target: Target<'a>,
    pub(crate) arguments: Vec<String>,
    pub(crate) clock: Clock,
}

/// Fetches the kernel and builds the image and our programs.
pub(crate) fn build(machine: &Machine, update: bool) -> Result<Outcome> {
    let paths = Paths::find()?;
    apt::need_vm()?;
    let kernel = Kernel::fetch(&paths, &machine.kernel, update)?;
    let image = initramfs::base(&paths, &kernel, &machine.kernel)?;
    eprintln!(
        "xtask: kernel {}, image {}",
        kernel.release,
        image.display()
    );
    Ok(Outcome::Passed)
}

/// A shell in the guest.
pub(crate) fn shell(machine: &Machine, update: bool) -> Result<Outcome> {
    let paths = Paths::find()?;
    apt::need_vm()?;
    let programs = machine.programs(&paths, &[])?;
    let (rows, columns) = qemu::terminal_size();
    let settings = format!("LIMIT=0\nINTERACTIVE=1\nROWS={rows}\nCOLS={columns}\n");
    let job = "#!/bin/sh\ncd /root\nexport KUBE_IPVS_BIN=/opt/kube-ipvs/bin/kube-ipvs PS1='guest# '\n\
               echo 'kube-ipvs guest; leave with exit or Ctrl-D. Kernel messages: dmesg'\n/usr/bin/bash --norc -i || true\n";
    let guest = Guest::prepare(&paths, machine, update, &programs, job, &settings)?;
    // Our own terminal must hand over every key, Ctrl-C too; the emulator
    // does that and puts it back at its end.
    guest.emulator(machine, Clock::Wall).interact()
}

/// Builds `job`'s program and runs it in a guest.
pub(crate) fn run(machine: &Machine, job: &Job) -> Result<Outcome> {
    let run = run_parts(machine, job.target, job.clock, &[], |_| {
        Ok(vec![job.arguments.clone()])
    })?;
    Ok(run.outcome)
}

/// What a run in guests came to.
pub(crate) struct Run {
    pub(crate) outcome: Outcome,
    /// The kernel's, as `uname -r` says.
    pub(crate) release: String,
    pub(crate) summary: Summary,
}

/// Builds `target` and runs it in several guests at once, one for each list of
/// arguments. The first one's output is shown as it comes, that of the others
/// when it has ended. `parts` is given the program, which also runs here;
/// `environment` is the job's.
pub(crate) fn run_parts(
    machine: &Machine,
    target: Target,
    clock: Clock,
    environment: &[(&str, &str)],
    parts: impl FnOnce(&Path) -> Result<Vec<Vec<String>>>,
) -> Result<Run> {
    let paths = Paths::find()?;
    apt::need_vm()?;
    let programs = machine.programs(&paths, &[target])?;
    let (Target::Bin(name) | Target::Test(name)) = target;
    let built = programs.iter().find(|program| program.name == name);
    let parts = parts(
        &built
            .with_context(|| format!("cargo built no {name}"))?
            .path,
    )?;
    // Guest time is not ours when it follows instructions.
    let limit = if clock == Clock::Wall {
        machine.timeout + 30
    } else {
        0
    };
    let settings = format!("LIMIT={limit}\nINTERACTIVE=0\n");
    let mut guests = Vec::new();
    for (number, arguments) in parts.iter().enumerate() {
        let script = script(name, arguments, environment);
        let mut guest = Guest::prepare(&paths, machine, false, &programs, &script, &settings)?;
        if number > 0 {
            guest.held = Some(Mutex::default());
            guest.kept_log = paths.vm()?.join(format!("kernel-{}.log", number + 1));
        }
        guests.push(guest);
    }
    let limit = Duration::from_secs(machine.timeout);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let run = |guest| move || Guest::run(guest, machine, clock, limit);
        let running: Vec<_> = guests.iter().map(|g| scope.spawn(run(g))).collect();
        let ended = running.into_iter().map(|thread| thread.join());
        ended
            .map(|result| result.expect("a guest's thread does not panic"))
            .collect()
    });
    for guest in &guests {
        guest.show();
    }
    let mut summary = Summary::default();
    for guest in &guests {
        let said = guest.summary.lock().expect("nobody panics with it");
        summary.add(said.clone());
    }
    summary.line().into_iter().for_each(qemu::say);
    let outcomes = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(Run {
        outcome: Outcome::of_all(outcomes),
        release: guests[0].kernel.release.clone(),
        summary,
    })
}

/// What guests have that others have not, and what they run.
pub(crate) struct Equipment {
    /// A cpio archive.
    pub(crate) files: Vec<u8>,
    /// A shell script for each guest.
    pub(crate) scripts: Vec<String>,
}

/// Builds `targets` and runs scripts in guests side by side, which `equip` makes
/// from the programs. Output comes as in [`run_parts`].
pub(crate) fn run_equipped(
    machine: &Machine,
    targets: &[Target],
    equip: impl FnOnce(&Paths, &[Program]) -> Result<Equipment>,
) -> Result<Outcome> {
    let paths = Paths::find()?;
    apt::need_vm()?;
    let programs = artifacts::build(&paths, targets)?;
    let equipment = equip(&paths, &programs)?;
    let settings = format!("LIMIT={}\nINTERACTIVE=0\n", machine.timeout + 30);
    let mut guests = Vec::new();
    for (number, script) in equipment.scripts.iter().enumerate() {
        let mut guest = Guest::prepare(&paths, machine, false, &programs, script, &settings)?;
        // After our programs: the kernel unpacks what comes last, last.
        let more = guest.initramfs.write_all(&equipment.files);
        more.context("write the initramfs")?;
        guest.kept_log = paths.vm()?.join(format!("container-{}.log", number + 1));
        guest.held = (number > 0).then(Mutex::default);
        guests.push(guest);
    }
    let limit = Duration::from_secs(machine.timeout);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let run = |guest| move || Guest::run(guest, machine, Clock::Wall, limit);
        let running: Vec<_> = guests.iter().map(|g| scope.spawn(run(g))).collect();
        let ended = running.into_iter().map(|thread| thread.join());
        ended
            .map(|result| result.expect("a guest's thread does not panic"))
            .collect()
    });
    guests.iter().for_each(Guest::show);
    Ok(Outcome::of_all(
        outcomes.into_iter().collect::<Result<_>>()?,
    ))
}

/// Words as a shell takes them.
pub(crate) fn quoted(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    quoted.join(" ")
}

fn script(program: &str, arguments: &[String], environment: &[(&str, &str)]) -> String {
    let quoted: Vec<String> = arguments.iter().map(|word| quote(word)).collect();
    // Tests that throw dice print it; who sets it wants the same again.
    let seed = std::env::var("KUBE_IPVS_SEED")
        .map(|seed| format!("export KUBE_IPVS_SEED={}\n", quote(&seed)));
    let seed = seed.unwrap_or_default();
    let exports: String = environment
        .iter()
        .map(|(name, value)| format!("export {name}={}\n", quote(value)))
        .collect();
    format!(
        "#!/bin/sh\ncd /root\nexport KUBE_IPVS_BIN=/opt/kube-ipvs/bin/kube-ipvs\n{seed}{exports}\
         exec /opt/kube-ipvs/bin/{program} {}\n",
        quoted.join(" ")
    )
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Kernel and initramfs of one run; the latter goes when this does.
struct Guest {
    kernel: Kernel,
    initramfs: tempfile::NamedTempFile,
    kernel_log: tempfile::NamedTempFile,
    /// Where the log stays afterwards.
    kept_log: PathBuf,
    /// The job's output, where it is not shown as it comes.
    held: Option<Mutex<Vec<String>>>,
    summary: Mutex<Summary>,
}

impl Guest {
    fn prepare(
        paths: &Paths,
        machine: &Machine,
        update: bool,
        programs: &[Program],
        job: &str,
        settings: &str,
    ) -> Result<Self> {
        let kernel = Kernel::fetch(paths, &machine.kernel, update)?;
        let base = initramfs::base(paths, &kernel, &machine.kernel)?;
        let mut content = fs::read(&base).with_context(|| format!("read {}", base.display()))?;
        // The kernel looks for the next archive at multiples of four.
        content.resize(content.len().next_multiple_of(512), 0);
        content.extend(initramfs::overlay(programs, job, settings)?);
        let mut initramfs = tempfile::NamedTempFile::new_in(paths.vm()?)?;
        initramfs
            .write_all(&content)
            .context("write the initramfs")?;
        let kernel_log = tempfile::NamedTempFile::new_in(paths.vm()?)?;
        Ok(Self {
            kernel,
            initramfs,
            kernel_log,
            kept_log: paths.vm()?.join("kernel.log"),
            held: None,
            summary: Mutex::default(),
        })
    }

    fn run(&self, machine: &Machine, clock: Clock, limit: Duration) -> Result<Outcome> {
        self.emulator(machine, clock).run(limit)
    }

    /// Shows what was held back.
    fn show(&self) {
        let Some(held) = &self.held else { return };
        let held = held.lock().expect("nobody panics with it");
        held.iter().for_each(|line| qemu::say(line));
    }

    fn emulator(&self, machine: &Machine, clock: Clock) -> Emulator<'_> {
        Emulator {
            kernel: &self.kernel.image,
            initramfs: self.initramfs.path(),
            kernel_log: self.kernel_log.path(),
            cpus: machine.cpus,
            kept_log: &self.kept_log,
            memory: machine.memory,
            clock,
            held: self.held.as_ref(),
            summary: &self.summary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_reach_the_guest_as_they_are() {
        let words = ["a b".into(), "it's".into()];
        assert!(script("kernel", &words, &[("ONE", "1 2")]).ends_with(
            r"export ONE='1 2'
exec /opt/kube-ipvs/bin/kernel 'a b' 'it'\''s'
"
        ));
    }
}
