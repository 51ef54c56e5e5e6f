//! The law of refusals, over all pairs of many small states: whatever the
//! kernel refuses, at whatever step, no front is open without its server, the
//! rest is carried out, and nothing is asked for again until it is to be tried.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::law::{HEALTH, states};
use crate::diff::{Terms, Touched, diff, diff_touched};
use crate::fixtures::*;
use crate::model::Model;
use crate::options::NodePortServers;
use crate::plan::{Op, Plan};
use crate::refused::{Change, Refused, parts, together};
use crate::row::Verdict;
use crate::state::{Front, KernelState, RealServerKey, VirtualServerKey};
use crate::table::Edit;

/// A kernel that refuses some changes whenever it is asked for them.
struct Refusing {
    model: Model,
    changes: BTreeSet<Change>,
    /// Everything that was done.
    done: Plan,
    /// Dangers are no fault of a plan that begins with them.
    begins_in_danger: bool,
}

impl Refusing {
    fn new(state: &KernelState, changes: impl IntoIterator<Item = Change>) -> Self {
        Self {
            model: Model::new(state.clone()),
            changes: changes.into_iter().collect(),
            done: Plan::default(),
            begins_in_danger: false,
        }
    }

    /// Brings it to what is desired, as far as it lets us: stage after stage, and
    /// a new plan after a refusal.
    fn bring_to(&mut self, desired: &KernelState, terms: &mut Terms) {
        let touched = Touched::between(desired, self.model.state());
        let plan = diff_touched(desired, self.model.state(), &touched, terms);
        self.carry_out(plan, touched, desired, terms);
    }

    fn carry_out(
        &mut self,
        mut plan: Plan,
        mut touched: Touched,
        desired: &KernelState,
        terms: &mut Terms,
    ) {
        while let Some(stage) = plan.next_stage() {
            let refused = self.stage(&stage);
            if refused.is_empty() {
                continue;
            }
            for change in refused {
                assert!(terms.refused.insert(change), "{change} is asked for again");
                Refused::touch(&change, desired, self.model.state(), &mut touched);
            }
            plan = diff_touched(desired, self.model.state(), &touched, terms);
        }
        let left = diff_touched(desired, self.model.state(), &touched, terms);
        assert_eq!(left, Plan::default(), "{}", self.story());
    }

    fn stage(&mut self, stage: &Plan) -> BTreeSet<Change> {
        let refused = match &stage.ops[..] {
            [Op::Table(edit)] => return self.transaction(edit),
            ops => self.refused_of(ops),
        };
        for op in &stage.without(&refused).ops {
            self.step(op);
        }
        refused
    }

    fn refused_of(&self, ops: &[Op]) -> BTreeSet<Change> {
        let all = ops.iter().flat_map(|op| match op {
            Op::BindVips(vips) => vips.iter().map(|vip| Change::Bind(*vip)).collect(),
            Op::UnbindVips(vips) => vips.iter().map(|vip| Change::Unbind(*vip)).collect(),
            op => Vec::from_iter(Change::of(op)),
        });
        all.filter(|change| self.changes.contains(change)).collect()
    }

    /// As the caller of the table does it: the parts that are not refused.
    fn transaction(&mut self, edit: &Edit) -> BTreeSet<Change> {
        let parts = parts(edit);
        let (bad, good): (Vec<_>, Vec<_>) = parts
            .into_iter()
            .partition(|(change, _)| self.changes.contains(change));
        let whole = Op::Table(edit.clone().into());
        match (bad.is_empty(), good.is_empty()) {
            (true, _) => self.step(&whole),
            (false, false) => self.step(&together(&good)),
            (false, true) => {}
        }
        bad.into_iter().map(|(change, _)| change).collect()
    }

    fn step(&mut self, op: &Op) {
        self.done.ops.push(op.clone());
        assert_eq!(self.model.step(op).err(), None, "{}", self.story());
        if !self.begins_in_danger {
            assert_eq!(self.dangers(), [""; 0], "{}", self.story());
        }
    }

    fn dangers(&self) -> Vec<String> {
        let health = BTreeSet::from([HEALTH.parse::<Front>().unwrap()]);
        self.model.dangers(&health)
    }

    fn story(&self) -> String {
        format!("refusing {:?}:\n{}", self.changes, self.done)
    }

    /// It refuses nothing any more, and everything is tried again.
    fn heal(&mut self, desired: &KernelState, terms: &mut Terms) {
        self.changes.clear();
        let mut touched = Touched::default();
        for change in terms.refused.clone().iter() {
            Refused::touch(change, desired, self.model.state(), &mut touched);
            terms.refused.remove(change);
        }
        assert!(terms.refused.is_empty());
        let plan = diff_touched(desired, self.model.state(), &touched, terms);
        for op in &plan.ops {
            self.step(op);
        }
    }
}

/// Everything that a plan asks for, one by one, and all real servers of each
/// virtual server at once.
fn refusals(plan: &Plan) -> Vec<BTreeSet<Change>> {
    let mut alone = BTreeSet::new();
    let mut reals: BTreeMap<VirtualServerKey, BTreeSet<Change>> = BTreeMap::new();
    for op in &plan.ops {
        match op {
            Op::BindVips(vips) => alone.extend(vips.iter().map(|vip| Change::Bind(*vip))),
            Op::UnbindVips(vips) => alone.extend(vips.iter().map(|vip| Change::Unbind(*vip))),
            // The guard of an address; what is said of fronts is another test's.
            Op::Table(edit) => alone.extend(edit.guarded.add.iter().copied().map(Change::Guard)),
            op => alone.extend(Change::of(op)),
        }
        if let Op::AddRealServer(key, real, _) = op {
            let change = Change::AddRealServer(*key, *real);
            reals.entry(*key).or_default().insert(change);
        }
    }
    let alone = alone.into_iter().map(|change| [change].into());
    let several = reals.into_values().filter(|reals| reals.len() > 1);
    alone.chain(several).collect()
}

#[test]
fn after_any_refusal_no_front_is_open_without_its_server() {
    let states = states();
    for before in &states {
        for after in &states {
            let touched = Touched::between(after, before);
            let plan = diff_touched(after, before, &touched, &Terms::default());
            for refused in refusals(&plan) {
                let mut kernel = Refusing::new(before, refused);
                let mut terms = Terms::default();
                kernel.carry_out(plan.clone(), touched.clone(), after, &mut terms);
                assert!(!terms.refused.is_empty(), "{}", kernel.story());

                kernel.heal(after, &mut terms);
                assert_eq!(kernel.model.state(), after, "{}", kernel.story());
            }
        }
    }
}

#[test]
fn a_server_that_was_lost_and_is_refused_closes_the_fronts_that_were_open() {
    for state in &states() {
        for key in state.virtual_servers.keys() {
            let mut lost = state.clone();
            lost.virtual_servers.remove(key);
            let mut kernel = Refusing::new(&lost, [Change::AddVirtualServer(*key)]);
            kernel.begins_in_danger = true;

            let mut terms = Terms::default();
            kernel.bring_to(state, &mut terms);
            assert_eq!(kernel.dangers(), [""; 0], "{}", kernel.story());

            kernel.heal(state, &mut terms);
            assert_eq!(kernel.model.state(), state, "{}", kernel.story());
        }
    }
}

#[test]
fn what_the_table_will_not_say_of_a_front_keeps_it_closed_and_no_other() {
    let states = states();
    for before in &states {
        for after in &states {
            let fronts: BTreeSet<Front> = plan(before, after)
                .ops
                .iter()
                .flat_map(|op| match op {
                    Op::Table(edit) => parts(edit),
                    _ => Vec::new(),
                })
                .filter_map(|(change, _)| match change {
                    Change::Front(front) => Some(front),
                    _ => None,
                })
                .collect();
            for front in fronts {
                // All is refused of it but to be closed.
                let mut model = Model::new(before.clone());
                let mut terms = Terms::default();
                terms.refused.insert(Change::Front(front));
                let plan = diff(after, before, &terms);
                for op in &plan.ops {
                    model.step(op).unwrap();
                }
                let state = model.state();
                let verdict = |state: &KernelState| state.row(&front).map(|row| row.verdict);
                let open = verdict(after).is_some_and(Verdict::is_open);
                assert!(
                    !open || verdict(state) == Some(Verdict::Refuse),
                    "{front} in\n{plan}"
                );
                for (other, row) in &after.table.rows {
                    let there = state.row(other) == Some(row);
                    assert!(*other == front || there, "{other} in\n{plan}");
                }
                for key in after.virtual_servers.keys() {
                    let of_front = *key == VirtualServerKey::Front(front);
                    let there = state.virtual_servers.get(key) == after.virtual_servers.get(key);
                    assert!(of_front || there, "{key} in\n{plan}");
                }
            }
        }
    }
}

#[test]
fn the_refusal_of_one_changes_nothing_of_another() {
    let mut cluster = cluster();
    let other = service("other", "10.96.0.2");
    cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
    cluster
        .add(other.clone())
        .endpoints(&other, [ep("10.244.1.8")]);
    let desired = cluster.state();
    let key = "10.96.0.1:80/TCP".parse().unwrap();
    let mut kernel = Refusing::new(&KernelState::default(), [Change::AddVirtualServer(key)]);

    kernel.bring_to(&desired, &mut Terms::default());

    assert_lines(
        &kernel.done,
        "guard  add  10.96.0.1
         guard  add  10.96.0.2
         virtual server  add  10.96.0.2:80/TCP rr
         real server  add  10.96.0.2:80/TCP -> 10.244.1.8:8080 weight 1
         front  add  10.96.0.1:80/TCP refuse
         front  add  10.96.0.2:80/TCP serve
         vip  bind  10.96.0.1
         vip  bind  10.96.0.2",
    );
}

#[test]
fn the_rest_of_the_real_servers_serve() {
    let mut cluster = cluster();
    cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
    let before = cluster.state();
    cluster.endpoints(
        &web(),
        [ep("10.244.1.7"), ep("10.244.1.8"), ep("10.244.1.255")],
    );
    let key: VirtualServerKey = "10.96.0.1:80/TCP".parse().unwrap();
    let real: RealServerKey = "10.244.1.255:8080".parse().unwrap();
    let mut kernel = Refusing::new(&before, [Change::AddRealServer(key, real)]);

    kernel.bring_to(&cluster.state(), &mut Terms::default());

    assert_lines(
        &kernel.done,
        "real server  add  10.96.0.1:80/TCP -> 10.244.1.8:8080 weight 1",
    );
}

#[test]
fn node_ports_whose_mark_has_no_server_are_closed() {
    let mut cluster = cluster_with(crate::Options {
        node_port_servers: NodePortServers::Mark,
        ..options()
    });
    let web = web().node_port(30080);
    cluster.add(web.clone()).endpoints(&web, [ep("10.244.1.7")]);
    let desired = cluster.state();
    let marks = desired.virtual_servers.keys();
    let marks = marks.filter(|key| matches!(key, VirtualServerKey::Mark { .. }));
    let refused: Vec<_> = marks.map(|key| Change::AddVirtualServer(*key)).collect();
    assert!(!refused.is_empty());
    let mut kernel = Refusing::new(&KernelState::default(), refused);

    kernel.bring_to(&desired, &mut Terms::default());

    let front = "192.0.2.1:30080/TCP".parse().unwrap();
    let row = kernel.model.state().row(&front).unwrap();
    assert_eq!((row.verdict, row.mark), (Verdict::Refuse, None));
}

#[test]
fn a_table_that_takes_no_change_opens_nothing_and_strips_nothing() {
    let states = states();
    let mut terms = Terms::default();
    terms.refused.set_tables(true);
    for before in &states {
        for after in &states {
            let mut model = Model::new(before.clone());
            for op in &diff(after, before, &terms).ops {
                model.step(op).unwrap();
            }
            let reached = model.state();
            assert_eq!(reached.table, before.table);
            assert!(reached.vips.is_subset(&before.vips));
            let keys =
                |state: &KernelState| -> Vec<_> { state.virtual_servers.keys().copied().collect() };
            assert_eq!(keys(reached), keys(before));
        }
    }
}

#[test]
fn networks_that_take_the_place_of_others_are_one_part_with_them() {
    let nets = |all: &[&str]| all.iter().map(|net| net.parse().unwrap()).collect();
    let mut edit = Edit::default();
    edit.networks.remove = nets(&["10.0.0.0/8", "172.16.0.0/16", "172.17.0.0/16", "fd00::/64"]);
    edit.networks.add = nets(&["10.1.0.0/16", "10.2.0.0/16", "172.16.0.0/12", "fd01::/64"]);

    let parts = crate::refused::parts(&edit);

    let names: Vec<String> = parts.iter().map(|(change, _)| change.to_string()).collect();
    let named = ["10.1.0.0/16", "172.16.0.0/12", "fd00::/64", "fd01::/64"];
    assert_eq!(names, named.map(|net| format!("network {net}")));
    let mut model = Model::default();
    let mut before = Edit::default();
    before.networks.add = edit.networks.remove.clone();
    model.step(&Op::Table(before.into())).unwrap();
    for (change, part) in parts {
        assert_eq!(model.step(&Op::Table(part.into())), Ok(()), "{change}");
    }
    assert_eq!(model.state().table.networks, edit.networks.add);
}
