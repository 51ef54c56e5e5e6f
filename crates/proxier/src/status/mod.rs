//! `kube-ipvs status`: one page about this node. What the running daemon says of
//! itself, held against what the kernel has; without a daemon, record and kernel
//! alone. Changes nothing, and needs no API server.

mod page;
#[cfg(test)]
mod tests;
mod wrong;

use std::process::ExitCode;

use clap::Args;

use crate::answers::{self, Held, NodeReport};
use crate::explain::{Seen, look};
use crate::streams;
use crate::tool::{NodeArgs, Output};
use kube_ipvs_dataplane::lock::StateLock;
use page::Page;

const EXAMPLES: &str = "\
Examples:
  kube-ipvs status
  kube-ipvs status -o json                     for programs

Exit code: 0 all is well; 1 something is wrong, and the page says what; 64 a wrong command line.";

/// Flags of `kube-ipvs status`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatusArgs {
    /// Where to look
    #[command(flatten)]
    pub node: NodeArgs,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Looks at a node whose daemon changes something meanwhile, at most.
const LOOKS: u32 = 3;

/// Prints the page. Exit code 0 when all is well, 1 when something is wrong.
///
/// # Errors
/// It cannot be written.
pub(crate) fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let page = Page::of(&look_around(&args.node));
    match args.output {
        Output::Text => streams::print(&page)?,
        Output::Json => streams::print_json(&page)?,
    }
    Ok(if page.well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the page is made of.
struct Facts {
    /// What the daemon said; why it said nothing, if one runs.
    told: Result<Option<NodeReport>, String>,
    seen: Seen,
    /// Why the kernel, or the record, was not seen at all.
    blind: Option<String>,
    /// The kernel was looked at while the daemon had nothing to do.
    still: bool,
}

/// Asks, looks, and asks again: what the daemon takes the kernel to hold is only
/// held against it when that was the same before and after the look.
fn look_around(node: &NodeArgs) -> Facts {
    let ask = || answers::ask_node(&node.state_dir).map_err(|error| format!("{error:#}"));
    let mut told = ask();
    let mut left = LOOKS;
    loop {
        let seen = match look(node) {
            Ok(seen) => seen,
            Err(error) => return Facts::blind(told, node, &error),
        };
        let before = held(&told);
        told = ask();
        left -= 1;
        let still = held(&told) == before;
        if still || left == 0 {
            return Facts {
                told,
                seen,
                blind: None,
                still,
            };
        }
    }
}

impl Facts {
    /// Those of a node whose kernel shows nothing: no IPVS, or not for us.
    fn blind(
        told: Result<Option<NodeReport>, String>,
        node: &NodeArgs,
        error: &anyhow::Error,
    ) -> Self {
        // Who may not look at the lock hears why in any case.
        let runs = StateLock::is_held(&node.state_dir).unwrap_or_default();
        Self {
            told,
            seen: Seen {
                runs,
                ..Seen::default()
            },
            blind: Some(format!("{error:#}")),
            still: false,
        }
    }
}

fn held(told: &Result<Option<NodeReport>, String>) -> Option<Held> {
    told.as_ref().ok()?.as_ref()?.of_loop.as_ref()?.held
}
