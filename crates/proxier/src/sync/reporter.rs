//! What others learn of a round: metrics, health, health-check node ports,
//! warnings, Kubernetes Events.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kube_ipvs_core::k8s::Node;
use kube_ipvs_core::state::Family;
use kube_ipvs_core::{Cluster, Event, TrafficPolicy, Uid, Warning, Withheld};
use kube_ipvs_dataplane::{Cleaned, Dataplane};

use super::other_proxies::{self, OtherProxies};
use super::pending::Pending;
use super::report::counts;
use super::told::{self, Told};
use super::{Round, Syncer, Trigger};
use crate::check::Watch;
use crate::health::node_ports::{Addresses, HealthCheckPorts};
use crate::health::{self, Health};
use crate::localhost::LocalhostNodePorts;
use crate::metrics::Metrics;

/// The cluster autoscaler is about to delete the node.
const AUTOSCALER_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// Takes warnings that a Service's owner should know.
pub type WarningSink = Box<dyn FnMut(&Warning) + Send>;

/// Takes what those in charge of this Node should know, with the uid of its object.
pub type NodeSink = Box<dyn FnMut(Option<Uid>, &str) + Send>;

/// Tells the world.
pub struct Reporter {
    families: Vec<Family>,
    metrics: Metrics,
    health: Health,
    health_checks: Option<HealthCheckPorts>,
    localhost: Option<LocalhostNodePorts>,
    host: Option<Watch>,
    /// Health-check node ports that could not be opened.
    unopened: BTreeSet<u16>,
    warned: BTreeSet<Warning>,
    told: Told,
    sink: Option<WarningSink>,
    node_sink: Option<NodeSink>,
    other_proxies: OtherProxies,
    pending: Pending,
}

impl Reporter {
    /// A reporter for the families that are served.
    pub fn new(families: Vec<Family>, metrics: Metrics, health: Health) -> Self {
        Self {
            families,
            metrics,
            health,
            health_checks: None,
            localhost: None,
            host: None,
            unopened: BTreeSet::new(),
            warned: BTreeSet::new(),
            told: Told::default(),
            sink: None,
            node_sink: None,
            other_proxies: OtherProxies::default(),
            pending: Pending::default(),
        }
    }

    /// Answers health-check node ports too.
    pub fn with_health_checks(mut self, ports: HealthCheckPorts) -> Self {
        self.health_checks = Some(ports);
        self
    }

    /// Serves NodePorts on loopback addresses too.
    pub fn with_localhost(mut self, ports: LocalhostNodePorts) -> Self {
        self.localhost = Some(ports);
        self
    }

    /// Looks at what of the host has to stay as it is, too.
    pub fn with_host(mut self, host: Watch) -> Self {
        self.host = Some(host);
        self
    }

    /// Passes warnings on.
    pub fn with_sink(mut self, sink: Option<WarningSink>) -> Self {
        self.sink = sink;
        self
    }

    /// Passes on what concerns the Node.
    pub fn with_node_sink(mut self, sink: Option<NodeSink>) -> Self {
        self.node_sink = sink;
        self
    }

    pub(super) fn event(&mut self, event: &Event) {
        self.pending.event(event, &self.metrics);
    }

    /// All events that waited have been taken in.
    pub(super) fn taken(&self) {
        self.pending.show(&self.metrics);
    }

    pub(super) fn queued(&self) {
        self.health.queued_update();
        for family in &self.families {
            self.metrics.sync_queued(*family);
        }
    }

    /// A reason against readiness, or its end.
    pub(super) fn reason(&self, key: &str, reason: Option<String>) {
        self.health.set_reason(key, reason);
    }

    /// What is told beside that, by a short word.
    pub(super) fn told_beside(&self) -> BTreeMap<String, String> {
        self.health.warnings()
    }

    /// Why this node is not ready, by a short word.
    pub(super) fn not_ready(&self) -> BTreeMap<String, String> {
        self.health.not_ready()
    }

    pub(super) fn waiting(&self, cluster: &Cluster) {
        let kinds: Vec<String> = cluster.awaited().map(|kind| kind.to_string()).collect();
        self.reason(
            "source",
            Some(format!(
                "waiting for the first full list of: {}",
                kinds.join(", ")
            )),
        );
    }

    pub(super) fn failed(&self, error: &anyhow::Error) {
        self.reason("sync", Some(format!("{error:#}")));
        self.metrics.refusal("sync");
    }

    /// Tells of a round; true when that gave the cluster something to carry out.
    pub(super) fn round<D: Dataplane>(
        &mut self,
        round: &Round,
        syncer: &mut Syncer<D>,
        took: Duration,
    ) -> bool {
        self.pending.taken_in();
        self.taken();
        self.reason("source", None);
        self.readiness(round);
        self.refusals(syncer);
        self.numbers(round, took);
        self.node(syncer.cluster().node());
        self.warnings(syncer.cluster());
        self.others(syncer);
        let ports = syncer.cluster().localhost_node_ports();
        self.localhost(|here| here.sync(ports));
        let changed = self.health_checks(syncer);
        self.without_local(syncer.cluster());
        for reason in Withheld::ALL {
            let n = syncer.cluster().withheld(reason);
            self.metrics.withheld_addresses(reason, n as usize);
        }
        if round.trigger != Trigger::Change {
            // A pass that finds all as it was leaves the numbers as they were.
            if round.trigger == Trigger::Start || !round.is_without_work() {
                self.tables(syncer);
            }
            self.host(syncer.cluster());
        }
        changed
    }

    /// Another Service proxy on this node, and what it did: no reason against
    /// readiness, since what it takes away is made anew.
    fn others<D: Dataplane>(&mut self, syncer: &mut Syncer<D>) {
        let uid = syncer.cluster().node().and_then(|node| node.metadata.uid);
        let others = syncer.others();
        let warning = other_proxies::warning(others);
        for note in self.other_proxies.news(others) {
            self.tell_node(uid, &note);
        }
        self.health.set_warning("other-proxy", warning);
    }

    /// What stands in the way on the host itself. Pods that do not reach each
    /// other are a reason against readiness: nobody else would say so.
    fn host(&mut self, cluster: &Cluster) {
        let Some(host) = &mut self.host else {
            return;
        };
        let pods = || {
            // Masqueraded, all answers come back by the host.
            let masqueraded = cluster.options().masquerade_all;
            let here = cluster.local_endpoints().filter(|_| !masqueraded);
            let own = cluster.host_addresses();
            here.filter(|address| !own.contains(address)).collect()
        };
        if let Some(seen) = host.look(Instant::now(), pods) {
            if let Some(why) = &seen.cut_off
                && !self.health.not_ready().contains_key("bridge")
            {
                tracing::warn!("{why}");
            }
            self.health.set_reason("bridge", seen.cut_off);
            self.health.set_warning("conn-reuse-mode", seen.reuse_mode);
        }
    }

    fn tell_node(&mut self, uid: Option<Uid>, note: &str) {
        tracing::warn!("{note}");
        if let Some(sink) = &mut self.node_sink {
            sink(uid, note);
        }
    }

    /// What one Service is refused is no matter of the node's health.
    fn readiness(&mut self, round: &Round) {
        let failures: Vec<_> = round.failures().collect();
        self.reason(
            "sync",
            failures.first().map(|first| match failures.len() {
                1 => first.to_string(),
                n => format!("{first} (and {} more)", n - 1),
            }),
        );
        if failures.is_empty() {
            for family in &self.families {
                self.health.updated(*family);
            }
        }
        self.told.failures(failures.into_iter());
    }

    fn refusals<D: Dataplane>(&mut self, syncer: &Syncer<D>) {
        let refusals = syncer.refusals();
        self.told
            .refusals(refusals, syncer.cluster(), self.sink.as_mut());
        self.health.set_refused(told::show(refusals, &self.metrics));
    }

    fn numbers(&mut self, round: &Round, took: Duration) {
        let good = round.failures().next().is_none();
        for family in &self.families {
            self.metrics.sync_finished(*family, took, good);
        }
        for refusal in &round.report.refused {
            self.metrics.refusal(refusal.kind);
            if refusal.kind == "table" {
                // One transaction is of all families.
                self.families
                    .iter()
                    .for_each(|family| self.metrics.nft_failed(*family));
            }
        }
        for Cleaned {
            family,
            took,
            deleted,
        } in &round.report.conntrack
        {
            self.metrics
                .conntrack_cleaned(*family, *took, *deleted as u64);
        }
        self.metrics.netlink_time("netlink", round.report.netlink);
        self.metrics.netlink_time("table", round.report.table);
        let counts = counts(&round.plan);
        self.metrics
            .plan_applied(counts.iter().map(|(kind, n)| (kind.as_str(), *n)));
        for (kind, n) in &round.drift {
            self.metrics.drift(kind, *n);
        }
        // A change that failed goes on waiting for its programming.
        if good && let Some(latency) = self.pending.carried_out() {
            for family in &self.families {
                self.metrics.programming_latency(*family, latency);
            }
        }
    }

    /// Counts what the kernel holds for us: a walk over the cluster, so not for
    /// every change.
    pub(super) fn tables<D: Dataplane>(&self, syncer: &Syncer<D>) {
        for family in &self.families {
            if let Some(sizes) = syncer.sizes(*family) {
                self.metrics.set_tables(*family, sizes);
            }
        }
    }

    fn without_local(&self, cluster: &Cluster) {
        for policy in [TrafficPolicy::Internal, TrafficPolicy::External] {
            for family in &self.families {
                let n = cluster.without_local_endpoints(policy, *family);
                self.metrics.no_local_endpoints(policy, *family, n as usize);
            }
        }
    }

    fn node(&self, node: Option<&Node>) {
        let Some(node) = node else { return };
        let tainted = node
            .spec
            .taints
            .iter()
            .any(|taint| taint.key == AUTOSCALER_TAINT);
        self.health
            .set_node(if node.metadata.deletion_timestamp.is_some() {
                health::Node::Deleting
            } else if tainted {
                health::Node::Draining
            } else {
                health::Node::Eligible
            });
    }

    /// Each warning is told once, and again when it went away and came back.
    fn warnings(&mut self, cluster: &Cluster) {
        let now: BTreeSet<Warning> = cluster.warnings().into_iter().collect();
        self.metrics.object_warnings(now.len());
        for warning in now.difference(&self.warned) {
            tracing::warn!(object = %warning.object, "{}", warning.message);
            if let Some(sink) = &mut self.sink {
                sink(warning);
            }
        }
        self.warned = now;
    }

    /// What cannot be opened is told to the cluster: the guard must not let it
    /// pass. True when that changed.
    fn health_checks<D: Dataplane>(&mut self, syncer: &mut Syncer<D>) -> bool {
        let Some(ports) = &mut self.health_checks else {
            return false;
        };
        let unopened = ports.sync(&syncer.health_checks(), &Addresses::of(syncer.cluster()));
        let unopened: BTreeSet<u16> = unopened.iter().map(|port| port.address.port()).collect();
        let changed = unopened != self.unopened;
        if changed {
            self.unopened.clone_from(&unopened);
            syncer.event(Event::UnopenedHealthPorts(unopened));
        }
        changed
    }

    /// Tells owners of what could not be opened.
    fn localhost(&mut self, open: impl FnOnce(&mut LocalhostNodePorts) -> Vec<Warning>) {
        let news = self.localhost.as_mut().map(open).unwrap_or_default();
        for warning in &news {
            tracing::warn!(object = %warning.object, "{}", warning.message);
            if let Some(sink) = &mut self.sink {
                sink(warning);
            }
        }
    }

    /// Tries again to open what could not be opened. As [`Self::round`].
    pub(super) fn try_ports<D: Dataplane>(&mut self, syncer: &mut Syncer<D>) -> bool {
        self.localhost(LocalhostNodePorts::retry);
        !self.unopened.is_empty() && self.health_checks(syncer)
    }
}
