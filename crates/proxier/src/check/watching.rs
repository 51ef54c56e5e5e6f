//! `check --watch`: said again when a verdict changes.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use tokio::time::timeout;

use super::finding::{Answer, Finding, Verdict, table};
use super::{CheckArgs, Output, Tried, code_of, look};
use crate::pace::Pace;
use crate::run::stop;
use crate::streams::{self, Form};

/// Between two looks, at least.
const PAUSE: Duration = Duration::from_secs(10);

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let (runtime, mut asked) = stop::runtime(1)?;
    let tried = Tried::new(args);
    let code = follow(
        PAUSE,
        // On this thread, whose network namespace it is.
        || look(args, &tried),
        |findings| show(findings, args.output),
        |pause| {
            let asked = asked.wait_for(|asked| *asked);
            runtime.block_on(async { timeout(pause, asked).await.is_ok() })
        },
    );
    runtime.shutdown_background();
    code
}

/// Looks and shows what is new until nobody reads it, or the wait for the next
/// look is ended. A look reads all real servers: where there are many it is dear.
fn follow(
    pause: Duration,
    mut look: impl FnMut() -> Vec<Finding>,
    mut show: impl FnMut(&[Finding]) -> anyhow::Result<bool>,
    mut is_ended_within: impl FnMut(Duration) -> bool,
) -> anyhow::Result<ExitCode> {
    let mut pace = Pace::of(pause);
    let mut shown: Option<Vec<Finding>> = None;
    loop {
        let findings = look();
        let code = code_of(&findings);
        let is_new = |shown: &Vec<Finding>| verdicts(shown) != verdicts(&findings);
        if shown.as_ref().is_none_or(is_new) && !show(&findings)? {
            return Ok(code);
        }
        shown = Some(findings);
        if is_ended_within(pace.period()) {
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
    use crate::pace::work;

    fn count(n: u32) -> Vec<Finding> {
        vec![Finding::ok("conntrack", format!("{n} of 1000 entries"))]
    }

    fn full() -> Vec<Finding> {
        vec![Finding::warn(
            "conntrack",
            "999 of 1000 entries",
            "raise it",
        )]
    }

    /// What is shown of these looks, which are dear or not, and the waits between.
    fn followed(looks: &[Vec<Finding>], pause: Duration) -> (Vec<Vec<Finding>>, Vec<Duration>) {
        let (mut shown, mut waits) = (Vec::new(), Vec::new());
        let mut all = looks.iter().cloned();
        let code = follow(
            pause,
            || {
                work();
                all.next().expect("no look after the last")
            },
            |findings| {
                shown.push(findings.to_vec());
                Ok(true)
            },
            |wait| {
                waits.push(wait);
                waits.len() == looks.len()
            },
        );
        assert_eq!(code.expect("it is shown"), ExitCode::SUCCESS);
        (shown, waits)
    }

    #[test]
    fn what_is_new_is_shown_and_a_look_that_is_dear_is_waited_for() {
        let looks = [count(1), count(2), full(), full(), count(3)];
        let (shown, waits) = followed(&looks, Duration::from_secs(3600));
        assert_eq!(shown, [count(1), full(), count(3)]);
        assert_eq!(waits, [Duration::from_secs(3600); 5]);

        let (_, waits) = followed(&looks, Duration::ZERO);
        assert!(waits.iter().all(|wait| !wait.is_zero()), "{waits:?}");
    }

    #[test]
    fn nobody_who_reads_is_the_end() {
        let never = |_| unreachable!("nobody waits");
        let code = follow(PAUSE, || count(1), |_| Ok(false), never);
        assert_eq!(code.expect("no error"), ExitCode::SUCCESS);
    }

    #[test]
    fn a_number_that_changes_is_no_news_and_a_verdict_is() {
        assert_eq!(verdicts(&count(1)), verdicts(&count(2)));
        assert_ne!(verdicts(&count(1)), verdicts(&full()));
    }
}
