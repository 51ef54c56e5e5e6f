//! Networks that say whose an address is: those of ServiceCIDRs and of pods.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;

use crate::event::Kind;
use crate::names::Warning;
use crate::regarding::{Regarding, Uid};

/// ServiceCIDRs by name: their networks, and what is odd about how they are written.
pub(super) type ServiceCidrs = BTreeMap<String, ServiceNetworks>;

/// The networks of a ServiceCIDR.
#[derive(Debug)]
pub(super) struct ServiceNetworks {
    pub(super) uid: Option<Uid>,
    pub(super) networks: BTreeSet<IpNet>,
    /// What makes no sense in it.
    pub(super) warnings: Vec<Warning>,
}

/// What a ServiceCIDR is held against: when something this node lives by lies
/// in it, it is somebody's mistake, and must not cut the node off.
#[derive(Debug)]
pub(super) struct Lifelines<'a> {
    /// The node's own addresses.
    pub(super) own: &'a [IpAddr],
    /// Networks this host is in, with its address there. A single address is
    /// none: others bind ClusterIPs as such.
    pub(super) host: &'a BTreeSet<IpNet>,
    /// Default gateways.
    pub(super) gateways: &'a BTreeSet<IpAddr>,
    /// Networks of pods.
    pub(super) pods: &'a BTreeSet<IpNet>,
}

impl Lifelines<'_> {
    /// Networks of pods alone: one that this node itself is in says nothing
    /// about other addresses in it.
    pub(super) fn pods_alone(&self) -> BTreeSet<IpNet> {
        let with_us = |net: &&IpNet| !self.own.iter().any(|own| net.contains(own));
        self.pods.iter().filter(with_us).copied().collect()
    }

    /// The networks of all ServiceCIDRs that make sense, and what does not.
    pub(super) fn service_networks(&self, all: &ServiceCidrs) -> (BTreeSet<IpNet>, Vec<Warning>) {
        let mut networks = BTreeSet::new();
        let mut warnings = Vec::new();
        for (name, read) in all {
            warnings.extend(read.warnings.iter().cloned());
            for net in &read.networks {
                match self.within(net) {
                    Some(what) => warnings.push(Warning {
                        object: Regarding::named(Kind::ServiceCidr, "", name, read.uid),
                        message: format!(
                            "spec.cidrs: {what} lies in {net}; the network is ignored on this node"
                        ),
                    }),
                    None => _ = networks.insert(*net),
                }
            }
        }
        (networks, warnings)
    }

    fn within(&self, net: &IpNet) -> Option<String> {
        if net.prefix_len() == 0 {
            return Some("every address".to_owned());
        }
        let own = self.own.iter().copied();
        let mut host = own.chain(self.host.iter().map(IpNet::addr));
        if let Some(address) = host.find(|address| net.contains(address)) {
            return Some(format!("this host's address {address}"));
        }
        if let Some(gateway) = self.gateways.iter().find(|at| net.contains(*at)) {
            return Some(format!("the gateway {gateway}"));
        }
        let pods = self.pods.iter().find(|pods| net.contains(*pods));
        pods.map(|pods| format!("the pods' network {pods}"))
    }
}

/// Takes out the addresses of other Nodes and of API servers that lie in a
/// ServiceCIDR: they are Services', whatever an object says. One warning for all.
pub(super) fn without_cluster_addresses(
    protected: &mut BTreeSet<IpAddr>,
    networks: &BTreeSet<IpNet>,
) -> Option<Warning> {
    let inside = |address: &IpAddr| networks.iter().any(|net| net.contains(address));
    let first = protected.iter().copied().find(inside)?;
    let before = protected.len();
    protected.retain(|address| !inside(address));
    let lost = before - protected.len();
    Some(Warning {
        object: Regarding::ClusterAddresses,
        message: format!(
            "{lost} of their addresses lie in a ServiceCIDR, {first} among them; they are ignored"
        ),
    })
}
