//! A plan: what to do to the kernel, in an order that is safe at every step.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::state::{
    Flags, NftState, Persistence, RealServer, RealServerKey, VirtualServer, VirtualServerKey,
};

/// A virtual server without its real servers: what one add or edit carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of the kernel's scheduler.
    pub scheduler: String,
    /// Flags besides persistence.
    pub flags: Flags,
    /// Persistence; none is off.
    pub persistence: Option<Persistence>,
}

impl Settings {
    /// Those of a virtual server.
    pub fn of(server: &VirtualServer) -> Self {
        Self {
            scheduler: server.scheduler.clone(),
            flags: server.flags,
            persistence: server.persistence,
        }
    }
}

impl fmt::Display for Settings {
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
    /// One nftables transaction for both families: `remove` goes first, then `add`.
    Nft {
        /// Elements to add.
        add: NftState,
        /// Elements to delete.
        remove: NftState,
    },
    /// Make a virtual server (`ipvsadm -A`).
    AddVirtualServer(VirtualServerKey, Settings),
    /// Change its settings in place (`ipvsadm -E`).
    EditVirtualServer(VirtualServerKey, Settings),
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
    /// What it acts on: `virtual server`, `real server`, `vip`, `nft`.
    pub fn object(&self) -> &'static str {
        match self {
            Self::Nft { .. } => "nft",
            Self::AddVirtualServer(..)
            | Self::EditVirtualServer(..)
            | Self::RemoveVirtualServer(..) => "virtual server",
            Self::AddRealServer(..) | Self::EditRealServer(..) | Self::RemoveRealServer(..) => {
                "real server"
            }
            Self::BindVips(..) | Self::UnbindVips(..) => "vip",
        }
    }

    /// What it does, a line for each thing done.
    pub fn lines(&self) -> Vec<Line> {
        let line = |action: &'static str, text: String| {
            vec![Line {
                object: self.object().to_owned(),
                action,
                text,
            }]
        };
        match self {
            Self::Nft { add, remove } => {
                let mut lines = element_lines("remove", remove);
                lines.extend(element_lines("add", add));
                lines
            }
            Self::AddVirtualServer(key, settings) => line("add", format!("{key} {settings}")),
            Self::EditVirtualServer(key, settings) => line("edit", format!("{key} {settings}")),
            Self::RemoveVirtualServer(key) => line("remove", key.to_string()),
            Self::AddRealServer(key, real, to) => line("add", format!("{key} -> {real} {to}")),
            Self::EditRealServer(key, real, to) => line("edit", format!("{key} -> {real} {to}")),
            Self::RemoveRealServer(key, real) => line("remove", format!("{key} -> {real}")),
            Self::BindVips(vips) => vip_lines("bind", vips),
            Self::UnbindVips(vips) => vip_lines("unbind", vips),
        }
    }
}

fn element_lines(action: &'static str, state: &NftState) -> Vec<Line> {
    let mut lines = Vec::new();
    for (set, elements) in state {
        lines.extend(elements.iter().map(|element| Line {
            object: format!("nft {}", set.name()),
            action,
            text: element.to_string(),
        }));
    }
    lines
}

fn vip_lines(action: &'static str, vips: &BTreeSet<IpAddr>) -> Vec<Line> {
    vips.iter()
        .map(|vip| Line {
            object: "vip".to_owned(),
            action,
            text: vip.to_string(),
        })
        .collect()
}

/// One thing done, in words.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Line {
    /// `virtual server`, `real server`, `vip`, `nft vips`, ...
    pub object: String,
    /// `add`, `edit`, `remove`, `bind`, `unbind`.
    pub action: &'static str,
    /// On what, and how it will be.
    pub text: String,
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

    /// How many things of each kind are done, by object and action: `("real server", "add") -> 3`.
    /// Elements of all nftables sets count as `nft`.
    pub fn counts(&self) -> BTreeMap<(&'static str, &'static str), usize> {
        let mut counts = BTreeMap::new();
        for op in &self.ops {
            for line in op.lines() {
                *counts.entry((op.object(), line.action)).or_default() += 1;
            }
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

impl Serialize for Plan {
    /// `{"changes": 2, "steps": [{"object": ..., "action": ..., "text": ...}]}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let lines: Vec<Line> = self.lines().collect();
        let mut plan = serializer.serialize_struct("Plan", 2)?;
        plan.serialize_field("changes", &lines.len())?;
        plan.serialize_field("steps", &lines)?;
        plan.end()
    }
}
