//! The node's own programs of legacy iptables, whose tables only they can read
//! and change: the kernel's old interface is none of netlink.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::Context;

/// How long to wait for the lock that iptables programs share, in seconds.
const LOCK: &str = "10";

/// Families of iptables, and where the kernel names their legacy tables, in the
/// network namespace of this thread.
pub(crate) const LEGACY: [(&str, &str); 2] = [
    ("iptables", "/proc/thread-self/net/ip_tables_names"),
    ("ip6tables", "/proc/thread-self/net/ip6_tables_names"),
];

/// `iptables` or `ip6tables`, of the legacy kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Iptables(String);

/// Programs to ask, and rules that there is no program for.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) programs: Vec<Iptables>,
    /// What cannot be looked into, one line each.
    pub(super) unseen: Vec<String>,
}

/// Looks for the programs where the kernel holds legacy tables. Where it holds
/// none, none is started: asking them makes tables.
pub(super) fn find() -> Found {
    let mut found = Found::default();
    for (family, names) in LEGACY {
        let tables = std::fs::read_to_string(names).unwrap_or_default();
        let tables: Vec<&str> = tables.split_whitespace().collect();
        if tables.is_empty() {
            continue;
        }
        match program(family) {
            Some(program) => found.programs.push(program),
            None => found.unseen.push(format!(
                "the kernel holds legacy {family} tables ({}), and there is no {family}-legacy here",
                tables.join(", ")
            )),
        }
    }
    found
}

/// All legacy tables of `iptables` or `ip6tables`, as its program saves them; none
/// where it is not installed or may not.
pub(crate) fn save_legacy(family: &str) -> Option<String> {
    program(family)?.save().ok()
}

fn program(family: &str) -> Option<Iptables> {
    [format!("{family}-legacy"), family.to_owned()]
        .into_iter()
        .find(|name| is_legacy(name))
        .map(Iptables)
}

/// `iptables v1.8.9 (nf_tables)` is not; before 1.8 there was only the old interface.
fn is_legacy(program: &str) -> bool {
    let output = Command::new(program).arg("--version").output();
    output.is_ok_and(|output| {
        let version = String::from_utf8_lossy(&output.stdout);
        output.status.success() && !version.contains("nf_tables")
    })
}

impl Iptables {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// All its tables, as `iptables-save` writes them.
    pub(super) fn save(&self) -> anyhow::Result<String> {
        run(Command::new(format!("{}-save", self.0)), "")
    }

    /// Carries commands out, each table in one transaction.
    pub(super) fn restore(&self, text: &str) -> anyhow::Result<()> {
        let mut command = Command::new(format!("{}-restore", self.0));
        command.args(["--noflush", "--wait", LOCK]);
        run(command, text).map(drop)
    }
}

fn run(mut command: Command, input: &str) -> anyhow::Result<String> {
    let name = format!("run {}", command.get_program().to_string_lossy());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| name.clone())?;
    let mut stdin = child.stdin.take().context("standard input is piped")?;
    let output = std::thread::scope(|scope| {
        // Not here: a program that complains before it has read all would block us both.
        scope.spawn(move || {
            // What it did not read it did not need; its exit code tells the rest.
            let _ = stdin.write_all(input.as_bytes());
        });
        child.wait_with_output()
    });
    judge(&command, output.with_context(|| name)?)
}

fn judge(command: &Command, output: Output) -> anyhow::Result<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success(),
        "{} {}: {}: {}",
        command.get_program().to_string_lossy(),
        command
            .get_args()
            .map(|x| x.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" "),
        output.status,
        stderr.trim()
    );
    String::from_utf8(output.stdout).context("its answer is not UTF-8")
}
