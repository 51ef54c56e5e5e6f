//! From what the kernel holds to what it should hold.
//!
//! The order is what keeps every step safe:
//!
//! 1. nft: whatever closes something (guard, refusals, source ranges), and
//!    masquerading; with the guard the ports that are served already, so that a
//!    table that was lost, or a node taken over, refuses nobody
//! 2. virtual servers and real servers in
//! 3. VIPs out
//! 4. nft: whatever opens a way to a virtual server, and the ways that end
//! 5. VIPs in
//! 6. real servers and virtual servers out
//! 7. nft: what guarded those

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::plan::{Op, Plan, Settings};
use crate::refused::{Change, Goal, Refused};
use crate::restricted::{Moment, Moments};
use crate::state::{
    KernelState, NftElement, NftSet, NftState, RealServer, RealServerKey, VirtualServer,
    VirtualServerKey,
};

/// Keys that may differ between two states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Virtual servers.
    pub virtual_servers: BTreeSet<VirtualServerKey>,
    /// Addresses on our link.
    pub vips: BTreeSet<IpAddr>,
    /// Elements of our nftables sets.
    pub elements: BTreeSet<(NftSet, NftElement)>,
}

/// Which virtual servers in the kernel are ours.
///
/// A foreign one is never removed. When a Service wants the very same front,
/// ours is the newer claim: it is taken over in place, so that a lost ownership
/// record cannot break connections or keep a Service from being served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owned {
    /// All of them.
    All,
    /// Those in the ownership record.
    These(BTreeSet<VirtualServerKey>),
}

/// What a plan must keep to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// What may be removed.
    pub owned: Owned,
    /// Desired real servers of weight 0 that have drained and should go.
    pub drained: BTreeSet<(VirtualServerKey, RealServerKey)>,
    /// Real servers that are not desired, but keep their connections at weight 0.
    pub kept: BTreeSet<(VirtualServerKey, RealServerKey)>,
    /// Orders the real servers that are added: [`crate::seed`] of the node's
    /// name, so that not every node begins with the same one.
    pub seed: u64,
    /// What the kernel would not do and is not asked for again now.
    pub refused: Refused,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            owned: Owned::All,
            drained: BTreeSet::new(),
            kept: BTreeSet::new(),
            seed: 0,
            refused: Refused::default(),
        }
    }
}

/// The whole difference. Costs as much as both states are big.
pub fn diff(desired: &KernelState, observed: &KernelState, terms: &Terms) -> Plan {
    let mut touched = Touched::between(desired, observed);
    // What has drained is the same in both, and is to go all the same.
    let drained = terms.drained.iter().map(|(server, _)| *server);
    touched.virtual_servers.extend(drained);
    for change in terms.refused.iter() {
        Refused::touch(change, desired, observed, &mut touched);
    }
    diff_touched(desired, observed, &touched, terms)
}

/// The difference in what was touched, and nothing else. Costs as much as that.
pub fn diff_touched(
    desired: &KernelState,
    observed: &KernelState,
    touched: &Touched,
    terms: &Terms,
) -> Plan {
    let goal = Goal {
        desired,
        observed,
        refused: &terms.refused,
    };
    let touched = goal.touched(touched);
    let mut steps = Steps {
        sources: Moments::of(&touched, &goal),
        ..Steps::default()
    };
    for key in &touched.virtual_servers {
        if !goal.leaves_server(key) {
            let want = goal.server(key);
            let have = observed.virtual_servers.get(key);
            steps.virtual_server(key, want.as_deref(), have, terms);
        }
    }
    for vip in &touched.vips {
        match (goal.binds(*vip), observed.vips.contains(vip)) {
            (true, false) => _ = steps.bind.insert(*vip),
            (false, true) => _ = steps.unbind.insert(*vip),
            _ => {}
        }
    }
    for (set, element) in &touched.elements {
        let want = goal.has(*set, element);
        let have = contains(&observed.nft, *set, element);
        match (want, have) {
            _ if want == have || goal.leaves(*set, element) => {}
            (true, _) if is_served(*set, element, &goal) => steps.closing.add(*set, *element),
            (true, _) => steps.add_element(*set, *element),
            (false, _) => steps.remove_element(*set, *element),
        }
    }
    steps.into_plan(&terms.refused)
}

impl Touched {
    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.virtual_servers.is_empty() && self.vips.is_empty() && self.elements.is_empty()
    }

    /// Takes in what was touched later.
    pub fn extend(&mut self, later: Self) {
        self.virtual_servers.extend(later.virtual_servers);
        self.vips.extend(later.vips);
        self.elements.extend(later.elements);
    }

    /// Everything that is in either state and not the same in both.
    pub fn between(desired: &KernelState, observed: &KernelState) -> Self {
        let (want, have) = (&desired.virtual_servers, &observed.virtual_servers);
        let keys = want.keys().chain(have.keys());
        let mut elements = BTreeSet::new();
        for set in NftSet::ALL {
            let none = BTreeSet::new();
            let want = desired.nft.get(&set).unwrap_or(&none);
            let have = observed.nft.get(&set).unwrap_or(&none);
            elements.extend(want.symmetric_difference(have).map(|e| (set, *e)));
        }
        Self {
            virtual_servers: keys
                .filter(|key| want.get(key) != have.get(key))
                .copied()
                .collect(),
            vips: &desired.vips ^ &observed.vips,
            elements,
        }
    }

    /// How much was touched.
    pub fn len(&self) -> usize {
        self.virtual_servers.len() + self.vips.len() + self.elements.len()
    }
}

impl Owned {
    /// Whether a virtual server in the kernel is ours.
    pub fn contains(&self, key: &VirtualServerKey) -> bool {
        match self {
            Self::All => true,
            Self::These(keys) => keys.contains(key),
        }
    }
}

/// Whether it is a port or mark whose virtual server is there, and stays.
fn is_served(set: NftSet, element: &NftElement, goal: &Goal<'_>) -> bool {
    let key = match (set, element) {
        (NftSet::ServicePorts, NftElement::Front(front)) => VirtualServerKey::Front(*front),
        // One that takes another's place goes in with that one's leaving.
        (_, NftElement::Mark(front, mark)) if goal.observed.by_mark(set, *front).is_none() => {
            VirtualServerKey::Mark {
                mark: *mark,
                family: element.family(),
            }
        }
        _ => return false,
    };
    goal.observed.virtual_servers.contains_key(&key) && goal.server(&key).is_some()
}

fn contains(nft: &NftState, set: NftSet, element: &NftElement) -> bool {
    nft.get(&set).is_some_and(|all| all.contains(element))
}

/// The steps by phase.
#[derive(Debug, Default)]
struct Steps {
    /// When the networks of an address change.
    sources: Moments,
    closing: Transaction,
    servers_in: Vec<Op>,
    unbind: BTreeSet<IpAddr>,
    opening: Transaction,
    bind: BTreeSet<IpAddr>,
    servers_out: Vec<Op>,
    last: Transaction,
}

#[derive(Debug, Default)]
struct Transaction {
    add: NftState,
    remove: NftState,
}

impl Transaction {
    fn add(&mut self, set: NftSet, element: NftElement) {
        self.add.entry(set).or_default().insert(element);
    }

    fn into_op(self) -> Option<Op> {
        let Self { add, remove } = self;
        let empty = add.is_empty() && remove.is_empty();
        (!empty).then_some(Op::Nft { add, remove })
    }
}

impl Steps {
    fn virtual_server(
        &mut self,
        key: &VirtualServerKey,
        want: Option<&VirtualServer>,
        have: Option<&VirtualServer>,
        terms: &Terms,
    ) {
        let none = BTreeMap::new();
        let Some(want) = want else {
            let Some(have) = have.filter(|_| terms.owned.contains(key)) else {
                return;
            };
            let mut reals = have.real_servers.keys();
            match reals.any(|real| terms.kept.contains(&(*key, *real))) {
                true => self.real_servers(key, &none, &have.real_servers, terms),
                false => self.servers_out.push(Op::RemoveVirtualServer(*key)),
            }
            return;
        };
        let settings = Settings::of(want);
        match have {
            None => self.servers_in.push(Op::AddVirtualServer(*key, settings)),
            Some(have) if Settings::of(have) != settings => {
                self.servers_in.push(Op::EditVirtualServer(*key, settings));
            }
            Some(_) => {}
        }
        let have = have.map_or(&none, |have| &have.real_servers);
        self.real_servers(key, &want.real_servers, have, terms);
    }

    fn real_servers(
        &mut self,
        key: &VirtualServerKey,
        want: &BTreeMap<RealServerKey, RealServer>,
        have: &BTreeMap<RealServerKey, RealServer>,
        terms: &Terms,
    ) {
        let stays = |real: &RealServerKey, to: &RealServer| {
            to.weight != 0 || !terms.drained.contains(&(*key, *real))
        };
        let mut added = Vec::new();
        for (real, to) in want.iter().filter(|(real, to)| stays(real, to)) {
            match have.get(real) {
                None => added.push((place(terms.seed, real), *real, *to)),
                Some(now) if now != to => {
                    self.servers_in.push(Op::EditRealServer(*key, *real, *to));
                }
                Some(_) => {}
            }
        }
        added.sort_unstable_by_key(|(place, real, _)| (*place, *real));
        let added = added.into_iter();
        self.servers_in
            .extend(added.map(|(_, real, to)| Op::AddRealServer(*key, real, to)));
        for (real, now) in have {
            if want.get(real).is_some_and(|to| stays(real, to)) {
                continue;
            }
            if !terms.kept.contains(&(*key, *real)) {
                self.servers_out.push(Op::RemoveRealServer(*key, *real));
            } else if now.weight != 0 {
                let to = RealServer { weight: 0, ..*now };
                self.servers_in.push(Op::EditRealServer(*key, *real, to));
            }
        }
    }

    fn add_element(&mut self, set: NftSet, element: NftElement) {
        let transaction = match set {
            // Open only when there is a virtual server behind it.
            NftSet::ServicePorts | NftSet::InsideMarks | NftSet::NodePortMarks => &mut self.opening,
            // When the VIPs in it are bound: what is no Service's yet may be one's then.
            NftSet::ServiceCidrs => &mut self.last,
            NftSet::AllowedSources => match self.sources.addition(&element) {
                Moment::First => &mut self.closing,
                Moment::Last => &mut self.last,
            },
            _ => &mut self.closing,
        };
        transaction.add(set, element);
    }

    fn remove_element(&mut self, set: NftSet, element: NftElement) {
        let transaction = match set {
            NftSet::ServicePorts
            | NftSet::InsideMarks
            | NftSet::NodePortMarks
            | NftSet::Reject
            | NftSet::DropOutside => &mut self.opening,
            NftSet::AllowedSources => match self.sources.removal(&element) {
                Moment::First => &mut self.closing,
                Moment::Last => &mut self.last,
            },
            _ => &mut self.last,
        };
        transaction.remove.entry(set).or_default().insert(element);
    }

    /// Without what was refused by itself, and, when the table takes no change,
    /// without all that stands on one.
    fn into_plan(mut self, refused: &Refused) -> Plan {
        self.bind
            .retain(|vip| !refused.contains(&Change::Bind(*vip)));
        self.unbind
            .retain(|vip| !refused.contains(&Change::Unbind(*vip)));
        let unbind = Some(self.unbind).filter(|vips| !vips.is_empty());
        let bind = Some(self.bind).filter(|vips| !vips.is_empty());
        let mut ops = Vec::new();
        ops.extend(self.closing.into_op());
        ops.extend(self.servers_in);
        ops.extend(unbind.map(Op::UnbindVips));
        ops.extend(self.opening.into_op());
        ops.extend(bind.map(Op::BindVips));
        ops.extend(self.servers_out);
        ops.extend(self.last.into_op());
        if !refused.is_empty() {
            ops = left(ops, refused);
        }
        Plan { ops }
    }
}

fn left(ops: Vec<Op>, refused: &Refused) -> Vec<Op> {
    let mut withheld = BTreeSet::new();
    let mut is_left = |op: &Op| {
        if refused.tables() {
            match op {
                Op::AddVirtualServer(key, _) => withheld.insert(*key),
                // Its front may be open still: behind it would be the host.
                Op::Nft { .. } | Op::RemoveVirtualServer(_) | Op::BindVips(_) => return false,
                _ => false,
            };
        }
        let Some(change) = Change::of(op) else {
            return true;
        };
        let server = change.virtual_server();
        !refused.contains(&change) && server.is_none_or(|server| !withheld.contains(&server))
    };
    let mut ops = ops;
    ops.retain(|op| is_left(op));
    ops
}

/// Where a real server stands in the order of its virtual server on this node.
pub(crate) fn place(seed: u64, real: &RealServerKey) -> u64 {
    // The seed must reach every bit, or nodes would only differ by a rotation.
    let mixed = crate::seed(&real.to_string()) ^ seed;
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
