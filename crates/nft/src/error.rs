//! What can go wrong with the program `nft`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Invalid, Version};

/// A failure of [`Nft`](crate::Nft): what was tried, what nft said, what helps.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NftError {
    /// The program cannot be started.
    #[error("run {}: {source}; install nftables {} or newer", program.display(), crate::MINIMUM_VERSION)]
    Start {
        /// What was to be run.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It answered `--version` with something else.
    #[error("{} --version: no version in {answer:?}; is it nft?", program.display())]
    NoVersion {
        /// What was run.
        program: PathBuf,
        /// The beginning of the answer.
        answer: String,
    },
    /// It cannot do what the table needs.
    #[error(
        "{} is nftables {found}, {} or newer is needed (source ranges are intervals in a concatenation)",
        program.display(),
        crate::MINIMUM_VERSION
    )]
    TooOld {
        /// What was run.
        program: PathBuf,
        /// What it said it is.
        found: Version,
    },
    /// nft or the kernel said no; nothing was changed.
    #[error("{operation}: {message}{}{}", at.as_ref().map(|at| format!(", at `{at}`")).unwrap_or_default(), hint(message))]
    Refused {
        /// What was tried.
        operation: String,
        /// The first error, without its position.
        message: String,
        /// The line of the text it points to.
        at: Option<String>,
    },
    /// It did not end in time and was killed. Whether the transaction took place
    /// is unknown: read the table back.
    #[error("{operation}: nft did not end within {} s and was killed", limit.as_secs_f32())]
    TimedOut {
        /// What was tried.
        operation: String,
        /// The time it had.
        limit: Duration,
    },
    /// Talking to the child failed.
    #[error("{operation}: {source}")]
    Io {
        /// What was tried.
        operation: String,
        /// Why not.
        source: io::Error,
    },
    /// Its JSON is not what nft prints.
    #[error("{operation}: cannot read the answer of nft: {detail}")]
    Unreadable {
        /// What was tried.
        operation: String,
        /// Where it stopped making sense.
        detail: String,
    },
    /// The text would not have been valid.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl NftError {
    /// The table is not what the change was made for: an element to remove is
    /// not there, or one to add is already there with another value. Observe, or
    /// put the whole table in place.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Refused { message, .. }
            if [MISSING, EXISTS, NOT_EMPTY].iter().any(|text| message.ends_with(text)))
    }

    /// It was refused for what stands in it: without a part of it, it might go
    /// through. Otherwise no text would: no right, no memory, no program.
    pub fn is_of_content(&self) -> bool {
        match self {
            Self::Refused { message, .. } => !WHOLE.iter().any(|text| message.contains(text)),
            Self::Invalid(_) => true,
            _ => false,
        }
    }

    /// The thing asked for does not exist.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { message, .. } if message.ends_with(MISSING))
    }
}

// strerror in the C locale, which the child is given.
const MISSING: &str = "No such file or directory";
const EXISTS: &str = "File exists";
/// How some kernels name two networks that overlap.
const NOT_EMPTY: &str = "Directory not empty";

/// What no text goes through with.
const WHOLE: [&str; 10] = [
    "Operation not permitted",
    "Permission denied",
    "you must be root",
    "Cannot allocate memory",
    "No buffer space available",
    "Too many open files",
    "Message too long",
    "Protocol not supported",
    "cache initialization failed",
    "failed without a word",
];

/// What to do about it, for the refusals that have one usual cause.
fn hint(message: &str) -> &'static str {
    let says = |text: &str| message.ends_with(text);
    if says("Operation not permitted") || says("(you must be root)") {
        "; needs CAP_NET_ADMIN"
    } else if says("Protocol not supported") {
        "; the kernel has no nf_tables"
    } else if says("Operation not supported") || says("Invalid argument") {
        "; needs Linux 5.6 or newer with nf_tables, nft_fib, nft_masq, nft_reject and conntrack"
    } else if says(EXISTS) || says(NOT_EMPTY) {
        "; the table is not as expected, or networks overlap"
    } else {
        ""
    }
}

/// Reads the first error of nft's stderr; `text` is what was fed to it.
pub(crate) fn refused(operation: &str, stderr: &str, text: &str) -> NftError {
    let line = stderr
        .lines()
        .find(|line| line.contains("Error: "))
        .or_else(|| stderr.lines().find(|line| !line.trim().is_empty()))
        .unwrap_or("nft failed without a word");
    let (position, message) = line.split_once("Error: ").unwrap_or(("", line));
    let message = message
        .strip_prefix("Could not process rule: ")
        .unwrap_or(message);
    NftError::Refused {
        operation: operation.to_owned(),
        message: message.trim().to_owned(),
        at: pointed_to(position, text),
    }
}

/// The line of `text` that a position like `/dev/stdin:3:2-12: ` names.
fn pointed_to(position: &str, text: &str) -> Option<String> {
    const LONGEST: usize = 160;
    let mut parts = position.split(':').skip(1);
    let line: usize = parts.next()?.trim().parse().ok()?;
    let line = text.lines().nth(line.checked_sub(1)?)?;
    let line = line.trim().trim_end_matches(',');
    Some(line.chars().take(LONGEST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_names_the_element() {
        let text = "delete element ip kube-ipvs vips {\n\t10.96.0.10,\n\t10.99.99.99,\n}\n";
        let stderr = "/dev/stdin:3:2-12: Error: Could not process rule: No such file or directory\n\t10.99.99.99,\n\t^^^^\n";

        let error = refused("change table ip kube-ipvs", stderr, text);

        assert_eq!(
            error.to_string(),
            "change table ip kube-ipvs: No such file or directory, at `10.99.99.99`"
        );
        assert!(error.is_stale());
    }

    #[test]
    fn refusal_without_position_keeps_the_words() {
        let stderr = "Operation not permitted (you must be root)\nnetlink: Error: cache initialization failed: Operation not permitted\n";

        let error = refused("read table ip kube-ipvs", stderr, "");

        assert_eq!(
            error.to_string(),
            "read table ip kube-ipvs: cache initialization failed: Operation not permitted; needs CAP_NET_ADMIN"
        );
        assert!(!error.is_stale());
    }

    #[test]
    fn silence_is_still_a_refusal() {
        assert_eq!(
            refused("x", "", "").to_string(),
            "x: nft failed without a word"
        );
    }

    #[test]
    fn a_position_outside_the_text_is_left_out() {
        for stderr in [
            "/dev/stdin:99:1-2: Error: boo",
            "a:0:1-2: Error: boo",
            "::: Error: boo",
        ] {
            assert_eq!(refused("x", stderr, "one\n").to_string(), "x: boo");
        }
    }

    #[test]
    fn a_refusal_is_of_the_content_or_of_everything() {
        let says = |message: &str| refused("x", &format!("Error: {message}"), "");
        assert!(says("Could not process rule: Invalid argument").is_of_content());
        assert!(says("Could not process rule: Numerical result out of range").is_of_content());
        assert!(!says("Could not process rule: Operation not permitted").is_of_content());
        assert!(!says("Could not process rule: Cannot allocate memory").is_of_content());
        assert!(!refused("x", "", "").is_of_content());
    }
}
