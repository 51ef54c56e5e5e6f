//! The node's own iptables and ipset programs, of both kinds.

use std::io::{ErrorKind, Write};
use std::process::{Command, Output, Stdio};

use anyhow::Context;

/// How long to wait for the lock that iptables programs share, in seconds.
const LOCK: &str = "10";

/// Where iptables programs keep their rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The old interface.
    Legacy,
    /// nftables.
    Nft,
}

/// `iptables` or `ip6tables`, of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Iptables(String);

/// Programs to ask, and rules that there is no program for.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) programs: Vec<Iptables>,
    /// What cannot be looked into, one line each.
    pub(super) unseen: Vec<String>,
}

/// Looks for the programs. Those of the legacy kind are only wanted where the
/// kernel holds legacy tables: asking them makes tables.
pub(super) fn find() -> Found {
    let mut found = Found::default();
    for (family, names) in [
        ("iptables", "/proc/thread-self/net/ip_tables_names"),
        ("ip6tables", "/proc/thread-self/net/ip6_tables_names"),
    ] {
        let legacy = std::fs::read_to_string(names).unwrap_or_default();
        let legacy: Vec<&str> = legacy.split_whitespace().collect();
        let mut kinds = vec![Kind::Nft];
        if !legacy.is_empty() {
            kinds.push(Kind::Legacy);
        }
        for kind in kinds {
            match (program(family, kind), kind) {
                (Some(program), _) => found.programs.push(program),
                (None, Kind::Legacy) => found.unseen.push(format!(
                    "the kernel holds legacy {family} tables ({}), and there is no legacy {family} here",
                    legacy.join(", ")
                )),
                (None, Kind::Nft) => {}
            }
        }
    }
    found
}

fn program(family: &str, kind: Kind) -> Option<Iptables> {
    let suffix = match kind {
        Kind::Legacy => "legacy",
        Kind::Nft => "nft",
    };
    let named = format!("{family}-{suffix}");
    [named.as_str(), family]
        .into_iter()
        .find(|name| kind_of(name) == Some(kind))
        .map(|name| Iptables(name.to_owned()))
}

/// `iptables v1.8.9 (nf_tables)`; before 1.8 there was only the old interface.
fn kind_of(program: &str) -> Option<Kind> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let version = String::from_utf8_lossy(&output.stdout);
    output.status.success().then_some(())?;
    Some(match version.contains("nf_tables") {
        true => Kind::Nft,
        false => Kind::Legacy,
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

/// Names of all ipsets; none when there is no `ipset`.
pub(super) fn list_sets() -> anyhow::Result<Option<String>> {
    ipset(&["list", "-n"])
}

/// All ipsets with what is in them, a line each; none when there is no `ipset`.
pub(super) fn save_sets() -> anyhow::Result<Option<String>> {
    ipset(&["save"])
}

fn ipset(arguments: &[&str]) -> anyhow::Result<Option<String>> {
    let mut command = Command::new("ipset");
    command.args(arguments);
    match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        output => judge(&command, output.context("run ipset")?).map(Some),
    }
}

/// Destroys an ipset.
pub(super) fn destroy_set(name: &str) -> anyhow::Result<()> {
    let mut command = Command::new("ipset");
    command.args(["destroy", name]);
    run(command, "").map(drop)
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
