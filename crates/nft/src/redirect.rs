//! Chains of others that send packets elsewhere before they get to us.

use std::fmt;

use crate::TABLE;
use crate::foreign::{family_name, led_to};
use crate::wire::{Expression, ListedChain, ListedRule};

/// A base chain of others that gives some packets another destination, by rules of
/// its own or of chains that it leads to: ports of pods on the host (`hostPort`),
/// or another Service proxy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SomeRedirected {
    /// `ip`, `ip6` or `inet`.
    pub family: String,
    /// Name of the table.
    pub table: String,
    /// Name of the base chain.
    pub chain: String,
    /// How many rules do so.
    pub rules: usize,
}

impl fmt::Display for SomeRedirected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.rules == 1 { "rule" } else { "rules" };
        write!(
            f,
            "nft table {} {}, chain {} gives some packets another destination, by {} {noun}",
            self.family, self.table, self.chain, self.rules
        )
    }
}

/// Whether it is a base chain of others where packets may get another destination.
pub(crate) fn may_redirect(chain: &ListedChain) -> bool {
    // enum nf_inet_hooks of linux/netfilter.h. Elsewhere the kernel takes no such rule.
    const PRE_ROUTING: u32 = 0;
    const LOCAL_OUT: u32 = 3;
    let hook = chain.at.map(|at| at.hook);
    matches!(hook, Some(PRE_ROUTING | LOCAL_OUT))
        && chain.table != TABLE
        && family_name(chain.family).is_some()
}

/// What a base chain does so, if anything; `rules` are those of its table. Verdicts
/// in maps are not looked at.
pub(crate) fn redirected(base: &ListedChain, rules: &[ListedRule]) -> Option<SomeRedirected> {
    let count = led_to(&base.name, rules, redirects);
    (count > 0).then_some(SomeRedirected {
        family: family_name(base.family)?.to_owned(),
        table: base.table.clone(),
        chain: base.name.clone(),
        rules: count,
    })
}

fn redirects(expression: &Expression) -> bool {
    match expression {
        Expression::DestinationNat { .. } => true,
        Expression::Other { name, extension } => match &name[..] {
            "nat" | "redir" => true,
            // As iptables-nft writes it.
            "target" => matches!(extension.as_deref(), Some("DNAT" | "REDIRECT")),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phrase::{drop, goto};

    fn rule(chain: &str, expressions: Vec<Expression>) -> ListedRule {
        ListedRule {
            table: "nat".into(),
            chain: chain.into(),
            expressions,
            ..ListedRule::default()
        }
    }

    fn other(name: &str, extension: Option<&str>) -> Vec<Expression> {
        let extension = extension.map(str::to_owned);
        let name = name.to_owned();
        vec![Expression::Other { name, extension }]
    }

    #[test]
    fn rules_that_redirect_are_counted_where_the_chain_leads() {
        let base = ListedChain {
            family: 2,
            table: "nat".into(),
            name: "PREROUTING".into(),
            ..ListedChain::default()
        };
        let rules = [
            rule("PREROUTING", goto("HOSTPORTS")),
            rule("HOSTPORTS", other("target", Some("DNAT"))),
            rule("HOSTPORTS", other("target", Some("MARK"))),
            rule("HOSTPORTS", other("redir", None)),
            rule("HOSTPORTS", drop()),
            rule("unled", other("nat", None)),
        ];

        let found = redirected(&base, &rules).expect("some");

        assert_eq!(
            found.to_string(),
            "nft table ip nat, chain PREROUTING gives some packets another destination, by 2 rules"
        );
        assert_eq!(redirected(&base, &rules[4..]), None);
    }
}
