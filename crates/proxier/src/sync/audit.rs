//! The rolling audit: the kernel is read piece by piece, so that a big node is
//! never busy with all at once.
//!
//! A pass takes one `--ipvs-sync-period`. It reads sysctls, tables and the list
//! of virtual servers, and the real servers of so many virtual servers as cost
//! little; those of the others have their turn in the passes after it. VIPs are
//! read where the kernel told of something else than is known of them, and after
//! [some](super::followed::PASSES) passes in any case. Once something was found
//! that somebody else had changed, the next pass reads all, and those after it
//! more than where nobody ever changes anything.
//!
//! A step reads one piece, compares it with what is known, and repairs what
//! differs. What needs the whole picture – the start, what follows a refusal,
//! a notice that the link or a VIP is gone – is read in one by [`Syncer::audit`].

use std::ops::Bound;
use std::sync::Arc;

use anyhow::Context;
use kube_ipvs_core::diff::Touched;
use kube_ipvs_core::listing::Compared;
use kube_ipvs_core::model::Model;
use kube_ipvs_core::state::{KernelState, VirtualServer, VirtualServerKey};
use kube_ipvs_core::table::Table;
use kube_ipvs_dataplane::{Dataplane, Observed};

use super::walk::{Piece, slices};
use super::{READ, Round, Syncer, Trigger};

/// The other steps of a pass.
const OTHERS: usize = 3;

/// What a step found to be other than known.
#[derive(Default)]
struct Found {
    touched: Touched,
    /// What was known of that.
    known: KernelState,
    sysctls: u64,
    /// Somebody else was at work: perhaps another proxy.
    strange: bool,
}

impl<D: Dataplane> Syncer<D> {
    /// Reads the next piece and repairs what differs there; reads everything
    /// when nothing is known. None when there was nothing to tell: the end of a
    /// pass always is something. `now` as in [`Self::sync`].
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub fn audit_step(&mut self, now: u64) -> anyhow::Result<Option<Round>> {
        // After an error nothing is known any more, and the next look is a whole one.
        let Some(known) = self.known.take() else {
            return self.audit(now, Trigger::Audit).map(Some);
        };
        let mut state = known.into_state();
        let mut found = Found::default();
        let overtaken = std::mem::take(&mut self.overtaken);
        let piece = Some(self.piece).filter(|_| !overtaken);
        let next = match piece.unwrap_or(Piece::Tables) {
            Piece::Tables => {
                self.ask_for_missing_schedulers();
                self.look_at_tables(&mut state, &mut found)?;
                Piece::Vips
            }
            Piece::Vips => {
                if self.vips.pass() || self.walk.is_wary() {
                    self.look_at_vips(&mut state, &mut found)?;
                }
                Piece::Servers
            }
            Piece::Servers => {
                self.look_at_servers(&mut state, &mut found)?;
                let total = state.virtual_servers.len();
                self.walk.begin(total);
                Piece::real_servers(slices(total))
            }
            Piece::RealServers(slices) => {
                self.look_at_slice(slices, &mut state, &mut found)?;
                Piece::real_servers(slices - 1)
            }
        };
        let drift = self.drift(&found.known, &part(&state, &found.touched), found.sysctls);
        if !drift.is_empty() {
            self.beware(&found.known, &state);
        }
        self.known = Some(Model::new(state));
        if !overtaken {
            self.piece = next;
        }
        self.walk.drifted |= !drift.is_empty();
        let looks = self.is_alert() | found.strange;
        let rests = found.touched.is_empty() && drift.is_empty() && self.piece != Piece::default();
        if rests && !(looks && self.look_for_others()) {
            return Ok(None);
        }
        let round = self.carry_out_touched(now, found.touched, Trigger::Audit);
        if looks && !rests {
            self.look_for_others();
        }
        Ok(Some(Round { drift, ..round }))
    }

    /// Whether the next step should not wait: somebody else was in our tables,
    /// and what else he took out is not known.
    pub fn is_overtaken(&self) -> bool {
        self.overtaken
    }

    /// Steps of a pass.
    pub fn audit_steps(&self) -> u32 {
        u32::try_from(OTHERS + slices(self.known_servers())).expect("few")
    }

    /// Passes in which all real servers are read.
    pub fn audit_passes(&self) -> u32 {
        self.walk.passes(self.known_servers())
    }

    fn known_servers(&self) -> usize {
        self.known().map_or(0, |state| state.virtual_servers.len())
    }

    fn look_at_tables(&mut self, state: &mut KernelState, found: &mut Found) -> anyhow::Result<()> {
        let mut observed = Observed::default();
        if !self.dataplane.tables_changed() {
            observed.state.table = std::mem::take(&mut state.table);
            found.sysctls += self.prepare(&observed)?;
            state.table = observed.state.table;
            return Ok(());
        }
        found.strange = true;
        observed.state.table = self.dataplane.tables().context(READ)?;
        found.sysctls += self.prepare(&observed)?;
        let known = KernelState {
            table: std::mem::take(&mut state.table),
            ..KernelState::default()
        };
        found
            .touched
            .extend(Touched::between(&known, &observed.state));
        found.known.table = rows(&known.table, &found.touched);
        state.table = observed.state.table;
        Ok(())
    }

    /// A VIP is bound only behind a guard that was just seen to be there.
    fn look_at_vips(&mut self, state: &mut KernelState, found: &mut Found) -> anyhow::Result<()> {
        let vips = self.dataplane.vips().context(READ)?;
        let moved = &state.vips ^ &vips;
        found.known.vips = &state.vips & &moved;
        if !state.vips.is_subset(&vips) {
            self.look_at_tables(state, found)?;
        }
        found.touched.vips.extend(moved);
        state.vips = vips;
        self.vips.read();
        Ok(())
    }

    /// Virtual servers that vanished, appeared, or have other settings.
    fn look_at_servers(
        &mut self,
        state: &mut KernelState,
        found: &mut Found,
    ) -> anyhow::Result<()> {
        let known = &state.virtual_servers;
        let compared = self.dataplane.compare_virtual_servers(known);
        let Compared {
            mut other,
            unlisted,
        } = compared.context(READ)?;
        for key in unlisted {
            match self.dataplane.virtual_server(&key).context(READ)? {
                Some(server) => other.push((key, server)),
                None => found.differs(key, state.virtual_servers.remove(&key)),
            }
        }
        for (key, server) in other {
            match state.virtual_servers.get_mut(&key) {
                Some(known) if known.has_settings_of(&server) => {}
                Some(known) => {
                    let real_servers = known.real_servers.clone();
                    let now = VirtualServer {
                        real_servers,
                        ..server
                    };
                    found.differs(key, Some(std::mem::replace(known, now.into())));
                }
                None => {
                    let real_servers = self.dataplane.real_servers(&key).context(READ)?;
                    let Some(real_servers) = real_servers else {
                        continue;
                    };
                    let now = VirtualServer {
                        real_servers,
                        ..server
                    };
                    found.strange |= self.is_strange(&key);
                    state.virtual_servers.insert(key, now.into());
                    found.differs(key, None);
                }
            }
        }
        Ok(())
    }

    /// The real servers whose turn it is, with so many steps left of the pass.
    fn look_at_slice(
        &mut self,
        slices: usize,
        state: &mut KernelState,
        found: &mut Found,
    ) -> anyhow::Result<()> {
        let from = self.walk.after.map_or(Bound::Unbounded, Bound::Excluded);
        let left = state.virtual_servers.range((from, Bound::Unbounded));
        let share = match self.walk.share {
            Some(share) => share,
            None => left.clone().count().div_ceil(slices),
        };
        let more = left.clone().nth(share).is_some();
        let keys: Vec<_> = left.take(share).map(|(key, _)| *key).collect();
        for key in &keys {
            self.look_at_real_servers(*key, state, found)?;
        }
        self.walk.after = keys.last().copied().filter(|_| more);
        Ok(())
    }

    fn look_at_real_servers(
        &mut self,
        key: VirtualServerKey,
        state: &mut KernelState,
        found: &mut Found,
    ) -> anyhow::Result<()> {
        let seen = self.dataplane.real_servers(&key).context(READ)?;
        let Some(known) = state.virtual_servers.get_mut(&key) else {
            return Ok(());
        };
        match seen {
            Some(real_servers) if real_servers == known.real_servers => {}
            Some(real_servers) => {
                let before = known.clone();
                Arc::make_mut(known).real_servers = real_servers;
                found.differs(key, Some(before));
            }
            None => found.differs(key, state.virtual_servers.remove(&key)),
        }
        Ok(())
    }
}

impl Found {
    fn differs(&mut self, key: VirtualServerKey, known: Option<Arc<VirtualServer>>) {
        self.touched.virtual_servers.insert(key);
        let known = known.map(|server| (key, server));
        self.known.virtual_servers.extend(known);
    }
}

/// What was touched of a state.
fn part(state: &KernelState, touched: &Touched) -> KernelState {
    let servers = touched.virtual_servers.iter();
    let servers = servers.filter_map(|key| state.virtual_servers.get_key_value(key));
    KernelState {
        virtual_servers: servers
            .map(|(key, server)| (*key, server.clone()))
            .collect(),
        vips: &state.vips & &touched.vips,
        table: rows(&state.table, touched),
    }
}

fn rows(table: &Table, touched: &Touched) -> Table {
    let rows = touched.fronts.iter();
    let rows = rows.filter_map(|front| Some((*front, table.rows.get(front)?.clone())));
    Table {
        rows: rows.collect(),
        guarded: &table.guarded & &touched.guarded,
        hairpin: &table.hairpin & &touched.hairpin,
        networks: &table.networks & &touched.networks,
        untracked: &table.untracked & &touched.untracked,
    }
}
