//! Firewalls of others that drop Service traffic.
//!
//! IPVS takes packets at the input hook, so a host firewall that lets nothing
//! in stops Services too, and no rule in a table of ours can overrule it.

use kube_ipvs_nft::{ForeignChain, Hook, NftError};

use super::finding::Finding;

const NAME: &str = "firewall";

pub(super) fn check(drops: &Result<Vec<ForeignChain>, NftError>) -> Vec<Finding> {
    match drops {
        Ok(drops) => judge(drops),
        Err(error) => vec![Finding::warn(
            NAME,
            error.to_string(),
            "look yourself: nft list chains",
        )],
    }
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
    let lost = lost(chain.hook);
    let remedy = if chain.is_reachable() {
        "let Service traffic pass in it, or run with --accept-in-foreign-chains"
    } else {
        "let Service traffic pass in it; its priority is out of our reach"
    };
    if chain.drops_all {
        return Finding::fail(NAME, format!("{chain}: {lost}"), remedy);
    }
    Finding::warn(
        NAME,
        format!("{chain}: {lost} unless a rule lets it pass"),
        remedy,
    )
}

/// What is lost where a chain at this hook drops.
pub(super) fn lost(hook: Hook) -> &'static str {
    match hook {
        Hook::Input => "traffic to VIPs is lost",
        Hook::Forward => "answers of endpoints are lost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;
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
    fn a_chain_that_lets_nothing_pass_fails() {
        let chain = ForeignChain {
            drops_all: true,
            ..input()
        };
        let findings = judge(&[chain]);

        assert_eq!(findings[0].verdict, Verdict::Fail);
        assert!(findings[0].detail.ends_with("is lost"), "{findings:?}");
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
}
