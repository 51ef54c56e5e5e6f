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

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use kube_ipvs_dataplane::lock::StateLock;

use crate::streams;
use crate::tool::Output;
pub use report::{Action, Entry, Report};

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
    let mut report = clean(args);
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
