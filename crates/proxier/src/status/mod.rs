//! `kube-ipvs status`: one page about this node. What the running daemon says of
//! itself, held against what the kernel has; without a daemon, record and kernel
//! alone. Changes nothing, and needs no API server.

mod page;
#[cfg(test)]
mod tests;
mod wrong;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::answers::{self, Held, NodeReport};
use crate::explain::{Seen, look};
use crate::streams;
use page::Page;

/// Flags of `kube-ipvs status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Link that carries the VIPs
    #[arg(long, value_name = "NAME", default_value = "kube-ipvs0")]
    pub link: String,
    /// Where the ownership record is kept, and the daemon answers
    #[arg(long, value_name = "DIR", default_value = "/run/kube-ipvs")]
    pub state_dir: PathBuf,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One page
    Text,
    /// For programs
    Json,
}

/// Looks at a node whose daemon changes something meanwhile, at most.
const LOOKS: u32 = 3;

/// Prints the page. Exit code 0 when all is well, 1 when something is wrong.
///
/// # Errors
/// The kernel or the record cannot be read.
pub fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let page = Page::of(&look_around(args)?);
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
    /// The kernel was looked at while the daemon had nothing to do.
    still: bool,
}

/// Asks, looks, and asks again: what the daemon takes the kernel to hold is only
/// held against it when that was the same before and after the look.
fn look_around(args: &StatusArgs) -> anyhow::Result<Facts> {
    let ask = || answers::ask_node(&args.state_dir).map_err(|error| format!("{error:#}"));
    let mut told = ask();
    let mut left = LOOKS;
    loop {
        let seen = look(&args.link, &args.state_dir)?;
        let before = held(&told);
        told = ask();
        left -= 1;
        let still = held(&told) == before;
        if still || left == 0 {
            return Ok(Facts { told, seen, still });
        }
    }
}

fn held(told: &Result<Option<NodeReport>, String>) -> Option<Held> {
    told.as_ref().ok()?.as_ref()?.of_loop.as_ref()?.held
}
