//! Another Service proxy beside us: what it has made here, and that it took ours
//! away.
//!
//! Nobody tells when one begins, so it is looked for when there is a reason to:
//! somebody else changed nftables, or something that is ours. As long as nobody
//! does, nothing is asked.

use std::collections::BTreeSet;
use std::net::IpAddr;

use kube_ipvs_core::state::{KernelState, VirtualServerKey};
use kube_ipvs_dataplane::Dataplane;

use super::Syncer;

/// Virtual servers where only Services are.
pub(super) const SERVERS: &str = "virtual servers that are not ours in the networks of ClusterIPs";

/// Steps of the audit that look after somebody changed what is ours: a pass of
/// a big node.
const ALERT: u32 = 24;

/// What is known of other Service proxies on this node.
#[derive(Debug, Default)]
pub struct Others {
    /// What was there at the first look, and ever since.
    left: Option<BTreeSet<String>>,
    now: BTreeSet<String>,
    /// Steps of the audit that look, whatever they find: one that begins does not
    /// do all at once.
    alert: u32,
    wiped: bool,
    /// Steps in which that is no news: it is found piece by piece.
    quiet: u32,
}

impl Others {
    /// What appeared while we run, in words.
    pub fn came(&self) -> BTreeSet<String> {
        match &self.left {
            Some(left) => &self.now - left,
            None => BTreeSet::new(),
        }
    }

    /// What was there before us, in words.
    pub fn left(&self) -> BTreeSet<String> {
        self.left.clone().unwrap_or_default()
    }

    /// Whether somebody took all of ours away since this was last asked.
    pub fn take_wiped(&mut self) -> bool {
        std::mem::take(&mut self.wiped)
    }

    /// True when that is other than was known.
    fn saw(&mut self, signs: BTreeSet<String>) -> bool {
        let left = match &self.left {
            Some(left) => left & &signs,
            None => signs.clone(),
        };
        let left = Some(left);
        let changed = self.left != left || self.now != signs;
        (self.left, self.now) = (left, signs);
        changed
    }
}

impl<D: Dataplane> Syncer<D> {
    /// Other Service proxies on this node.
    pub fn others(&mut self) -> &mut Others {
        &mut self.others
    }

    /// Somebody changed what is ours. `known` is what was there, `now` what is.
    pub(super) fn beware(&mut self, known: &KernelState, now: &KernelState) {
        self.others.alert = ALERT;
        if self.is_wiped(known, now) {
            self.others.wiped |= self.others.quiet == 0;
            self.others.quiet = self.audit_steps();
        }
    }

    /// Whether all VIPs, or all virtual servers, of ours went.
    fn is_wiped(&self, known: &KernelState, now: &KernelState) -> bool {
        let ours = |key: &VirtualServerKey| self.owns(key);
        let servers = |state: &KernelState| state.virtual_servers.keys().any(ours);
        let wanted = &self.cluster.desired().vips;
        let bound = |state: &KernelState| !state.vips.is_disjoint(wanted);
        servers(known) && !servers(now) || bound(known) && !bound(now)
    }

    /// Whether a step of the audit is one of those that look.
    pub(super) fn is_alert(&mut self) -> bool {
        let alert = self.others.alert > 0;
        self.others.alert = self.others.alert.saturating_sub(1);
        self.others.quiet = self.others.quiet.saturating_sub(1);
        alert
    }

    /// Whether a virtual server is somebody else's where only Services are.
    pub(super) fn is_strange(&self, key: &VirtualServerKey) -> bool {
        let within = |address: IpAddr| {
            let mut networks = self.cluster.desired().table.networks.iter();
            networks.any(|network| network.contains(&address))
        };
        match key {
            VirtualServerKey::Front(front) => {
                let excluded = self.cluster.options().excludes(key);
                !excluded && !self.owns(key) && within(front.address)
            }
            VirtualServerKey::Mark { .. } => false,
        }
    }

    /// Looks for other proxies; true when that is news. What cannot be read is no
    /// reason for anything else.
    pub(super) fn look_for_others(&mut self) -> bool {
        let mut signs = match self.dataplane.signs_of_others() {
            Ok(signs) => signs,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::debug!(error, "whether another proxy works here is not known");
                return false;
            }
        };
        let servers = self.known().map(|state| &state.virtual_servers);
        let mut keys = servers.into_iter().flat_map(|servers| servers.keys());
        if keys.any(|key| self.is_strange(key)) {
            signs.insert(SERVERS.to_owned());
        }
        self.others.saw(signs)
    }
}
