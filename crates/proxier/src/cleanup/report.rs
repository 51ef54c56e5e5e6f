//! What a cleanup did, thing by thing.

use std::fmt;

use jiff::Timestamp;
use kube_ipvs_core::escape::Escaped;
use serde::Serialize;

/// What became of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It was ours and is gone.
    Removed,
    /// A setting that has its value from before again.
    PutBack,
    /// It stays, for the reason given.
    Left,
    /// It is ours and could not be removed.
    Failed,
}

/// One thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// What became of it.
    pub action: Action,
    /// `link`, `virtual server`, `nftables table`, `sysctl`, ...
    pub kind: &'static str,
    /// Which one, and what there is to say of it.
    pub text: String,
}

/// A `kube-ipvs` that runs with this state directory, and makes again what is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Running {
    /// Its process; none when it does not say.
    pub pid: Option<u32>,
    /// When it was started; none when it does not say.
    pub since: Option<Timestamp>,
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a kube-ipvs runs here")?;
        if let (Some(pid), Some(since)) = (self.pid, self.since) {
            write!(f, " (process {pid}, since {since:.0})")?;
        }
        f.write_str(" and puts back what is removed: stop it first")
    }
}

/// Everything that was done, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Nothing was done: this is what would be.
    pub dry_run: bool,
    /// Who would undo it; null when nobody runs.
    pub daemon: Option<Running>,
    /// In the order it was done.
    pub entries: Vec<Entry>,
}

impl Report {
    /// Adds a line.
    pub fn add(&mut self, action: Action, kind: &'static str, text: impl Into<String>) {
        self.entries.push(Entry {
            action,
            kind,
            text: text.into(),
        });
    }

    /// Whether something of ours could not be removed.
    pub fn failed(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.action == Action::Failed)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(daemon) = &self.daemon {
            writeln!(f, "note: {daemon}")?;
        }
        for Entry { action, kind, text } in &self.entries {
            let action = match (action, self.dry_run) {
                (Action::Removed, false) => "removed",
                (Action::Removed, true) => "would remove",
                (Action::PutBack, false) => "put back",
                (Action::PutBack, true) => "would put back",
                (Action::Left, _) => "left",
                (Action::Failed, _) => "failed",
            };
            writeln!(f, "{action}: {kind} {}", Escaped(text))?;
        }
        let ours = |entry: &Entry| entry.action != Action::Left;
        if !self.entries.iter().any(ours) {
            writeln!(f, "nothing of ours is here")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_was_done_or_would_be() {
        let mut report = Report::default();
        report.add(Action::Removed, "link", "kube-ipvs0 with 2 VIPs");
        report.add(Action::PutBack, "sysctl", "net/ipv4/ip_forward from 1 to 0");

        assert_eq!(
            report.to_string(),
            "removed: link kube-ipvs0 with 2 VIPs\n\
             put back: sysctl net/ipv4/ip_forward from 1 to 0\n"
        );
        report.dry_run = true;
        assert!(report.to_string().starts_with("would remove: link"));
        assert!(!report.failed());
    }

    #[test]
    fn a_daemon_that_would_undo_it_is_told_first() {
        let mut report = Report {
            daemon: Some(Running {
                pid: None,
                since: None,
            }),
            ..Report::default()
        };
        report.add(Action::Removed, "link", "kube-ipvs0 with 2 VIPs");
        assert_eq!(
            report.to_string(),
            "note: a kube-ipvs runs here and puts back what is removed: stop it first\n\
             removed: link kube-ipvs0 with 2 VIPs\n"
        );
        report.daemon = Some(Running {
            pid: Some(17),
            since: Some("2026-01-02T03:04:05Z".parse().expect("a time")),
        });
        let text = report.to_string();
        let said = "(process 17, since 2026-01-02T03:04:05Z) and puts back";
        assert!(text.contains(said), "{text}");
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["daemon"]["pid"], 17);
    }

    #[test]
    fn what_is_left_is_not_ours() {
        let mut report = Report::default();
        report.add(Action::Left, "link", "kube-ipvs0: not made by us");

        assert_eq!(
            report.to_string(),
            "left: link kube-ipvs0: not made by us\nnothing of ours is here\n"
        );
    }
}
