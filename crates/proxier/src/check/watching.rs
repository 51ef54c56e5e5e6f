//! `check --watch`: said again when a verdict changes.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use tokio::time::timeout;

use super::finding::{Answer, Finding, Verdict, table};
use super::{CheckArgs, Output, Tried, code_of, look};
use crate::run::stop;
use crate::streams::{self, Form};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(10);

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let (runtime, mut asked) = stop::runtime(1)?;
    let tried = Tried::new(args);
    let mut shown: Option<Vec<Finding>> = None;
    loop {
        // On this thread, whose network namespace it is.
        let findings = look(args, &tried);
        let code = code_of(&findings);
        let is_new = |shown: &Vec<Finding>| verdicts(shown) != verdicts(&findings);
        if shown.as_ref().is_none_or(is_new) && !show(&findings, args.output)? {
            return Ok(code);
        }
        shown = Some(findings);
        let end = runtime
            .block_on(async { timeout(PAUSE, asked.wait_for(|asked| *asked)).await.is_ok() });
        if end {
            runtime.shutdown_background();
            return Ok(code);
        }
    }
}

/// What is compared: details have numbers that change all the time.
fn verdicts(findings: &[Finding]) -> Vec<(&str, Verdict, &str)> {
    let all = findings.iter();
    all.map(|of| (&of.name[..], of.verdict, &of.remedy[..]))
        .collect()
}

/// False when nobody is there to read it.
fn show(findings: &[Finding], output: Output) -> anyhow::Result<bool> {
    match output {
        Output::Table => {
            let now = Timestamp::now();
            streams::print_to_reader(Form::Text, format_args!("# {now:.0}\n{}", table(findings)))
        }
        Output::Json => {
            let line = serde_json::to_string(&Answer::of(findings)).context("write JSON")?;
            streams::print_to_reader(Form::Json, format_args!("{line}\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_changes_is_no_news_and_a_verdict_is() {
        let count = |n| vec![Finding::ok("conntrack", format!("{n} of 1000 entries"))];
        let full = vec![Finding::warn(
            "conntrack",
            "999 of 1000 entries",
            "raise it",
        )];

        assert_eq!(verdicts(&count(1)), verdicts(&count(2)));
        assert_ne!(verdicts(&count(1)), verdicts(&full));
    }
}
