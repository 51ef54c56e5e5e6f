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
use core::fmt;
use core::net::IpAddr;

use ipnet::IpNet;

use crate::diff::Touched;
use crate::plan::{Op, Plan};
use crate::state::{Front, KernelState, RealServerKey, VirtualServerKey};
use crate::table::Untracked;

mod goal;
mod parts;

pub(crate) use goal::Goal;
pub use parts::{parts, together};

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
    /// What is not tracked.
    Untracked(Untracked),
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
            | Self::Untracked(_)
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
            Self::Front(_)
            | Self::Guard(_)
            | Self::Hairpin(_)
            | Self::Untracked(_)
            | Self::Network(_) => "table",
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
            Self::Untracked(one) => write!(f, "untracked {one}"),
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
            Change::Untracked(one) => _ = touched.untracked.insert(*one),
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
}
