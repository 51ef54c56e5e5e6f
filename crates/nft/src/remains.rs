//! Chains that a program left in tables that it shared with others.
//!
//! Base chains belong to nobody: what leads from them to a chain goes with it.
//! A chain that rules of others lead to stays, with all that it needs.

use std::collections::{BTreeMap, BTreeSet};

use crate::commands::Commands;
use crate::error::NftError;
use crate::foreign::family_number;
use crate::nft::{Nft, TRIES};
use crate::wire::{Command, Expression, Get, Kind, ListedChain, ListedRule, Place, Verdict};

/// What became of them, by the chains' names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remains {
    /// Are gone.
    pub removed: Vec<String>,
    /// Stay, since rules or verdict maps of others lead to them.
    pub kept: Vec<String>,
}

impl Nft {
    /// Removes the chains of a table that are `left`, and the rules of its base
    /// chains that lead to them: all in one transaction, for which nobody else
    /// changed nftables since it was looked at. Equivalent to
    /// `iptables-restore --noflush` with `-D`, `-F` and `-X`.
    ///
    /// # Errors
    /// The kernel cannot be heard, or said no, or others change nftables all
    /// the time. Nothing is removed then.
    pub fn remove_chains(
        &mut self,
        family: &str,
        table: &str,
        left: impl Fn(&str) -> bool,
    ) -> Result<Remains, NftError> {
        let operation = format!("remove chains of nftables table {family} {table}");
        let place = Place {
            family: family_number(family),
            table: table.to_owned().into(),
        };
        for _ in 0..TRIES {
            let generation = self.generation()?;
            let content = self.content(&place, &operation)?;
            let (remains, commands) = content.without(&place, &left);
            let is_nothing = commands.is_empty();
            if is_nothing || self.carry_out_at(Some(generation), &operation, &commands)? {
                return Ok(remains);
            }
        }
        Err(NftError::Unsteady {
            operation,
            tries: TRIES,
        })
    }

    /// Removes a table that is not ours, with all that is in it. Equivalent to
    /// `nft delete table ip kube-proxy`.
    ///
    /// # Errors
    /// The kernel said no: there is none, or a program that runs owns it.
    pub fn remove_table(&mut self, family: &str, table: &str) -> Result<(), NftError> {
        let commands = Commands::new(vec![Command::DeleteTable(Place {
            family: family_number(family),
            table: table.to_owned().into(),
        })]);
        self.carry_out(
            &format!("delete nftables table {family} {table}"),
            &commands,
        )
    }

    fn content(&mut self, place: &Place, operation: &str) -> Result<Content, NftError> {
        let get = |kind| Get {
            kind,
            family: place.family,
            table: Some(&place.table),
            of: None,
        };
        let failed = NftError::exchange(operation);
        let mut chains = self
            .list(get(Kind::GetChain), ListedChain::read)
            .map_err(&failed)?;
        chains.retain(|chain| chain.table == place.table);
        let rules = self.list(get(Kind::GetRule), |content| {
            let rule = ListedRule::read(content)?;
            Ok((rule.table == place.table).then(|| Rule::from(rule)))
        });
        let rules = rules.map_err(&failed)?.into_iter().flatten().collect();
        Ok(Content { chains, rules })
    }
}

/// A table, as far as chains lead to one another.
#[derive(Debug, Default)]
struct Content {
    chains: Vec<ListedChain>,
    rules: Vec<Rule>,
}

/// A rule, without what it looks at: there may be hundreds of thousands.
#[derive(Debug)]
struct Rule {
    chain: String,
    handle: u64,
    /// Where it leads.
    target: Option<String>,
}

impl From<ListedRule> for Rule {
    fn from(rule: ListedRule) -> Self {
        let mut expressions = rule.expressions.into_iter();
        let target = expressions.find_map(|expression| match expression {
            Expression::Decide(Verdict::Jump(chain) | Verdict::Goto(chain)) => Some(chain),
            _ => None,
        });
        Self {
            chain: rule.chain,
            handle: rule.handle,
            target,
        }
    }
}

impl Content {
    /// What becomes of the chains that are `left`, and how.
    fn without(&self, place: &Place, left: impl Fn(&str) -> bool) -> (Remains, Commands) {
        let is_left = |chain: &&ListedChain| chain.at.is_none() && left(&chain.name);
        let theirs: BTreeSet<&str> = self
            .chains
            .iter()
            .filter(is_left)
            .map(|chain| &chain.name[..])
            .collect();
        let kept = self.kept(&theirs);
        let gone: BTreeSet<&str> = theirs.difference(&kept).copied().collect();
        let named = |chains: &BTreeSet<&str>| chains.iter().map(ToString::to_string).collect();
        let remains = Remains {
            removed: named(&gone),
            kept: named(&kept),
        };
        (remains, self.removal(place, &gone))
    }

    /// What leads to them first, then their rules, which lead from one to the
    /// other, then the chains.
    fn removal(&self, place: &Place, gone: &BTreeSet<&str>) -> Commands {
        let leads = |rule: &&Rule| {
            let target = rule.target.as_deref();
            target.is_some_and(|chain| gone.contains(chain)) && !gone.contains(&rule.chain[..])
        };
        let hooks = self.rules.iter().filter(leads);
        let hooks = hooks.map(|rule| Command::DeleteRule {
            place: place.clone(),
            chain: rule.chain.clone().into(),
            handle: rule.handle,
        });
        let rules = gone.iter().map(|chain| Command::FlushChain {
            place: place.clone(),
            chain: (*chain).to_owned().into(),
        });
        let chains = gone.iter().map(|chain| Command::DeleteChain {
            place: place.clone(),
            chain: (*chain).to_owned().into(),
        });
        Commands::new(hooks.chain(rules).chain(chains).collect())
    }

    /// Chains that others lead to, and all that these lead to.
    fn kept<'a>(&'a self, theirs: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
        let bases = self.chains.iter().filter(|chain| chain.at.is_some());
        let bases: BTreeSet<&str> = bases.map(|chain| &chain.name[..]).collect();
        let mut leads: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut next = self.led_to_by_maps(theirs);
        for rule in &self.rules {
            let Some(target) = rule.target.as_deref() else {
                continue;
            };
            let from = &rule.chain[..];
            leads.entry(from).or_default().push(target);
            if !bases.contains(from) && !theirs.contains(from) {
                next.push(target);
            }
        }
        let mut kept = BTreeSet::new();
        while let Some(chain) = next.pop() {
            if theirs.contains(chain) && kept.insert(chain) {
                next.extend(leads.get(chain).into_iter().flatten());
            }
        }
        kept
    }

    /// Chains that more leads to than the rules: elements of verdict maps.
    fn led_to_by_maps<'a>(&'a self, theirs: &BTreeSet<&'a str>) -> Vec<&'a str> {
        let mut known: BTreeMap<&str, u32> = BTreeMap::new();
        for rule in &self.rules {
            for chain in [Some(&rule.chain), rule.target.as_ref()]
                .into_iter()
                .flatten()
            {
                *known.entry(chain).or_default() += 1;
            }
        }
        let by_more = |chain: &&ListedChain| {
            let name = &chain.name[..];
            theirs.contains(name) && chain.uses > known.get(name).copied().unwrap_or(0)
        };
        let chains = self.chains.iter().filter(by_more);
        chains.map(|chain| &chain.name[..]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Hooked;

    /// Chains by name; those in capitals are base chains. Rules are where they
    /// stand and where they lead, and have handles from 1 on.
    fn content(chains: &[&str], rules: &[(&str, &str)]) -> Content {
        let count = |name: &str| {
            let of = |(from, to): &&(&str, &str)| *from == name || *to == name;
            rules.iter().filter(of).count() as u32
        };
        let chain = |name: &&str| ListedChain {
            table: "nat".into(),
            name: (*name).into(),
            at: name.starts_with('P').then_some(Hooked {
                hook: 0,
                priority: -100,
            }),
            uses: count(name),
            ..ListedChain::default()
        };
        let rule = |(handle, (from, to)): (u64, &(&str, &str))| {
            Rule::from(ListedRule {
                chain: (*from).into(),
                handle,
                expressions: vec![Expression::Decide(Verdict::Jump((*to).into()))],
                ..ListedRule::default()
            })
        };
        Content {
            chains: chains.iter().map(chain).collect(),
            rules: (1..).zip(rules).map(rule).collect(),
        }
    }

    fn without(content: &Content) -> (Remains, String) {
        let place = Place {
            family: 2,
            table: "nat".into(),
        };
        let (remains, commands) = content.without(&place, |chain| chain.starts_with("KUBE-"));
        (remains, commands.to_string())
    }

    const CHAINS: [&str; 5] = [
        "PREROUTING",
        "POSTROUTING",
        "KUBE-SERVICES",
        "KUBE-MARK",
        "MINE",
    ];
    const RULES: [(&str, &str); 4] = [
        ("PREROUTING", "MINE"),
        ("PREROUTING", "KUBE-SERVICES"),
        ("KUBE-SERVICES", "KUBE-MARK"),
        ("POSTROUTING", "KUBE-MARK"),
    ];

    #[test]
    fn what_leads_to_them_goes_first_then_rules_then_chains() {
        let (remains, commands) = without(&content(&CHAINS, &RULES));

        assert_eq!(
            commands,
            "delete rule ip nat PREROUTING handle 2\n\
             delete rule ip nat POSTROUTING handle 4\n\
             flush chain ip nat KUBE-MARK\n\
             flush chain ip nat KUBE-SERVICES\n\
             delete chain ip nat KUBE-MARK\n\
             delete chain ip nat KUBE-SERVICES\n"
        );
        assert_eq!(remains.removed, ["KUBE-MARK", "KUBE-SERVICES"]);
        assert!(remains.kept.is_empty());
    }

    #[test]
    fn a_chain_that_others_lead_to_stays_with_what_it_needs() {
        let rules = [&RULES[..], &[("MINE", "KUBE-SERVICES")]].concat();

        let (remains, commands) = without(&content(&CHAINS, &rules));

        assert_eq!(remains.kept, ["KUBE-MARK", "KUBE-SERVICES"]);
        assert_eq!(commands, "");

        let rules = [&RULES[..], &[("MINE", "KUBE-MARK")]].concat();
        let (remains, commands) = without(&content(&CHAINS, &rules));
        assert_eq!(remains.kept, ["KUBE-MARK"]);
        assert_eq!(
            commands,
            "delete rule ip nat PREROUTING handle 2\n\
             flush chain ip nat KUBE-SERVICES\n\
             delete chain ip nat KUBE-SERVICES\n"
        );
    }

    #[test]
    fn a_chain_that_a_map_leads_to_stays() {
        let mut content = content(&CHAINS, &RULES);
        content.chains[3].uses += 1;

        let (remains, _) = without(&content);

        assert_eq!(remains.kept, ["KUBE-MARK"]);
        assert_eq!(remains.removed, ["KUBE-SERVICES"]);
    }

    #[test]
    fn a_base_chain_is_not_removed_whatever_its_name() {
        let mut content = content(&["KUBE-SERVICES"], &[]);
        content.chains[0].at = Some(Hooked {
            hook: 1,
            priority: 0,
        });

        assert_eq!(without(&content), (Remains::default(), String::new()));
    }
}
