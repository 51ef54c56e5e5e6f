//! Services as the cluster keeps them: read once where they come in, small.
//!
//! What follows from the object alone is decided here, with what is to be said
//! of it. What depends on this host, its kernel or on other objects is decided
//! when the Service is [compiled](crate::compile).

mod addresses;
mod annotations;
mod kube_router;
mod policy;
mod ports;
mod ranges;
mod slow_start;
mod tuning;
mod untracked;
mod weights;

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::net::IpAddr;

use jiff::Timestamp;

use crate::k8s::{self, SERVICE_PROXY_NAME_LABEL};
use crate::options::Options;
use crate::regarding::Uid;
use crate::row::Masquerade;
use crate::slices::Interner;
use crate::warnings::Warnings;

pub(crate) use self::addresses::Asked;
pub use self::annotations::{annotation_words, annotations_of};
pub(crate) use self::ports::Port;
pub(crate) use self::ranges::Networks;
pub(crate) use self::tuning::{Tuning, Tunings};
pub(crate) use self::untracked::asks_endpoints;
pub(crate) use self::weights::{Weights, unheeded};

/// How a front came to a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontKind {
    /// One of `clusterIPs`.
    ClusterIp,
    /// An address of its load balancer.
    LoadBalancer,
    /// One of `externalIPs`.
    ExternalIp,
    /// A node port on an address of this host.
    NodePort,
    /// The firewall mark that traffic from inside gets.
    InsideMark,
}

impl fmt::Display for FrontKind {
    /// `ClusterIP`, `LoadBalancer`, `ExternalIP`, `NodePort`, `InsideMark`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ClusterIp => "ClusterIP",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalIp => "ExternalIP",
            Self::NodePort => "NodePort",
            Self::InsideMark => "InsideMark",
        })
    }
}

/// When an object was made: milliseconds of Unix time. One that does not say so
/// counts as the youngest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Created(i64);

impl Created {
    fn at(time: Option<Timestamp>) -> Self {
        time.map_or_else(Self::default, |time| Self(time.as_millisecond()))
    }
}

impl Default for Created {
    fn default() -> Self {
        Self(i64::MAX)
    }
}

/// `spec.type` of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServiceType {
    /// Also when it says nothing.
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
    /// One of a later API; served as the first.
    Other(Arc<str>),
}

impl ServiceType {
    fn read(text: Option<&str>) -> Self {
        match text {
            None | Some("ClusterIP") => Self::ClusterIp,
            Some("NodePort") => Self::NodePort,
            Some("LoadBalancer") => Self::LoadBalancer,
            Some("ExternalName") => Self::ExternalName,
            Some(other) => Self::Other(other.into()),
        }
    }

    /// As Kubernetes writes it.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalName => "ExternalName",
            Self::Other(name) => name,
        }
    }
}

/// A Service, with what a proxier needs of it and nothing else.
#[derive(Debug, PartialEq)]
pub(crate) struct Service {
    pub(crate) kind: ServiceType,
    pub(crate) created: Created,
    /// Which of those that had its name.
    pub(crate) uid: Option<Uid>,
    /// Which proxier serves it, where it says so.
    pub(crate) proxy: Option<Arc<str>>,
    /// `None` stands where its cluster address would.
    pub(crate) is_headless: bool,
    /// What it asks for: cluster, load balancer, external, in this order. Those
    /// of a Service that nobody serves are not read.
    pub(crate) addresses: Box<[Asked]>,
    pub(crate) ports: Box<[Port]>,
    /// Session affinity: its time-out in seconds.
    pub(crate) affinity: Option<u32>,
    pub(crate) internal_local: bool,
    pub(crate) external_local: bool,
    /// What endpoints are to see; none where the node decides.
    pub(crate) masquerade: Option<Masquerade>,
    /// Packets of its ClusterIPs are not tracked.
    pub(crate) untracked: bool,
    /// Where nodes say whether they have endpoints, for a load balancer.
    pub(crate) health_port: Option<u16>,
    /// Who may use its load balancer's addresses, where that is not everybody.
    pub(crate) ranges: Option<Arc<Networks>>,
    /// What it asks of the scheduler. One for all that ask for nothing.
    tunings: Arc<Tunings>,
    /// What makes no sense in it.
    warnings: Option<Box<Warnings>>,
}

impl Service {
    /// Its settings of virtual servers where the kernel lacks these schedulers.
    pub(crate) fn tuning(&self, missing: &BTreeSet<String>) -> &Tuning {
        self.tunings.where_missing(missing)
    }

    /// The scheduler that it names, if it is one.
    pub(crate) fn named_scheduler(&self) -> Option<&'static str> {
        self.tunings.named
    }

    /// Whether it is served in another way where this address is this host's: who
    /// is let in, and which answers are tracked.
    pub(crate) fn asks_whether_ours(&self, address: IpAddr) -> bool {
        let ranges = self.ranges.as_ref();
        ranges.is_some_and(|nets| nets.contain(address))
            || (self.untracked && asks_endpoints(address))
    }

    /// What is to be said of it, wherever it is served.
    pub(crate) fn warnings(&self) -> Warnings {
        self.warnings.as_deref().cloned().unwrap_or_default()
    }
}

/// Reads Services.
#[derive(Debug)]
pub(crate) struct Reader {
    /// What a Service without annotations asks of the scheduler.
    plain: Arc<Tunings>,
}

impl Reader {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            plain: Arc::new(Tunings::read(&k8s::Service::default(), options)),
        }
    }

    /// Reads a Service; of its annotations those that the operator honours.
    pub(crate) fn read(
        &self,
        mut service: Box<k8s::Service>,
        options: &Options,
        names: &mut Interner,
    ) -> Service {
        let mut warnings = Warnings::default();
        addresses::too_long(&service, &mut warnings);
        kube_router::tell(&service, &mut warnings);
        annotations::withhold(&mut service, options, &mut warnings);
        kube_router::adopt(&mut service);
        let service = &*service;
        let spec = &service.spec;
        let external_local = policy::is_local(
            "externalTrafficPolicy",
            spec.external_traffic_policy.as_deref(),
            &mut warnings,
        );
        let masquerade = annotations::masquerade(service, external_local, &mut warnings);
        let kind = ServiceType::read(spec.type_.as_deref());
        let addresses = addresses::read(service, &kind, &mut warnings);
        let is_balanced = kind == ServiceType::LoadBalancer && !addresses.is_empty();
        let label = service.metadata.labels.get(SERVICE_PROXY_NAME_LABEL);
        Service {
            created: Created::at(service.metadata.creation_timestamp),
            uid: service.metadata.uid,
            proxy: label.map(|name| names.intern(name)),
            is_headless: addresses::is_headless(spec),
            addresses,
            masquerade,
            untracked: untracked::is_asked(service, masquerade, options, &mut warnings),
            affinity: policy::affinity(spec, &mut warnings),
            internal_local: policy::is_local(
                "internalTrafficPolicy",
                spec.internal_traffic_policy.as_deref(),
                &mut warnings,
            ),
            external_local,
            ranges: ranges::read(spec, &mut warnings).map(Arc::new),
            ports: ports::read(spec, names, &mut warnings),
            health_port: ports::health(spec, external_local && is_balanced, &mut warnings),
            tunings: self.tunings(service, options),
            warnings: (!warnings.is_empty()).then(|| Box::new(warnings)),
            kind,
        }
    }

    fn tunings(&self, service: &k8s::Service, options: &Options) -> Arc<Tunings> {
        if service.metadata.annotations.is_empty() {
            return self.plain.clone();
        }
        let read = Tunings::read(service, options);
        if read == *self.plain {
            return self.plain.clone();
        }
        Arc::new(read)
    }
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;

    use super::*;
    use crate::fixtures::{bare, cluster, options, service, web};

    fn read(reader: &Reader, service: k8s::Service) -> Service {
        reader.read(Box::new(service), &options(), &mut Interner::default())
    }

    #[test]
    fn what_nobody_reads_of_a_service_is_no_change_of_it() {
        let mut cluster = cluster();
        cluster.add(web());
        cluster.compile();

        cluster.add(web().annotation("team", "payments").with(|service| {
            service.metadata.resource_version = "2".to_owned();
            let labels = &mut service.metadata.labels;
            labels.insert("app".to_owned(), "web".to_owned());
        }));
        assert!(!cluster.is_dirty());

        cluster.add(web().external_local());
        assert!(cluster.is_dirty());
    }

    #[test]
    fn services_that_ask_nothing_of_the_scheduler_share_what_they_get() {
        let reader = Reader::new(&options());
        let one = read(&reader, web());
        let other = read(&reader, web().annotation("team", "payments"));
        let asking = web().annotation("ipvs.kube-ipvs.dev/scheduler", "lc");
        let asking = read(&reader, asking);

        assert!(Arc::ptr_eq(&one.tunings, &other.tunings));
        assert!(!Arc::ptr_eq(&one.tunings, &asking.tunings));
        assert_eq!(asking.named_scheduler(), Some("lc"));
        assert_eq!(asking.tuning(&BTreeSet::new()).scheduler, "lc");
        let missing = BTreeSet::from(["lc".to_owned()]);
        assert_eq!(asking.tuning(&missing).scheduler, "rr");
    }

    /// What an API server would not store: the two fields say the same there.
    #[test]
    fn a_cluster_ip_that_only_one_field_names_is_nobody_elses() {
        for named in [&["10.96.0.2"][..], &["None"]] {
            let apart = bare("apart", named).port("", "TCP", 80);
            let apart = apart.with(|s| s.spec.cluster_ip = Some("10.96.0.7".to_owned()));
            let mut cluster = cluster();
            cluster.add(apart);
            cluster.add(service("web", "10.96.0.1").load_balancer("10.96.0.7"));

            let text = cluster.text();

            assert!(!text.contains("vip  10.96.0.7"), "{text}");
            assert!(text.contains("is the ClusterIP of a Service"), "{text}");
        }
    }
}
