//! What `/metrics` shows: kube-proxy's names, types and labels wherever the
//! thing exists here, and ours (`kube_ipvs_*`) beside them.
//!
//! [`Metrics`] is a handle; clones count into the same numbers. The methods
//! say what happened, never which metric it belongs to.
//!
//! `kubernetes_build_info` is deliberately absent: monitoring compares its
//! `git_version` over all components and alerts when they differ, and ours is
//! no Kubernetes version. `kube_ipvs_build_info` stands in. So is
//! `kubernetes_feature_enabled`: kube-proxy's gates and their stages are not ours.

mod localhost;
mod process;
mod series;
mod source;
mod text;
mod traffic;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kube_ipvs_core::state::Family;
use kube_ipvs_core::{TrafficPolicy, Withheld};
use kube_ipvs_source::kube::SourceStatus;
use prometheus_client::registry::Registry;

pub use localhost::{LocalhostEnd, LocalhostOpen};
use series::{Counters, Gauges, Histograms, Labels, Names, Series};
pub use text::{CONTENT_TYPE, Described};
pub use traffic::{RealServerRow, Traffic, TrafficRow};

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
    /// Fronts that our table says something of.
    pub fronts: usize,
}

/// A path of the health server that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthPath {
    /// `/healthz`.
    Healthz,
    /// `/livez`.
    Livez,
}

/// Whether what is known of Services is the latest there is.
#[derive(Debug, Clone, Copy)]
enum Freshness {
    /// Nothing was read whole yet.
    Unknown,
    /// It is, as long as nobody says otherwise.
    Current,
    /// It was until then.
    Until(Instant),
}

/// Everything that is counted. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    series: Series,
    registry: Mutex<Registry>,
    /// How the source is, for one without a status.
    freshness: Mutex<Freshness>,
    source: Mutex<Option<Arc<SourceStatus>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, at zero.
    pub fn new() -> Self {
        let mut names = Names::default();
        let series = Series::new(&mut names);
        let mut registry = names.registry;
        registry.register_collector(Box::new(process::Process));
        Self {
            inner: Arc::new(Inner {
                series,
                registry: Mutex::new(registry),
                freshness: Mutex::new(Freshness::Unknown),
                source: Mutex::new(None),
            }),
        }
    }

    /// Shows traffic of every Service and real server, asked for at each scrape.
    ///
    /// Call once: costs a dump of the table a scrape, and a few series a real server.
    pub fn show_traffic(&self, traffic: Traffic) {
        lock(&self.inner.registry).register_collector(Box::new(traffic));
    }

    /// Shows how the watches of the API server at `host` are doing, at each
    /// scrape; the age of the source too, for which [`Self::source_current`] stands
    /// in otherwise. Call once.
    pub fn show_source(&self, host: &str, status: Arc<SourceStatus>) {
        let source = source::Source::new(host, status.clone());
        lock(&self.inner.registry).register_collector(Box::new(source));
        *lock(&self.inner.source) = Some(status);
    }

    /// A sync was asked for.
    pub fn sync_queued(&self, family: Family) {
        set(
            &self.inner.series.sync.sync_last_queued,
            ip_family(family),
            unix_now(),
        );
    }

    /// A sync ended; the last good one is remembered only when nothing failed.
    pub fn sync_finished(&self, family: Family, took: Duration, complete: bool) {
        observe(
            &self.inner.series.sync.sync_duration,
            ip_family(family),
            took,
        );
        if complete {
            set(
                &self.inner.series.sync.sync_last,
                ip_family(family),
                unix_now(),
            );
        }
    }

    /// Time from a change's trigger (`endpoints.kubernetes.io/last-change-trigger-time`)
    /// to its end of sync.
    pub fn programming_latency(&self, family: Family, took: Duration) {
        observe(
            &self.inner.series.sync.programming_duration,
            ip_family(family),
            took,
        );
    }

    /// Events of EndpointSlices arrived.
    pub fn endpoint_changes(&self, n: u64) {
        add(&self.inner.series.sync.endpoint_changes, Vec::new(), n);
    }

    /// EndpointSlices that changed and wait for a sync.
    pub fn endpoint_changes_pending(&self, n: usize) {
        set(
            &self.inner.series.sync.endpoint_changes_pending,
            Vec::new(),
            n as f64,
        );
    }

    /// Events of Services arrived.
    pub fn service_changes(&self, n: u64) {
        add(&self.inner.series.sync.service_changes, Vec::new(), n);
    }

    /// Services that changed and wait for a sync.
    pub fn service_changes_pending(&self, n: usize) {
        set(
            &self.inner.series.sync.service_changes_pending,
            Vec::new(),
            n as f64,
        );
    }

    /// How many Services have a `Local` policy and no endpoint here.
    pub fn no_local_endpoints(&self, policy: TrafficPolicy, family: Family, n: usize) {
        let policy = match policy {
            TrafficPolicy::Internal => "internal",
            TrafficPolicy::External => "external",
        };
        let mut labels = ip_family(family);
        labels.insert(0, ("traffic_policy", policy.into()));
        set(&self.inner.series.sync.no_local_endpoints, labels, n as f64);
    }

    /// How many addresses of Services are not served, being somebody else's.
    pub fn withheld_addresses(&self, reason: Withheld, n: usize) {
        let labels = vec![("reason", reason.name().into())];
        set(&self.inner.series.service.withheld, labels, n as f64);
    }

    /// A health path was answered with a status code.
    pub fn health_answered(&self, path: HealthPath, code: u16) {
        let counters = match path {
            HealthPath::Healthz => &self.inner.series.node.healthz,
            HealthPath::Livez => &self.inner.series.node.livez,
        };
        add(counters, vec![("code", code.to_string())], 1);
    }

    /// An nftables transaction was refused.
    pub fn nft_failed(&self, family: Family) {
        add(&self.inner.series.node.nft_failures, ip_family(family), 1);
    }

    /// Conntrack entries were cleaned.
    pub fn conntrack_cleaned(&self, family: Family, took: Duration, deleted: u64) {
        observe(
            &self.inner.series.node.conntrack_duration,
            ip_family(family),
            took,
        );
        add(
            &self.inner.series.node.conntrack_deleted,
            ip_family(family),
            deleted,
        );
    }

    /// What the kernel holds for us.
    pub fn set_tables(&self, family: Family, tables: Tables) {
        let series = &self.inner.series;
        let Tables {
            virtual_servers,
            real_servers,
            draining,
            vips,
            fronts,
        } = tables;
        for (gauge, n) in [
            (&series.kernel.virtual_servers, virtual_servers),
            (&series.kernel.real_servers, real_servers),
            (&series.kernel.draining, draining),
            (&series.kernel.vips, vips),
            (&series.kernel.fronts, fronts),
        ] {
            set(gauge, ip_family(family), n as f64);
        }
    }

    /// Operations of a plan were carried out: `add-virtual-server`, 3.
    pub fn plan_applied<'a>(&self, kinds: impl IntoIterator<Item = (&'a str, u64)>) {
        for (kind, n) in kinds {
            add(
                &self.inner.series.kernel.operations,
                vec![("kind", kind.to_owned())],
                n,
            );
        }
    }

    /// The kernel refused an operation.
    pub fn refusal(&self, kind: &str) {
        add(
            &self.inner.series.kernel.refusals,
            vec![("kind", kind.to_owned())],
            1,
        );
    }

    /// What the kernel refuses at the moment, by kind.
    pub fn refused(&self, counts: &BTreeMap<&'static str, usize>) {
        let gauge = &self.inner.series.kernel.refused;
        gauge.clear();
        for (kind, count) in counts {
            set(gauge, vec![("kind", (*kind).to_owned())], *count as f64);
        }
    }

    /// Somebody else changed the kernel: the audit found `n` differences of a kind.
    pub fn drift(&self, kind: &str, n: u64) {
        add(
            &self.inner.series.kernel.drift,
            vec![("kind", kind.to_owned())],
            n,
        );
    }

    /// A step of observing or applying took its time in the kernel.
    pub fn netlink_time(&self, step: &str, took: Duration) {
        observe(
            &self.inner.series.kernel.netlink,
            vec![("step", step.to_owned())],
            took,
        );
    }

    /// Whether all of a source is read that is told of every change, such as a
    /// directory: then its age is 0, however long nothing changes. From the moment
    /// when it is not, its age grows.
    pub fn source_current(&self, current: bool, now: Instant) {
        let mut freshness = lock(&self.inner.freshness);
        *freshness = match *freshness {
            _ if current => Freshness::Current,
            Freshness::Current => Freshness::Until(now),
            before => before,
        };
    }

    /// How many objects have a warning.
    pub fn object_warnings(&self, n: usize) {
        set(&self.inner.series.service.warnings, Vec::new(), n as f64);
    }

    /// Why `/readyz` is red; no reason is green.
    pub fn not_ready<'a>(&self, reasons: impl IntoIterator<Item = &'a str>) {
        self.inner.series.service.not_ready.clear();
        for reason in reasons {
            set(
                &self.inner.series.service.not_ready,
                vec![("reason", reason.to_owned())],
                1.0,
            );
        }
    }

    /// The Prometheus text format, version 0.0.4: see [`CONTENT_TYPE`].
    pub fn render(&self, now: Instant) -> String {
        if let Some(age) = self.source_age(now) {
            set(
                &self.inner.series.service.source_age,
                Vec::new(),
                age.as_secs_f64(),
            );
        }
        text::render(&lock(&self.inner.registry))
    }

    /// Since the source was heard, or stopped being read whole; none before it
    /// ever was.
    pub fn source_age(&self, now: Instant) -> Option<Duration> {
        if let Some(source) = &*lock(&self.inner.source) {
            return source.age(now);
        }
        match *lock(&self.inner.freshness) {
            Freshness::Unknown => None,
            Freshness::Current => Some(Duration::ZERO),
            Freshness::Until(then) => Some(now.saturating_duration_since(then)),
        }
    }

    /// Every metric there can be, whatever the source and the flags.
    pub fn catalogue() -> Vec<Described> {
        let mut names = Names::default();
        Series::new(&mut names);
        let mut others = Registry::default();
        others.register_collector(Box::new(source::Source::new("", Arc::default())));
        others.register_collector(Box::new(Traffic::new(Vec::new)));
        others.register_collector(Box::new(process::Process));
        let mut all = names.described;
        all.extend(text::described(&others));
        all
    }
}

/// A mutex whose holder cannot have left it half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn withheld_addresses_are_told_by_whose_they_are() {
        let metrics = Metrics::new();

        metrics.withheld_addresses(Withheld::ServiceCidr, 2);

        let text = metrics.render(Instant::now());
        let line = "kube_ipvs_withheld_addresses{reason=\"service-cidr\"} 2\n";
        assert!(text.contains(line), "{text}");
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
    fn a_source_that_is_read_whole_has_no_age() {
        let metrics = Metrics::new();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let age = |seconds: u64| {
            let text = metrics.render(at(seconds));
            let line = text
                .lines()
                .find(|line| line.starts_with("kube_ipvs_source_age_seconds"));
            line.map(str::to_owned)
        };

        metrics.source_current(false, at(0));
        assert_eq!(age(5), None);
        metrics.source_current(true, at(5));
        assert_eq!(age(9000).as_deref(), Some("kube_ipvs_source_age_seconds 0"));
        metrics.source_current(false, at(9000));
        metrics.source_current(false, at(9050));
        assert_eq!(
            age(9090).as_deref(),
            Some("kube_ipvs_source_age_seconds 90")
        );
        metrics.source_current(true, at(9100));
        assert_eq!(age(9200).as_deref(), Some("kube_ipvs_source_age_seconds 0"));
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
            fronts: 9,
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
