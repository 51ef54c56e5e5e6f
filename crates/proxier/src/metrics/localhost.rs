//! NodePorts at loopback addresses.

use kube_ipvs_core::state::Family;

use super::{Metrics, add, ip_family, set};

impl Metrics {
    /// How many NodePorts are listened on at the loopback address of a family.
    pub fn localhost_listeners(&self, family: Family, n: usize) {
        let gauge = &self.inner.series.node.localhost_listeners;
        set(gauge, ip_family(family), n as f64);
    }

    /// A NodePort could not be listened on there.
    pub fn localhost_unopened(&self, family: Family) {
        add(
            &self.inner.series.node.localhost_unopened,
            ip_family(family),
            1,
        );
    }

    /// A connection came there.
    pub fn localhost_connection(&self, family: Family, end: LocalhostEnd) {
        let mut labels = ip_family(family);
        labels.push(("result", end.name().into()));
        add(&self.inner.series.service.localhost_connections, labels, 1);
    }

    /// A connection is open as long as what is returned.
    pub fn localhost_open(&self, family: Family) -> LocalhostOpen {
        let open = &self.inner.series.service.localhost_open;
        open.get_or_create(&ip_family(family)).inc();
        LocalhostOpen {
            metrics: self.clone(),
            family,
        }
    }
}

/// An open connection, counted until this is dropped.
#[derive(Debug)]
#[must_use = "it is counted until this is dropped"]
pub struct LocalhostOpen {
    metrics: Metrics,
    family: Family,
}

impl Drop for LocalhostOpen {
    fn drop(&mut self) {
        let open = &self.metrics.inner.series.service.localhost_open;
        open.get_or_create(&ip_family(self.family)).dec();
    }
}

/// What became of a connection to a NodePort on a loopback address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalhostEnd {
    /// An endpoint has it.
    Forwarded,
    /// The endpoint did not answer, or refused.
    Unanswered,
    /// There was no place for it.
    Full,
    /// It did not come from this host.
    Stranger,
}

impl LocalhostEnd {
    fn name(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Unanswered => "unanswered",
            Self::Full => "full",
            Self::Stranger => "stranger",
        }
    }
}
