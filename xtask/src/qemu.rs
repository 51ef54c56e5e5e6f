//! Starts the emulator, follows its output, and makes sure it ends.

use std::fs;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::console::{self, End, Line, Outcome, Summary};
use crate::tools;

/// How long a guest may take until it says that it is up.
const BOOT: Duration = Duration::from_secs(120);
/// How often a guest may try to boot.
const BOOTS: u32 = 3;
/// How long a guest may take to switch itself off.
const POWER_OFF: Duration = Duration::from_secs(10);

/// Everything the emulator can do but cmpxchg16b: QEMU 7.2 now and then breaks
/// the flags after it, and the memory allocator of newer kernels lives on it.
const CPU: &str = "max,-cx16";

/// How guest time passes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// As on the wall.
    Wall,
    /// With the number of executed instructions: slow, and the same every run.
    Instructions,
}

/// One guest.
pub(crate) struct Emulator<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
    /// Where the kernel's messages go.
    pub(crate) kernel_log: &'a Path,
    /// Where they are copied to at the end: guests may run side by side.
    pub(crate) kept_log: &'a Path,
    pub(crate) cpus: u32,
    /// MiB.
    pub(crate) memory: u32,
    pub(crate) clock: Clock,
    /// Takes the job's output; without it, our standard output does.
    pub(crate) held: Option<&'a Mutex<Vec<String>>>,
    /// Sees all of the job's output.
    pub(crate) summary: &'a Mutex<Summary>,
}

impl Emulator<'_> {
    /// Runs the job to its end. A guest that falls over while it boots is started again: newer
    /// kernels change their own code then, which emulation of several
    /// processors does not always survive. What happens later counts at once.
    pub(crate) fn run(&self, limit: Duration) -> Result<Outcome> {
        let mut end = self.attempt(limit)?;
        for _ in 1..BOOTS {
            if end != End::GoneBooting {
                break;
            }
            eprintln!("xtask: the guest fell over while it booted; once more");
            end = self.attempt(limit)?;
        }
        let log = fs::read(self.kept_log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        self.report(&log);
        let outcome = console::outcome(end, &log);
        if let Some(explanation) = outcome.explanation() {
            eprintln!("xtask: {explanation}");
            show_end_of(&log);
        }
        Ok(outcome)
    }

    fn attempt(&self, limit: Duration) -> Result<End> {
        let started = Instant::now();
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start qemu-system-x86_64")?;
        let lines = follow(&mut child)?;
        let end = watch(&lines, started, limit, &|line| self.tell(line));
        stop(&mut child, end)?;
        fs::copy(self.kernel_log, self.kept_log).context("keep the kernel's log")?;
        Ok(end)
    }

    fn tell(&self, line: &str) {
        let summary = self.summary.lock();
        summary.expect("nobody panics with it").note(line);
        match self.held {
            Some(held) => held
                .lock()
                .expect("nobody panics with it")
                .push(line.to_owned()),
            None => say(line),
        }
    }

    /// Hands the terminal to the guest until it is switched off.
    pub(crate) fn interact(&self) -> Result<Outcome> {
        let status = self
            .command()
            .status()
            .context("start qemu-system-x86_64")?;
        Ok(if status.success() {
            Outcome::Passed
        } else {
            Outcome::Vanished
        })
    }

    fn command(&self) -> Command {
        // The emulator dies with us, however we die.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        command.args([
            "-display",
            "none",
            "-no-reboot",
            "-nic",
            "none",
            "-monitor",
            "none",
        ]);
        command.args(["-m", &self.memory.to_string(), "-cpu", CPU]);
        command
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs);
        command.args([
            "-append",
            "console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off random.trust_cpu=on",
        ]);
        command.args(["-serial", &format!("file:{}", self.kernel_log.display())]);
        command.args([
            "-chardev",
            "stdio,id=job,signal=off",
            "-serial",
            "chardev:job",
        ]);
        match self.clock {
            Clock::Wall => {
                command.args(["-accel", accelerator(), "-smp", &self.cpus.to_string()]);
            }
            Clock::Instructions => {
                command.args([
                    "-accel",
                    "tcg,thread=single",
                    "-icount",
                    "shift=1,sleep=off",
                ]);
                command.args(["-smp", "1"]);
            }
        }
        command
    }

    fn report(&self, log: &str) {
        let warnings = console::warnings(log);
        if warnings.is_empty() {
            return;
        }
        eprintln!(
            "xtask: the guest's kernel warned ({}):",
            self.kept_log.display()
        );
        for warning in warnings.iter().take(10) {
            eprintln!("  {warning}");
        }
    }
}

fn accelerator() -> &'static str {
    if has_kvm() { "kvm" } else { "tcg,thread=multi" }
}

/// How many processors a guest may have and still be right every time: emulated
/// ones do not always see the code that another one has just changed, as a
/// kernel does whenever a netfilter hook is first used.
pub(crate) fn trusted_cpus() -> u32 {
    if has_kvm() { 2 } else { 1 }
}

/// KVM where it really works: `/dev/kvm` alone proves nothing, since there are
/// hosts where it opens and the guest then stands still.
fn has_kvm() -> bool {
    let loaded = ["kvm_intel", "kvm_amd"]
        .iter()
        .any(|m| Path::new("/sys/module").join(m).exists());
    let usable = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    loaded && usable
}

fn follow(child: &mut Child) -> Result<Receiver<String>> {
    let stdout = child.stdout.take().context("the emulator's output")?;
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        while reader
            .read_until(b'\n', &mut line)
            .is_ok_and(|length| length > 0)
        {
            let text = String::from_utf8_lossy(&line)
                .trim_end_matches('\n')
                .to_owned();
            line.clear();
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    Ok(lines)
}

fn watch(lines: &Receiver<String>, started: Instant, limit: Duration, tell: &dyn Fn(&str)) -> End {
    let mut up = false;
    let mut blank = false;
    loop {
        let deadline = started + if up { limit } else { BOOT.min(limit) };
        let line = match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return if up { End::Late } else { End::NotUp },
            Err(RecvTimeoutError::Disconnected) => {
                return if up { End::Gone } else { End::GoneBooting };
            }
        };
        match console::classify(&line) {
            Line::Up => up = true,
            Line::Exit(code) => return End::Exit(code),
            // Before the first marker the firmware speaks.
            Line::Output(_) if !up => {}
            // Held back: the exit marker is preceded by a newline of its own.
            Line::Output("") => {
                if blank {
                    tell("");
                }
                blank = true;
            }
            Line::Output(text) => {
                if std::mem::take(&mut blank) {
                    tell("");
                }
                tell(text);
            }
        }
    }
}

/// A line on standard output.
pub(crate) fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // Nobody reads any more: the guest's exit code still counts.
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

fn stop(child: &mut Child, end: End) -> Result<()> {
    let deadline = Instant::now() + POWER_OFF;
    let patient = matches!(end, End::Exit(_) | End::Gone | End::GoneBooting);
    while patient && Instant::now() < deadline {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().context("stop the emulator")?;
    child.wait().context("wait for the emulator")?;
    Ok(())
}

fn show_end_of(log: &str) {
    let lines: Vec<&str> = log.lines().collect();
    for line in &lines[lines.len().saturating_sub(40)..] {
        eprintln!("  {}", line.trim_end());
    }
}

/// Rows and columns of our terminal, for the guest's.
pub(crate) fn terminal_size() -> (u16, u16) {
    let standard = (24, 80);
    if !std::io::stdin().is_terminal() {
        return standard;
    }
    let Ok(text) = tools::text(Command::new("stty").args(["-F", "/dev/tty", "size"])) else {
        return standard;
    };
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    numbers.next().zip(numbers.next()).unwrap_or(standard)
}
