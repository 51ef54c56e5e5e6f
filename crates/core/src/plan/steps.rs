//! A plan for programs, every value with its type, and for readers of diffs.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::{Op, Plan, ServerSettings};
use crate::row::{Masquerade, Row, Verdict};
use crate::state::{Family, Front, Protocol, RealServer, RealServerKey, VirtualServerKey};
use crate::table::{Edit, Moved, Turn, Untracked};

/// One thing done.
#[derive(Debug, Serialize)]
struct Step<'a> {
    /// `add`, `edit`, `remove`.
    action: &'static str,
    #[serde(flatten)]
    on: Object<'a>,
}

/// On what, and how it will be.
#[derive(Debug, Serialize)]
#[serde(tag = "object", rename_all = "kebab-case")]
enum Object<'a> {
    /// A row of our table; null before it is added and after it is removed.
    Front {
        #[serde(flatten)]
        at: At,
        from: Option<RowStep<'a>>,
        to: Option<RowStep<'a>>,
    },
    /// An address whose ports are refused unless a row opens them.
    Guard { address: IpAddr },
    /// An endpoint on this node, which may reach itself by a Service.
    Hairpin { address: IpAddr },
    /// A front or endpoint whose packets are not tracked, or an address that is.
    Untracked { what: String },
    /// A network of ClusterIPs.
    Network { network: IpNet },
    /// A virtual server, without its real servers; null when it is removed.
    VirtualServer {
        #[serde(flatten)]
        by: By,
        settings: Option<SettingsStep<'a>>,
    },
    /// A real server; null when it is removed.
    RealServer {
        virtual_server: By,
        address: IpAddr,
        port: u16,
        settings: Option<RealServerStep>,
    },
    /// An address bound to our link.
    Vip { address: IpAddr },
}

#[derive(Debug, Serialize)]
struct At {
    address: IpAddr,
    port: u16,
    protocol: Protocol,
}

/// What identifies a virtual server, as in `compile -o json`.
#[derive(Debug, Serialize)]
struct By {
    /// Null for a mark.
    address: Option<IpAddr>,
    /// Null for a mark.
    port: Option<u16>,
    /// Null for a mark.
    protocol: Option<Protocol>,
    /// Null for an address.
    mark: Option<u32>,
    family: &'static str,
}

#[derive(Debug, Serialize)]
struct RowStep<'a> {
    verdict: Verdict,
    masquerade: Masquerade,
    /// Null is everybody, none of them nobody.
    sources: Option<&'a [IpNet]>,
    inside_mark: Option<u32>,
    mark: Option<u32>,
}

#[derive(Debug, Serialize)]
struct SettingsStep<'a> {
    scheduler: &'a str,
    flags: Vec<&'static str>,
    /// Seconds; null without persistence.
    persistence_timeout: Option<u32>,
    /// Prefix length; null without persistence.
    persistence_netmask: Option<u8>,
}

#[derive(Debug, Serialize)]
struct RealServerStep {
    weight: u32,
    /// 0 is none.
    upper_threshold: u32,
    /// 0 is three quarters of the upper one.
    lower_threshold: u32,
}

impl Serialize for Plan {
    /// `{"changes": 1, "steps": [{"action": "add", "object": "vip", "address": "10.96.0.1"}]}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Steps<'a> {
            changes: usize,
            steps: Vec<Step<'a>>,
        }
        let steps: Vec<_> = self.ops.iter().flat_map(steps).collect();
        let changes = steps.len();
        Steps { changes, steps }.serialize(serializer)
    }
}

/// In the order of [`Op::lines`].
fn steps(op: &Op) -> Vec<Step<'_>> {
    match op {
        Op::Table(edit) => of_table(edit),
        Op::AddVirtualServer(key, settings) => vec![server("add", key, Some(settings))],
        Op::EditVirtualServer(key, settings) => vec![server("edit", key, Some(settings))],
        Op::RemoveVirtualServer(key) => vec![server("remove", key, None)],
        Op::AddRealServer(key, at, to) => vec![real("add", key, at, Some(to))],
        Op::EditRealServer(key, at, to) => vec![real("edit", key, at, Some(to))],
        Op::RemoveRealServer(key, at) => vec![real("remove", key, at, None)],
        Op::BindVips(vips) => each("add", vips, |address| Object::Vip { address }).collect(),
        Op::UnbindVips(vips) => each("remove", vips, |address| Object::Vip { address }).collect(),
    }
}

fn step<'a>(action: &'static str, on: Object<'a>) -> Step<'a> {
    Step { action, on }
}

fn each<'a, T: Copy + 'a>(
    action: &'static str,
    all: impl IntoIterator<Item = &'a T>,
    on: impl Fn(T) -> Object<'a>,
) -> impl Iterator<Item = Step<'a>> {
    all.into_iter().map(move |one| step(action, on(*one)))
}

fn of_table(edit: &Edit) -> Vec<Step<'_>> {
    let guard = |address| Object::Guard { address };
    let hairpin = |address| Object::Hairpin { address };
    let network = |network| Object::Network { network };
    let untracked = |one: Untracked| Object::Untracked {
        what: one.to_string(),
    };
    let Moved { add, remove } = &edit.guarded;
    let (come, gone) = (each("add", add, guard), each("remove", remove, guard));
    let Moved { add, remove } = &edit.hairpin;
    let come = come.chain(each("add", add, hairpin));
    let gone = gone.chain(each("remove", remove, hairpin));
    let Moved { add, remove } = &edit.untracked;
    let come = come.chain(each("add", add, untracked));
    let gone = gone.chain(each("remove", remove, untracked));
    let Moved { add, remove } = &edit.networks;
    let come = come.chain(each("add", add, network));
    let gone = gone.chain(each("remove", remove, network));
    let rows = edit.rows.iter().filter_map(|(front, turn)| {
        let on = Object::Front {
            at: At {
                address: front.address,
                port: front.port,
                protocol: front.protocol,
            },
            from: turn.from.as_ref().map(row),
            to: turn.to.as_ref().map(row),
        };
        Some(step(super::action(turn)?, on))
    });
    gone.chain(come).chain(rows).collect()
}

fn row(row: &Row) -> RowStep<'_> {
    RowStep {
        verdict: row.verdict,
        masquerade: row.masquerade,
        sources: row.sources.as_deref(),
        inside_mark: row.inside,
        mark: row.mark,
    }
}

fn server<'a>(
    action: &'static str,
    key: &VirtualServerKey,
    settings: Option<&'a ServerSettings>,
) -> Step<'a> {
    let by = by(key);
    let settings = settings.map(ServerSettings::step);
    step(action, Object::VirtualServer { by, settings })
}

fn real<'a>(
    action: &'static str,
    key: &VirtualServerKey,
    at: &RealServerKey,
    to: Option<&RealServer>,
) -> Step<'a> {
    let settings = to.map(|to| RealServerStep {
        weight: to.weight,
        upper_threshold: to.upper_threshold,
        lower_threshold: to.lower_threshold,
    });
    let on = Object::RealServer {
        virtual_server: by(key),
        address: at.address,
        port: at.port,
        settings,
    };
    step(action, on)
}

fn by(key: &VirtualServerKey) -> By {
    let front: Option<Front> = key.front();
    let mark = match key {
        VirtualServerKey::Front(_) => None,
        VirtualServerKey::Mark { mark, .. } => Some(*mark),
    };
    By {
        address: front.map(|front| front.address),
        port: front.map(|front| front.port),
        protocol: front.map(|front| front.protocol),
        mark,
        family: match key.family() {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        },
    }
}

impl ServerSettings {
    fn step(&self) -> SettingsStep<'_> {
        let mut flags = Vec::new();
        flags.extend(self.persistence.map(|_| "persistent"));
        flags.extend(self.flags.words(&self.scheduler));
        SettingsStep {
            scheduler: &self.scheduler,
            flags,
            persistence_timeout: self.persistence.map(|persistence| persistence.timeout),
            persistence_netmask: self.persistence.map(|persistence| persistence.prefix),
        }
    }
}

/// A plan as readers of diffs expect it: a line for each thing done that begins
/// with `+`, `-` or, for what is changed in place, `!`; of a front the old line
/// and the new one. Nothing for nothing.
#[derive(Debug, Clone, Copy)]
pub struct AsDiff<'a>(pub &'a Plan);

impl fmt::Display for AsDiff<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.0;
        for op in &plan.ops {
            if let Op::Table(edit) = op {
                write_table(edit, f)?;
                continue;
            }
            for line in op.lines() {
                writeln!(f, "{} {} {}", sign(line.action), line.object, line.text)?;
            }
        }
        Ok(())
    }
}

fn write_table(edit: &Edit, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for line in super::table_lines(edit) {
        if line.object != "front" {
            writeln!(f, "{} {} {}", sign(line.action), line.object, line.text)?;
        }
    }
    for (front, Turn { from, to }) in &edit.rows {
        for (sign, row) in [('-', from), ('+', to)] {
            if let Some(row) = row {
                writeln!(f, "{sign} front {front} {row}")?;
            }
        }
    }
    Ok(())
}

fn sign(action: &str) -> char {
    match action {
        "add" | "bind" => '+',
        "remove" | "unbind" => '-',
        _ => '!',
    }
}
