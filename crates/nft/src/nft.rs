//! The kernel's nf_tables, and the things it is asked to do.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use netlink_exchange::protocols::NETLINK_NETFILTER;
use netlink_exchange::{Connection, Content, DecodeError, Errno, Error as Exchange, Transaction};
use tracing::{debug, trace};

use crate::commands::Commands;
use crate::error::NftError;
use crate::foreign::{self, ForeignChain, OurRule, SomeDropped};
use crate::generation::Known;
use crate::observe::ReadSet;
use crate::redirect::{self, SomeRedirected};
use crate::told::told;
use crate::wire::{
    self, Command, Get, Kind, ListedChain, ListedRule, ListedSet, SUBSYSTEM, elements, table_flags,
};
use crate::{Family, Observed, TABLE, render_delete, render_foreign_accept};

/// How often something is tried while others change nftables.
pub(crate) const TRIES: u32 = 10;

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

/// nf_tables of a network namespace: that of the thread that opened it.
#[derive(Debug)]
pub struct Nft {
    connection: Connection,
    known: Known,
}

impl Nft {
    /// Opens a netlink socket.
    ///
    /// # Errors
    /// The kernel gives none.
    pub fn open() -> Result<Self, NftError> {
        let connection = Connection::open(NETLINK_NETFILTER);
        let connection = connection.map_err(NftError::exchange("open nftables"))?;
        Ok(Self::over(connection))
    }

    /// The same over a connection of netfilter's protocol that is open already.
    pub fn over(connection: Connection) -> Self {
        Self {
            connection,
            known: Known::default(),
        }
    }

    /// How many times something was sent, for tests and metrics.
    pub fn sends(&self) -> u64 {
        self.connection.sends()
    }

    /// Carries changes out in one transaction: all of them or none. No changes
    /// are made without the kernel. Equivalent to `nft -f -`.
    ///
    /// The kernel is told which generation they are for. Had somebody else
    /// changed nftables meanwhile, they are made for the next, and our tables
    /// [may be others](Self::tables_changed) than they were read.
    ///
    /// # Errors
    /// [`NftError::Refused`] names the element or rule that was refused.
    pub fn apply(&mut self, commands: &Commands) -> Result<(), NftError> {
        let Some(first) = commands.get(0) else {
            return Ok(());
        };
        trace!(%commands, "transaction");
        self.carry_out(
            &format!("change nftables table {}", first.place()),
            commands,
        )
    }

    pub(crate) fn carry_out(
        &mut self,
        operation: &str,
        commands: &Commands,
    ) -> Result<(), NftError> {
        for left in (0..TRIES).rev() {
            let generation = match self.known.tables {
                // Others never pause: for whatever generation it is, then.
                _ if left == 0 => None,
                Some(known) => Some(known),
                None => Some(self.generation()?),
            };
            if self.carry_out_at(generation, operation, commands)? {
                return Ok(());
            }
        }
        Err(NftError::Unsteady {
            operation: operation.to_owned(),
            tries: TRIES,
        })
    }

    /// False, and nothing done, if nftables is at another generation; at
    /// whichever it is, without one.
    pub(crate) fn carry_out_at(
        &mut self,
        generation: Option<u32>,
        operation: &str,
        commands: &Commands,
    ) -> Result<bool, NftError> {
        let done = self
            .connection
            .transaction(SUBSYSTEM, generation, commands.iter());
        match done {
            Ok(Transaction::Committed) => {
                generation.into_iter().for_each(|at| self.known.ours(at));
                Ok(true)
            }
            Ok(Transaction::Refused(refusals)) => Err(refused(operation, commands, refusals)),
            Err(error) => {
                self.known.tables = None;
                match error {
                    Exchange::Outdated { .. } => Ok(false),
                    error => Err(NftError::exchange(operation)(error)),
                }
            }
        }
    }

    /// Reads our table. None when there is none. Equivalent to
    /// `nft list table ip kube-ipvs`.
    ///
    /// The kernel counts the changes of all tables alike. While others change
    /// theirs without a pause, what is read twice in a row is believed: a change
    /// of ours in between would show.
    ///
    /// # Errors
    /// The kernel cannot be heard, or others change our table all the time.
    pub fn read(&mut self, family: Family) -> Result<Option<Observed>, NftError> {
        let operation = format!("read nftables table {family} {TABLE}");
        let mut last = None;
        for _ in 0..TRIES {
            let before = self.generation()?;
            let read = self.read_once(family);
            let steady = self.generation()? == before;
            match read {
                Ok(read) if steady || last.as_ref() == Some(&read) => return Ok(read),
                Err(error) if steady => return Err(NftError::exchange(&operation)(error)),
                read => last = read.ok(),
            }
        }
        Err(NftError::Unsteady {
            operation,
            tries: TRIES,
        })
    }

    /// What is read may be of several generations.
    fn read_once(&mut self, family: Family) -> Result<Option<Observed>, Exchange> {
        let get = |kind| Get {
            kind,
            family: family.number(),
            table: Some(TABLE),
            of: None,
        };
        let mut flags = 0;
        let asked = self.connection.ask(get(Kind::GetTable), |content| {
            flags = table_flags(content)?;
            Ok(())
        });
        match asked {
            Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(None),
            asked => asked?,
        }
        let mut chains = self.look(get(Kind::GetChain), ListedChain::read)?;
        chains.retain(|chain| chain.table == TABLE);
        let mut rules = self.look(get(Kind::GetRule), ListedRule::read)?;
        rules.retain(|rule| rule.table == TABLE);
        let mut sets: Vec<ReadSet> = Vec::new();
        for set in self.look(get(Kind::GetSet), ListedSet::read)? {
            let of = Get {
                of: Some(&set.name),
                ..get(Kind::GetSetElem)
            };
            let mut items = Vec::new();
            let parts = self.look(of, |content| {
                let mut part = Vec::new();
                elements(content, |item| part.push(item))?;
                Ok(part)
            })?;
            items.extend(parts.into_iter().flatten());
            sets.push((set, items));
        }
        Ok(Some(Observed::new(family, flags, chains, rules, &sets)))
    }

    /// Takes our table away; fine when there is none.
    ///
    /// # Errors
    /// The kernel said no.
    pub fn delete_table(&mut self, family: Family) -> Result<(), NftError> {
        let operation = format!("delete nftables table {family} {TABLE}");
        self.carry_out(&operation, &render_delete(family))
    }

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

    /// What is there, more or less where it changes meanwhile.
    fn look<T>(
        &mut self,
        get: Get<'_>,
        read: impl Fn(Content<'_>) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, Exchange> {
        let mut all = Vec::new();
        self.connection.survey(get, |content| {
            all.push(read(content)?);
            Ok(())
        })?;
        Ok(all)
    }

    pub(crate) fn list<T>(
        &mut self,
        get: Get<'_>,
        read: impl Fn(Content<'_>) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, Exchange> {
        self.connection
            .list(get, TRIES, |content| read(content).map(Some))
    }

    pub(crate) fn generation(&mut self) -> Result<u32, NftError> {
        let failed = NftError::exchange("ask for the generation of nftables");
        let mut generation = None;
        let get = Get {
            kind: Kind::GetGen,
            family: 0,
            table: None,
            of: None,
        };
        let asked = self.connection.ask(get, |content| {
            generation = wire::generation(content)?;
            Ok(())
        });
        asked.map_err(&failed)?;
        generation.ok_or_else(|| {
            failed(Exchange::Malformed {
                reason: "no generation in it".into(),
            })
        })
    }

    /// The kernel's count of transactions; none when it does not tell, which
    /// makes everybody look for himself.
    pub fn now(&mut self) -> Option<u32> {
        self.generation()
            .inspect_err(|error| debug!(%error, "generation of nftables not known"))
            .ok()
    }

    /// All our tables were read; `before` is [`Self::now`] from before that.
    pub fn tables_read(&mut self, before: Option<u32>) {
        self.known.tables = self.still(before);
    }

    /// Whether our tables may be other than they were read, or made.
    pub fn tables_changed(&mut self) -> bool {
        self.still(self.known.tables).is_none()
    }

    /// Whether chains of others may be other than they were.
    pub fn chains_changed(&mut self) -> bool {
        self.still(self.known.chains).is_none()
    }

    /// The chains of others were looked at; `before` as above.
    pub fn chains_read(&mut self, before: Option<u32>) {
        self.known.chains = self.still(before);
    }

    /// A generation, if it is one and the kernel's is still the same.
    fn still(&mut self, known: Option<u32>) -> Option<u32> {
        self.now().filter(|now| known == Some(*now))
    }
}

/// The first refusal, with the change that it is of.
fn refused(operation: &str, commands: &Commands, refusals: Vec<(usize, Exchange)>) -> NftError {
    let Some((index, source)) = refusals.into_iter().min_by_key(|(index, _)| *index) else {
        return NftError::exchange(operation)(Exchange::Malformed {
            reason: "refused without a refusal".into(),
        });
    };
    let offset = match &source {
        Exchange::Refused(refusal) => refusal.at.map(|place| place.offset),
        _ => None,
    };
    let command = commands.get(index);
    debug!(operation, error = %source, "nf_tables refused");
    NftError::Refused {
        operation: operation.to_owned(),
        source,
        at: command.map_or_else(String::new, |command| told(command, offset)),
        is_element: matches!(command, Some(Command::Elements { .. })),
    }
}

#[cfg(test)]
mod tests;
