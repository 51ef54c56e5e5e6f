//! What came of a guest: read from its two serial lines.
//!
//! The job's line carries what the job prints, between two markers; the kernel
//! writes to the other one. Pure, so that panics and time-outs are tested on
//! sample logs.

use std::process::ExitCode;

/// Exit code when something needed is missing or did not build.
pub(crate) const SETUP_FAILED: u8 = 6;

const UP: &str = "@@kube-ipvs guest up@@";
const EXIT: &str = "@@kube-ipvs guest exit ";

/// What a task came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The job ended with exit code 0.
    Passed,
    /// Tests failed.
    TestsFailed,
    /// The job's own exit code, passed on.
    Code(u8),
    /// No sign of life from the guest in the time a boot may take.
    NeverBooted,
    /// The kernel said so, in this line.
    KernelCrashed(String),
    /// The guest was up but did not finish in time.
    TimedOut,
    /// The guest went away without an exit code.
    Vanished,
}

impl Outcome {
    /// What several guests came to: a crash before a failure before success.
    pub(crate) fn of_all(outcomes: Vec<Self>) -> Self {
        let weight = |outcome: &Self| match outcome {
            Self::Passed => 0,
            Self::TestsFailed | Self::Code(_) => 1,
            _ => 2,
        };
        let worst = outcomes.into_iter().max_by_key(weight);
        worst.unwrap_or(Self::Passed)
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Passed => 0,
            Self::TestsFailed => 1,
            Self::Code(code) => *code,
            Self::NeverBooted => 3,
            Self::KernelCrashed(_) | Self::Vanished => 4,
            Self::TimedOut => 5,
        })
    }

    /// One line for the terminal; none when all is well.
    pub(crate) fn explanation(&self) -> Option<String> {
        match self {
            Self::Passed | Self::TestsFailed | Self::Code(_) => None,
            Self::NeverBooted => Some("the guest never booted".into()),
            Self::KernelCrashed(line) => Some(format!("the guest's kernel crashed: {line}")),
            Self::TimedOut => Some("out of time: the guest was stopped (--timeout)".into()),
            Self::Vanished => Some("the guest went away without an exit code".into()),
        }
    }
}

/// What one line of the job's output means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// The guest runs.
    Up,
    /// The job ended with this exit code.
    Exit(u8),
    /// Output of the job.
    Output(&'a str),
}

/// Reads one line (without its newline) of the job's serial line.
pub(crate) fn classify(line: &str) -> Line<'_> {
    let line = line.trim_end_matches('\r');
    if line == UP {
        return Line::Up;
    }
    match line
        .strip_prefix(EXIT)
        .and_then(|rest| rest.strip_suffix("@@"))
    {
        Some(code) => Line::Exit(code.parse().unwrap_or(u8::MAX)),
        None => Line::Output(line),
    }
}

/// What the tests came to, and the traffic matrix among them. libtest still
/// talks after that test said so, and it is to be the last line.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    matrix: Option<String>,
    passed: u32,
    failed: Vec<String>,
}

impl Summary {
    /// Looks at one line of output.
    pub(crate) fn note(&mut self, line: &str) {
        if line.starts_with("matrix: ") {
            self.matrix = Some(line.to_owned());
        }
        if let Some(rest) = line.strip_prefix("test result: ") {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let passed = words.windows(2).find(|pair| pair[1] == "passed;");
            self.passed += passed.and_then(|pair| pair[0].parse().ok()).unwrap_or(0);
        } else if let Some(name) = line.strip_suffix(" ... FAILED") {
            self.failed
                .extend(name.strip_prefix("test ").map(str::to_owned));
        }
    }

    /// Adds what another guest said.
    pub(crate) fn add(&mut self, other: Self) {
        self.matrix = other.matrix.or(self.matrix.take());
        self.passed += other.passed;
        self.failed.extend(other.failed);
    }

    /// The line to end with.
    pub(crate) fn line(&self) -> Option<&str> {
        self.matrix.as_deref()
    }

    /// What the tests came to in a few words.
    pub(crate) fn words(&self) -> String {
        let mut words = vec![format!("{} passed", self.passed)];
        if !self.failed.is_empty() {
            let failed = self.failed.len();
            words.push(format!("{failed} failed ({})", self.failed.join(", ")));
        }
        words.extend(self.matrix.clone());
        words.join(", ")
    }
}

/// How the wait for the guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The job ended with this exit code.
    Exit(u8),
    /// The emulator went away before the first marker.
    GoneBooting,
    /// The emulator went away after it.
    Gone,
    /// We stopped it before the first marker.
    NotUp,
    /// We stopped it after the first marker.
    Late,
}

/// What it came to; a crash of the kernel explains everything else.
pub(crate) fn outcome(end: End, kernel_log: &str) -> Outcome {
    if let Some(line) = crash(kernel_log) {
        return Outcome::KernelCrashed(line);
    }
    match end {
        End::Exit(0) => Outcome::Passed,
        End::Exit(code) => Outcome::Code(code),
        End::Gone => Outcome::Vanished,
        End::NotUp | End::GoneBooting => Outcome::NeverBooted,
        End::Late => Outcome::TimedOut,
    }
}

/// The first line that tells of a crash.
fn crash(kernel_log: &str) -> Option<String> {
    const SIGNS: &[&str] = &[
        "Kernel panic",
        "Oops:",
        "BUG:",
        "kernel BUG at",
        "general protection fault",
    ];
    find(kernel_log, SIGNS).next()
}

/// Lines worth telling though the kernel went on.
pub(crate) fn warnings(kernel_log: &str) -> Vec<String> {
    const SIGNS: &[&str] = &[
        "WARNING:",
        "possible circular locking",
        "suspicious RCU usage",
        "rcu_sched self-detected stall",
        "soft lockup",
        "blocked for more than",
        "Out of memory",
    ];
    find(kernel_log, SIGNS).collect()
}

fn find<'a>(log: &'a str, signs: &'a [&str]) -> impl Iterator<Item = String> + 'a {
    log.lines()
        .filter(move |line| signs.iter().any(|sign| line.contains(sign)))
        .map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: &str = "[    0.000000] Linux version 6.1.0\n[    9.1] IPVS: rr: TCP 10.96.0.1:80 - no destination available\n";
    const PANIC: &str = "[    1.2] Run /init as init process\r\n[    2.5] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\r\n[    2.6] CPU: 0 PID: 1\r\n";

    #[test]
    fn a_job_that_ends_well_passes() {
        assert_eq!(outcome(End::Exit(0), QUIET), Outcome::Passed);
    }

    #[test]
    fn failing_tests_are_told_by_the_exit_code() {
        assert_eq!(outcome(End::Exit(101), QUIET), Outcome::Code(101));
    }

    #[test]
    fn a_panic_explains_everything_else() {
        let crashed = Outcome::KernelCrashed(
            "[    2.5] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"
                .into(),
        );

        for end in [
            End::Exit(0),
            End::Gone,
            End::GoneBooting,
            End::NotUp,
            End::Late,
        ] {
            assert_eq!(outcome(end, PANIC), crashed);
        }
    }

    #[test]
    fn an_oops_is_a_crash() {
        let log = "[ 5.0] BUG: kernel NULL pointer dereference, address: 0000000000000008\n";

        assert!(matches!(outcome(End::Gone, log), Outcome::KernelCrashed(_)));
    }

    #[test]
    fn a_guest_that_says_nothing_never_booted() {
        assert_eq!(outcome(End::NotUp, ""), Outcome::NeverBooted);
    }

    #[test]
    fn a_guest_that_is_up_and_late_timed_out() {
        assert_eq!(outcome(End::Late, QUIET), Outcome::TimedOut);
    }

    #[test]
    fn the_worst_of_several_guests_counts() {
        let all = vec![Outcome::Passed, Outcome::Code(101), Outcome::Passed];
        assert_eq!(Outcome::of_all(all), Outcome::Code(101));
        let all = vec![Outcome::Code(101), Outcome::TimedOut, Outcome::Passed];
        assert_eq!(Outcome::of_all(all), Outcome::TimedOut);
    }

    #[test]
    fn every_outcome_has_its_own_exit_code() {
        let codes = [
            Outcome::Passed,
            Outcome::TestsFailed,
            Outcome::NeverBooted,
            Outcome::KernelCrashed(String::new()),
            Outcome::TimedOut,
        ]
        .map(|outcome| format!("{:?}", outcome.exit_code()));

        let mut distinct = codes.to_vec();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), codes.len());
    }

    #[test]
    fn markers_are_told_from_output() {
        assert_eq!(classify("@@kube-ipvs guest up@@\r"), Line::Up);
        assert_eq!(classify("@@kube-ipvs guest exit 101@@"), Line::Exit(101));
        assert_eq!(
            classify("test result: ok. 3 passed\r"),
            Line::Output("test result: ok. 3 passed")
        );
    }

    #[test]
    fn the_matrix_has_the_last_word() {
        let mut summary = Summary::default();
        assert_eq!(summary.line(), None);

        for line in [
            "running 2 tests",
            "matrix: 360 cells, 0 wrong",
            "ok",
            "the matrix: no",
        ] {
            summary.note(line);
        }

        assert_eq!(summary.line(), Some("matrix: 360 cells, 0 wrong"));
    }

    #[test]
    fn what_several_guests_said_is_one_line() {
        let mut first = Summary::default();
        for line in [
            "test nft::a ... ok",
            "test nft::b ... FAILED",
            "    nft::b",
            "test result: FAILED. 73 passed; 1 failed; 0 ignored; 0 measured; 77 filtered out",
        ] {
            first.note(line);
        }
        let mut second = Summary::default();
        second.note("matrix: 360 cells, 0 wrong");
        second.note("test result: ok. 77 passed; 0 failed; 0 ignored; 0 measured; 74 filtered out");

        first.add(second);

        assert_eq!(
            first.words(),
            "150 passed, 1 failed (nft::b), matrix: 360 cells, 0 wrong"
        );
    }

    #[test]
    fn warnings_are_found_among_ordinary_lines() {
        let log = format!(
            "{QUIET}[   12.0] WARNING: CPU: 1 PID: 77 at net/netfilter/ipvs/ip_vs_ctl.c:42\n"
        );

        assert_eq!(
            warnings(&log),
            ["[   12.0] WARNING: CPU: 1 PID: 77 at net/netfilter/ipvs/ip_vs_ctl.c:42"]
        );
        assert!(warnings(QUIET).is_empty());
    }
}
