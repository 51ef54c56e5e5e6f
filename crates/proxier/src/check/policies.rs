//! Policy engines and firewalls that look at connections, where Services pass untracked.

use kube_ipvs_nft::{ForeignChain, NamedChain, TABLE};

use super::finding::Finding;

const NAME: &str = "untracked Services";
/// Who makes chains whose names begin like that.
const ENGINES: [(&str, &str); 2] = [("cali-", "Calico"), ("KUBE-NWPLCY-", "kube-router")];
/// In our table while some Services may pass untracked.
const OURS: &str = "untracked";

/// Of all chains, and of those of others that drop what they do not know; only where
/// something may pass untracked.
pub(super) fn check(chains: &[NamedChain], drops: &[ForeignChain]) -> Option<Finding> {
    passes_untracked(chains).then(|| judge(chains, drops))
}

fn is_ours(chain: &NamedChain) -> bool {
    chain.table == TABLE
}

fn passes_untracked(chains: &[NamedChain]) -> bool {
    let mut ours = chains.iter().filter(|chain| is_ours(chain));
    ours.any(|chain| chain.chain == OURS)
}

/// Of the chains that drop what they do not know, one that has our accept rule
/// lets untracked packets pass: our table marks them too.
fn judge(chains: &[NamedChain], drops: &[ForeignChain]) -> Finding {
    let engines = ENGINES.iter().filter(|(prefix, _)| {
        let mut others = chains.iter().filter(|chain| !is_ours(chain));
        others.any(|chain| chain.chain.starts_with(prefix))
    });
    let engines = engines.map(|(_, engine)| format!("chains of {engine} are here"));
    let drops = drops.iter().filter(|chain| !chain.accepted());
    let who: Vec<_> = engines.chain(drops.map(ToString::to_string)).collect();
    if who.is_empty() {
        return Finding::ok(
            NAME,
            "no policy engine that is known, no foreign chain that drops what it does not know",
        );
    }
    Finding::warn(
        NAME,
        format!(
            "{}: what lets packets pass by `ct state` new or established does not know the untracked",
            who.join("; ")
        ),
        "run without --ipvs-untracked-services, or let `ct state untracked` pass there",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;
    use kube_ipvs_nft::{Hook, Reason};

    const UNTRACKED: (&str, &str) = (TABLE, OURS);

    fn named(chains: &[(&str, &str)]) -> Vec<NamedChain> {
        let chains = chains.iter();
        let named = chains.map(|(table, chain)| NamedChain::new("ip", table, chain));
        named.collect()
    }

    fn forward(accept_bits: u32) -> ForeignChain {
        ForeignChain {
            family: "inet".into(),
            table: "firewalld".into(),
            chain: "filter_FORWARD".into(),
            hook: Hook::Forward,
            priority: 10,
            reason: Reason::LastRule,
            accept_bits,
            drops_all: false,
        }
    }

    #[test]
    fn nothing_is_said_where_no_service_is_untracked() {
        assert!(passes_untracked(&named(&[("nat", "x"), UNTRACKED])));
        let others = named(&[("filter", OURS), (TABLE, "input"), (TABLE, "forward")]);
        assert!(!passes_untracked(&others));
    }

    #[test]
    fn a_policy_engine_is_warned_of_by_its_name() {
        let found = |chains: &[(&str, &str)]| judge(&named(chains), &[]);
        let own = [
            UNTRACKED,
            (TABLE, "cali-in-our-table"),
            ("filter", "FORWARD"),
        ];
        assert_eq!(found(&own).verdict, Verdict::Ok);
        for (chain, engine) in [
            ("cali-FORWARD", "Calico"),
            ("KUBE-NWPLCY-DEFAULT", "kube-router"),
        ] {
            let finding = found(&[UNTRACKED, ("filter", chain)]);
            assert_eq!(finding.verdict, Verdict::Warn, "{chain}");
            assert!(finding.detail.contains(engine), "{finding:?}");
        }
    }

    #[test]
    fn a_firewall_that_drops_is_warned_of_unless_our_accept_rule_stands_in_it() {
        let found = |accept_bits| judge(&named(&[UNTRACKED]), &[forward(accept_bits)]);
        assert_eq!(found(1 << 12).verdict, Verdict::Ok);
        let finding = found(0);
        assert_eq!(finding.verdict, Verdict::Warn);
        assert!(finding.detail.contains("filter_FORWARD"), "{finding:?}");
    }
}
