//! What the kernel would not do, and what is right then instead.
//!
//! A front whose virtual server is not there, or has nobody to send new
//! connections to, is a closed front: refused for everybody, as one without
//! endpoints is. Nobody else's front changes. A plan is made with what was
//! refused in sight ([`Terms::refused`](crate::Terms::refused)), so a refusal
//! half-way ends a plan, and the next one, made in the same round, closes what
//! must be closed and goes on with all the rest.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crate::diff::Touched;
use crate::plan::{Op, Plan};
use crate::state::{
    Front, KernelState, NftElement, NftSet, NftState, RealServerKey, VirtualServer,
    VirtualServerKey,
};

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
    /// What the nftables table says of a front.
    Front(Front),
    /// An address in a set of the table.
    Address(NftSet, IpAddr),
    /// A network of ClusterIPs.
    Network(ipnet::IpNet),
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
            Self::Bind(_) | Self::Unbind(_) | Self::Address(..) | Self::Network(_) => None,
        }
    }

    /// The address it concerns, where it is about no virtual server.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Bind(vip) | Self::Unbind(vip) | Self::Address(_, vip) => Some(*vip),
            _ => None,
        }
    }

    /// Kind of the object, for metrics: `virtual_server`, `real_server`, `vip`, `nft`.
    pub fn object(&self) -> &'static str {
        match self {
            Self::AddVirtualServer(_)
            | Self::EditVirtualServer(_)
            | Self::RemoveVirtualServer(_) => "virtual_server",
            Self::AddRealServer(..) | Self::EditRealServer(..) | Self::RemoveRealServer(..) => {
                "real_server"
            }
            Self::Bind(_) | Self::Unbind(_) => "vip",
            Self::Front(_) | Self::Address(..) | Self::Network(_) => "nft",
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
            Op::Nft { .. } | Op::BindVips(_) | Op::UnbindVips(_) => return None,
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
            Self::Front(front) => write!(f, "nft front {front}"),
            Self::Address(set, address) => write!(f, "nft {} {address}", set.name()),
            Self::Network(net) => write!(f, "nft {} {net}", NftSet::ServiceCidrs.name()),
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
            Change::Bind(vip) | Change::Unbind(vip) | Change::Address(_, vip) => {
                touched.vips.insert(*vip);
                let address = NftElement::Address(*vip);
                touched.elements.insert((NftSet::Vips, address));
                if let Change::Address(set, _) = change {
                    touched.elements.insert((*set, address));
                }
            }
            Change::Front(front) => {
                for set in [NftSet::Restricted, NftSet::DropOutside] {
                    touched.elements.insert((set, NftElement::Front(*front)));
                }
                for set in [NftSet::Masquerade, NftSet::MasqueradeOffCluster] {
                    touched.elements.insert((set, NftElement::Front(*front)));
                }
                for state in [desired, observed] {
                    let sources = state.nft.get(&NftSet::AllowedSources);
                    let sources = sources.into_iter().flat_map(|all| sources_of(all, *front));
                    let sources = sources.map(|source| (NftSet::AllowedSources, source));
                    touched.elements.extend(sources);
                }
            }
            Change::Network(net) => {
                let network = NftElement::Network(*net);
                touched.elements.insert((NftSet::ServiceCidrs, network));
            }
            _ => {}
        }
    }
}

/// The networks that a front is open to, and perhaps ports behind it. Costs as much as there are.
fn sources_of(all: &BTreeSet<NftElement>, front: Front) -> impl Iterator<Item = NftElement> + '_ {
    // The least of a front's: no others are looked at.
    let least = ipnet::IpNet::from(ipnet::Ipv4Net::default());
    let first = NftElement::Source(front.into(), least);
    all.range(first..)
        .take_while(
            move |element| matches!(element, NftElement::Source(of, _) if of.front() == front),
        )
        .copied()
}

/// Elements that depend on whether a virtual server is there.
fn touch_fronts(key: &VirtualServerKey, states: [&KernelState; 2], touched: &mut Touched) {
    let fronts: BTreeSet<Front> = match key {
        VirtualServerKey::Front(front) => [*front].into(),
        VirtualServerKey::Mark { mark, family } => {
            let all = states.into_iter().flat_map(|state| marks(&state.nft));
            let of = all.filter_map(|(_, element)| match element {
                NftElement::Mark(front, of) if of == *mark && element.family() == *family => {
                    Some(front)
                }
                _ => None,
            });
            of.collect()
        }
    };
    for front in fronts {
        for set in [NftSet::ServicePorts, NftSet::Reject] {
            touched.elements.insert((set, NftElement::Front(front)));
        }
        for state in states {
            for set in NftSet::MARKS {
                let Some(VirtualServerKey::Mark { mark, .. }) = state.by_mark(set, front) else {
                    continue;
                };
                let element = NftElement::Mark(front, mark);
                touched.elements.insert((set, element));
            }
        }
    }
}

fn marks(nft: &NftState) -> impl Iterator<Item = (NftSet, NftElement)> {
    let maps = NftSet::MARKS.into_iter();
    maps.flat_map(|set| nft.get(&set).into_iter().flatten().map(move |e| (set, *e)))
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
    pub(crate) fn server(&self, key: &VirtualServerKey) -> Option<Cow<'a, VirtualServer>> {
        let want = self.desired.virtual_servers.get(key)?;
        let have = self.observed.virtual_servers.get(key);
        if have.is_none() && self.refused.contains(&Change::AddVirtualServer(*key)) {
            return None;
        }
        let Some(reals) = self.refused.real_servers.get(key) else {
            return Some(Cow::Borrowed(want));
        };
        let mut left = want.clone();
        left.real_servers.retain(|real, _| {
            let there = have.is_some_and(|have| have.real_servers.contains_key(real));
            there || !reals.contains(real)
        });
        let gone = left.real_servers.is_empty() && !want.real_servers.is_empty();
        (!gone).then_some(Cow::Owned(left))
    }

    /// Whether a virtual server takes new connections, or would not by anybody's fault.
    fn answers(&self, key: &VirtualServerKey) -> bool {
        if !self.refused.concerns(key) {
            return self.desired.virtual_servers.contains_key(key);
        }
        let takes = |server: &VirtualServer| server.real_servers.values().any(|r| r.weight > 0);
        let want = self.desired.virtual_servers.get(key);
        let left = self.server(key);
        left.is_some_and(|left| takes(&left) || !want.is_some_and(takes))
    }

    /// Whether a front that should be open is closed, since nobody would answer.
    fn is_closed(&self, front: Front) -> bool {
        if self.refused.all.is_empty()
            || !self.wants(NftSet::ServicePorts, &NftElement::Front(front))
        {
            return false;
        }
        if self.refused.contains(&Change::Front(front)) {
            return true;
        }
        let own = VirtualServerKey::Front(front);
        if self.desired.virtual_servers.contains_key(&own) {
            return !self.answers(&own);
        }
        let mut marks = [NftSet::NodePortMarks, NftSet::InsideMarks].into_iter();
        // Without any, it is a health-check port, which the host answers.
        let mark = marks.find_map(|map| self.desired.by_mark(map, front));
        mark.is_some_and(|mark| !self.answers(&mark))
    }

    /// Whether a VIP should be bound.
    pub(crate) fn binds(&self, vip: IpAddr) -> bool {
        let guard = Change::Address(NftSet::Vips, vip);
        self.desired.vips.contains(&vip) && !self.refused.contains(&guard)
    }

    /// Whether an element should be there.
    pub(crate) fn has(&self, set: NftSet, element: &NftElement) -> bool {
        let wanted = self.wants(set, element);
        match (set, element) {
            (NftSet::ServicePorts, NftElement::Front(front)) => wanted && !self.is_closed(*front),
            (NftSet::Reject, NftElement::Front(front)) => wanted || self.is_closed(*front),
            (NftSet::InsideMarks | NftSet::NodePortMarks, NftElement::Mark(front, mark)) => {
                let (mark, family) = (*mark, element.family());
                wanted
                    && !self.is_closed(*front)
                    && self.answers(&VirtualServerKey::Mark { mark, family })
            }
            // While a VIP that would not go is bound, its other ports stay out of reach.
            (NftSet::Vips, NftElement::Address(vip)) => {
                wanted
                    || self.refused.contains(&Change::Unbind(*vip))
                        && self.observed.vips.contains(vip)
            }
            _ => wanted,
        }
    }

    /// Whether an element stays as it is, there or not.
    pub(crate) fn leaves(&self, set: NftSet, element: &NftElement) -> bool {
        match element {
            NftElement::Address(address) => self.refused.contains(&Change::Address(set, *address)),
            NftElement::Source(ports, _) => self.refused.contains(&Change::Front(ports.front())),
            NftElement::Network(net) => self.refused.contains(&Change::Network(*net)),
            NftElement::Front(front) if !matches!(set, NftSet::ServicePorts | NftSet::Reject) => {
                self.refused.contains(&Change::Front(*front))
            }
            // What closes the front is tried all the same.
            NftElement::Front(_) | NftElement::Mark(..) => false,
        }
    }

    /// Whether a virtual server stays as it is, there or not: the table would
    /// not take what is said of its front.
    pub(crate) fn leaves_server(&self, key: &VirtualServerKey) -> bool {
        let VirtualServerKey::Front(front) = key else {
            return false;
        };
        self.refused.contains(&Change::Front(*front))
    }

    fn wants(&self, set: NftSet, element: &NftElement) -> bool {
        let all = self.desired.nft.get(&set);
        all.is_some_and(|all| all.contains(element))
    }

    /// Everything touched, and what depends on it by way of a refusal.
    pub(crate) fn touched<'t>(&self, touched: &'t Touched) -> Cow<'t, Touched> {
        if self.refused.all.is_empty() {
            return Cow::Borrowed(touched);
        }
        let keys = touched.virtual_servers.iter().copied();
        let keys = keys.filter(|key| self.refused.concerns(key));
        let fronts = touched.elements.iter().filter_map(|element| match element {
            (NftSet::ServicePorts, NftElement::Front(front)) => {
                Some(VirtualServerKey::Front(*front))
            }
            _ => None,
        });
        let mut all = touched.clone();
        for key in keys.chain(fronts) {
            touch_fronts(&key, [self.desired, self.observed], &mut all);
        }
        Cow::Owned(all)
    }
}

impl Plan {
    /// The plan without what was refused of it; of a virtual server that was
    /// not made no real servers were added.
    pub fn without(&self, refused: &BTreeSet<Change>) -> Self {
        let left = |op: &Op| {
            let vips = |vips: &BTreeSet<IpAddr>, refusal: fn(IpAddr) -> Change| {
                let left = vips.iter().filter(|vip| !refused.contains(&refusal(**vip)));
                left.copied().collect::<BTreeSet<_>>()
            };
            match op {
                Op::BindVips(all) => Some(Op::BindVips(vips(all, Change::Bind))),
                Op::UnbindVips(all) => Some(Op::UnbindVips(vips(all, Change::Unbind))),
                Op::Nft { .. } => Some(op.clone()),
                _ => {
                    let change = Change::of(op)?;
                    let server = change.virtual_server()?;
                    let unmade = refused.contains(&Change::AddVirtualServer(server));
                    (!unmade && !refused.contains(&change)).then(|| op.clone())
                }
            }
        };
        Self {
            ops: self.ops.iter().filter_map(left).collect(),
        }
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
        let rest = self.ops.split_off(length);
        let ops = std::mem::replace(&mut self.ops, rest);
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
        Op::Nft { .. } | Op::BindVips(_) | Op::UnbindVips(_) => Stage::Alone,
        Op::AddVirtualServer(..)
        | Op::EditVirtualServer(..)
        | Op::AddRealServer(..)
        | Op::EditRealServer(..) => Stage::In,
        Op::RemoveVirtualServer(_) | Op::RemoveRealServer(..) => Stage::Out,
    }
}

/// The parts of a transaction that can be told apart, each with what it would
/// be by itself: what is said of one front, or one address in a set.
pub fn parts(add: &NftState, remove: &NftState) -> Vec<(Change, Op)> {
    let mut parts: BTreeMap<Change, (NftState, NftState)> = BTreeMap::new();
    for (from, added) in [(remove, false), (add, true)] {
        for (set, elements) in from {
            for element in elements {
                let (to_add, to_remove) = parts.entry(part_of(*set, element)).or_default();
                let part = if added { to_add } else { to_remove };
                part.entry(*set).or_default().insert(*element);
            }
        }
    }
    let parts = parts.into_iter();
    parts
        .map(|(change, (add, remove))| (change, Op::Nft { add, remove }))
        .collect()
}

/// Several parts in one transaction.
pub fn together<'a>(parts: impl IntoIterator<Item = &'a (Change, Op)>) -> Op {
    let (mut all_added, mut all_removed) = (NftState::new(), NftState::new());
    for (_, op) in parts {
        let Op::Nft { add, remove } = op else {
            continue;
        };
        for (from, into) in [(add, &mut all_added), (remove, &mut all_removed)] {
            for (set, elements) in from {
                into.entry(*set).or_default().extend(elements);
            }
        }
    }
    Op::Nft {
        add: all_added,
        remove: all_removed,
    }
}

fn part_of(set: NftSet, element: &NftElement) -> Change {
    match element {
        NftElement::Address(address) => Change::Address(set, *address),
        NftElement::Network(net) => Change::Network(*net),
        NftElement::Front(front) | NftElement::Mark(front, _) => Change::Front(*front),
        // The other ports stay restricted, so what is refused here opens none of them.
        NftElement::Source(ports, _) => Change::Front(ports.front()),
    }
}
