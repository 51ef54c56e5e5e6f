//! A plan: what to do to the kernel, in an order that is safe at every step.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use crate::scheduler::Scheduler;
use crate::state::{
    Flags, Persistence, RealServer, RealServerKey, VirtualServer, VirtualServerKey,
};
use crate::table::{Edit, Moved, Turn};

mod stage;
mod steps;

pub use steps::AsDiff;

/// A virtual server without its real servers: what one add or edit carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// Name of the kernel's scheduler.
    pub scheduler: Scheduler,
    /// Flags besides persistence.
    pub flags: Flags,
    /// Persistence; none is off.
    pub persistence: Option<Persistence>,
}

impl ServerSettings {
    /// Those of a virtual server.
    pub fn of(server: &VirtualServer) -> Self {
        Self {
            scheduler: server.scheduler.clone(),
            flags: server.flags,
            persistence: server.persistence,
        }
    }
}

impl fmt::Display for ServerSettings {
    /// `rr`, `mh mh-fallback`, `rr persistent 10800`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.scheduler)?;
        if let Some(Persistence { timeout, prefix }) = self.persistence {
            write!(f, " persistent {timeout}")?;
            if prefix != 32 && prefix != 128 {
                write!(f, "/{prefix}")?;
            }
        }
        for word in self.flags.words(&self.scheduler) {
            write!(f, " {word}")?;
        }
        Ok(())
    }
}

/// One step. Nothing that exists is removed and added again: an edit is in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Change the table, for both families in one transaction. Boxed: there are few
    /// of these, and the others are small and many.
    Table(Box<Edit>),
    /// Make a virtual server (`ipvsadm -A`).
    AddVirtualServer(VirtualServerKey, ServerSettings),
    /// Change its settings in place (`ipvsadm -E`).
    EditVirtualServer(VirtualServerKey, ServerSettings),
    /// Remove it with its real servers (`ipvsadm -D`).
    RemoveVirtualServer(VirtualServerKey),
    /// Add a real server (`ipvsadm -a`).
    AddRealServer(VirtualServerKey, RealServerKey, RealServer),
    /// Change a real server in place (`ipvsadm -e`).
    EditRealServer(VirtualServerKey, RealServerKey, RealServer),
    /// Remove a real server and its connections (`ipvsadm -d`).
    RemoveRealServer(VirtualServerKey, RealServerKey),
    /// Bind VIPs to our link.
    BindVips(BTreeSet<IpAddr>),
    /// Unbind VIPs from our link.
    UnbindVips(BTreeSet<IpAddr>),
}

impl Op {
    /// What it does, a line for each thing done.
    pub fn lines(&self) -> Vec<Line> {
        let server = |action, text| vec![Line::new(VIRTUAL_SERVER, action, text)];
        let real = |action, text| vec![Line::new(REAL_SERVER, action, text)];
        match self {
            Self::Table(edit) => table_lines(edit),
            Self::AddVirtualServer(key, settings) => server("add", format!("{key} {settings}")),
            Self::EditVirtualServer(key, settings) => server("edit", format!("{key} {settings}")),
            Self::RemoveVirtualServer(key) => server("remove", key.to_string()),
            Self::AddRealServer(key, at, to) => real("add", format!("{key} -> {at} {to}")),
            Self::EditRealServer(key, at, to) => real("edit", format!("{key} -> {at} {to}")),
            Self::RemoveRealServer(key, at) => real("remove", format!("{key} -> {at}")),
            Self::BindVips(vips) => lines("vip", "bind", vips).collect(),
            Self::UnbindVips(vips) => lines("vip", "unbind", vips).collect(),
        }
    }
}

impl Op {
    /// How many lines of each object and action [`Self::lines`] has, without
    /// their text: a cold start has an operation for each real server.
    fn tally(&self, mut add: impl FnMut(&'static str, &'static str, usize)) {
        match self {
            Self::Table(edit) => tally_table(edit, add),
            Self::AddVirtualServer(..) => add(VIRTUAL_SERVER, "add", 1),
            Self::EditVirtualServer(..) => add(VIRTUAL_SERVER, "edit", 1),
            Self::RemoveVirtualServer(_) => add(VIRTUAL_SERVER, "remove", 1),
            Self::AddRealServer(..) => add(REAL_SERVER, "add", 1),
            Self::EditRealServer(..) => add(REAL_SERVER, "edit", 1),
            Self::RemoveRealServer(..) => add(REAL_SERVER, "remove", 1),
            Self::BindVips(vips) => add("vip", "bind", vips.len()),
            Self::UnbindVips(vips) => add("vip", "unbind", vips.len()),
        }
    }
}

fn tally_table(edit: &Edit, mut add: impl FnMut(&'static str, &'static str, usize)) {
    let rows = edit.rows.values().filter_map(action);
    rows.for_each(|action| add("front", action, 1));
    let moved = [
        ("guard", counts_of(&edit.guarded)),
        ("hairpin", counts_of(&edit.hairpin)),
        ("untracked", counts_of(&edit.untracked)),
        ("network", counts_of(&edit.networks)),
    ];
    for (object, (added, removed)) in moved {
        add(object, "add", added);
        add(object, "remove", removed);
    }
}

fn counts_of<K>(moved: &Moved<K>) -> (usize, usize) {
    (moved.add.len(), moved.remove.len())
}

/// What is done to a row.
fn action(turn: &Turn) -> Option<&'static str> {
    match (&turn.from, &turn.to) {
        (None, Some(_)) => Some("add"),
        (Some(_), Some(_)) => Some("edit"),
        (Some(_), None) => Some("remove"),
        (None, None) => None,
    }
}

const VIRTUAL_SERVER: &str = "virtual server";
const REAL_SERVER: &str = "real server";

fn table_lines(edit: &Edit) -> Vec<Line> {
    let Edit {
        guarded,
        hairpin,
        networks,
        untracked,
        ..
    } = edit;
    let rows = edit.rows.iter().filter_map(|(front, turn)| {
        let text = match &turn.to {
            Some(to) => format!("{front} {to}"),
            None => front.to_string(),
        };
        Some(Line::new("front", action(turn)?, text))
    });
    let gone = lines("guard", "remove", &guarded.remove)
        .chain(lines("hairpin", "remove", &hairpin.remove))
        .chain(lines("untracked", "remove", &untracked.remove))
        .chain(lines("network", "remove", &networks.remove));
    let come = lines("guard", "add", &guarded.add)
        .chain(lines("hairpin", "add", &hairpin.add))
        .chain(lines("untracked", "add", &untracked.add))
        .chain(lines("network", "add", &networks.add));
    gone.chain(come).chain(rows).collect()
}

fn lines<T: fmt::Display>(
    object: &'static str,
    action: &'static str,
    all: &BTreeSet<T>,
) -> impl Iterator<Item = Line> {
    let lines = all.iter();
    lines.map(move |one| Line::new(object, action, one.to_string()))
}

/// One thing done, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `front`, `guard`, `hairpin`, `untracked`, `network`, `virtual server`, `real server`, `vip`.
    pub object: &'static str,
    /// `add`, `edit`, `remove`, `bind`, `unbind`.
    pub action: &'static str,
    /// On what, and how it will be.
    pub text: String,
}

impl Line {
    fn new(object: &'static str, action: &'static str, text: String) -> Self {
        Self {
            object,
            action,
            text,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}  {}", self.object, self.action, self.text)
    }
}

/// Steps in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub ops: Vec<Op>,
}

impl Plan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Takes in what is done after it. The longer part stays where it is: that of
    /// a cold start is not to be there twice.
    pub fn append(&mut self, mut later: Self) {
        if self.ops.len() < later.ops.len() {
            later.ops.splice(0..0, self.ops.drain(..));
            self.ops = later.ops;
        } else {
            self.ops.append(&mut later.ops);
        }
    }

    /// How many things of each kind are done, by object and action: `("real server", "add") -> 3`.
    pub fn counts(&self) -> BTreeMap<(&'static str, &'static str), usize> {
        let mut counts = BTreeMap::new();
        for op in &self.ops {
            op.tally(|object, action, count| {
                if count > 0 {
                    *counts.entry((object, action)).or_default() += count;
                }
            });
        }
        counts
    }

    /// Everything that is done, in order, in words.
    pub fn lines(&self) -> impl Iterator<Item = Line> + '_ {
        self.ops.iter().flat_map(Op::lines)
    }
}

impl fmt::Display for Plan {
    /// A line for each thing done.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::row::{Row, Verdict};
    use crate::state::Front;
    use crate::table::Untracked;

    /// One of everything.
    fn of_everything() -> Plan {
        let front = |text: &str| -> Front { text.parse().unwrap() };
        let turn = |from: Option<Verdict>, to: Option<Verdict>| Turn {
            from: from.map(Row::of),
            to: to.map(Row::of),
        };
        let (some, other) = (Some(Verdict::Serve), Some(Verdict::Refuse));
        let vips = BTreeSet::from(["10.96.0.1".parse().unwrap(), "10.96.0.2".parse().unwrap()]);
        let moved = || Moved {
            add: vips.clone(),
            remove: BTreeSet::from(["10.96.0.3".parse().unwrap()]),
        };
        let edit = Edit {
            rows: BTreeMap::from([
                (front("10.96.0.1:1/TCP"), turn(None, some)),
                (front("10.96.0.1:2/TCP"), turn(some, other)),
                (front("10.96.0.1:3/TCP"), turn(some, None)),
                (front("10.96.0.1:4/TCP"), turn(None, None)),
            ]),
            guarded: moved(),
            hairpin: moved(),
            networks: Moved {
                add: BTreeSet::from(["10.96.0.0/16".parse().unwrap()]),
                remove: BTreeSet::from(["10.97.0.0/16".parse().unwrap()]),
            },
            untracked: Moved {
                add: BTreeSet::from([Untracked::Front(front("10.96.0.1:1/TCP"))]),
                remove: BTreeSet::new(),
            },
        };
        let key = VirtualServerKey::Front(front("10.96.0.1:1/TCP"));
        let real = "10.244.0.1:80".parse().unwrap();
        let weight = RealServer {
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
        };
        let settings = ServerSettings {
            scheduler: "rr".into(),
            flags: Flags::default(),
            persistence: None,
        };
        Plan {
            ops: vec![
                Op::Table(edit.into()),
                Op::AddVirtualServer(key, settings.clone()),
                Op::EditVirtualServer(key, settings),
                Op::AddRealServer(key, real, weight),
                Op::EditRealServer(key, real, weight),
                Op::UnbindVips(vips.clone()),
                Op::BindVips(vips),
                Op::RemoveRealServer(key, real),
                Op::RemoveVirtualServer(key),
            ],
        }
    }

    #[test]
    fn what_is_counted_are_the_lines() {
        let plan = of_everything();

        let mut lines = BTreeMap::new();
        for line in plan.lines() {
            *lines.entry((line.object, line.action)).or_default() += 1;
        }

        assert_eq!(plan.counts(), lines);
        assert_eq!(lines[&("guard", "add")], 2);
        assert_eq!(lines.len(), 18);
    }

    #[test]
    fn what_is_done_later_stands_behind_whichever_is_longer() {
        let whole = of_everything();
        for length in 0..=whole.ops.len() {
            let mut before = whole.clone();
            let later = before.ops.split_off(length);
            before.append(Plan { ops: later });
            assert_eq!(before, whole);
        }
    }

    #[test]
    fn programs_get_every_value_with_its_type() {
        let plan = of_everything();
        let json = serde_json::to_value(&plan).unwrap();
        let steps = json["steps"].as_array().unwrap();
        assert_eq!(json["changes"], plan.lines().count());
        assert_eq!(steps.len(), plan.lines().count());
        for (step, line) in steps.iter().zip(plan.lines()) {
            assert_eq!(step["object"], line.object.replace(' ', "-"), "{line}");
            let action = match line.action {
                "bind" => "add",
                "unbind" => "remove",
                action => action,
            };
            assert_eq!(step["action"], action, "{line}");
        }
        insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap());
    }

    #[test]
    fn people_get_a_diff() {
        insta::assert_snapshot!(AsDiff(&of_everything()).to_string());
        assert_eq!(AsDiff(&Plan::default()).to_string(), "");
    }

    /// A cold start has an operation for each real server.
    #[test]
    fn an_operation_is_small() {
        assert!(size_of::<Op>() <= 80, "{}", size_of::<Op>());
    }
}
