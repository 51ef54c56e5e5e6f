//! What the program works with: flags and file, merged, checked and typed.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::Authority;
use ipnet::IpNet;
use kube_ipvs_core::names::ServiceName;
use kube_ipvs_core::options::{NodePortAddresses, NodePortServers};
use kube_ipvs_core::read;
use kube_ipvs_core::state::{Family, Flags};

use super::conntrack::Conntrack;
use super::door;
use super::file::KubeProxyConfiguration;
use super::flags::{LogFormat, VipBinding};

/// Everything `kube-ipvs run` is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The file, if one was given; when it changes the program exits.
    pub config_file: Option<PathBuf>,
    /// The whole configuration, for `/configz` and `--write-config-to`.
    pub configuration: KubeProxyConfiguration,
    /// What the operator should know, one line each: log them at WARN.
    pub warnings: Vec<String>,
    /// Every flag by name, with the value given on the command line or its
    /// default, for `/flagz`.
    pub flags: Vec<(&'static str, String)>,
    /// What to do.
    pub action: Action,

    /// Name of this node, trimmed and in lower case; none is the host's name.
    pub hostname: Option<String>,
    /// The node's address; unspecified unless told. Its family is preferred.
    pub bind_address: IpAddr,
    /// Addresses of this node instead of its Node object's; empty unless told.
    pub node_addresses: Vec<IpAddr>,
    /// Where objects come from.
    pub source: Source,
    /// The API server.
    pub client: Client,

    /// What is served over HTTP.
    pub http: HttpServers,
    /// What of the host is set at the start.
    pub host: Host,
    /// Write Kubernetes Events.
    pub events: bool,
    /// What is logged, and how.
    pub log: Log,
    /// For `/proc/self/oom_score_adj`.
    pub oom_score_adj: i32,

    /// Least time between two syncs; zero is none.
    pub min_sync_period: Duration,
    /// One pass of the audit: all of the kernel but for real servers of many
    /// virtual servers.
    pub sync_period: Duration,
    /// All real servers are audited within this time; none is as long as their
    /// number asks for.
    pub real_server_sync_period: Option<Duration>,
    /// How long a terminating endpoint may keep its connections.
    pub drain_timeout: Duration,
    /// Where the ownership record is kept.
    pub state_dir: PathBuf,
    /// Take over what a kube-proxy in ipvs mode left.
    pub adopt_kube_proxy: bool,

    /// Scheduler of Services that name none.
    pub scheduler: String,
    /// Scheduler flags of Services that name none.
    pub scheduler_flags: Flags,
    /// Virtual servers that others made in these networks are never removed.
    pub exclude_cidrs: Vec<IpNet>,
    /// Which annotations of Services and slices are honoured; none says all.
    pub annotations: Option<Vec<&'static str>>,
    /// How VIPs are bound.
    pub vip_binding: VipBinding,

    /// Bit of the packet mark that asks for masquerading, 0 to 31.
    pub masquerade_bit: u8,
    /// Masquerade everything sent to a cluster address.
    pub masquerade_all: bool,
    /// How local pods are known.
    pub detect_local: DetectLocal,
    /// Where NodePorts are served.
    pub node_ports: NodePortSettings,
    /// Networks from which externalIPs are honoured; empty ignores all.
    pub allow_external_ips: Vec<IpNet>,
    /// Services whose ClusterIPs are not tracked.
    pub untracked: Untracked,
    /// What becomes of traffic to cluster addresses that no Service has.
    pub unallocated: kube_ipvs_nft::Unallocated,
    /// Value of the label `service.kubernetes.io/service-proxy-name` to serve.
    pub service_proxy_name: Option<String>,
    /// Insert accept rules into other programs' chains.
    pub accept_in_foreign_chains: bool,
}

/// What is served over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpServers {
    /// Health server; none is disabled.
    pub healthz: Option<SocketAddr>,
    /// Metrics server; none is disabled.
    pub metrics: Option<SocketAddr>,
    /// An address that cannot be bound is fatal.
    pub hard_fail: bool,
    /// Metrics of each Service and real server.
    pub service_metrics: bool,
    /// `/flagz` is served (feature gate `ComponentFlagz`).
    pub flagz: bool,
    /// `/statusz` is served (feature gate `ComponentStatusz`).
    pub statusz: bool,
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// How log lines look.
    pub format: LogFormat,
    /// `--v`; see [`super::logging::level`].
    pub verbosity: u32,
}

/// Where NodePorts are served.
#[derive(Debug, Clone, PartialEq)]
pub struct NodePortSettings {
    /// Which addresses take them.
    pub addresses: NodePortAddresses,
    /// Families whose loopback address takes them.
    pub localhost: Vec<Family>,
    /// Ports that no Service gets on the host's own addresses.
    pub reserved: Vec<RangeInclusive<u16>>,
    /// What one is in IPVS.
    pub servers: NodePortServers,
}

/// Services whose ClusterIPs are not tracked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untracked {
    /// Those the operator names.
    pub services: BTreeSet<ServiceName>,
    /// Whether others may ask for it by annotation.
    pub by_annotation: bool,
}

/// What of the host is set at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// arp_ignore and arp_announce are set.
    pub strict_arp: bool,
    /// Whether the kernel computes rates of virtual servers; none leaves it alone.
    pub run_estimation: Option<bool>,
    /// IPVS timeouts.
    pub ipvs_timeouts: IpvsTimeouts,
    /// Sizes and timeouts of conntrack.
    pub conntrack: Conntrack,
}

/// What `run` does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Action {
    /// Serve until told to end.
    #[default]
    Run,
    /// One sync (`--once`).
    Once,
    /// Sysctls and timeouts only (`--init-only`).
    InitOnly,
    /// Remove what is ours (`--cleanup`).
    Cleanup,
    /// Write the configuration to this file (`--write-config-to`).
    WriteConfig(PathBuf),
    /// Print the version; true is all there is to know (`--version=raw`).
    Version {
        /// `--version=raw`.
        raw: bool,
    },
}

impl Action {
    /// The flag that asks for it; none for [`Action::Run`].
    pub fn flag(&self) -> Option<&'static str> {
        match self {
            Self::Run => None,
            Self::Once => Some("--once"),
            Self::InitOnly => Some("--init-only"),
            Self::Cleanup => Some("--cleanup"),
            Self::WriteConfig(_) => Some("--write-config-to"),
            Self::Version { .. } => Some("--version"),
        }
    }
}

/// Where objects come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The API server.
    Kubernetes,
    /// YAML: a directory, a file, or `-`.
    Manifests(PathBuf),
}

/// How the API server is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    /// None (and no master): the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// URL that wins over the kubeconfig's.
    pub master: Option<String>,
    /// Further addresses of the API server.
    pub more: Vec<Authority>,
    /// Requests a second, as configured; not enforced.
    pub qps: f32,
    /// Requests at once, as configured; not enforced.
    pub burst: u32,
}

/// Timeouts of `ipvsadm --set`, whole seconds; none leaves the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IpvsTimeouts {
    /// Idle TCP connections.
    pub tcp: Option<u32>,
    /// TCP connections after FIN.
    pub tcp_fin: Option<u32>,
    /// UDP.
    pub udp: Option<u32>,
}

/// How local pods are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DetectLocal {
    /// Not at all.
    Unknown,
    /// By source address.
    Cidrs(Vec<IpNet>),
    /// By source address; the networks are the Node's `podCIDRs`.
    NodeCidrs,
    /// By the bridge they come in on.
    Bridge(String),
    /// By how the link they come in on is named.
    InterfacePrefix(String),
}

impl Settings {
    /// Whether the Node object must be known before anything is compiled:
    /// its `podCIDRs` say which pods are local.
    pub fn needs_node(&self) -> bool {
        self.detect_local == DetectLocal::NodeCidrs
    }

    /// What decides compilation, for this node and these families.
    pub fn options(&self, node_name: String, families: Vec<Family>) -> kube_ipvs_core::Options {
        let mut node_addresses = self.node_addresses.clone();
        if node_addresses.is_empty() && door::is_node_address(self.bind_address) {
            node_addresses.push(self.bind_address);
        }
        kube_ipvs_core::Options {
            node_name,
            scheduler: self.scheduler.clone(),
            flags: self.scheduler_flags,
            node_port_addresses: self.node_ports.addresses.clone(),
            localhost_node_ports: self.node_ports.localhost.clone(),
            node_port_servers: self.node_ports.servers,
            reserved_ports: self.node_ports.reserved.clone(),
            node_addresses,
            close_service_cidrs: self.unallocated != kube_ipvs_nft::Unallocated::Forward,
            pod_networks: self.pod_networks(),
            allow_external_ips: self.allow_external_ips.clone(),
            untracked_services: self.untracked.services.clone(),
            untracked_by_annotation: self.untracked.by_annotation,
            masquerade_all: self.masquerade_all,
            detect_local: self.detect_local != DetectLocal::Unknown,
            families,
            masquerade_bit: self.masquerade_bit,
            service_proxy_name: self.service_proxy_name.clone(),
            exclude: self.exclude_cidrs.clone(),
            annotations: self.annotations.clone(),
            // A run that ends cannot come back for them.
            farewell: self.action == Action::Run,
            // Among manifests there may be none.
            wait_for_node: self.source == Source::Kubernetes,
            wait_for_service_cidrs: self.source == Source::Kubernetes,
            ..kube_ipvs_core::Options::default()
        }
    }

    /// The pods' networks that `--cluster-cidr` names, whatever tells local pods.
    fn pod_networks(&self) -> Vec<IpNet> {
        let texts = self.configuration.cluster_cidr.split(',');
        texts
            .filter_map(|text| Some(read::network(text)?.value))
            .collect()
    }

    /// What decides the fixed part of a family's nft table, given the Node's `podCIDRs`.
    pub fn table(&self, family: Family, pod_cidrs: &[IpNet]) -> kube_ipvs_nft::Config {
        kube_ipvs_nft::Config {
            masquerade_bit: self.masquerade_bit,
            accept_bit: self
                .accept_in_foreign_chains
                .then_some(kube_ipvs_nft::DEFAULT_ACCEPT_BIT),
            local_pods: self.local_pods(pod_cidrs),
            unallocated: self.unallocated,
            untracked: self.untracked.by_annotation || !self.untracked.services.is_empty(),
            ..kube_ipvs_nft::Config::new(match family {
                Family::V4 => kube_ipvs_nft::Family::Ip,
                Family::V6 => kube_ipvs_nft::Family::Ip6,
            })
        }
    }

    /// How the nft table knows local pods, given the Node's `podCIDRs`.
    fn local_pods(&self, pod_cidrs: &[IpNet]) -> kube_ipvs_nft::LocalPods {
        use kube_ipvs_nft::LocalPods;
        match &self.detect_local {
            DetectLocal::Unknown => LocalPods::None,
            DetectLocal::Cidrs(cidrs) => LocalPods::Cidrs(cidrs.clone()),
            DetectLocal::NodeCidrs => LocalPods::Cidrs(pod_cidrs.to_vec()),
            DetectLocal::Bridge(name) => LocalPods::Bridge(name.clone()),
            DetectLocal::InterfacePrefix(prefix) => LocalPods::InterfacePrefix(prefix.clone()),
        }
    }
}
