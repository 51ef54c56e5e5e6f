//! Every series there is: name, type, help and buckets.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::text::Described;

/// Names and values, in the order they are printed.
pub(super) type Labels = Vec<(&'static str, String)>;
pub(super) type Counters = Family<Labels, Counter>;
pub(super) type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;
pub(super) type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// What is counted. Series of a name appear with their first observation.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) sync: SyncSeries,
    pub(super) node: NodeSeries,
    pub(super) kernel: KernelSeries,
    pub(super) service: ServiceSeries,
}

impl Series {
    /// All of them, registered in the order in which they are printed.
    pub(super) fn new(names: &mut Names) -> Self {
        build_info(names);
        Self {
            sync: SyncSeries::new(names),
            node: NodeSeries::new(names),
            kernel: KernelSeries::new(names),
            service: ServiceSeries::new(names),
        }
    }
}

/// Syncs and the changes they answer: kube-proxy's.
#[derive(Debug)]
pub(super) struct SyncSeries {
    pub(super) sync_duration: Histograms,
    pub(super) sync_last: Gauges,
    pub(super) sync_last_queued: Gauges,
    pub(super) programming_duration: Histograms,
    pub(super) endpoint_changes: Counters,
    pub(super) endpoint_changes_pending: Gauges,
    pub(super) service_changes: Counters,
    pub(super) service_changes_pending: Gauges,
    pub(super) no_local_endpoints: Gauges,
}

impl SyncSeries {
    fn new(names: &mut Names) -> Self {
        Self {
            sync_duration: names.histograms(
                "kubeproxy_sync_proxy_rules_duration_seconds",
                "Time a sync took, successful or not",
                powers_of_two,
            ),
            sync_last: names.gauges(
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                "When the last successful sync ended, Unix time",
            ),
            sync_last_queued: names.gauges(
                "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
                "When a sync was last asked for, Unix time",
            ),
            programming_duration: names.histograms(
                "kubeproxy_network_programming_duration_seconds",
                "Time from the change of a pod or Service to the kernel holding it",
                programming_buckets,
            ),
            endpoint_changes: names.counters(
                "kubeproxy_sync_proxy_rules_endpoint_changes",
                "Changes of EndpointSlices seen",
            ),
            endpoint_changes_pending: names.gauges(
                "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
                "Changes of EndpointSlices not yet synced",
            ),
            service_changes: names.counters(
                "kubeproxy_sync_proxy_rules_service_changes",
                "Changes of Services seen",
            ),
            service_changes_pending: names.gauges(
                "kubeproxy_sync_proxy_rules_service_changes_pending",
                "Changes of Services not yet synced",
            ),
            no_local_endpoints: names.gauges(
                "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
                "Services with a Local traffic policy and no endpoint on this node",
            ),
        }
    }
}

/// Health, table, conntrack and localhost NodePorts of the node: kube-proxy's.
#[derive(Debug)]
pub(super) struct NodeSeries {
    pub(super) healthz: Counters,
    pub(super) livez: Counters,
    pub(super) nft_failures: Counters,
    pub(super) conntrack_duration: Histograms,
    pub(super) conntrack_deleted: Counters,
    pub(super) localhost_listeners: Gauges,
    pub(super) localhost_unopened: Counters,
}

impl NodeSeries {
    fn new(names: &mut Names) -> Self {
        Self {
            healthz: names.counters("kubeproxy_proxy_healthz", "Answers of /healthz by code"),
            livez: names.counters("kubeproxy_proxy_livez", "Answers of /livez by code"),
            nft_failures: names.counters(
                "kubeproxy_sync_proxy_rules_nftables_sync_failures",
                "nftables transactions that were refused",
            ),
            conntrack_duration: names.histograms(
                "kubeproxy_conntrack_reconciler_sync_duration_seconds",
                "Time a clean-up of conntrack entries took",
                powers_of_two,
            ),
            conntrack_deleted: names.counters(
                "kubeproxy_conntrack_reconciler_deleted_entries",
                "Conntrack entries deleted",
            ),
            localhost_listeners: names.gauges(
                "kubeproxy_nftables_localhost_nodeport_listeners",
                "NodePorts that are listened on at a loopback address",
            ),
            localhost_unopened: names.counters(
                "kubeproxy_nftables_localhost_nodeport_listener_creation_failures",
                "Attempts to listen on a NodePort at a loopback address that failed",
            ),
        }
    }
}

/// What the kernel holds for us and how it was programmed.
#[derive(Debug)]
pub(super) struct KernelSeries {
    pub(super) virtual_servers: Gauges,
    pub(super) real_servers: Gauges,
    pub(super) draining: Gauges,
    pub(super) vips: Gauges,
    pub(super) fronts: Gauges,
    pub(super) operations: Counters,
    pub(super) refusals: Counters,
    pub(super) refused: Gauges,
    pub(super) drift: Counters,
    pub(super) netlink: Histograms,
}

impl KernelSeries {
    fn new(names: &mut Names) -> Self {
        Self {
            virtual_servers: names.gauges(
                "kube_ipvs_virtual_servers",
                "Virtual servers of ours in the kernel",
            ),
            real_servers: names.gauges(
                "kube_ipvs_real_servers",
                "Real servers of ours in the kernel, draining ones among them",
            ),
            draining: names.gauges(
                "kube_ipvs_draining_real_servers",
                "Real servers that keep connections and get no new ones",
            ),
            vips: names.gauges("kube_ipvs_vips", "VIPs bound to our link"),
            fronts: names.gauges(
                "kube_ipvs_fronts",
                "Fronts that our table says something of",
            ),
            operations: names.counters(
                "kube_ipvs_plan_operations",
                "Operations carried out in the kernel by kind",
            ),
            refusals: names.counters(
                "kube_ipvs_refusals",
                "Operations the kernel refused by kind",
            ),
            refused: names.gauges(
                "kube_ipvs_refused",
                "Things the kernel refuses at the moment, by kind",
            ),
            drift: names.counters(
                "kube_ipvs_drift",
                "Differences that somebody else made in the kernel, by kind",
            ),
            netlink: names.histograms(
                "kube_ipvs_kernel_duration_seconds",
                "Time spent in the kernel by step (netlink, table)",
                powers_of_two,
            ),
        }
    }
}

/// Whether what is known of Services is recent and served.
#[derive(Debug)]
pub(super) struct ServiceSeries {
    pub(super) source_age: Gauges,
    pub(super) warnings: Gauges,
    pub(super) withheld: Gauges,
    pub(super) not_ready: Gauges,
    pub(super) localhost_open: Gauges,
    pub(super) localhost_connections: Counters,
}

impl ServiceSeries {
    fn new(names: &mut Names) -> Self {
        Self {
            source_age: names.gauges(
                "kube_ipvs_source_age_seconds",
                "Seconds since the source of Services last proved to be up to date",
            ),
            warnings: names.gauges(
                "kube_ipvs_object_warnings",
                "Objects that are served differently from what they ask for",
            ),
            withheld: names.gauges(
                "kube_ipvs_withheld_addresses",
                "Addresses that Services ask for and do not get here, by whose they are",
            ),
            not_ready: names.gauges(
                "kube_ipvs_not_ready",
                "Reasons for which /readyz is red: 1 for each",
            ),
            localhost_open: names.gauges(
                "kube_ipvs_localhost_connections",
                "Open connections to NodePorts at loopback addresses",
            ),
            localhost_connections: names.counters(
                "kube_ipvs_localhost_connections_accepted",
                "Connections to NodePorts at loopback addresses by result (forwarded, unanswered, full, stranger)",
            ),
        }
    }
}

fn build_info(names: &mut Names) {
    let info = names.gauges("kube_ipvs_build_info", "Version of this program, always 1");
    let version = vec![("version", env!("CARGO_PKG_VERSION").into())];
    info.get_or_create(&version).set(1.0);
}

/// A registry that remembers what it was given: it says nothing of what has no
/// sample.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) registry: Registry,
    pub(super) described: Vec<Described>,
}

impl Names {
    /// `name` without the `_total` that every counter gets.
    fn counters(&mut self, name: &str, help: &str) -> Counters {
        self.describe(format!("{name}_total"), "counter", help);
        self.register(name, help, Counters::default())
    }

    fn gauges(&mut self, name: &str, help: &str) -> Gauges {
        self.describe(name.to_owned(), "gauge", help);
        self.register(name, help, Gauges::default())
    }

    fn histograms(&mut self, name: &str, help: &str, new: fn() -> Histogram) -> Histograms {
        self.describe(name.to_owned(), "histogram", help);
        self.register(name, help, Histograms::new_with_constructor(new))
    }

    fn describe(&mut self, name: String, kind: &str, help: &str) {
        self.described.push(Described {
            name,
            kind: kind.to_owned(),
            help: help.to_owned(),
        });
    }

    fn register<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.registry.register(name, help, metric.clone());
        metric
    }
}

/// 1 ms, doubled up to 16.384 s: kube-proxy's buckets of sync times.
fn powers_of_two() -> Histogram {
    Histogram::new((0..15).map(|n| 0.001 * f64::from(1 << n)))
}

/// kube-proxy's buckets of the programming latency: fine up to a minute, up to five.
fn programming_buckets() -> Histogram {
    let seconds = [0.25, 0.5]
        .into_iter()
        .chain((1..60).map(f64::from))
        .chain((60..120).step_by(5).map(f64::from))
        .chain((120..=300).step_by(30).map(f64::from));
    Histogram::new(seconds)
}
