//! A kernel of maps that refuses what the real one refuses, and knows when its
//! state is dangerous. Plans are tried on it.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use crate::plan::{Op, Plan, ServerSettings};
use crate::row::{Row, Sources, Verdict};
use crate::state::{
    Front, KernelState, RealServer, RealServerKey, VirtualServer, VirtualServerKey,
};
use crate::table::{Edit, Moved};

/// What the kernel would have said.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModelError {
    /// It is there already.
    #[error("{0}: exists (EEXIST)")]
    Exists(String),
    /// The virtual server is not there.
    #[error("{0}: no such service (ESRCH)")]
    NoService(String),
    /// The real server, address, row or network is not there.
    #[error("{0}: no such entry (ENOENT)")]
    NoEntry(String),
    /// A value it does not take.
    #[error("{0}: invalid argument (EINVAL)")]
    Invalid(String),
    /// The lower threshold is above the upper one, or the weight below 0.
    #[error("{0}: out of range (ERANGE)")]
    Range(String),
}

/// The model.
#[derive(Debug, Clone, Default)]
pub struct Model {
    state: KernelState,
}

impl Model {
    /// One that holds something already.
    pub fn new(state: KernelState) -> Self {
        Self { state }
    }

    /// What it holds.
    pub fn state(&self) -> &KernelState {
        &self.state
    }

    /// What it holds, without the model.
    pub fn into_state(self) -> KernelState {
        self.state
    }

    /// Carries out a plan up to the first refusal.
    pub fn apply(&mut self, plan: &Plan) -> Result<(), ModelError> {
        plan.ops.iter().try_for_each(|op| self.step(op))
    }

    /// Carries out one step, or refuses it whole.
    pub fn step(&mut self, op: &Op) -> Result<(), ModelError> {
        match op {
            Op::Table(edit) => self.edit(edit),
            Op::AddVirtualServer(key, settings) => self.add_server(key, settings),
            Op::EditVirtualServer(key, settings) => {
                let server = self.server(key)?;
                let real_servers = core::mem::take(&mut server.real_servers);
                *server = made_of(settings);
                server.real_servers = real_servers;
                Ok(())
            }
            Op::RemoveVirtualServer(key) => {
                let gone = self.state.virtual_servers.remove(key);
                gone.map(drop)
                    .ok_or_else(|| ModelError::NoService(key.to_string()))
            }
            Op::AddRealServer(key, real, to) => {
                check(to)?;
                let servers = &mut self.server(key)?.real_servers;
                if servers.contains_key(real) {
                    return Err(ModelError::Exists(format!("{key} -> {real}")));
                }
                servers.insert(*real, *to);
                Ok(())
            }
            Op::EditRealServer(key, real, to) => {
                check(to)?;
                *self.real_server(key, real)? = *to;
                Ok(())
            }
            Op::RemoveRealServer(key, real) => {
                self.real_server(key, real)?;
                self.server(key)?.real_servers.remove(real);
                Ok(())
            }
            Op::BindVips(vips) => self.bind(vips),
            Op::UnbindVips(vips) => self.unbind(vips),
        }
    }

    fn add_server(
        &mut self,
        key: &VirtualServerKey,
        settings: &ServerSettings,
    ) -> Result<(), ModelError> {
        let valid = match key {
            VirtualServerKey::Front(front) => front.port != 0,
            VirtualServerKey::Mark { mark, .. } => *mark != 0,
        };
        if !valid || settings.persistence.is_some_and(|p| p.timeout == 0) {
            return Err(ModelError::Invalid(key.to_string()));
        }
        let servers = &mut self.state.virtual_servers;
        if servers.contains_key(key) {
            return Err(ModelError::Exists(key.to_string()));
        }
        servers.insert(*key, Arc::new(made_of(settings)));
        Ok(())
    }

    fn server(&mut self, key: &VirtualServerKey) -> Result<&mut VirtualServer, ModelError> {
        let server = self.state.virtual_servers.get_mut(key);
        let server = server.ok_or_else(|| ModelError::NoService(key.to_string()))?;
        // Others who hold it keep it as it was.
        Ok(Arc::make_mut(server))
    }

    fn real_server(
        &mut self,
        key: &VirtualServerKey,
        real: &RealServerKey,
    ) -> Result<&mut RealServer, ModelError> {
        let found = self.server(key)?.real_servers.get_mut(real);
        found.ok_or_else(|| ModelError::NoEntry(format!("{key} -> {real}")))
    }

    fn bind(&mut self, vips: &BTreeSet<IpAddr>) -> Result<(), ModelError> {
        if let Some(vip) = vips.intersection(&self.state.vips).next() {
            return Err(ModelError::Exists(vip.to_string()));
        }
        self.state.vips.extend(vips);
        Ok(())
    }

    fn unbind(&mut self, vips: &BTreeSet<IpAddr>) -> Result<(), ModelError> {
        if let Some(vip) = vips.difference(&self.state.vips).next() {
            return Err(ModelError::NoEntry(vip.to_string()));
        }
        for vip in vips {
            self.state.vips.remove(vip);
        }
        Ok(())
    }

    /// Where a virtual server is as in another state, both hold the same one
    /// from now on: comparing them is comparing pointers, and it is there once.
    pub fn share<'k>(
        &mut self,
        other: &KernelState,
        keys: impl IntoIterator<Item = &'k VirtualServerKey>,
    ) {
        for key in keys {
            let there = self.state.virtual_servers.get_mut(key);
            if let (Some(there), Some(same)) = (there, other.virtual_servers.get(key))
                && there == same
            {
                *there = same.clone();
            }
        }
    }

    /// All or nothing. Costs as much as it changes.
    fn edit(&mut self, edit: &Edit) -> Result<(), ModelError> {
        let table = &self.state.table;
        for (front, turn) in &edit.rows {
            let row = table.rows.get(front);
            if row != turn.from.as_ref() {
                let front = front.to_string();
                return Err(match row {
                    Some(_) => ModelError::Exists(front),
                    None => ModelError::NoEntry(front),
                });
            }
        }
        check_moved(&edit.guarded, &table.guarded)?;
        check_moved(&edit.hairpin, &table.hairpin)?;
        check_moved(&edit.untracked, &table.untracked)?;
        check_moved(&edit.networks, &table.networks)?;
        check_networks(&edit.networks, &table.networks)?;
        self.state.table.put(edit);
        Ok(())
    }

    /// What is dangerous about the state: a port of a VIP that reaches the host,
    /// or traffic sent where nobody answers. Health-check ports, which the host
    /// answers on purpose, must be named.
    pub fn dangers(&self, health_checks: &BTreeSet<Front>) -> Vec<String> {
        let mut dangers = Vec::new();
        for vip in self.state.vips.difference(&self.state.table.guarded) {
            dangers.push(format!("{vip} is bound without a guard"));
        }
        for (front, row) in &self.state.table.rows {
            if row.verdict.is_open() && !health_checks.contains(front) && !self.answers(front, row)
            {
                dangers.push(format!("{front} passes the guard and nobody serves it"));
            }
            for key in row.by_marks(front).filter(|key| self.is_empty(key)) {
                dangers.push(format!("{front} is led to {key} and nobody serves that"));
            }
        }
        dangers
    }

    /// Whether the sources of a front are held to networks, and to which.
    pub fn sources(&self, front: Front) -> Option<&Sources> {
        self.state.row(&front)?.sources.as_ref()
    }

    fn is_empty(&self, key: &VirtualServerKey) -> bool {
        let server = self.state.virtual_servers.get(key);
        server.is_none_or(|server| server.real_servers.is_empty())
    }

    /// By its own virtual server, by that of a mark for all of its traffic, or by
    /// that of its inside mark while the rest is dropped.
    fn answers(&self, front: &Front, row: &Row) -> bool {
        !self.is_empty(&VirtualServerKey::Front(*front))
            || row.mark.is_some()
            || row.inside.is_some() && row.verdict == Verdict::DropOutside
    }
}

fn check_moved<K: Ord + fmt::Display>(
    moved: &Moved<K>,
    there: &BTreeSet<K>,
) -> Result<(), ModelError> {
    if let Some(missing) = moved.remove.difference(there).next() {
        return Err(ModelError::NoEntry(missing.to_string()));
    }
    let mut again = moved.add.intersection(there);
    match again.find(|one| !moved.remove.contains(one)) {
        Some(again) => Err(ModelError::Exists(again.to_string())),
        None => Ok(()),
    }
}

/// Networks do not overlap.
fn check_networks(moved: &Moved<IpNet>, there: &BTreeSet<IpNet>) -> Result<(), ModelError> {
    for net in &moved.add {
        let left = there.difference(&moved.remove).chain(&moved.add);
        let mut others = left.filter(|other| *other != net);
        if others.any(|other| net.contains(other) || other.contains(net)) {
            return Err(ModelError::Exists(net.to_string()));
        }
    }
    Ok(())
}

fn check(real: &RealServer) -> Result<(), ModelError> {
    if real.lower_threshold > real.upper_threshold || real.weight > 65_535 {
        Err(ModelError::Range(real.to_string()))
    } else {
        Ok(())
    }
}

fn made_of(settings: &ServerSettings) -> VirtualServer {
    VirtualServer {
        scheduler: settings.scheduler.clone(),
        flags: settings.flags,
        persistence: settings.persistence,
        real_servers: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn model() -> Model {
        let plan = Plan {
            ops: vec![
                Op::AddVirtualServer(key(), settings()),
                Op::AddRealServer(key(), real(), weight(1)),
                Op::BindVips(BTreeSet::from(["10.96.0.10".parse().unwrap()])),
            ],
        };
        let mut model = Model::default();
        model.apply(&plan).unwrap();
        model
    }

    fn key() -> VirtualServerKey {
        "10.96.0.10:80/TCP".parse().unwrap()
    }

    fn real() -> RealServerKey {
        "10.244.1.2:8080".parse().unwrap()
    }

    fn weight(weight: u32) -> RealServer {
        RealServer {
            weight,
            upper_threshold: 0,
            lower_threshold: 0,
        }
    }

    fn settings() -> ServerSettings {
        ServerSettings {
            scheduler: "rr".into(),
            flags: Default::default(),
            persistence: None,
        }
    }

    #[test]
    fn a_transaction_that_is_refused_changes_nothing() {
        let front: Front = "10.96.0.10:80/TCP".parse().unwrap();
        let other: Front = "10.96.0.10:81/TCP".parse().unwrap();
        let net = |net: &str| -> IpNet { net.parse().unwrap() };
        let serve = Row::of(Verdict::Serve);
        let marked = Row {
            inside: Some(7),
            ..serve.clone()
        };
        let turn = |front, from: &Row, to: &Row| {
            let mut edit = Edit::default();
            edit.turn(front, from, to);
            edit
        };
        let networks = |add: &[&str]| Edit {
            networks: Moved {
                add: add.iter().map(|text| net(text)).collect(),
                remove: BTreeSet::new(),
            },
            ..Edit::default()
        };
        let mut model = Model::default();
        for edit in [
            turn(front, &Row::default(), &serve),
            networks(&["10.96.0.0/16"]),
        ] {
            model.step(&Op::Table(edit.into())).unwrap();
        }
        let before = model.state().clone();

        for clash in [
            turn(front, &Row::default(), &serve),
            turn(front, &marked, &serve),
            networks(&["10.96.0.0/16"]),
            networks(&["10.96.1.0/24"]),
            networks(&["10.0.0.0/8"]),
        ] {
            let mut edit = clash.clone();
            edit.guarded.add.insert(front.address);
            edit.extend(&turn(other, &Row::default(), &serve));
            let refusal = model.step(&Op::Table(edit.into()));
            assert!(matches!(refusal, Err(ModelError::Exists(_))), "{clash:?}");
            assert_eq!(model.state(), &before, "{clash:?}");
        }
        let mut edit = turn(front, &serve, &Row::default());
        edit.extend(&turn(other, &serve, &Row::default()));
        let refusal = model.step(&Op::Table(edit.into()));
        assert!(matches!(refusal, Err(ModelError::NoEntry(_))));
        assert_eq!(model.state(), &before);
    }

    #[test]
    fn what_is_shared_is_the_same_and_changes_for_one_only() {
        let mut one = model();
        let other = model();
        one.share(other.state(), [&key()]);
        let same = |one: &Model, other: &Model| {
            let of = |model: &Model| model.state().virtual_servers[&key()].clone();
            Arc::ptr_eq(&of(one), &of(other))
        };
        assert!(same(&one, &other));

        one.step(&Op::EditRealServer(key(), real(), weight(2)))
            .unwrap();

        assert_eq!(other.state(), model().state());
        one.share(other.state(), [&key()]);
        assert!(!same(&one, &other), "they differ");
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let vips = |all: &[&str]| all.iter().map(|vip| vip.parse().unwrap()).collect();
        let refused = [
            Op::AddVirtualServer(key(), settings()),
            Op::AddRealServer(key(), real(), weight(2)),
            Op::EditRealServer(key(), real(), weight(70_000)),
            Op::BindVips(vips(&["10.96.0.9", "10.96.0.10"])),
            Op::UnbindVips(vips(&["10.96.0.10", "10.96.0.11"])),
        ];
        for op in refused {
            let mut tried = model();
            tried.step(&op).unwrap_err();
            assert_eq!(tried.state(), model().state(), "{op:?}");
        }
    }
}
