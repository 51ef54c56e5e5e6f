//! Chains of others: what they drop or divert, and our accept rules in them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use netlink_exchange::Errno;

use super::Nft;
use crate::commands::Commands;
use crate::error::NftError;
use crate::foreign::{self, ForeignChain, OurRule, SomeDropped};
use crate::redirect::{self, SomeRedirected};
use crate::wire::{Command, Get, Kind, ListedChain, ListedRule};
use crate::{Family, TABLE, render_foreign_accept};

/// A chain, ours or somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedChain {
    /// `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// Name of the table.
    pub table: String,
    /// Name of the chain.
    pub chain: String,
}

impl NamedChain {
    /// The chain of this family, table and name.
    pub fn new(family: &'static str, table: &str, chain: &str) -> Self {
        Self {
            family,
            table: table.to_owned(),
            chain: chain.to_owned(),
        }
    }
}

impl Nft {
    /// Base chains of others at `input` and `forward` that drop what they do not
    /// know. Nothing in our table can overrule them; see [`accept_in`](Self::accept_in).
    ///
    /// Tables made by `iptables-nft` are seen as well. Those of
    /// `iptables-legacy` are none of nf_tables and not seen.
    ///
    /// # Errors
    /// The kernel cannot be heard.
    pub fn foreign_drops(&mut self) -> Result<Vec<ForeignChain>, NftError> {
        let mut found = Vec::new();
        for base in self.foreign_bases()? {
            let rules = self.rules_of(&base)?;
            found.extend(foreign::judge(base, &rules));
        }
        Ok(found)
    }

    /// The same, and those that let pass what they do not know, but drop or refuse
    /// some packets; whose these are is not judged. Costs a list of all rules of
    /// their tables, where [`foreign_drops`](Self::foreign_drops) reads single chains.
    ///
    /// # Errors
    /// The kernel cannot be heard.
    pub fn foreign_drops_and_some(
        &mut self,
    ) -> Result<(Vec<ForeignChain>, Vec<SomeDropped>), NftError> {
        let mut dropping = Vec::new();
        let mut some = Vec::new();
        let mut read = BTreeMap::new();
        for base in self.foreign_bases()? {
            let family = base.place().family;
            let rules = self.rules_once(&mut read, family, &base.table, &base.to_string())?;
            let own = rules.iter().filter(|rule| rule.chain == base.chain);
            match foreign::judge(base.clone(), &own.cloned().collect::<Vec<_>>()) {
                Some(chain) => dropping.push(chain),
                None => some.extend(foreign::some_dropped(&base, rules)),
            }
        }
        Ok((dropping, some))
    }

    /// Base chains of others at `prerouting` and `output` that give some packets
    /// another destination before they get to us; whose these are is not judged.
    ///
    /// # Errors
    /// The kernel cannot be heard.
    pub fn foreign_redirects(&mut self) -> Result<Vec<SomeRedirected>, NftError> {
        let mut found = Vec::new();
        let mut read = BTreeMap::new();
        let chains = self.all_chains()?;
        for base in chains.iter().filter(|chain| redirect::may_redirect(chain)) {
            let what = format!("rules of nftables table {}", base.table);
            let rules = self.rules_once(&mut read, base.family, &base.table, &what)?;
            found.extend(redirect::redirected(base, rules));
        }
        Ok(found)
    }

    /// The bit with which our table marks what it serves, as its rules say; none
    /// when it marks nothing for others, or is not there.
    ///
    /// # Errors
    /// The kernel cannot be heard.
    pub fn accept_bit(&mut self, family: Family) -> Result<Option<u8>, NftError> {
        let what = format!("rules of nftables table {family} {TABLE}");
        let rules = self.rules(family.number(), TABLE, None, &what)?;
        Ok(foreign::accept_bit(&rules))
    }

    /// Inserts our accept rule at the top of a foreign chain, unless it stands
    /// there. Opt-in; needs the same bit in [`Config::accept_bit`](crate::Config::accept_bit).
    /// True when it was inserted.
    ///
    /// # Errors
    /// The kernel said no, or the chain's priority is out of reach
    /// ([`ForeignChain::is_reachable`]).
    pub fn accept_in(&mut self, chain: &ForeignChain, accept_bit: u8) -> Result<bool, NftError> {
        let commands = render_foreign_accept(chain, accept_bit)?;
        let ours = foreign::our_rules(&self.rules_of(chain)?);
        if ours.iter().any(|rule| rule.bit == accept_bit) {
            return Ok(false);
        }
        self.carry_out(&format!("accept in {chain}"), &commands)?;
        Ok(true)
    }

    /// Removes the accept rules that [`accept_in`](Self::accept_in) made, wherever
    /// they are. Gives their number.
    ///
    /// # Errors
    /// The kernel cannot be heard, or said no.
    pub fn remove_accepts(&mut self) -> Result<usize, NftError> {
        let rules = self.our_foreign_rules()?;
        let removals = rules.iter().map(|(chain, rule)| Command::DeleteRule {
            place: chain.place(),
            chain: chain.chain.clone().into(),
            handle: rule.handle,
        });
        let commands = Commands::new(removals.collect());
        if !commands.is_empty() {
            self.carry_out(
                "remove accept rules from foreign nftables chains",
                &commands,
            )?;
        }
        Ok(rules.len())
    }

    /// How many accept rules [`remove_accepts`](Self::remove_accepts) would remove.
    ///
    /// # Errors
    /// The kernel cannot be heard.
    pub fn accepts(&mut self) -> Result<usize, NftError> {
        Ok(self.our_foreign_rules()?.len())
    }

    fn our_foreign_rules(&mut self) -> Result<Vec<(ForeignChain, OurRule)>, NftError> {
        let mut found = Vec::new();
        for base in self.foreign_bases()? {
            let rules = foreign::our_rules(&self.rules_of(&base)?);
            found.extend(rules.into_iter().map(|rule| (base.clone(), rule)));
        }
        Ok(found)
    }

    fn foreign_bases(&mut self) -> Result<Vec<ForeignChain>, NftError> {
        Ok(foreign::base_chains(&self.all_chains()?))
    }

    /// All chains of all tables of `ip`, `ip6` and `inet`, ours among them.
    /// Equivalent to `nft list chains`.
    ///
    /// # Errors
    /// The kernel cannot be heard.
    pub fn chains(&mut self) -> Result<Vec<NamedChain>, NftError> {
        let chains = self.all_chains()?.into_iter();
        let named = chains.filter_map(|chain| {
            Some(NamedChain {
                family: foreign::family_name(chain.family)?,
                table: chain.table,
                chain: chain.name,
            })
        });
        Ok(named.collect())
    }

    fn all_chains(&mut self) -> Result<Vec<ListedChain>, NftError> {
        let get = Get {
            kind: Kind::GetChain,
            family: 0,
            table: None,
            of: None,
        };
        let chains = self.list(get, ListedChain::read);
        chains.map_err(NftError::exchange("list nftables chains"))
    }

    /// The rules of a chain; none when it vanished meanwhile.
    fn rules_of(&mut self, chain: &ForeignChain) -> Result<Vec<ListedRule>, NftError> {
        let family = chain.place().family;
        let mut rules = self.rules(family, &chain.table, Some(&chain.chain), &chain.to_string())?;
        rules.retain(|rule| rule.chain == chain.chain);
        Ok(rules)
    }

    /// The rules of a table, read once for all its chains.
    fn rules_once<'r>(
        &mut self,
        read: &'r mut BTreeMap<(u8, String), Vec<ListedRule>>,
        family: u8,
        table: &str,
        what: &str,
    ) -> Result<&'r [ListedRule], NftError> {
        Ok(match read.entry((family, table.to_owned())) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(unread) => unread.insert(self.rules(family, table, None, what)?),
        })
    }

    /// The rules of a table, or of one chain of it; none when it is not there. An
    /// error names `what`.
    fn rules(
        &mut self,
        family: u8,
        table: &str,
        chain: Option<&str>,
        what: &str,
    ) -> Result<Vec<ListedRule>, NftError> {
        let get = Get {
            kind: Kind::GetRule,
            family,
            table: Some(table),
            of: chain,
        };
        let mut rules = match self.list(get, ListedRule::read) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => Vec::new(),
            rules => rules.map_err(NftError::exchange(format!("list {what}")))?,
        };
        rules.retain(|rule| rule.table == table);
        Ok(rules)
    }
}
