//! The arguments.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::rows::{Choice, Column, Level};
use crate::pods::PodArgs;
use crate::tool::Output;
use crate::usage::Usage;

const EXAMPLES: &str = "\
Examples:
  kube-ipvs top                                the busiest Services; ? says what the keys do
  kube-ipvs top --by real-servers --sort active
  kube-ipvs top --once --filter kube-system/   a table, of two looks two seconds apart
  kube-ipvs top --once -o json                 everything, for programs
  kube-ipvs top --pods                         with the names of pods, below a Service in depth

Rates are growth of the kernel's counters, which it sums up every two seconds, between looks:
of the last two intervals on a terminal, of the only one with --once.";

/// Flags of `kube-ipvs top`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct TopArgs {
    /// What a line is
    #[arg(long, value_enum, value_name = "WHAT")]
    pub by: Option<Level>,
    /// What lines are sorted by; connections a second by default
    #[arg(long, value_enum, value_name = "COLUMN")]
    pub sort: Option<Column>,
    /// Only what has this in a name or an address
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub filter: String,
    /// Print a table once instead of taking the terminal
    #[arg(long)]
    pub once: bool,
    /// Seconds between two looks; on a terminal more, where less would take over a twentieth of a
    /// processor
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub interval: Duration,
    /// Form of what --once prints
    #[arg(short, long, value_enum, requires = "once", default_value_t = Output::Text)]
    pub output: Output,
    /// Name the pods of real servers, as the API server knows them: of the Service that is looked at
    /// in depth, and with --once of all
    #[arg(long)]
    pub pods: bool,
    /// Where the API server is and who we are; without it the pod's service account
    #[arg(long, value_name = "FILE", requires = "pods")]
    pub kubeconfig: Option<PathBuf>,
    /// Where the ownership record, with the names of Services, is kept
    #[arg(long, value_name = "DIR", default_value = "/run/kube-ipvs")]
    pub state_dir: PathBuf,
}

impl TopArgs {
    /// Whether pods are named, and who tells.
    pub(super) fn pods(&self) -> PodArgs {
        PodArgs {
            pods: self.pods,
            kubeconfig: self.kubeconfig.clone(),
        }
    }

    /// What is shown at first.
    ///
    /// # Errors
    /// [`Usage`] for an order of what has none.
    pub(crate) fn choice(&self) -> Result<Choice, Usage> {
        if self.output == Output::Json && (self.by.is_some() || self.sort.is_some()) {
            let why = "--by and --sort are for the table: JSON has everything, by name";
            return Err(Usage(why.to_owned()));
        }
        Ok(Choice {
            level: self.by.unwrap_or(Level::Services),
            focus: None,
            sort: self.sort.unwrap_or(Column::Connections),
            reversed: false,
            filter: self.filter.clone(),
        })
    }
}

/// `2`, `0.5`.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "seconds between 0.1 and 3600, like 2 or 0.5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_seconds_that_make_sense() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "NaN", "inf", "2s", "", "1e9"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
