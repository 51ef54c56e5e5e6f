//! Tab behind `kubectl ipvs`. kubectl runs `kubectl_complete-ipvs` with the words behind
//! `kubectl ipvs`, the last of which is being written, and takes what it prints as that of
//! a command of its own: a candidate a line, a tab and what it is, then a colon and a number.

mod line;
mod names;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use crate::streams;
use line::{Line, Offer};

/// The name under which kubectl looks for it.
const NAME: &str = "kubectl_complete-ipvs";
/// Of cobra, `ShellCompDirectiveNoFileComp`: names of files are no candidates.
const NO_FILES: u8 = 4;
/// Of cobra, `ShellCompDirectiveNoSpace`: more of the same word follows.
const NO_SPACE: u8 = 2;

/// What can stand in the place of the last word.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    word: String,
    about: String,
}

/// Whether the program was called to complete a line of the plugin.
pub fn is_called(arguments: &[OsString]) -> bool {
    let name = arguments
        .first()
        .and_then(|path| Path::new(path).file_name());
    name.is_some_and(|name| name == NAME)
}

/// Prints what can stand in the place of the last word.
///
/// # Errors
/// It cannot be written.
pub fn run(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let words = arguments.iter().skip(1);
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let (last, before) = match words.split_last() {
        Some((last, before)) => (&last[..], before),
        None => ("", &[][..]),
    };
    let mut line = Line::new();
    for word in before {
        line.pass(word);
    }
    let candidates = match line.offer(last) {
        Offer::These(candidates) => candidates,
        Offer::Names { kind, written } => names::of(kind, &written, &line.cluster()),
    };
    streams::print(printed(&candidates))?;
    Ok(ExitCode::SUCCESS)
}

/// As kubectl reads it.
fn printed(candidates: &[Candidate]) -> String {
    let mut text = String::new();
    for Candidate { word, about } in candidates {
        let tab = if about.is_empty() { "" } else { "\t" };
        _ = writeln!(text, "{word}{tab}{about}");
    }
    let goes_on = |candidate: &Candidate| candidate.word.ends_with('/');
    let space = if candidates.iter().any(goes_on) {
        NO_SPACE
    } else {
        0
    };
    _ = writeln!(text, ":{}", NO_FILES + space);
    text
}
