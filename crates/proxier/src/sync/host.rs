//! What is known of the host itself, and what of it is unchecked.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Context;
use kube_ipvs_core::{Event, HostAddress};
use kube_ipvs_dataplane::{Dataplane, Observed};

use super::Syncer;
use super::followed::Followed;

/// The host as it was last read, and the addresses of others that could not be
/// told from VIPs.
#[derive(Default)]
pub(super) struct KnownHost {
    /// None before they could be read once.
    addresses: Option<Vec<HostAddress>>,
    gateways: BTreeSet<IpAddr>,
    /// Whether the addresses are read again.
    pub(super) followed: Followed,
    /// Addresses that sources could not check.
    unchecked: BTreeSet<IpAddr>,
    /// VIPs that a previous run left, as far as they have stayed: that one had
    /// checked them. None before the kernel was read once.
    inherited: Option<BTreeSet<IpAddr>>,
}

impl KnownHost {
    /// Takes in addresses that were read; gives them if they differ from those
    /// that were known.
    fn new_addresses(&mut self, addresses: Vec<HostAddress>) -> Option<Vec<HostAddress>> {
        self.followed.read();
        let differ = self.addresses.as_ref() != Some(&addresses);
        differ.then(|| self.addresses.insert(addresses).clone())
    }

    /// The same of gateways.
    fn new_gateways(&mut self, gateways: BTreeSet<IpAddr>) -> Option<BTreeSet<IpAddr>> {
        let differ = self.gateways != gateways;
        if differ {
            self.gateways.clone_from(&gateways);
        }
        differ.then_some(gateways)
    }

    /// Addresses that nobody could check, without VIPs of a previous run that
    /// have stayed among the `bound` ones since: what is one stays one.
    fn uncheck(&mut self, bound: Option<&BTreeSet<IpAddr>>) -> BTreeSet<IpAddr> {
        let Some(inherited) = &mut self.inherited else {
            return self.unchecked.clone();
        };
        if let Some(bound) = bound {
            inherited.retain(|vip| bound.contains(vip));
        }
        &self.unchecked - inherited
    }
}

impl<D: Dataplane> Syncer<D> {
    /// Tells the cluster of this host's addresses and gateways; true when they
    /// differ from what was known.
    ///
    /// # Errors
    /// When they could not be read whole. The last known ones stay in force.
    pub fn look_at_host(&mut self) -> anyhow::Result<bool> {
        let addresses = self.dataplane.host_addresses()?;
        let gateways = self.dataplane.gateways()?;
        let addresses = self.host.new_addresses(addresses);
        Ok(self.take_host(addresses, gateways))
    }

    /// A pass of the audit: as [`Self::look_at_host`], but addresses are read only
    /// where the kernel does not tell of them.
    ///
    /// # Errors
    /// As [`Self::look_at_host`].
    pub fn pass_over_host(&mut self) -> anyhow::Result<bool> {
        if self.host.followed.pass() {
            return self.look_at_host();
        }
        let gateways = self.dataplane.gateways()?;
        Ok(self.take_host(None, gateways))
    }

    fn take_host(
        &mut self,
        addresses: Option<Vec<HostAddress>>,
        gateways: BTreeSet<IpAddr>,
    ) -> bool {
        let gateways = self.host.new_gateways(gateways);
        let differs = addresses.is_some() || gateways.is_some();
        let events = [
            addresses.map(Event::HostAddresses),
            gateways.map(Event::Gateways),
        ];
        for event in events.into_iter().flatten() {
            self.cluster.apply(event);
        }
        differs
    }

    /// Tells the cluster what the host itself listens on, when Services took
    /// ports of it since the last look or it is time for one; true when a
    /// Service has something to hear of it. It decides warnings, and which fronts
    /// at addresses of links of the host are left to it: what cannot be read
    /// changes nothing.
    pub fn look_at_listeners(&mut self, due: bool) -> bool {
        if !self.cluster.take_new_host_ports() && !due {
            return false;
        }
        match self.dataplane.listeners(&self.cluster.host_ports()) {
            Ok(listeners) => self.cluster.apply(Event::Listeners(listeners)),
            Err(error) => tracing::debug!(
                error = format!("{error:#}"),
                "what this host listens on is not known"
            ),
        }
        self.cluster.is_dirty()
    }

    /// Sources could not check these addresses. They do not become VIPs, but
    /// what is one stays one: a list of Nodes that fails is no reason to cut
    /// clients off.
    pub(super) fn unchecked(&mut self, addresses: BTreeSet<IpAddr>) {
        self.host.unchecked = addresses;
        self.uncheck();
    }

    fn uncheck(&mut self) {
        let bound = self.known.as_ref().map(|known| &known.state().vips);
        let unchecked = self.host.uncheck(bound);
        self.cluster.apply(Event::Unchecked(unchecked));
    }

    /// Nothing is decided before the host has been looked at, and its VIPs.
    pub(super) fn look_first(&mut self, observed: &Observed) -> anyhow::Result<()> {
        if self.host.addresses.is_none() {
            self.look_at_host().context("read this host's addresses")?;
        }
        if self.host.inherited.is_none() {
            self.host.inherited = Some(observed.state.vips.clone());
            self.uncheck();
        }
        Ok(())
    }
}
