//! Filter tables of iptables-legacy, which are none of nf_tables.
//!
//! Only its own program can read them. The daemon starts none, so there they are
//! merely named; `kube-ipvs check` asks it where it is installed.

use kube_ipvs_nft::Hook;

use super::finding::Finding;
use super::foreign::lost;
use super::host::Host;
use crate::adopt::{LEGACY, save_legacy};

const NAME: &str = "firewall, legacy";
const REMEDY: &str = "let Service traffic pass in it";

/// A family's filter table is in use: who prints it, and what that says, if it
/// was asked.
type Table = (&'static str, Option<String>);

/// `ask`: programs may be started.
pub(super) fn check(host: &Host, ask: bool) -> Vec<Finding> {
    let used = LEGACY.into_iter().filter(|(_, names)| {
        let tables = host.read(names).unwrap_or_default();
        tables.lines().any(|table| table == "filter")
    });
    let tables = used.map(|(family, _)| (family, ask.then(|| save_legacy(family)).flatten()));
    tables.flat_map(|table| judge(&table)).collect()
}

/// Each chain that drops.
fn judge((family, rules): &Table) -> Vec<Finding> {
    let Some(rules) = rules else {
        let what = format!(
            "a filter table of iptables-legacy is in use ({family}), and was not looked into"
        );
        let remedy =
            format!("see that INPUT and FORWARD let Service traffic pass: {family}-legacy -S");
        return vec![Finding::warn(NAME, what, remedy)];
    };
    let chains = [("INPUT", Hook::Input), ("FORWARD", Hook::Forward)];
    let found = chains.into_iter().filter_map(|(chain, hook)| {
        let lost = lost(hook);
        let what = format!("{family}-legacy, chain {chain} drops what it does not know: {lost}");
        match drops(rules, chain)? {
            Drops::All => Some(Finding::fail(NAME, what, REMEDY)),
            Drops::Rest => {
                let what = format!("{what} unless a rule lets it pass");
                Some(Finding::warn(NAME, what, REMEDY))
            }
        }
    });
    found.collect()
}

#[derive(Debug, PartialEq)]
enum Drops {
    /// There is no other rule.
    All,
    /// What no rule before lets pass.
    Rest,
}

/// What a base chain of the filter table drops, as `iptables-save` prints it.
fn drops(rules: &str, chain: &str) -> Option<Drops> {
    let filter = rules.split_once("*filter")?.1;
    let filter = filter.split("COMMIT").next()?;
    let policy = format!(":{chain} DROP");
    let rule = format!("-A {chain} ");
    let mut rest = filter.lines().filter_map(|line| line.strip_prefix(&*rule));
    let ends = |rule: &str| {
        let target = rule
            .strip_prefix("-j ")
            .and_then(|rest| rest.split(' ').next());
        matches!(target, Some("DROP" | "REJECT"))
    };
    let mut before = 0;
    let ended = rest.any(|rule| {
        before += 1;
        ends(rule)
    });
    let by_policy = filter.lines().any(|line| line.starts_with(&policy));
    match (ended, by_policy, before) {
        (true, _, 1) | (false, true, 0) => Some(Drops::All),
        (true, ..) | (false, true, _) => Some(Drops::Rest),
        (false, false, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;
    use crate::check::host::testing::host;

    fn of(rules: &str) -> Option<Drops> {
        let text = format!("*nat\n:INPUT DROP [0:0]\nCOMMIT\n*filter\n{rules}COMMIT\n");
        drops(&text, "INPUT")
    }

    #[test]
    fn what_a_chain_drops_is_read_from_its_rules() {
        assert_eq!(of(":INPUT ACCEPT [0:0]\n"), None);
        assert_eq!(of(":INPUT ACCEPT [0:0]\n-A INPUT -i lo -j ACCEPT\n"), None);
        assert_eq!(of(":FORWARD DROP [0:0]\n:INPUT ACCEPT [0:0]\n"), None);
        assert_eq!(of(":INPUT DROP [0:0]\n"), Some(Drops::All));
        assert_eq!(of("-A INPUT -j REJECT --reject-with x\n"), Some(Drops::All));
        let some = "-A INPUT -i lo -j ACCEPT\n";
        assert_eq!(of(&format!(":INPUT DROP [0:0]\n{some}")), Some(Drops::Rest));
        assert_eq!(of(&format!("{some}-A INPUT -j DROP\n")), Some(Drops::Rest));
        assert_eq!(of("-A INPUT -s 192.0.2.1/32 -j DROP\n"), None);
        assert_eq!(of("-A INPUT -j DROPLOG\n"), None);
    }

    #[test]
    fn a_table_that_drops_nothing_is_no_finding() {
        let accepts = "*filter\n:INPUT ACCEPT [1:2]\n:FORWARD ACCEPT [0:0]\nCOMMIT\n";
        assert_eq!(judge(&("iptables", Some(accepts.to_owned()))), []);
        let drops = accepts.replace("FORWARD ACCEPT", "FORWARD DROP");
        let both = drops.replace("INPUT ACCEPT", "INPUT DROP");
        assert_eq!(judge(&("ip6tables", Some(both))).len(), 2);
        let [found] = &judge(&("ip6tables", Some(drops)))[..] else {
            panic!("one finding");
        };
        assert_eq!(found.verdict, Verdict::Fail);
        assert!(
            found.detail.contains("ip6tables-legacy, chain FORWARD"),
            "{found:?}"
        );
    }

    #[test]
    fn a_table_that_was_not_looked_into_is_said_to_be_so() {
        let made = host(&[("/proc/thread-self/net/ip_tables_names", "nat\nfilter\n")]);

        let findings = check(&made.host, false);

        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].verdict, Verdict::Warn);
        assert!(
            findings[0].remedy.ends_with("iptables-legacy -S"),
            "{findings:?}"
        );
        assert_eq!(check(&host(&[]).host, false), []);
    }
}
