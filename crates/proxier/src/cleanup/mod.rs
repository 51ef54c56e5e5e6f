//! `kube-ipvs cleanup`: remove exactly what is ours from this node.
//!
//! Needs neither an API server nor a daemon: what is ours stands in the
//! ownership record, in our nftables tables and on our link. What others made
//! stays, and so does what somebody has changed since.
//!
//! `--hand-over` is for the way back to kube-proxy: it leaves what another
//! proxy goes on with (VIPs, virtual servers, sysctls) and takes away what only
//! we use.

mod report;
mod steps;
mod timeouts;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use kube_ipvs_dataplane::lock::StateLock;

use crate::tool::Output;
use crate::{answers, streams};
pub use report::{Action, Entry, Report, Running};

const EXAMPLES: &str = "\
Examples:
  kube-ipvs cleanup --dry-run                  what would be removed; also while a kube-ipvs runs
  kube-ipvs cleanup                            when it runs no more
  kube-ipvs cleanup --hand-over                when kube-proxy has taken over

Exit code: 0 all of it was, or would be, removed; 1 not all; 64 a wrong command line.";

/// Flags of `kube-ipvs cleanup`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct CleanupArgs {
    /// Link that carries the VIPs
    #[arg(long, value_name = "NAME", default_value = "kube-ipvs0")]
    pub link: String,
    /// Where the ownership record is kept
    #[arg(long, value_name = "DIR", default_value = "/run/kube-ipvs")]
    pub state_dir: PathBuf,
    /// Say what would be removed, and remove nothing; also while a kube-ipvs runs
    #[arg(long)]
    pub dry_run: bool,
    /// Leave VIPs, virtual servers and sysctls to another proxy that has taken over
    #[arg(long)]
    pub hand_over: bool,
    /// Go on though a kube-ipvs runs here: it will put everything back
    #[arg(long)]
    pub force: bool,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

impl Default for CleanupArgs {
    fn default() -> Self {
        Self {
            link: "kube-ipvs0".into(),
            state_dir: "/run/kube-ipvs".into(),
            dry_run: false,
            hand_over: false,
            force: false,
            output: Output::Text,
        }
    }
}

/// Removes what is ours and prints what it did. Exit code 0 when nothing of
/// ours is left, the second time too; 1 when something could not be removed.
///
/// # Errors
/// A `kube-ipvs` runs on this node with the same state directory, or the report
/// cannot be written.
pub fn run(args: &CleanupArgs) -> anyhow::Result<ExitCode> {
    let lock = lock(args)?;
    // Who has the lock is alone.
    let daemon = match lock {
        Some(_) => Ok(None),
        None => running(&args.state_dir),
    };
    let mut report = clean(args);
    match daemon {
        Ok(daemon) => report.daemon = daemon,
        Err(error) => report.add(Action::Failed, "lock", format!("{error:#}")),
    }
    if let Some(lock) = lock
        && let Err(error) = lock.remove()
    {
        report.add(Action::Failed, "lock", format!("{error:#}"));
    }
    match args.output {
        Output::Text => streams::print(&report)?,
        Output::Json => streams::print_json(&report)?,
    }
    Ok(if report.failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Who holds the lock of a state directory, as far as it tells, if somebody else than this
/// cleanup does.
fn running(state_dir: &Path) -> anyhow::Result<Option<Running>> {
    if !StateLock::is_held(state_dir)? {
        return Ok(None);
    }
    // One that is stuck, or of another version, runs all the same.
    let told = answers::ask_node(state_dir).ok().flatten();
    Ok(Some(Running {
        pid: told.as_ref().map(|told| told.pid),
        since: told.map(|told| told.since),
    }))
}

/// Removes what is ours, in the network namespace of this thread: VIPs, then
/// virtual servers, then tables, so that no VIP is ever without its guard.
/// Looks at no lock.
pub fn clean(args: &CleanupArgs) -> Report {
    let mut cleaning = steps::Cleaning::start(args);
    if args.hand_over {
        cleaning.hand_over();
    } else {
        cleaning.remove();
    }
    cleaning.finish()
}

/// Keeps a daemon from starting meanwhile. None when there is nothing to lock.
fn lock(args: &CleanupArgs) -> anyhow::Result<Option<StateLock>> {
    let held = || {
        anyhow::anyhow!(
            "a kube-ipvs runs with the state directory {}: stop it first, it would put everything back (--force goes on all the same)",
            args.state_dir.display()
        )
    };
    // Looking changes nothing, and nothing that a daemon does disturbs it.
    if args.force || args.dry_run || !args.state_dir.exists() {
        return Ok(None);
    }
    let lock = StateLock::try_acquire(&args.state_dir)?;
    Ok(Some(lock.ok_or_else(held)?))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use kube_ipvs_dataplane::record::SOCKET;

    use super::*;
    use crate::answers::NodeReport;

    #[test]
    fn who_runs_is_known_by_the_lock_and_tells_the_rest() {
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path();
        assert_eq!(running(state).expect("no lock"), None);

        let _lock = StateLock::acquire(state).expect("nobody holds it");
        let silent = running(state).expect("a lock").expect("it is held");
        assert_eq!((silent.pid, silent.since), (None, None));

        let listener = UnixListener::bind(state.join(SOCKET)).expect("a socket");
        let since = "2026-01-02T03:04:05Z".parse().expect("a time");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().expect("a question");
                let mut question = String::new();
                stream.read_to_string(&mut question).expect("it ends");
                let report = serde_json::to_vec(&NodeReport::new(since)).expect("JSON");
                stream.write_all(&report).expect("it is read");
            });
            let told = running(state).expect("a lock").expect("it is held");
            assert_eq!(told.pid, Some(std::process::id()));
            assert_eq!(told.since, Some(since));
        });
    }
}
