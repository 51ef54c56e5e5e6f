//! A finding, and how findings are printed.

use kube_ipvs_core::escape::Escaped;
use serde::Serialize;

/// What a finding means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// Something is lost, or will be under load; Services work.
    Warn,
    /// Services will not work.
    Fail,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// A short stable name: `kernel`, `sysctl net.ipv4.ip_forward`.
    pub name: String,
    /// What it means.
    pub verdict: Verdict,
    /// What was seen.
    pub detail: String,
    /// What to do; empty when there is nothing to do.
    pub remedy: String,
}

impl Finding {
    /// As it should be.
    pub(crate) fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, Verdict::Ok, detail, "")
    }

    /// Something is lost.
    pub(crate) fn warn(name: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(name, Verdict::Warn, detail, remedy)
    }

    /// Services will not work.
    pub(crate) fn fail(name: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(name, Verdict::Fail, detail, remedy)
    }

    fn new(
        name: &str,
        verdict: Verdict,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            verdict,
            detail: detail.into(),
            remedy: remedy.into(),
        }
    }
}

/// The worst verdict of all; none is fine.
fn worst(findings: &[Finding]) -> Verdict {
    let verdicts = findings.iter().map(|finding| finding.verdict);
    verdicts.max().unwrap_or(Verdict::Ok)
}

/// A line for each finding, and one for its remedy.
pub(super) fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.name.len()).max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    for finding in findings {
        let verdict = finding.verdict.word();
        text += &format!(
            "{verdict:<4}  {:<width$}  {}\n",
            finding.name,
            Escaped(&finding.detail)
        );
        if !finding.remedy.is_empty() {
            text += &format!(
                "{:<4}  {:<width$}  -> {}\n",
                "",
                "",
                Escaped(&finding.remedy)
            );
        }
    }
    text
}

/// All of them, as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Answer<'a> {
    /// The worst of all.
    verdict: Verdict,
    findings: &'a [Finding],
}

impl<'a> Answer<'a> {
    pub(super) fn of(findings: &'a [Finding]) -> Self {
        Self {
            verdict: worst(findings),
            findings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_named_stays_on_its_line() {
        let finding = Finding::warn("proxies", "process \u{1b}[2Jx\nFAIL", "end \u{9b}it");

        assert_eq!(
            table(&[finding]),
            "WARN  proxies  process \\u{1b}[2Jx\\nFAIL\n               -> end \\u{9b}it\n"
        );
    }

    fn findings() -> Vec<Finding> {
        vec![
            Finding::ok("kernel", "6.1.0"),
            Finding::warn("nft policy", "ip filter INPUT drops", "accept it"),
        ]
    }

    #[test]
    fn a_table_shows_what_to_do_below_what_is_wrong() {
        assert_eq!(
            table(&findings()),
            "\
ok    kernel      6.1.0
WARN  nft policy  ip filter INPUT drops
                  -> accept it
"
        );
    }

    #[test]
    fn json_has_the_worst_verdict_and_every_finding() {
        let answer = serde_json::to_value(Answer::of(&findings())).expect("JSON");

        assert_eq!(answer["verdict"], "warn");
        assert_eq!(
            answer["findings"][1],
            serde_json::json!({
                "name": "nft policy",
                "verdict": "warn",
                "detail": "ip filter INPUT drops",
                "remedy": "accept it",
            })
        );
    }
}
