//! What the kernel would not do, and what is right then instead.
//!
//! A front whose virtual server is not there, or has nobody to send new
//! connections to, is a closed front: refused for everybody, as one without
//! endpoints is. Nobody else's front changes. A plan is made with what was
//! refused in sight ([`Terms::refused`](crate::Terms::refused)), so a refusal
//! half-way ends a plan, and the next one, made in the same round, closes what
//! must be closed and goes on with all the rest.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use ipnet::IpNet;

use crate::diff::Touched;
use crate::plan::{Op, Plan};
use crate::row::{Row, Verdict};
use crate::state::{Front, KernelState, RealServerKey, VirtualServer, VirtualServerKey};
use crate::table::{Edit, Moved};

/// One thing that can be refused by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// A virtual server to be made.
    AddVirtualServer(VirtualServerKey),
    /// Its settings.
    EditVirtualServer(VirtualServerKey),
    /// One to be removed.
    RemoveVirtualServer(VirtualServerKey),
    /// A real server to be added.
    AddRealServer(VirtualServerKey, RealServerKey),
    /// Its weight and thresholds.
    EditRealServer(VirtualServerKey, RealServerKey),
    /// One to be removed.
    RemoveRealServer(VirtualServerKey, RealServerKey),
    /// A VIP to be bound.
    Bind(IpAddr),
    /// A VIP to be unbound.
    Unbind(IpAddr),
    /// The row of a front.
    Front(Front),
    /// The guard of an address.
    Guard(IpAddr),
    /// What an endpoint sends to itself.
    Hairpin(IpAddr),
    /// A network of ClusterIPs.
    Network(IpNet),
}

impl Change {
    /// The virtual server it concerns, where it concerns one.
    pub fn virtual_server(&self) -> Option<VirtualServerKey> {
        match self {
            Self::AddVirtualServer(key)
            | Self::EditVirtualServer(key)
            | Self::RemoveVirtualServer(key)
            | Self::AddRealServer(key, _)
            | Self::EditRealServer(key, _)
            | Self::RemoveRealServer(key, _) => Some(*key),
            Self::Front(front) => Some(VirtualServerKey::Front(*front)),
            Self::Bind(_)
            | Self::Unbind(_)
            | Self::Guard(_)
            | Self::Hairpin(_)
            | Self::Network(_) => None,
        }
    }

    /// The address it concerns, where it is about no virtual server.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Bind(at) | Self::Unbind(at) | Self::Guard(at) | Self::Hairpin(at) => Some(*at),
            _ => None,
        }
    }

    /// Kind of the object, for metrics: `virtual_server`, `real_server`, `vip`, `table`.
    pub fn object(&self) -> &'static str {
        match self {
            Self::AddVirtualServer(_)
            | Self::EditVirtualServer(_)
            | Self::RemoveVirtualServer(_) => "virtual_server",
            Self::AddRealServer(..) | Self::EditRealServer(..) | Self::RemoveRealServer(..) => {
                "real_server"
            }
            Self::Bind(_) | Self::Unbind(_) => "vip",
            Self::Front(_) | Self::Guard(_) | Self::Hairpin(_) | Self::Network(_) => "table",
        }
    }

    /// The change that an operation on one virtual or real server is.
    pub fn of(op: &Op) -> Option<Self> {
        Some(match op {
            Op::AddVirtualServer(key, _) => Self::AddVirtualServer(*key),
            Op::EditVirtualServer(key, _) => Self::EditVirtualServer(*key),
            Op::RemoveVirtualServer(key) => Self::RemoveVirtualServer(*key),
            Op::AddRealServer(key, real, _) => Self::AddRealServer(*key, *real),
            Op::EditRealServer(key, real, _) => Self::EditRealServer(*key, *real),
            Op::RemoveRealServer(key, real) => Self::RemoveRealServer(*key, *real),
            Op::Table(_) | Op::BindVips(_) | Op::UnbindVips(_) => return None,
        })
    }
}

impl fmt::Display for Change {
    /// `virtual server 10.96.0.10:80/TCP`, `real server 10.96.0.10:80/TCP -> 10.244.1.7:8080`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddVirtualServer(key)
            | Self::EditVirtualServer(key)
            | Self::RemoveVirtualServer(key) => write!(f, "virtual server {key}"),
            Self::AddRealServer(key, real)
            | Self::EditRealServer(key, real)
            | Self::RemoveRealServer(key, real) => write!(f, "real server {key} -> {real}"),
            Self::Bind(vip) | Self::Unbind(vip) => write!(f, "vip {vip}"),
            Self::Front(front) => write!(f, "front {front}"),
            Self::Guard(address) => write!(f, "guard of {address}"),
            Self::Hairpin(address) => write!(f, "hairpin of {address}"),
            Self::Network(net) => write!(f, "network {net}"),
        }
    }
}

/// What was refused, and has not been accepted since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refused {
    all: BTreeSet<Change>,
    /// Real servers that could not be added, by virtual server.
    real_servers: BTreeMap<VirtualServerKey, BTreeSet<RealServerKey>>,
    /// The table takes no change at all: nothing is opened, and nothing is
    /// removed whose front may still be open.
    tables: bool,
}

impl Refused {
    /// Nothing was.
    pub const NOTHING: &'static Self = &Self {
        all: BTreeSet::new(),
        real_servers: BTreeMap::new(),
        tables: false,
    };

    /// Takes one in; false when it was known.
    pub fn insert(&mut self, change: Change) -> bool {
        if let Change::AddRealServer(key, real) = change {
            self.real_servers.entry(key).or_default().insert(real);
        }
        self.all.insert(change)
    }

    /// Forgets one, so that it is tried again.
    pub fn remove(&mut self, change: &Change) {
        self.all.remove(change);
        if let Change::AddRealServer(key, real) = change
            && let Some(reals) = self.real_servers.get_mut(key)
        {
            reals.remove(real);
            if reals.is_empty() {
                self.real_servers.remove(key);
            }
        }
    }

    /// The table takes no change now, or does again.
    pub fn set_tables(&mut self, refused: bool) {
        self.tables = refused;
    }

    /// Whether the table takes no change.
    pub fn tables(&self) -> bool {
        self.tables
    }

    /// Whether this was refused.
    pub fn contains(&self, change: &Change) -> bool {
        self.all.contains(change)
    }

    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && !self.tables
    }

    /// All of it.
    pub fn iter(&self) -> impl Iterator<Item = &Change> {
        self.all.iter()
    }

    /// Whether fronts may be other than desired for the sake of a virtual server.
    fn concerns(&self, key: &VirtualServerKey) -> bool {
        let front = match key {
            VirtualServerKey::Front(front) => self.contains(&Change::Front(*front)),
            VirtualServerKey::Mark { .. } => false,
        };
        front
            || self.real_servers.contains_key(key)
            || self.contains(&Change::AddVirtualServer(*key))
    }

    /// Adds what has to be looked at for a change that was refused, or is to be
    /// tried again.
    pub fn touch(
        change: &Change,
        desired: &KernelState,
        observed: &KernelState,
        touched: &mut Touched,
    ) {
        if let Some(key) = change.virtual_server() {
            touched.virtual_servers.insert(key);
            touch_fronts(&key, [desired, observed], touched);
        }
        match change {
            Change::Bind(vip) | Change::Unbind(vip) | Change::Guard(vip) => {
                touched.vips.insert(*vip);
                touched.guarded.insert(*vip);
            }
            Change::Hairpin(address) => _ = touched.hairpin.insert(*address),
            Change::Network(net) => _ = touched.networks.insert(*net),
            _ => {}
        }
    }
}

/// Rows that depend on whether a virtual server is there.
fn touch_fronts(key: &VirtualServerKey, states: [&KernelState; 2], touched: &mut Touched) {
    match key {
        VirtualServerKey::Front(front) => _ = touched.fronts.insert(*front),
        mark => touch_marked(|key| key == mark, states, touched),
    }
}

/// Rows whose marks lead to some virtual servers. Looks at all rows.
fn touch_marked(
    concerns: impl Fn(&VirtualServerKey) -> bool,
    states: [&KernelState; 2],
    touched: &mut Touched,
) {
    let rows = states.into_iter().flat_map(|state| &state.table.rows);
    let marked = rows.filter(|(front, row)| row.by_marks(front).any(|key| concerns(&key)));
    touched.fronts.extend(marked.map(|(front, _)| *front));
}

/// What the kernel should hold as long as it refuses what it refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal<'a> {
    pub(crate) desired: &'a KernelState,
    pub(crate) observed: &'a KernelState,
    pub(crate) refused: &'a Refused,
}

impl<'a> Goal<'a> {
    /// A virtual server, without the real servers that it cannot have. None of
    /// them left is no virtual server.
    pub(crate) fn server(&self, key: &VirtualServerKey) -> Option<Arc<VirtualServer>> {
        let want = self.desired.virtual_servers.get(key)?;
        if self.refused.all.is_empty() {
            return Some(want.clone());
        }
        let have = self.observed.virtual_servers.get(key);
        if have.is_none() && self.refused.contains(&Change::AddVirtualServer(*key)) {
            return None;
        }
        let Some(reals) = self.refused.real_servers.get(key) else {
            return Some(want.clone());
        };
        let mut left = VirtualServer::clone(want);
        left.real_servers.retain(|real, _| {
            let there = have.is_some_and(|have| have.real_servers.contains_key(real));
            there || !reals.contains(real)
        });
        let gone = left.real_servers.is_empty() && !want.real_servers.is_empty();
        (!gone).then(|| Arc::new(left))
    }

    /// Whether a virtual server takes new connections, or would not by anybody's fault.
    fn answers(&self, key: &VirtualServerKey) -> bool {
        if !self.refused.concerns(key) {
            return self.desired.virtual_servers.contains_key(key);
        }
        let takes = |server: &Arc<VirtualServer>| {
            let mut reals = server.real_servers.values();
            reals.any(|real| real.weight > 0)
        };
        let want = self.desired.virtual_servers.get(key);
        let left = self.server(key);
        left.is_some_and(|left| takes(&left) || !want.is_some_and(takes))
    }

    /// Whether a front that should be open is closed, since nobody would answer.
    fn is_closed(&self, front: &Front, want: &Row) -> bool {
        if !want.verdict.is_open() {
            return false;
        }
        if self.refused.contains(&Change::Front(*front)) {
            return true;
        }
        let own = VirtualServerKey::Front(*front);
        if self.desired.virtual_servers.contains_key(&own) {
            return !self.answers(&own);
        }
        let marked = want.marked_server(front);
        // Without any, it is a health-check port, which the host answers.
        let mark = marked.or_else(|| want.inside_server(front));
        mark.is_some_and(|mark| !self.answers(&mark))
    }

    /// The row of a front.
    pub(crate) fn row(&self, front: &Front) -> Option<Cow<'a, Row>> {
        let want = self.desired.row(front);
        if self.refused.all.is_empty() {
            return want.map(Cow::Borrowed);
        }
        let none = Row::default();
        let mut row = want.unwrap_or(&none).clone();
        if self.is_closed(front, &row) {
            row.verdict = Verdict::Refuse;
            (row.inside, row.mark) = (None, None);
        }
        let answered = |key: Option<VirtualServerKey>| key.is_some_and(|key| self.answers(&key));
        row.inside = row.inside.filter(|_| answered(row.inside_server(front)));
        row.mark = row.mark.filter(|_| answered(row.marked_server(front)));
        if self.refused.contains(&Change::Front(*front)) {
            // All of it stays as it is, but what closes it is tried all the same.
            let have = self.observed.row(front).unwrap_or(&none);
            row.masquerade = have.masquerade;
            row.sources = have.sources.clone();
        }
        row.said().map(Cow::Owned)
    }

    /// Whether a front is led to a real server that takes new connections now,
    /// and is to get none of its any more.
    pub(crate) fn loses_servers(&self, front: &Front, have: &Row, want: &Row) -> bool {
        let own = VirtualServerKey::Front(*front);
        let mut ways = have.by_marks(front).chain([own]);
        ways.any(|key| {
            let stays = key == own || want.by_marks(front).any(|other| other == key);
            let left = self.server(&key).filter(|_| stays);
            let takes = |real| {
                let at = left.as_ref().and_then(|left| left.real_servers.get(real));
                at.is_some_and(|at| at.weight > 0)
            };
            let there = self.observed.virtual_servers.get(&key).into_iter();
            let mut there = there.flat_map(|server| &server.real_servers);
            there.any(|(real, at)| at.weight > 0 && !takes(real))
        })
    }

    /// Whether a VIP should be bound.
    pub(crate) fn binds(&self, vip: IpAddr) -> bool {
        self.desired.vips.contains(&vip) && !self.refused.contains(&Change::Guard(vip))
    }

    /// Whether an address should be guarded.
    pub(crate) fn guards(&self, vip: &IpAddr) -> bool {
        if self.refused.contains(&Change::Guard(*vip)) {
            return self.observed.table.guarded.contains(vip);
        }
        // While a VIP that would not go is bound, its other ports stay out of reach.
        let stays =
            self.refused.contains(&Change::Unbind(*vip)) && self.observed.vips.contains(vip);
        stays || self.desired.table.guarded.contains(vip)
    }

    /// Whether what is said of an endpoint stays as it is.
    pub(crate) fn leaves_hairpin(&self, address: &IpAddr) -> bool {
        self.refused.contains(&Change::Hairpin(*address))
    }

    /// Whether what is said of a network stays as it is.
    pub(crate) fn leaves_network(&self, net: &IpNet) -> bool {
        self.refused.contains(&Change::Network(*net))
    }

    /// Whether a virtual server stays as it is, there or not: the table would
    /// not take what is said of its front.
    pub(crate) fn leaves_server(&self, key: &VirtualServerKey) -> bool {
        let VirtualServerKey::Front(front) = key else {
            return false;
        };
        self.refused.contains(&Change::Front(*front))
    }

    /// Everything touched, and what depends on it by way of a refusal.
    pub(crate) fn touched<'t>(&self, touched: &'t Touched) -> Cow<'t, Touched> {
        if self.refused.all.is_empty() {
            return Cow::Borrowed(touched);
        }
        let keys = touched.virtual_servers.iter();
        let concerned: BTreeSet<_> = keys.filter(|key| self.refused.concerns(key)).collect();
        let mut all = touched.clone();
        let mut by_mark = false;
        for key in &concerned {
            match key {
                VirtualServerKey::Front(front) => _ = all.fronts.insert(*front),
                VirtualServerKey::Mark { .. } => by_mark = true,
            }
        }
        if by_mark {
            let states = [self.desired, self.observed];
            touch_marked(|key| concerned.contains(key), states, &mut all);
        }
        Cow::Owned(all)
    }
}

impl Plan {
    /// The plan without what was refused of it; of a virtual server that was
    /// not made no real servers were added.
    pub fn without(&self, refused: &BTreeSet<Change>) -> Cow<'_, Self> {
        if refused.is_empty() {
            return Cow::Borrowed(self);
        }
        let left = |op: &Op| {
            let vips = |vips: &BTreeSet<IpAddr>, refusal: fn(IpAddr) -> Change| {
                let left = vips.iter().filter(|vip| !refused.contains(&refusal(**vip)));
                left.copied().collect::<BTreeSet<_>>()
            };
            match op {
                Op::BindVips(all) => Some(Op::BindVips(vips(all, Change::Bind))),
                Op::UnbindVips(all) => Some(Op::UnbindVips(vips(all, Change::Unbind))),
                Op::Table(_) => Some(op.clone()),
                _ => {
                    let change = Change::of(op)?;
                    let server = change.virtual_server()?;
                    let unmade = refused.contains(&Change::AddVirtualServer(server));
                    (!unmade && !refused.contains(&change)).then(|| op.clone())
                }
            }
        };
        Cow::Owned(Self {
            ops: self.ops.iter().filter_map(left).collect(),
        })
    }

    /// The stages of the plan, in their order; see [`Self::next_stage`].
    pub fn stages(&self) -> impl Iterator<Item = &[Op]> {
        self.ops.chunk_by(|one, next| {
            let stage = stage_of(one);
            stage != Stage::Alone && stage == stage_of(next)
        })
    }

    /// Takes off what can be done before anybody has to look whether something
    /// was refused: one transaction, one binding of VIPs, or a run of operations
    /// on virtual and real servers of which none removes what another replaces.
    pub fn next_stage(&mut self) -> Option<Self> {
        let stage = stage_of(self.ops.first()?);
        let length = match stage {
            Stage::Alone => 1,
            _ => {
                let ends = self.ops.iter().position(|op| stage_of(op) != stage);
                ends.unwrap_or(self.ops.len())
            }
        };
        // The longer part stays where it is: a cold start's is long.
        let ops = if length < self.ops.len() - length {
            self.ops.drain(..length).collect()
        } else {
            let rest = self.ops.split_off(length);
            core::mem::replace(&mut self.ops, rest)
        };
        Some(Self { ops })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Alone,
    In,
    Out,
}

fn stage_of(op: &Op) -> Stage {
    match op {
        Op::Table(_) | Op::BindVips(_) | Op::UnbindVips(_) => Stage::Alone,
        Op::AddVirtualServer(..)
        | Op::EditVirtualServer(..)
        | Op::AddRealServer(..)
        | Op::EditRealServer(..) => Stage::In,
        Op::RemoveVirtualServer(_) | Op::RemoveRealServer(..) => Stage::Out,
    }
}

/// The parts of a transaction that can be told apart, each as it would be by
/// itself: what is said of one front, one address, or one network.
pub fn parts(edit: &Edit) -> Vec<(Change, Edit)> {
    let mut parts = Vec::new();
    split(&edit.guarded, &mut parts, Change::Guard, |part| {
        &mut part.guarded
    });
    split(&edit.hairpin, &mut parts, Change::Hairpin, |part| {
        &mut part.hairpin
    });
    parts.extend(networks(&edit.networks));
    parts.extend(edit.rows.iter().map(|(front, turn)| {
        let mut part = Edit::default();
        part.rows.insert(*front, turn.clone());
        (Change::Front(*front), part)
    }));
    parts
}

fn split<K: Ord + Copy>(
    moved: &Moved<K>,
    parts: &mut Vec<(Change, Edit)>,
    change: fn(K) -> Change,
    place: fn(&mut Edit) -> &mut Moved<K>,
) {
    for one in &moved.add | &moved.remove {
        let mut part = Edit::default();
        let of = place(&mut part);
        of.add.extend(moved.add.get(&one));
        of.remove.extend(moved.remove.get(&one));
        parts.push((change(one), part));
    }
}

/// Networks by themselves, but for those that overlap: one that comes where
/// another goes cannot come alone.
fn networks(moved: &Moved<IpNet>) -> Vec<(Change, Edit)> {
    let mut parts: Vec<(Change, Edit)> = Vec::new();
    let mut widest: Option<IpNet> = None;
    // One that contains others comes before them.
    for net in &moved.add | &moved.remove {
        let is_within = widest.is_some_and(|wide| wide.contains(&net));
        if !is_within {
            widest = Some(net);
            parts.push((Change::Network(net), Edit::default()));
        }
        let Some((change, part)) = parts.last_mut() else {
            continue;
        };
        let comes = moved.add.contains(&net);
        if comes && part.networks.add.is_empty() {
            *change = Change::Network(net);
        }
        part.networks.add.extend(comes.then_some(net));
        part.networks.remove.extend(moved.remove.get(&net));
    }
    parts
}

/// Several parts in one transaction.
pub fn together<'a>(parts: impl IntoIterator<Item = &'a (Change, Edit)>) -> Op {
    let mut all = Edit::default();
    parts.into_iter().for_each(|(_, part)| all.extend(part));
    Op::Table(all.into())
}
