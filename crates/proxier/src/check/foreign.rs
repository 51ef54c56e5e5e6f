//! Firewalls of others that drop Service traffic.
//!
//! IPVS takes packets at the input hook, so a host firewall that lets nothing
//! in stops Services too, and no rule in a table of ours can overrule it.

use kube_ipvs_nft::{ForeignChain, Hook, Nft};

use super::finding::Finding;
use super::host::Host;

const NAME: &str = "firewall";

pub(super) fn check(host: &Host) -> Vec<Finding> {
    let mut findings = match Nft::open().and_then(|mut nft| nft.foreign_drops()) {
        Ok(drops) => judge(&drops),
        Err(error) => vec![Finding::warn(
            NAME,
            error.to_string(),
            "look yourself: nft list chains",
        )],
    };
    findings.extend(legacy(host));
    findings
}

fn judge(drops: &[ForeignChain]) -> Vec<Finding> {
    if drops.is_empty() {
        return vec![Finding::ok(
            NAME,
            "no foreign chain drops what it does not know",
        )];
    }
    drops.iter().map(judge_one).collect()
}

fn judge_one(chain: &ForeignChain) -> Finding {
    if chain.accepted() {
        return Finding::ok(NAME, format!("{chain}, and our accept rule stands in it"));
    }
    let lost = match chain.hook {
        Hook::Input => "traffic to VIPs is lost",
        Hook::Forward => "answers of endpoints are lost",
    };
    let remedy = if chain.is_reachable() {
        "let Service traffic pass in it, or run with --accept-in-foreign-chains"
    } else {
        "let Service traffic pass in it; its priority is out of our reach"
    };
    Finding::warn(
        NAME,
        format!("{chain}: {lost} unless a rule lets it pass"),
        remedy,
    )
}

/// Chains of iptables-legacy are none of nf_tables.
fn legacy(host: &Host) -> Option<Finding> {
    let families = [
        ("ip_tables_names", "iptables"),
        ("ip6_tables_names", "ip6tables"),
    ];
    let programs: Vec<String> = families
        .iter()
        .filter(|(file, _)| {
            let tables = host.read(&format!("/proc/net/{file}")).unwrap_or_default();
            tables.lines().any(|table| table == "filter")
        })
        .map(|(_, program)| format!("{program}-legacy -S"))
        .collect();
    (!programs.is_empty()).then(|| {
        Finding::warn(
            "firewall, legacy",
            "a filter table of iptables-legacy is in use; it cannot be looked into",
            format!(
                "see that INPUT and FORWARD let Service traffic pass: {}",
                programs.join("; ")
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;
    use crate::check::host::testing::host;
    use kube_ipvs_nft::Reason;

    fn input() -> ForeignChain {
        ForeignChain {
            family: "ip".into(),
            table: "filter".into(),
            chain: "INPUT".into(),
            hook: Hook::Input,
            priority: 0,
            reason: Reason::Policy,
            accept_bits: 0,
            drops_all: false,
        }
    }

    #[test]
    fn an_input_policy_of_drop_is_warned_of_with_the_flag_that_helps() {
        let [finding] = &judge(&[input()])[..] else {
            panic!("one finding");
        };

        assert_eq!(finding.verdict, Verdict::Warn);
        assert!(finding.detail.contains("chain INPUT"), "{finding:?}");
        assert!(
            finding.remedy.contains("--accept-in-foreign-chains"),
            "{finding:?}"
        );
    }

    #[test]
    fn a_chain_with_our_accept_rule_is_fine() {
        let chain = ForeignChain {
            accept_bits: 1 << 12,
            ..input()
        };

        assert_eq!(judge(&[chain])[0].verdict, Verdict::Ok);
        assert_eq!(judge(&[])[0].verdict, Verdict::Ok);
    }

    #[test]
    fn a_legacy_filter_table_is_said_to_be_unseen() {
        let made = host(&[("/proc/net/ip_tables_names", "nat\nfilter\n")]);

        let finding = legacy(&made.host).expect("a finding");

        assert!(
            finding.remedy.ends_with("iptables-legacy -S"),
            "{finding:?}"
        );
        assert_eq!(legacy(&host(&[]).host), None);
    }
}
