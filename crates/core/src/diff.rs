//! From what the kernel holds to what it should hold.
//!
//! The order is what keeps every step safe:
//!
//! 1. guards in, and each row becomes the [stricter](Row::stricter_of) of what
//!    it is and what it will be; a row whose virtual servers are there already
//!    is as it will be at once, so that a table that was lost, or a node taken
//!    over, refuses nobody
//! 2. virtual servers and real servers in
//! 3. VIPs out
//! 4. rows [open](Row::opened) the ways to virtual servers, and end those that go
//! 5. VIPs in
//! 6. real servers and virtual servers out
//! 7. each row becomes what it will be; guards out

mod said;
mod touched;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::iter;
use core::net::IpAddr;

use self::said::Said;
pub use self::touched::Touched;
use crate::plan::{Op, Plan, ServerSettings};
use crate::refused::{Change, Goal, Refused};
use crate::row::{Meanwhile, Row};
use crate::state::{
    Front, KernelState, RealServer, RealServerKey, VirtualServer, VirtualServerKey,
};
use crate::table::Moved;

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
    pub drained: Arc<BTreeSet<(VirtualServerKey, RealServerKey)>>,
    /// Real servers that are not desired, but keep their connections at weight 0.
    pub kept: Arc<BTreeSet<(VirtualServerKey, RealServerKey)>>,
    /// Orders the real servers that are added: [`crate::seed`] of the node's
    /// name, so that not every node begins with the same one. Not where clients
    /// are hashed.
    pub seed: u64,
    /// What the kernel would not do and is not asked for again now.
    pub refused: Refused,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            owned: Owned::All,
            drained: Arc::default(),
            kept: Arc::default(),
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
    let mut steps = Steps::default();
    for key in &touched.virtual_servers {
        if !goal.leaves_server(key) {
            let want = goal.server(key);
            let have = observed.virtual_servers.get(key);
            steps.virtual_server(key, want.as_ref(), have, terms);
        }
    }
    for vip in &touched.vips {
        match (goal.binds(*vip), observed.vips.contains(vip)) {
            (true, false) => _ = steps.bind.insert(*vip),
            (false, true) => _ = steps.unbind.insert(*vip),
            _ => {}
        }
    }
    for front in &touched.fronts {
        steps.row(front, &goal);
    }
    steps.addresses(&touched, &goal);
    steps.into_plan(&terms.refused)
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

/// The steps by phase. An edit of the table is made when something is said in it:
/// a change of real servers has none.
#[derive(Debug, Default)]
struct Steps {
    closing: Said,
    servers_in: Vec<Op>,
    unbind: BTreeSet<IpAddr>,
    opening: Said,
    bind: BTreeSet<IpAddr>,
    servers_out: Vec<Op>,
    last: Said,
    meanwhile: Meanwhile,
}

impl Steps {
    fn virtual_server(
        &mut self,
        key: &VirtualServerKey,
        want: Option<&Arc<VirtualServer>>,
        have: Option<&Arc<VirtualServer>>,
        terms: &Terms,
    ) {
        let none = BTreeMap::new();
        let Some(want) = want else {
            let Some(have) = have.filter(|_| terms.owned.contains(key)) else {
                return;
            };
            let mut reals = have.real_servers.keys();
            if reals.any(|real| terms.kept.contains(&(*key, *real))) {
                self.real_servers(key, [&none, &have.real_servers], 0, terms)
            } else {
                self.servers_out.push(Op::RemoveVirtualServer(*key))
            }
            return;
        };
        match have {
            None => {
                let settings = ServerSettings::of(want);
                self.servers_in.push(Op::AddVirtualServer(*key, settings));
            }
            Some(have) if !have.has_settings_of(want) => {
                let settings = ServerSettings::of(want);
                self.servers_in.push(Op::EditVirtualServer(*key, settings));
            }
            Some(_) => {}
        }
        let have = have.map_or(&none, |have| &have.real_servers);
        // Who hashes clients does it over the list: nodes must have the same one.
        let seed = if want.hashes() { 0 } else { terms.seed };
        self.real_servers(key, [&want.real_servers, have], seed, terms);
    }

    fn real_servers(
        &mut self,
        key: &VirtualServerKey,
        [want, have]: [&BTreeMap<RealServerKey, RealServer>; 2],
        seed: u64,
        terms: &Terms,
    ) {
        let stays = |real: &RealServerKey, to: &RealServer| {
            to.weight != 0 || !terms.drained.contains(&(*key, *real))
        };
        // Both are in one order: each is found where the last one was left.
        let mut there = have.iter().peekable();
        let (mut added, mut gone) = (Vec::new(), Vec::new());
        for (real, to) in want.iter().filter(|(real, to)| stays(real, to)) {
            gone.extend(iter::from_fn(|| there.next_if(|(other, _)| *other < real)));
            match there.next_if(|(other, _)| *other == real) {
                None => added.push((*real, *to)),
                Some((_, now)) if now != to => {
                    self.servers_in.push(Op::EditRealServer(*key, *real, *to));
                }
                Some(_) => {}
            }
        }
        gone.extend(there);
        if added.len() > 1 {
            added.sort_by_cached_key(|(real, _)| (place(seed, real), *real));
        }
        let added = added.into_iter();
        self.servers_in
            .extend(added.map(|(real, to)| Op::AddRealServer(*key, real, to)));
        for (real, now) in gone {
            if !terms.kept.contains(&(*key, *real)) {
                self.servers_out.push(Op::RemoveRealServer(*key, *real));
            } else if now.weight != 0 {
                let to = RealServer { weight: 0, ..*now };
                self.servers_in.push(Op::EditRealServer(*key, *real, to));
            }
        }
    }

    /// First the stricter row, then, when its virtual servers are there, the
    /// ways to them, and when those that go are gone, the row itself.
    fn row(&mut self, front: &Front, goal: &Goal<'_>) {
        let none = Row::default();
        let have = goal.observed.row(front).unwrap_or(&none);
        let want = goal.row(front);
        let want = want.as_deref().unwrap_or(&none);
        if have == want {
            return;
        }
        let ready = |key: &VirtualServerKey| {
            goal.observed.virtual_servers.contains_key(key) && goal.server(key).is_some()
        };
        let loses = || goal.loses_servers(front, have, want);
        let sources = self.meanwhile.sources(have, want, loses);
        let first = Row::stricter_of(have, want, front, sources.clone(), ready);
        let opened = Row::opened(have, want, sources);
        self.closing.turn(*front, have, &first);
        self.opening.turn(*front, &first, &opened);
        self.last.turn(*front, &opened, want);
    }

    /// What is said of addresses and networks.
    fn addresses(&mut self, touched: &Touched, goal: &Goal<'_>) {
        let have = &goal.observed.table;
        for vip in &touched.guarded {
            let there = have.guarded.contains(vip);
            match (goal.guards(vip), there) {
                (true, false) => _ = self.closing.get().guarded.add.insert(*vip),
                (false, true) => _ = self.last.get().guarded.remove.insert(*vip),
                _ => {}
            }
        }
        let desired = &goal.desired.table;
        for address in touched.hairpin.iter().filter(|at| !goal.leaves_hairpin(at)) {
            let there = have.hairpin.contains(address);
            match (desired.hairpin.contains(address), there) {
                (true, false) => _ = self.closing.get().hairpin.add.insert(*address),
                (false, true) => _ = self.last.get().hairpin.remove.insert(*address),
                _ => {}
            }
        }
        self.untracked(touched, goal);
        // When the VIPs in it are bound: what is no Service's yet may be one's then.
        let touched = touched.networks.iter();
        for net in touched.filter(|net| !goal.leaves_network(net)) {
            let Moved { add, remove } = &mut self.last.get().networks;
            match (desired.networks.contains(net), have.networks.contains(net)) {
                (true, false) => _ = add.insert(*net),
                (false, true) => _ = remove.insert(*net),
                _ => {}
            }
        }
    }

    /// While endpoints come and go it is said of both, so that an answer is
    /// tracked only if its question was.
    fn untracked(&mut self, touched: &Touched, goal: &Goal<'_>) {
        let (desired, have) = (&goal.desired.table, &goal.observed.table);
        let touched = touched.untracked.iter();
        for one in touched.filter(|one| !goal.leaves_untracked(one)) {
            let there = have.untracked.contains(one);
            match (desired.untracked.contains(one), there) {
                (true, false) => _ = self.closing.get().untracked.add.insert(*one),
                (false, true) => _ = self.last.get().untracked.remove.insert(*one),
                _ => {}
            }
        }
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
        // A cold start's are many, and are not to be there twice: the others, and
        // the five beside them, join them where they are.
        let mut ops = self.servers_in;
        ops.reserve_exact(self.servers_out.len() + 5);
        if let Some(closing) = self.closing.op() {
            ops.insert(0, closing);
        }
        ops.extend(unbind.map(Op::UnbindVips));
        ops.extend(self.opening.op());
        ops.extend(bind.map(Op::BindVips));
        ops.extend(self.servers_out);
        ops.extend(self.last.op());
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
                Op::Table(_) | Op::RemoveVirtualServer(_) | Op::BindVips(_) => return false,
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
