//! What is ours in the kernel, by the record on disk.

use std::collections::BTreeSet;

use kube_ipvs_core::diff::Owned;
use kube_ipvs_core::plan::{Op, Plan};
use kube_ipvs_core::state::{KernelState, VirtualServerKey};
use kube_ipvs_core::{Change, Cluster, ServiceName};
use kube_ipvs_dataplane::record::RecordFile;
use kube_ipvs_dataplane::{Nature, Prepared, Refusal};

use crate::answers;

/// The virtual servers that are ours, and what of the host's we changed.
pub(super) struct Ownership {
    record: RecordFile,
}

impl Ownership {
    pub(super) fn new(record: RecordFile) -> Self {
        Self { record }
    }

    /// The file itself.
    pub(super) fn record(&mut self) -> &mut RecordFile {
        &mut self.record
    }

    /// Every virtual server of ours.
    pub(super) fn keys(&self) -> impl Iterator<Item = &VirtualServerKey> {
        self.record.record().virtual_servers.keys()
    }

    /// Whether a virtual server is ours.
    pub(super) fn holds(&self, key: &VirtualServerKey) -> bool {
        self.record.record().virtual_servers.contains_key(key)
    }

    /// The Service for which a virtual server was made.
    pub(super) fn service_of(&self, key: &VirtualServerKey) -> Option<ServiceName> {
        let port = self.record.record().virtual_servers.get(key)?;
        let (namespace, name) = answers::split(port);
        Some(ServiceName::new(namespace, name))
    }

    /// All that is ours.
    pub(super) fn all(&self) -> Owned {
        Owned::These(self.keys().copied().collect())
    }

    /// What is ours among some.
    pub(super) fn among(&self, keys: &BTreeSet<VirtualServerKey>) -> Owned {
        let ours = keys.iter().filter(|key| self.holds(key));
        Owned::These(ours.copied().collect())
    }

    /// Records what is about to be made, and with which Service's name; gives
    /// what must not be made since it could not be recorded.
    pub(super) fn claim(&mut self, stage: &Plan, cluster: &Cluster) -> Vec<Refusal> {
        for op in &stage.ops {
            let (Op::AddVirtualServer(key, _) | Op::EditVirtualServer(key, _)) = op else {
                continue;
            };
            let found = matches!(op, Op::EditVirtualServer(..));
            self.own(key, found, cluster);
        }
        let Err(error) = self.record.flush() else {
            return Vec::new();
        };
        let unwritten = self.record.unwritten();
        let unrecorded = stage.ops.iter().filter_map(|op| match op {
            Op::AddVirtualServer(key, _) if unwritten.contains(key) => {
                Some(Change::AddVirtualServer(*key))
            }
            _ => None,
        });
        let refusal = |change| Refusal {
            kind: "record",
            change: Some(change),
            nature: Nature::Whole,
            error: format!("{error:#}"),
        };
        unrecorded.map(refusal).collect()
    }

    /// Writes what is to be recorded; what could not be is tried again with the
    /// next round.
    pub(super) fn flush(&mut self) -> Option<Refusal> {
        let error = self.record.flush().err()?;
        let error = format!("{error:#}");
        Some(Refusal::general("record", Nature::Whole, error))
    }

    /// Writes down what of the host's was changed and what it was before, at
    /// once: after a kill nobody could tell. That it cannot be written is told by
    /// the round, which tries again. Gives how many settings that were.
    pub(super) fn changed(&mut self, prepared: Prepared) -> u64 {
        let mut settings = prepared.sysctls.len() as u64;
        self.record.add_sysctls(prepared.sysctls);
        if let Some(changed) = prepared.timeouts {
            self.record.add_timeouts(changed);
            // They would be sysctls, had IPVS not a request of its own for them.
            settings += 1;
        }
        if let Err(error) = self.record.flush() {
            tracing::debug!(error = format!("{error:#}"), "tried again with the round");
        }
        settings
    }

    /// Puts a virtual server that a Service wants in the record. One that was
    /// found in an excluded network is somebody else's and stays that.
    fn own(&mut self, key: &VirtualServerKey, found: bool, cluster: &Cluster) {
        if found && !self.holds(key) && cluster.options().excludes(key) {
            return;
        }
        let service = cluster.service_of(key).map(|name| name.to_string());
        self.record.add(*key, service.unwrap_or_default());
    }

    /// Records whatever we want, also what was found as it should be: a virtual
    /// server that was there before us is ours from now on, unless its network
    /// is excluded. Strikes out what is neither wanted nor there, so that it is
    /// nobody's if it comes up again.
    pub(super) fn settle(&mut self, cluster: &Cluster, observed: &KernelState) {
        let desired = &cluster.desired().virtual_servers;
        for key in desired.keys() {
            self.own(key, observed.virtual_servers.contains_key(key), cluster);
        }
        let is_gone = |key: &&VirtualServerKey| {
            !desired.contains_key(key) && !observed.virtual_servers.contains_key(key)
        };
        let gone: Vec<_> = self.keys().filter(is_gone).copied().collect();
        gone.iter().for_each(|key| self.record.remove(key));
    }

    /// Strikes out what is gone; what could not be removed stays ours.
    pub(super) fn disclaim(&mut self, done: &Plan) {
        for op in &done.ops {
            if let Op::RemoveVirtualServer(key) = op {
                self.record.remove(key);
            }
        }
    }
}
