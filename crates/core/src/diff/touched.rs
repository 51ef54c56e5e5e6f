//! Where two states may differ.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;

use ipnet::IpNet;

use crate::state::{Front, KernelState, VirtualServerKey};
use crate::table::Untracked;

/// Keys that may differ between two states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Virtual servers.
    pub virtual_servers: BTreeSet<VirtualServerKey>,
    /// Addresses on our link.
    pub vips: BTreeSet<IpAddr>,
    /// Of [`Table::guarded`](crate::Table::guarded).
    pub guarded: BTreeSet<IpAddr>,
    /// Rows.
    pub fronts: BTreeSet<Front>,
    /// Of [`Table::hairpin`](crate::Table::hairpin).
    pub hairpin: BTreeSet<IpAddr>,
    /// Of [`Table::networks`](crate::Table::networks).
    pub networks: BTreeSet<IpNet>,
    /// Of [`Table::untracked`](crate::Table::untracked).
    pub untracked: BTreeSet<Untracked>,
}

impl Touched {
    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in what was touched later.
    pub fn extend(&mut self, later: Self) {
        self.virtual_servers.extend(later.virtual_servers);
        self.vips.extend(later.vips);
        self.guarded.extend(later.guarded);
        self.fronts.extend(later.fronts);
        self.hairpin.extend(later.hairpin);
        self.networks.extend(later.networks);
        self.untracked.extend(later.untracked);
    }

    /// Everything that is in either state and not the same in both.
    pub fn between(desired: &KernelState, observed: &KernelState) -> Self {
        let (want, have) = (&desired.table, &observed.table);
        Self {
            virtual_servers: differing(&desired.virtual_servers, &observed.virtual_servers),
            vips: &desired.vips ^ &observed.vips,
            guarded: &want.guarded ^ &have.guarded,
            fronts: differing(&want.rows, &have.rows),
            hairpin: &want.hairpin ^ &have.hairpin,
            networks: &want.networks ^ &have.networks,
            untracked: &want.untracked ^ &have.untracked,
        }
    }

    /// How much was touched.
    pub fn len(&self) -> usize {
        self.virtual_servers.len()
            + self.vips.len()
            + self.guarded.len()
            + self.fronts.len()
            + self.hairpin.len()
            + self.networks.len()
            + self.untracked.len()
    }
}

/// Keys of either that are not the same in both.
fn differing<K: Ord + Copy, V: PartialEq>(
    want: &BTreeMap<K, V>,
    have: &BTreeMap<K, V>,
) -> BTreeSet<K> {
    let keys = want.keys().chain(have.keys());
    keys.filter(|key| want.get(key) != have.get(key))
        .copied()
        .collect()
}
