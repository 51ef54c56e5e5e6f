//! What is said of packets, and changes of it: rows, and what is no front's but
//! an address's or a network's. How the kernel is told is not decided here.

use alloc::collections::{BTreeMap, BTreeSet};
use core::fmt;
use core::net::IpAddr;

use ipnet::IpNet;

use crate::row::Row;
use crate::state::Front;

/// What is said of packets: by front, by address, and by network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// What becomes of each front.
    pub rows: BTreeMap<Front, Row>,
    /// Addresses whose ports are refused unless a row opens them.
    pub guarded: BTreeSet<IpAddr>,
    /// Endpoints on this node: what they send to themselves is masqueraded.
    pub hairpin: BTreeSet<IpAddr>,
    /// Networks of ClusterIPs, of which none overlaps another: what is in them
    /// and no Service's leads nowhere.
    pub networks: BTreeSet<IpNet>,
    /// Whose packets pass without an entry in conntrack.
    pub untracked: BTreeSet<Untracked>,
}

/// What packets are not tracked, of a Service that asks for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Untracked {
    /// What pods send to this front, but for those of [`Self::Own`].
    Front(Front),
    /// What is sent to this endpoint, and what it answers, but for what is of
    /// those of [`Self::Own`]; by pods and to pods alone, where those are known by
    /// networks.
    Endpoint(Front),
    /// An address of this host, whose own calls are tracked, or that of an endpoint
    /// on this node: it may meet itself, and that needs masquerading.
    Own(IpAddr),
}

impl Untracked {
    /// The address.
    pub fn address(&self) -> IpAddr {
        match self {
            Self::Front(at) | Self::Endpoint(at) => at.address,
            Self::Own(address) => *address,
        }
    }
}

impl fmt::Display for Untracked {
    /// `front 10.96.0.10:53/UDP`, `endpoint 10.244.1.7:5353/UDP`, `but 10.244.1.7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Front(front) => write!(f, "front {front}"),
            Self::Endpoint(endpoint) => write!(f, "endpoint {endpoint}"),
            Self::Own(address) => write!(f, "but {address}"),
        }
    }
}

impl Table {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much it says: rows, addresses, networks.
    pub fn len(&self) -> usize {
        let addresses = self.guarded.len() + self.hairpin.len();
        self.rows.len() + addresses + self.networks.len() + self.untracked.len()
    }
}

impl Table {
    /// Makes it what a change says, whatever it was before.
    pub fn put(&mut self, edit: &Edit) {
        for (front, turn) in &edit.rows {
            match &turn.to {
                Some(row) => self.rows.insert(*front, row.clone()),
                None => self.rows.remove(front),
            };
        }
        edit.guarded.put(&mut self.guarded);
        edit.hairpin.put(&mut self.hairpin);
        // What overlaps one that comes is not there any more.
        let come = &edit.networks.add;
        let overlaps = |net: &IpNet| {
            come.iter()
                .any(|new| new.contains(net) || net.contains(new))
        };
        self.networks.retain(|net| !overlaps(net));
        edit.networks.put(&mut self.networks);
        edit.untracked.put(&mut self.untracked);
    }
}

/// What a row was and what it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Before; `None` when there was none.
    pub from: Option<Row>,
    /// After; `None` when there is none.
    pub to: Option<Row>,
}

/// What comes and what goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved<K> {
    /// What comes.
    pub add: BTreeSet<K>,
    /// What goes.
    pub remove: BTreeSet<K>,
}

impl<K> Default for Moved<K> {
    fn default() -> Self {
        Self {
            add: BTreeSet::new(),
            remove: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Copy> Moved<K> {
    /// Whether nothing does.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }

    fn put(&self, into: &mut BTreeSet<K>) {
        self.remove.iter().for_each(|one| _ = into.remove(one));
        into.extend(&self.add);
    }

    fn extend(&mut self, other: &Self) {
        self.add.extend(&other.add);
        self.remove.extend(&other.remove);
    }
}

/// A change of a [`Table`], made whole or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    /// Rows that change.
    pub rows: BTreeMap<Front, Turn>,
    /// Of [`Table::guarded`].
    pub guarded: Moved<IpAddr>,
    /// Of [`Table::hairpin`].
    pub hairpin: Moved<IpAddr>,
    /// Of [`Table::networks`].
    pub networks: Moved<IpNet>,
    /// Of [`Table::untracked`].
    pub untracked: Moved<Untracked>,
}

impl Edit {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.guarded.is_empty()
            && self.hairpin.is_empty()
            && self.networks.is_empty()
            && self.untracked.is_empty()
    }

    /// Takes in a change of something else.
    pub fn extend(&mut self, other: &Self) {
        let rows = other.rows.iter();
        self.rows
            .extend(rows.map(|(front, turn)| (*front, turn.clone())));
        self.guarded.extend(&other.guarded);
        self.hairpin.extend(&other.hairpin);
        self.networks.extend(&other.networks);
        self.untracked.extend(&other.untracked);
    }

    /// Changes a row, if it does.
    pub(crate) fn turn(&mut self, front: Front, from: &Row, to: &Row) {
        if from == to {
            return;
        }
        let turn = Turn {
            from: from.clone().said(),
            to: to.clone().said(),
        };
        self.rows.insert(front, turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_is_put_takes_the_place_of_those_it_overlaps() {
        let nets = |all: &[&str]| all.iter().map(|net| net.parse().unwrap()).collect();
        let put = |add: &[&str]| {
            let mut table = Table {
                networks: nets(&["10.96.0.0/16", "10.98.0.0/16"]),
                ..Table::default()
            };
            let mut edit = Edit::default();
            edit.networks.add = nets(add);
            table.put(&edit);
            table.networks
        };
        assert_eq!(
            put(&["10.96.1.0/24"]),
            nets(&["10.96.1.0/24", "10.98.0.0/16"])
        );
        assert_eq!(put(&["10.0.0.0/8"]), nets(&["10.0.0.0/8"]));
        assert_eq!(put(&[]), nets(&["10.96.0.0/16", "10.98.0.0/16"]));
    }
}
