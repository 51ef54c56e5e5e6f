//! Which chains of legacy iptables are kube-proxy's, and the text that removes
//! them.
//!
//! Pure: the output of `iptables-legacy-save` in, the input of
//! `iptables-legacy-restore --noflush` out.

use std::collections::BTreeSet;

use kube_ipvs_dataplane::kube_proxy::names::is_chain;

/// What is to be removed from one program's tables.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Removal {
    /// For `iptables-restore --noflush`; empty when there is nothing to do.
    pub(super) text: String,
    /// Chains that it removes, as `nat KUBE-SERVICES`.
    pub(super) removed: Vec<String>,
    /// Chains that stay, since rules of others lead to them.
    pub(super) kept: Vec<String>,
}

/// Finds kube-proxy's chains in the output of `iptables-save`.
pub(super) fn removal(saved: &str) -> Removal {
    let mut removal = Removal::default();
    for table in tables(saved) {
        table.remove(&mut removal);
    }
    removal
}

#[derive(Debug, Default)]
struct Table<'a> {
    name: &'a str,
    /// Chains that the kernel made.
    built_in: BTreeSet<&'a str>,
    /// In their order.
    ours: Vec<&'a str>,
    rules: Vec<Rule<'a>>,
}

#[derive(Debug)]
struct Rule<'a> {
    chain: &'a str,
    /// What follows `-A CHAIN`.
    rest: &'a str,
    target: Option<String>,
}

fn tables(saved: &str) -> Vec<Table<'_>> {
    let mut tables = Vec::new();
    let mut table = Table::default();
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = Table {
                name,
                ..Table::default()
            };
        } else if let Some(chain) = line.strip_prefix(':') {
            table.chain(chain);
        } else if let Some(rule) = line.strip_prefix("-A ") {
            table.rules.extend(Rule::parse(rule));
        } else if line == "COMMIT" {
            tables.push(std::mem::take(&mut table));
        }
    }
    tables
}

impl<'a> Table<'a> {
    /// `KUBE-SERVICES - [0:0]`; a chain of the kernel has a policy.
    fn chain(&mut self, line: &'a str) {
        let mut words = line.split(' ');
        let (Some(name), Some(policy)) = (words.next(), words.next()) else {
            return;
        };
        if policy != "-" {
            self.built_in.insert(name);
        } else if is_chain(name) {
            self.ours.push(name);
        }
    }

    /// Hooks first, then the chains emptied, then the chains themselves: none
    /// is referred to any more when it goes.
    fn remove(&self, into: &mut Removal) {
        let kept = self.kept();
        let gone: Vec<&str> = self
            .ours
            .iter()
            .filter(|chain| !kept.contains(**chain))
            .copied()
            .collect();
        let full = |chain: &&str| format!("{} {chain}", self.name);
        into.kept.extend(kept.iter().map(full));
        if gone.is_empty() {
            return;
        }
        into.text += &format!("*{}\n", self.name);
        for rule in &self.rules {
            let leads = rule.target.as_deref().is_some_and(|x| gone.contains(&x));
            if leads && self.built_in.contains(rule.chain) {
                into.text += &format!("-D {} {}\n", rule.chain, rule.rest);
            }
        }
        for chain in &gone {
            into.text += &format!(":{chain} - [0:0]\n");
        }
        for chain in &gone {
            into.text += &format!("-X {chain}\n");
        }
        into.text += "COMMIT\n";
        into.removed.extend(gone.iter().map(full));
    }

    /// Chains that others lead to, and all that these lead to.
    fn kept(&self) -> BTreeSet<&'a str> {
        let mut kept = BTreeSet::new();
        loop {
            let before = kept.len();
            for rule in &self.rules {
                let others =
                    !self.built_in.contains(rule.chain) && !self.ours.contains(&rule.chain);
                if !others && !kept.contains(rule.chain) {
                    continue;
                }
                let target = rule.target.as_deref();
                let ours = self.ours.iter().find(|chain| Some(**chain) == target);
                kept.extend(ours.copied());
            }
            if kept.len() == before {
                return kept;
            }
        }
    }
}

impl<'a> Rule<'a> {
    fn parse(rule: &'a str) -> Option<Self> {
        let (chain, rest) = rule.split_once(' ')?;
        let words = words(rest);
        let jump = words.iter().position(|word| word == "-j" || word == "-g");
        let target = jump.and_then(|at| words.get(at + 1)).cloned();
        Some(Self {
            chain,
            rest,
            target,
        })
    }
}

/// Words of a rule; a quoted one may hold spaces, and `\"`.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let last = words.last_mut().expect("there is always one");
        match character {
            '"' => quoted = !quoted,
            '\\' => last.extend(characters.next()),
            ' ' if !quoted => words.push(String::new()),
            other => last.push(other),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = r#"# Generated by iptables-save v1.8.9
*mangle
:PREROUTING ACCEPT [0:0]
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
*nat
:PREROUTING ACCEPT [7:420]
:POSTROUTING ACCEPT [0:0]
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
:MINE - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m comment --comment "not -j KUBE-SERVICES \" at all" -j MINE
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-SERVICES -m set --match-set KUBE-LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER
-A MINE -s 192.0.2.1/32 -j ACCEPT
COMMIT
*filter
:INPUT DROP [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-IPVS-FILTER - [0:0]
-A INPUT -j KUBE-IPVS-FILTER
-A INPUT -j KUBE-FIREWALL
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT --reject-with icmp-port-unreachable
COMMIT
"#;

    #[test]
    fn hooks_go_first_then_the_chains_and_nothing_of_others() {
        let removal = removal(SAVED);

        assert_eq!(
            removal.text,
            r#"*nat
-D PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-D POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
-X KUBE-LOAD-BALANCER
-X KUBE-MARK-MASQ
-X KUBE-POSTROUTING
-X KUBE-SERVICES
COMMIT
*filter
-D INPUT -j KUBE-IPVS-FILTER
:KUBE-IPVS-FILTER - [0:0]
-X KUBE-IPVS-FILTER
COMMIT
"#
        );
        assert_eq!(removal.removed.len(), 5);
        assert_eq!(removal.removed[4], "filter KUBE-IPVS-FILTER");
        assert!(removal.kept.is_empty());
    }

    #[test]
    fn a_chain_that_others_lead_to_stays_with_what_it_needs() {
        let saved = SAVED.replace(
            "-A MINE -s 192.0.2.1/32 -j ACCEPT",
            "-A MINE -s 192.0.2.1/32 -g KUBE-LOAD-BALANCER",
        );

        let removal = removal(&saved);

        assert_eq!(
            removal.kept,
            ["nat KUBE-LOAD-BALANCER", "nat KUBE-MARK-MASQ"]
        );
        assert!(removal.text.contains("-X KUBE-SERVICES"));
        assert!(!removal.text.contains("-X KUBE-MARK-MASQ"));
    }

    #[test]
    fn nothing_to_remove_is_no_text() {
        assert_eq!(removal(""), Removal::default());
        assert_eq!(removal("*nat\n:INPUT ACCEPT [0:0]\nCOMMIT\n").text, "");
        assert_eq!(removal("-A\n:\n*\nCOMMIT\n-A x").text, "");
    }
}
