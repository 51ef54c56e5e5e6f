//! What the layers hold, and whether somebody keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kube_ipvs_core::drain::Key;
use kube_ipvs_core::state::{Family, Front, KernelState, VirtualServerKey};
use kube_ipvs_dataplane::Connections;
use kube_ipvs_nft::{ForeignChain, Hook, SomeRedirected};

use super::reason::key;

/// What the layers hold.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// IPVS, VIPs that are addresses, rows.
    pub state: KernelState,
    /// Those that are not zero.
    pub connections: BTreeMap<Key, Connections>,
    /// VIPs that are routes.
    pub routed: BTreeSet<IpAddr>,
    /// Addresses of this host without those on our link.
    pub host: BTreeSet<IpAddr>,
    /// Their links, where they are known.
    pub links: BTreeMap<IpAddr, String>,
    /// The ownership record, with the Services' names.
    pub recorded: BTreeMap<VirtualServerKey, String>,
    /// Chains of others that drop what they do not know.
    pub chains: Vec<ForeignChain>,
    /// Chains of others that send some packets elsewhere. A VIP is kept from them.
    pub redirecting: Vec<SomeRedirected>,
    /// The bit with which our table marks what it serves, for rules in chains of
    /// others that accept it.
    pub accept_bits: BTreeMap<Family, u8>,
    /// Sysctls by their path below `/proc/sys`; those that could not be read are absent.
    pub sysctls: BTreeMap<&'static str, String>,
    /// A daemon holds the lock of the state directory.
    pub runs: bool,
    /// What was not looked at and may decide: the reader is told.
    pub unjudged: Vec<String>,
    /// What the daemon could not read of what is asked about, and why.
    pub unread: Vec<String>,
}

impl Seen {
    /// Whether any layer knows the front.
    pub(super) fn holds(&self, front: &Front) -> bool {
        let key = key(front);
        self.state.virtual_servers.contains_key(&key)
            || self.state.row(front).is_some()
            || self.recorded.contains_key(&key)
    }

    /// The fronts whose traffic is led to a virtual server by a mark.
    pub(super) fn led_to(&self, key: &VirtualServerKey) -> impl Iterator<Item = Front> {
        let rows = self.state.table.rows.iter();
        let led = rows.filter(|(front, row)| row.by_marks(front).any(|of| of == *key));
        led.map(|(front, _)| *front)
    }

    /// All fronts that any layer knows.
    pub(super) fn fronts(&self) -> BTreeSet<Front> {
        let servers = self.state.virtual_servers.keys();
        let by_address = servers
            .chain(self.recorded.keys())
            .filter_map(|key| match key {
                VirtualServerKey::Front(front) => Some(*front),
                VirtualServerKey::Mark { .. } => None,
            });
        let rows = self.state.table.rows.keys().copied();
        by_address.chain(rows).collect()
    }

    /// The Service a front is recorded for, itself or by its marks.
    pub(super) fn service_of(&self, front: &Front) -> Option<&String> {
        let row = self.state.row(front).into_iter();
        let keys = [key(front)]
            .into_iter()
            .chain(row.flat_map(|row| row.by_marks(front)));
        let mut names = keys.filter_map(|key| self.recorded.get(&key));
        names.find(|name| !name.is_empty())
    }

    pub(crate) fn is_vip(&self, address: IpAddr) -> bool {
        self.state.vips.contains(&address) || self.routed.contains(&address)
    }

    /// Chains of others that drop traffic of a family at a hook, unless they
    /// let ours pass.
    pub(crate) fn dropping(
        &self,
        family: Family,
        hook: Hook,
    ) -> impl Iterator<Item = &ForeignChain> {
        let sees = move |chain: &&ForeignChain| match &chain.family[..] {
            "ip" => family == Family::V4,
            "ip6" => family == Family::V6,
            _ => true,
        };
        let chains = self.chains.iter().filter(move |chain| chain.hook == hook);
        let bit = self.accept_bits.get(&family).copied();
        chains.filter(sees).filter(move |chain| !chain.accepts(bit))
    }

    /// A sysctl that is known to have another value than 1.
    pub(crate) fn is_off(&self, path: &'static str) -> Option<&String> {
        self.sysctls.get(path).filter(|value| *value != "1")
    }
}

impl Seen {
    /// Says that a daemon runs and cannot be asked.
    pub(super) fn unasked(&mut self, why: &str) {
        let what = "what the kube-ipvs that runs here knows of the Service";
        self.unjudged.push(format!("{what}: {why}"));
    }

    /// What may take a port of this host's own addresses before us, if one is
    /// explained: our table keeps VIPs from it, and nothing else.
    pub(super) fn redirected(&self, fronts: &BTreeSet<Front>) -> Vec<String> {
        let is_own = |front: &Front| self.host.contains(&front.address);
        if !fronts
            .iter()
            .any(|front| is_own(front) && !self.is_vip(front.address))
        {
            return Vec::new();
        }
        let chains = self.redirecting.iter();
        let note = |chain| {
            format!("not judged: whether a port of this host's own addresses is among it: {chain}")
        };
        chains.map(note).collect()
    }

    /// That none runs, and what that means for what is here.
    pub(crate) fn without_daemon(&self) -> &'static str {
        let is_bare = self.recorded.is_empty()
            && self.state.vips.is_empty()
            && self.routed.is_empty()
            && self.state.table.rows.is_empty();
        if is_bare {
            "no kube-ipvs runs here, and nothing of one is left: it serves no Service"
        } else {
            "no kube-ipvs runs here: what it left serves on, and follows no change of the cluster"
        }
    }

    /// What holds for all that is said of this node.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.runs {
            notes.push(format!("{}; start it", self.without_daemon()));
        }
        let unjudged = self.unjudged.iter();
        notes.extend(unjudged.map(|what| format!("not judged: {what}")));
        let unread = self.unread.iter();
        notes.extend(unread.map(|what| format!("not known whole: {what}")));
        notes
    }
}
