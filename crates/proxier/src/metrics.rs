//! What `/metrics` shows: kube-proxy's names, types and labels wherever the
//! thing exists here, and ours (`kube_ipvs_*`) beside them.
//!
//! [`Metrics`] is a handle; clones count into the same numbers. The methods
//! say what happened, never which metric it belongs to.
//!
//! `kubernetes_build_info` is deliberately absent: monitoring compares its
//! `git_version` over all components and alerts when they differ, and ours is
//! no Kubernetes version. `kube_ipvs_build_info` stands in.

mod process;
mod text;
mod traffic;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kube_ipvs_core::state::Family;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family as Vector;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

pub use text::CONTENT_TYPE;
pub use traffic::{RealServerRow, Traffic, TrafficRow};

/// Names and values, in the order they are printed.
type Labels = Vec<(&'static str, String)>;
type Counters = Vector<Labels, Counter>;
type Gauges = Vector<Labels, Gauge<f64, std::sync::atomic::AtomicU64>>;
type Histograms = Vector<Labels, Histogram, fn() -> Histogram>;

/// Sizes of what the kernel holds for us, of one family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tables {
    /// Virtual servers.
    pub virtual_servers: usize,
    /// Real servers of all virtual servers, draining ones among them.
    pub real_servers: usize,
    /// Real servers that drain.
    pub draining: usize,
    /// VIPs bound to our link.
    pub vips: usize,
    /// Elements of all nftables sets and maps.
    pub nft_elements: usize,
}

/// Whose traffic policy left a Service without an endpoint on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// `internalTrafficPolicy: Local`.
    Internal,
    /// `externalTrafficPolicy: Local`.
    External,
}

/// A path of the health server that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthPath {
    /// `/healthz`.
    Healthz,
    /// `/livez`.
    Livez,
}

/// Everything that is counted. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Mutex<Registry>,
    /// When the source last proved to be up to date.
    source_seen: Mutex<Option<Instant>>,

    // kube-proxy's.
    sync_duration: Histograms,
    sync_last: Gauges,
    sync_last_queued: Gauges,
    programming_duration: Histograms,
    endpoint_changes: Counters,
    endpoint_changes_pending: Gauges,
    service_changes: Counters,
    service_changes_pending: Gauges,
    no_local_endpoints: Gauges,
    healthz: Counters,
    livez: Counters,
    nft_failures: Counters,
    conntrack_duration: Histograms,
    conntrack_deleted: Counters,
    rest_requests: Counters,
    features: Gauges,

    // Ours.
    virtual_servers: Gauges,
    real_servers: Gauges,
    draining: Gauges,
    vips: Gauges,
    nft_elements: Gauges,
    operations: Counters,
    refusals: Counters,
    drift: Counters,
    netlink: Histograms,
    source_age: Gauges,
    api_requests: Counters,
    warnings: Gauges,
    not_ready: Gauges,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, at zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let r = &mut registry;
        let inner = Inner {
            sync_duration: histograms(
                r,
                "kubeproxy_sync_proxy_rules_duration_seconds",
                "Time a sync took, successful or not",
                powers_of_two,
            ),
            sync_last: gauges(
                r,
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                "When the last successful sync ended, Unix time",
            ),
            sync_last_queued: gauges(
                r,
                "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
                "When a sync was last asked for, Unix time",
            ),
            programming_duration: histograms(
                r,
                "kubeproxy_network_programming_duration_seconds",
                "Time from the change of a pod or Service to the kernel holding it",
                programming_buckets,
            ),
            endpoint_changes: counters(
                r,
                "kubeproxy_sync_proxy_rules_endpoint_changes",
                "Changes of EndpointSlices seen",
            ),
            endpoint_changes_pending: gauges(
                r,
                "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
                "Changes of EndpointSlices not yet synced",
            ),
            service_changes: counters(
                r,
                "kubeproxy_sync_proxy_rules_service_changes",
                "Changes of Services seen",
            ),
            service_changes_pending: gauges(
                r,
                "kubeproxy_sync_proxy_rules_service_changes_pending",
                "Changes of Services not yet synced",
            ),
            no_local_endpoints: gauges(
                r,
                "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
                "Services with a Local traffic policy and no endpoint on this node",
            ),
            healthz: counters(r, "kubeproxy_proxy_healthz", "Answers of /healthz by code"),
            livez: counters(r, "kubeproxy_proxy_livez", "Answers of /livez by code"),
            nft_failures: counters(
                r,
                "kubeproxy_sync_proxy_rules_nftables_sync_failures",
                "nftables transactions that were refused",
            ),
            conntrack_duration: histograms(
                r,
                "kubeproxy_conntrack_reconciler_sync_duration_seconds",
                "Time a clean-up of conntrack entries took",
                powers_of_two,
            ),
            conntrack_deleted: counters(
                r,
                "kubeproxy_conntrack_reconciler_deleted_entries",
                "Conntrack entries deleted",
            ),
            rest_requests: counters(
                r,
                "rest_client_requests",
                "Requests to the API server by code, method and host",
            ),
            features: gauges(r, "kubernetes_feature_enabled", "Feature gates: 1 is on"),
            virtual_servers: gauges(
                r,
                "kube_ipvs_virtual_servers",
                "Virtual servers of ours in the kernel",
            ),
            real_servers: gauges(
                r,
                "kube_ipvs_real_servers",
                "Real servers of ours in the kernel, draining ones among them",
            ),
            draining: gauges(
                r,
                "kube_ipvs_draining_real_servers",
                "Real servers that keep connections and get no new ones",
            ),
            vips: gauges(r, "kube_ipvs_vips", "VIPs bound to our link"),
            nft_elements: gauges(
                r,
                "kube_ipvs_nft_elements",
                "Elements of our nftables sets and maps",
            ),
            operations: counters(
                r,
                "kube_ipvs_plan_operations",
                "Operations carried out in the kernel by kind",
            ),
            refusals: counters(
                r,
                "kube_ipvs_refusals",
                "Operations the kernel refused by kind",
            ),
            drift: counters(
                r,
                "kube_ipvs_drift",
                "Differences that somebody else made in the kernel, by kind",
            ),
            netlink: histograms(
                r,
                "kube_ipvs_kernel_duration_seconds",
                "Time spent in the kernel by step (observe, ipvs, vip, nft)",
                powers_of_two,
            ),
            source_age: gauges(
                r,
                "kube_ipvs_source_age_seconds",
                "Seconds since the source of Services last proved to be up to date",
            ),
            api_requests: counters(
                r,
                "kube_ipvs_api_requests",
                "Requests to the API server by verb and resource",
            ),
            warnings: gauges(
                r,
                "kube_ipvs_object_warnings",
                "Objects that are served differently from what they ask for",
            ),
            not_ready: gauges(
                r,
                "kube_ipvs_not_ready",
                "Reasons for which /readyz is red: 1 for each",
            ),
            source_seen: Mutex::new(None),
            registry: Mutex::new(Registry::default()),
        };
        build_info(r);
        r.register_collector(Box::new(process::Process));
        *lock(&inner.registry) = registry;
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Shows traffic of every Service and real server, asked for at each scrape.
    ///
    /// Call once: costs a dump of the table a scrape, and a few series a real server.
    pub fn show_traffic(&self, traffic: Traffic) {
        lock(&self.inner.registry).register_collector(Box::new(traffic));
    }

    /// A sync was asked for.
    pub fn sync_queued(&self, family: Family) {
        set(&self.inner.sync_last_queued, ip_family(family), unix_now());
    }

    /// A sync ended; the last good one is remembered only when nothing failed.
    pub fn sync_finished(&self, family: Family, took: Duration, complete: bool) {
        observe(&self.inner.sync_duration, ip_family(family), took);
        if complete {
            set(&self.inner.sync_last, ip_family(family), unix_now());
        }
    }

    /// Time from a change's trigger (`endpoints.kubernetes.io/last-change-trigger-time`)
    /// to its end of sync.
    pub fn programming_latency(&self, family: Family, took: Duration) {
        observe(&self.inner.programming_duration, ip_family(family), took);
    }

    /// Events of EndpointSlices arrived.
    pub fn endpoint_changes(&self, n: u64) {
        add(&self.inner.endpoint_changes, Vec::new(), n);
    }

    /// EndpointSlices that changed and wait for a sync.
    pub fn endpoint_changes_pending(&self, n: usize) {
        set(&self.inner.endpoint_changes_pending, Vec::new(), n as f64);
    }

    /// Events of Services arrived.
    pub fn service_changes(&self, n: u64) {
        add(&self.inner.service_changes, Vec::new(), n);
    }

    /// Services that changed and wait for a sync.
    pub fn service_changes_pending(&self, n: usize) {
        set(&self.inner.service_changes_pending, Vec::new(), n as f64);
    }

    /// How many Services have a `Local` policy and no endpoint here.
    pub fn no_local_endpoints(&self, policy: TrafficPolicy, family: Family, n: usize) {
        let policy = match policy {
            TrafficPolicy::Internal => "internal",
            TrafficPolicy::External => "external",
        };
        let mut labels = ip_family(family);
        labels.insert(0, ("traffic_policy", policy.into()));
        set(&self.inner.no_local_endpoints, labels, n as f64);
    }

    /// A health path was answered with a status code.
    pub fn health_answered(&self, path: HealthPath, code: u16) {
        let counters = match path {
            HealthPath::Healthz => &self.inner.healthz,
            HealthPath::Livez => &self.inner.livez,
        };
        add(counters, vec![("code", code.to_string())], 1);
    }

    /// An nftables transaction was refused.
    pub fn nft_failed(&self, family: Family) {
        add(&self.inner.nft_failures, ip_family(family), 1);
    }

    /// Conntrack entries were cleaned.
    pub fn conntrack_cleaned(&self, family: Family, took: Duration, deleted: u64) {
        observe(&self.inner.conntrack_duration, ip_family(family), took);
        add(&self.inner.conntrack_deleted, ip_family(family), deleted);
    }

    /// The API server answered: `code` is the status, or `<error>` when there was none.
    pub fn rest_request(&self, method: &str, host: &str, code: &str) {
        let labels = vec![
            ("code", code.to_owned()),
            ("host", host.to_owned()),
            ("method", method.to_owned()),
        ];
        add(&self.inner.rest_requests, labels, 1);
    }

    /// The API server was asked: `list`, `watch`, ... of `services`, ...
    pub fn api_request(&self, verb: &str, resource: &str) {
        let labels = vec![("verb", verb.to_owned()), ("resource", resource.to_owned())];
        add(&self.inner.api_requests, labels, 1);
    }

    /// State of a feature gate; `stage` is `ALPHA`, `BETA` or empty when it is GA.
    pub fn feature(&self, name: &str, stage: &str, enabled: bool) {
        let labels = vec![("name", name.to_owned()), ("stage", stage.to_owned())];
        set(&self.inner.features, labels, f64::from(u8::from(enabled)));
    }

    /// What the kernel holds for us.
    pub fn set_tables(&self, family: Family, tables: Tables) {
        let inner = &self.inner;
        let Tables {
            virtual_servers,
            real_servers,
            draining,
            vips,
            nft_elements,
        } = tables;
        for (gauge, n) in [
            (&inner.virtual_servers, virtual_servers),
            (&inner.real_servers, real_servers),
            (&inner.draining, draining),
            (&inner.vips, vips),
            (&inner.nft_elements, nft_elements),
        ] {
            set(gauge, ip_family(family), n as f64);
        }
    }

    /// Operations of a plan were carried out: `add-virtual-server`, 3.
    pub fn plan_applied<'a>(&self, kinds: impl IntoIterator<Item = (&'a str, u64)>) {
        for (kind, n) in kinds {
            add(&self.inner.operations, vec![("kind", kind.to_owned())], n);
        }
    }

    /// The kernel refused an operation.
    pub fn refusal(&self, kind: &str) {
        add(&self.inner.refusals, vec![("kind", kind.to_owned())], 1);
    }

    /// Somebody else changed the kernel: the audit found `n` differences of a kind.
    pub fn drift(&self, kind: &str, n: u64) {
        add(&self.inner.drift, vec![("kind", kind.to_owned())], n);
    }

    /// A step of observing or applying took its time in the kernel.
    pub fn netlink_time(&self, step: &str, took: Duration) {
        observe(&self.inner.netlink, vec![("step", step.to_owned())], took);
    }

    /// The source proved to be up to date (an event, a bookmark, a fresh list).
    pub fn source_seen(&self, now: Instant) {
        *lock(&self.inner.source_seen) = Some(now);
    }

    /// How many objects have a warning.
    pub fn object_warnings(&self, n: usize) {
        set(&self.inner.warnings, Vec::new(), n as f64);
    }

    /// Why `/readyz` is red; no reason is green.
    pub fn not_ready<'a>(&self, reasons: impl IntoIterator<Item = &'a str>) {
        self.inner.not_ready.clear();
        for reason in reasons {
            set(
                &self.inner.not_ready,
                vec![("reason", reason.to_owned())],
                1.0,
            );
        }
    }

    /// The Prometheus text format, version 0.0.4: see [`CONTENT_TYPE`].
    pub fn render(&self, now: Instant) -> String {
        if let Some(seen) = *lock(&self.inner.source_seen) {
            let age = now.saturating_duration_since(seen);
            set(&self.inner.source_age, Vec::new(), age.as_secs_f64());
        }
        text::render(&lock(&self.inner.registry))
    }
}

/// A mutex whose holder cannot have left it half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn build_info(registry: &mut Registry) {
    let info = gauges(
        registry,
        "kube_ipvs_build_info",
        "Version of this program, always 1",
    );
    set(
        &info,
        vec![("version", env!("CARGO_PKG_VERSION").into())],
        1.0,
    );
}

fn counters(registry: &mut Registry, name: &str, help: &str) -> Counters {
    registered(registry, name, help, Counters::default())
}

fn gauges(registry: &mut Registry, name: &str, help: &str) -> Gauges {
    registered(registry, name, help, Gauges::default())
}

fn histograms(
    registry: &mut Registry,
    name: &str,
    help: &str,
    new: fn() -> Histogram,
) -> Histograms {
    registered(registry, name, help, Histograms::new_with_constructor(new))
}

fn registered<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
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

/// The family as kube-proxy labels it.
fn ip_family(family: Family) -> Labels {
    let name = match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    vec![("ip_family", name.into())]
}

fn add(counters: &Counters, labels: Labels, n: u64) {
    counters.get_or_create(&labels).inc_by(n);
}

fn set(gauges: &Gauges, labels: Labels, value: f64) {
    gauges.get_or_create(&labels).set(value);
}

fn observe(histograms: &Histograms, labels: Labels, took: Duration) {
    histograms
        .get_or_create(&labels)
        .observe(took.as_secs_f64());
}

fn unix_now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name{labels} value` lines of one metric.
    fn lines(metrics: &Metrics, prefix: &str) -> Vec<String> {
        let text = metrics.render(Instant::now());
        let lines = text.lines().filter(|line| line.starts_with(prefix));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn sync_duration_has_the_buckets_of_kube_proxy() {
        let metrics = Metrics::new();

        metrics.sync_finished(Family::V4, Duration::from_millis(3), true);

        let name = "kubeproxy_sync_proxy_rules_duration_seconds";
        let all = lines(&metrics, &format!("{name}_bucket"));
        assert_eq!(all.len(), 16);
        assert_eq!(
            all[1],
            format!("{name}_bucket{{le=\"0.002\",ip_family=\"IPv4\"}} 0")
        );
        assert_eq!(
            all[2],
            format!("{name}_bucket{{le=\"0.004\",ip_family=\"IPv4\"}} 1")
        );
        assert_eq!(
            all[14],
            format!("{name}_bucket{{le=\"16.384\",ip_family=\"IPv4\"}} 1")
        );
        assert!(all[15].contains("le=\"+Inf\""));
    }

    #[test]
    fn programming_latency_has_the_buckets_of_kube_proxy() {
        let metrics = Metrics::new();

        metrics.programming_latency(Family::V6, Duration::from_secs(7));

        let all = lines(
            &metrics,
            "kubeproxy_network_programming_duration_seconds_bucket",
        );
        let bounds: Vec<_> = all
            .iter()
            .filter_map(|line| line.split("le=\"").nth(1)?.split('"').next())
            .collect();
        assert_eq!(bounds.len(), 2 + 59 + 12 + 7 + 1);
        assert_eq!(bounds[..4], ["0.25", "0.5", "1", "2"]);
        assert_eq!(bounds[60..63], ["59", "60", "65"]);
        assert_eq!(
            bounds[72..],
            [
                "115", "120", "150", "180", "210", "240", "270", "300", "+Inf"
            ][..]
        );
    }

    #[test]
    fn last_timestamp_waits_for_a_complete_sync() {
        let metrics = Metrics::new();
        let name = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";

        metrics.sync_finished(Family::V4, Duration::ZERO, false);
        assert_eq!(lines(&metrics, name), Vec::<String>::new());

        metrics.sync_finished(Family::V4, Duration::ZERO, true);
        assert_eq!(lines(&metrics, name).len(), 1);
    }

    #[test]
    fn counters_carry_total_in_every_line() {
        let metrics = Metrics::new();

        metrics.health_answered(HealthPath::Healthz, 503);
        metrics.endpoint_changes(2);

        let text = metrics.render(Instant::now());
        assert!(text.contains("# TYPE kubeproxy_proxy_healthz_total counter\n"));
        assert!(text.contains("kubeproxy_proxy_healthz_total{code=\"503\"} 1\n"));
        assert!(text.contains("kubeproxy_sync_proxy_rules_endpoint_changes_total 2\n"));
    }

    #[test]
    fn no_local_endpoints_is_a_gauge_though_it_ends_in_total() {
        let metrics = Metrics::new();

        metrics.no_local_endpoints(TrafficPolicy::External, Family::V4, 3);

        let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
        let text = metrics.render(Instant::now());
        assert!(text.contains(&format!("# TYPE {name} gauge\n")), "{text}");
        assert!(text.contains(&format!(
            "{name}{{traffic_policy=\"external\",ip_family=\"IPv4\"}} 3\n"
        )));
    }

    #[test]
    fn source_age_grows_until_the_source_is_seen_again() {
        let metrics = Metrics::new();
        let start = Instant::now();
        let age = |at: u64| {
            let text = metrics.render(start + Duration::from_secs(at));
            let line = text
                .lines()
                .find(|line| line.starts_with("kube_ipvs_source_age_seconds"));
            line.map(str::to_owned)
        };

        assert_eq!(age(5), None);
        metrics.source_seen(start);
        assert_eq!(age(90).as_deref(), Some("kube_ipvs_source_age_seconds 90"));
        metrics.source_seen(start + Duration::from_secs(90));
        assert_eq!(age(91).as_deref(), Some("kube_ipvs_source_age_seconds 1"));
    }

    #[test]
    fn reasons_that_went_away_are_no_longer_shown() {
        let metrics = Metrics::new();

        metrics.not_ready(["source", "sync"]);
        metrics.not_ready(["sync"]);

        assert_eq!(
            lines(&metrics, "kube_ipvs_not_ready"),
            ["kube_ipvs_not_ready{reason=\"sync\"} 1"]
        );
    }

    #[test]
    fn tables_are_shown_by_family() {
        let metrics = Metrics::new();
        let tables = Tables {
            virtual_servers: 2,
            real_servers: 5,
            draining: 1,
            vips: 2,
            nft_elements: 9,
        };

        metrics.set_tables(Family::V4, tables);
        metrics.set_tables(Family::V6, Tables::default());

        assert_eq!(
            lines(
                &metrics,
                "kube_ipvs_draining_real_servers{ip_family=\"IPv4\"}"
            ),
            ["kube_ipvs_draining_real_servers{ip_family=\"IPv4\"} 1"]
        );
        assert_eq!(lines(&metrics, "kube_ipvs_virtual_servers").len(), 2);
    }
}
