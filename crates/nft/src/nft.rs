//! The kernel's nf_tables, and the things it is asked to do.

use netlink_exchange::protocols::NETLINK_NETFILTER;
use netlink_exchange::{Connection, Content, DecodeError, Errno, Error as Exchange, Transaction};
use tracing::{debug, trace};

use crate::commands::Commands;
use crate::error::NftError;
use crate::generation::Known;
use crate::observe::ReadSet;
use crate::told::told;
use crate::wire::{
    self, Command, Get, Kind, ListedChain, ListedRule, ListedSet, SUBSYSTEM, elements, table_flags,
};
use crate::{Family, Observed, TABLE, render_delete};

mod others;

pub use others::NamedChain;

/// How often something is tried while others change nftables.
pub(crate) const TRIES: u32 = 10;

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
