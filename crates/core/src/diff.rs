//! From what the kernel holds to what it should hold.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::plan::Plan;
use crate::state::{KernelState, NftElement, NftSet, RealServerKey, VirtualServerKey};

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
    /// Orders the real servers that are added: [`crate::seed`] of the node's
    /// name, so that not every node begins with the same one.
    pub seed: u64,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            owned: Owned::All,
            drained: BTreeSet::new(),
            seed: 0,
        }
    }
}

/// The whole difference. Costs as much as both states are big.
pub fn diff(_desired: &KernelState, _observed: &KernelState, _terms: &Terms) -> Plan {
    Plan::default()
}

/// The difference in what was touched, and nothing else. Costs as much as that.
pub fn diff_touched(
    _desired: &KernelState,
    _observed: &KernelState,
    _touched: &Touched,
    _terms: &Terms,
) -> Plan {
    Plan::default()
}
