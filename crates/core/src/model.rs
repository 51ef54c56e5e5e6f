//! A kernel of maps that refuses what the real one refuses, and knows when its
//! state is dangerous. Plans are tried on it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use thiserror::Error;

use crate::plan::{Op, Plan, Settings};
use crate::state::{
    Front, KernelState, NftElement, NftSet, NftState, Ports, RealServer, RealServerKey,
    VirtualServer, VirtualServerKey, mark_of,
};

/// What the kernel would have said.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// It is there already.
    #[error("{0}: exists (EEXIST)")]
    Exists(String),
    /// The virtual server is not there.
    #[error("{0}: no such service (ESRCH)")]
    NoService(String),
    /// The real server, address or element is not there.
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
    pub fn apply(&mut self, plan: &Plan) -> Result<(), Refused> {
        plan.ops.iter().try_for_each(|op| self.step(op))
    }

    /// Carries out one step, or refuses it whole.
    pub fn step(&mut self, op: &Op) -> Result<(), Refused> {
        match op {
            Op::Nft { add, remove } => self.nft(add, remove),
            Op::AddVirtualServer(key, settings) => self.add_server(key, settings),
            Op::EditVirtualServer(key, settings) => {
                let server = self.server(key)?;
                let real_servers = std::mem::take(&mut server.real_servers);
                *server = made_of(settings);
                server.real_servers = real_servers;
                Ok(())
            }
            Op::RemoveVirtualServer(key) => {
                let gone = self.state.virtual_servers.remove(key);
                gone.map(drop)
                    .ok_or_else(|| Refused::NoService(key.to_string()))
            }
            Op::AddRealServer(key, real, to) => {
                check(to)?;
                let servers = &mut self.server(key)?.real_servers;
                if servers.contains_key(real) {
                    return Err(Refused::Exists(format!("{key} -> {real}")));
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

    fn add_server(&mut self, key: &VirtualServerKey, settings: &Settings) -> Result<(), Refused> {
        let valid = match key {
            VirtualServerKey::Front(front) => front.port != 0,
            VirtualServerKey::Mark { mark, .. } => *mark != 0,
        };
        if !valid || settings.persistence.is_some_and(|p| p.timeout == 0) {
            return Err(Refused::Invalid(key.to_string()));
        }
        let servers = &mut self.state.virtual_servers;
        if servers.contains_key(key) {
            return Err(Refused::Exists(key.to_string()));
        }
        servers.insert(*key, made_of(settings));
        Ok(())
    }

    fn server(&mut self, key: &VirtualServerKey) -> Result<&mut VirtualServer, Refused> {
        let server = self.state.virtual_servers.get_mut(key);
        server.ok_or_else(|| Refused::NoService(key.to_string()))
    }

    fn real_server(
        &mut self,
        key: &VirtualServerKey,
        real: &RealServerKey,
    ) -> Result<&mut RealServer, Refused> {
        let found = self.server(key)?.real_servers.get_mut(real);
        found.ok_or_else(|| Refused::NoEntry(format!("{key} -> {real}")))
    }

    fn bind(&mut self, vips: &BTreeSet<IpAddr>) -> Result<(), Refused> {
        if let Some(vip) = vips.intersection(&self.state.vips).next() {
            return Err(Refused::Exists(vip.to_string()));
        }
        self.state.vips.extend(vips);
        Ok(())
    }

    fn unbind(&mut self, vips: &BTreeSet<IpAddr>) -> Result<(), Refused> {
        if let Some(vip) = vips.difference(&self.state.vips).next() {
            return Err(Refused::NoEntry(vip.to_string()));
        }
        for vip in vips {
            self.state.vips.remove(vip);
        }
        Ok(())
    }

    /// One transaction: all or nothing. Costs as much as it changes.
    fn nft(&mut self, add: &NftState, remove: &NftState) -> Result<(), Refused> {
        for (set, element) in elements(remove) {
            if !self.has(set, element) {
                let taken = elements(remove).take_while(|taken| *taken != (set, element));
                taken.for_each(|taken| self.insert(taken));
                return Err(Refused::NoEntry(format!("{} {element}", set.name())));
            }
            self.remove_element(set, element);
        }
        for (set, element) in elements(add) {
            let there = self.state.nft.entry(set).or_default();
            if clashes(there, &element) || !there.insert(element) {
                for added in elements(add).take_while(|added| *added != (set, element)) {
                    self.remove_element(added.0, added.1);
                }
                self.state.nft.retain(|_, all| !all.is_empty());
                elements(remove).for_each(|gone| self.insert(gone));
                return Err(Refused::Exists(format!("{} {element}", set.name())));
            }
        }
        Ok(())
    }

    fn insert(&mut self, (set, element): (NftSet, NftElement)) {
        self.state.nft.entry(set).or_default().insert(element);
    }

    fn remove_element(&mut self, set: NftSet, element: NftElement) {
        let Some(there) = self.state.nft.get_mut(&set) else {
            return;
        };
        there.remove(&element);
        if there.is_empty() {
            self.state.nft.remove(&set);
        }
    }

    /// What is dangerous about the state: a port of a VIP that reaches the host,
    /// or traffic sent where nobody answers. Health-check ports, which the host
    /// answers on purpose, must be named.
    pub fn dangers(&self, health_checks: &BTreeSet<Front>) -> Vec<String> {
        let mut dangers = Vec::new();
        for vip in &self.state.vips {
            if !self.has(NftSet::Vips, NftElement::Address(*vip)) {
                dangers.push(format!("{vip} is bound without a guard"));
            }
        }
        for (_, element) in elements(&self.state.nft).filter(|(set, _)| is_open(*set)) {
            match element {
                NftElement::Front(front) if health_checks.contains(&front) => {}
                NftElement::Front(front) if self.is_refused(front) => {}
                NftElement::Front(front) if !self.answers(front) => {
                    dangers.push(format!("{front} passes the guard and nobody serves it"));
                }
                NftElement::Mark(front, mark) => {
                    let family = element.family();
                    if self.is_empty(&VirtualServerKey::Mark { mark, family }) {
                        dangers.push(format!("{front} is marked {mark} and nobody serves that"));
                    }
                }
                _ => {}
            }
        }
        dangers
    }

    /// Whether the sources of a front are held to networks, and to which.
    pub fn sources(&self, front: Front) -> Option<BTreeSet<NftElement>> {
        if !self.has(NftSet::Restricted, NftElement::Front(front)) {
            return None;
        }
        let all = self.state.nft.get(&NftSet::AllowedSources);
        let of = |e: &&NftElement| matches!(e, NftElement::Source(of, _) if of.contains(&front));
        Some(all.into_iter().flatten().filter(of).copied().collect())
    }

    fn has(&self, set: NftSet, element: NftElement) -> bool {
        let all = self.state.nft.get(&set);
        all.is_some_and(|all| all.contains(&element))
    }

    fn is_empty(&self, key: &VirtualServerKey) -> bool {
        let server = self.state.virtual_servers.get(key);
        server.is_none_or(|server| server.real_servers.is_empty())
    }

    fn is_refused(&self, front: Front) -> bool {
        self.has(NftSet::Reject, NftElement::Front(front))
    }

    /// By its own virtual server, by that of a mark for all of its traffic, or by
    /// that of its inside mark while the rest is dropped.
    fn answers(&self, front: Front) -> bool {
        !self.is_empty(&VirtualServerKey::Front(front))
            || self.state.by_mark(NftSet::NodePortMarks, front).is_some()
            || self.state.by_mark(NftSet::InsideMarks, front).is_some()
                && self.has(NftSet::DropOutside, NftElement::Front(front))
    }
}

/// Sets whose elements open a way.
fn is_open(set: NftSet) -> bool {
    set == NftSet::ServicePorts || NftSet::MARKS.contains(&set)
}

fn elements(state: &NftState) -> impl Iterator<Item = (NftSet, NftElement)> {
    let sets = state.iter();
    sets.flat_map(|(set, all)| all.iter().map(move |element| (*set, *element)))
}

/// A map holds one value a key, and networks of one port do not overlap. The
/// elements of one front or address stand side by side: no others are looked at.
fn clashes(there: &BTreeSet<NftElement>, element: &NftElement) -> bool {
    match element {
        NftElement::Mark(front, _) => mark_of(there, *front).is_some(),
        NftElement::Source(ports, network) => {
            let from = Ports {
                first: 0,
                last: 0,
                ..*ports
            };
            let first = NftElement::Source(from, IpNet::from(Ipv4Net::default()));
            let mut beside = there.range(first..).map_while(|other| match other {
                NftElement::Source(of, other) => Some((of, other))
                    .filter(|_| (of.address, of.protocol) == (ports.address, ports.protocol)),
                _ => None,
            });
            beside.any(|(of, other)| {
                ports.meets(of) && (network.contains(other) || other.contains(network))
            })
        }
        NftElement::Network(network) => {
            let mut all = there.iter();
            all.any(|other| match other {
                NftElement::Network(other) => network.contains(other) || other.contains(network),
                _ => false,
            })
        }
        NftElement::Address(_) | NftElement::Front(_) => false,
    }
}

fn check(real: &RealServer) -> Result<(), Refused> {
    match real.lower_threshold > real.upper_threshold || real.weight > 65_535 {
        true => Err(Refused::Range(real.to_string())),
        false => Ok(()),
    }
}

fn made_of(settings: &Settings) -> VirtualServer {
    VirtualServer {
        scheduler: settings.scheduler.clone(),
        flags: settings.flags,
        persistence: settings.persistence,
        real_servers: Default::default(),
    }
}

#[cfg(test)]
mod tests {
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

    fn settings() -> Settings {
        Settings {
            scheduler: "rr".to_owned(),
            flags: Default::default(),
            persistence: None,
        }
    }

    #[test]
    fn a_transaction_that_is_refused_changes_nothing() {
        let front: Front = "10.96.0.10:80/TCP".parse().unwrap();
        let source = |net: &str| NftElement::Source(front.into(), net.parse().unwrap());
        let one = |set, all: &[NftElement]| NftState::from([(set, all.iter().copied().collect())]);
        let add = |set, all: &[NftElement]| Op::Nft {
            add: one(set, all),
            remove: NftState::new(),
        };
        let mut model = Model::default();
        for op in [
            add(NftSet::ServicePorts, &[NftElement::Front(front)]),
            add(NftSet::InsideMarks, &[NftElement::Mark(front, 7)]),
            add(NftSet::AllowedSources, &[source("10.0.0.0/8")]),
        ] {
            model.step(&op).unwrap();
        }
        let before = model.state().clone();

        for (set, clash) in [
            (NftSet::ServicePorts, NftElement::Front(front)),
            (NftSet::InsideMarks, NftElement::Mark(front, 8)),
            (NftSet::AllowedSources, source("10.1.0.0/16")),
            (NftSet::AllowedSources, source("0.0.0.0/0")),
        ] {
            let mut new = one(NftSet::Vips, &[NftElement::Address(front.address)]);
            new.insert(set, [clash].into());
            let op = Op::Nft {
                add: new,
                remove: NftState::new(),
            };
            assert!(matches!(model.step(&op), Err(Refused::Exists(_))), "{op:?}");
            assert_eq!(model.state(), &before, "{op:?}");
        }
        let op = Op::Nft {
            add: NftState::new(),
            remove: NftState::from([
                (NftSet::ServicePorts, [NftElement::Front(front)].into()),
                (NftSet::Reject, [NftElement::Front(front)].into()),
            ]),
        };
        assert!(matches!(model.step(&op), Err(Refused::NoEntry(_))));
        assert_eq!(model.state(), &before);
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
