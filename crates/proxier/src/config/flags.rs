//! The flags of `kube-ipvs run`: kube-proxy's under their own names, and ours.
//!
//! Everything is optional here, so that "not given" stays visible; defaults
//! come with `merge`. What each flag does stands in
//! `table::SETTINGS`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use kube_ipvs_core::options::NodePortServers;
use kube_ipvs_nft::Unallocated;
use serde::Serialize;

use super::boolean;
use super::duration::GoDuration;

/// Flags of `kube-ipvs run`.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[command(args_override_self = true)]
#[serde(rename_all = "kebab-case")]
pub struct RunArgs {
    /// Configuration file (KubeProxyConfiguration v1alpha1); all flags of kube-proxy but --hostname-override, --master, the logging flags and the actions give way to it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Read Services, EndpointSlices, Nodes and ServiceCIDRs from YAML instead of an API server: a directory, a file, or - for standard input
    #[arg(long, value_name = "PATH")]
    pub manifests: Option<PathBuf>,
    /// Further addresses of the API server, tried when the kubeconfig's does not answer: 10.0.0.2:6443,10.0.0.3:6443
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    pub api_servers: Vec<String>,
    /// How VIPs are bound to kube-ipvs0: an address each, or a local route each
    #[arg(long, value_name = "HOW")]
    pub vip_binding: Option<VipBinding>,
    /// What a NodePort is in IPVS: a virtual server for each address of the host, one for their firewall mark, or the mark where a family has more than eight addresses [default: auto]
    #[arg(long, value_name = "HOW")]
    pub nodeport_virtual_servers: Option<NodePortVirtualServers>,
    /// Ports, and ranges of them, that no Service gets on this host's own addresses, as node port or otherwise: 22,6443,10250-10260
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    pub nodeport_reserved_ports: Vec<String>,
    /// Services whose ClusterIPs pass without entries in conntrack: NAMESPACE/NAME, and the word annotated for those that ask by annotation [default: none]
    #[arg(long, value_name = "SERVICES", value_delimiter = ',')]
    pub ipvs_untracked_services: Vec<String>,
    /// What becomes of a new connection to an address of a ServiceCIDR that no Service has: dropped as by kube-proxy's nftables mode, refused at once, or sent where the routes lead [default: drop]
    #[arg(long, value_name = "WHAT")]
    pub unallocated_cluster_ips: Option<UnallocatedClusterIps>,
    /// How long a terminating endpoint may keep its connections [default: 15m]
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true)]
    pub drain_timeout: Option<GoDuration>,
    /// Real servers are compared within this time [default: --ipvs-sync-period for up to 84 virtual servers, in turns within 30 of them for up to 20160]
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true)]
    pub real_server_sync_period: Option<GoDuration>,
    /// Take over what a kube-proxy left on this node, in whatever mode it ran
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean::parse)]
    pub adopt_kube_proxy: Option<bool>,
    /// Networks whose addresses are honoured as externalIPs [default: none]
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    pub allow_external_ips: Vec<String>,
    /// Insert accept rules into other programs' nftables chains that would drop Service traffic
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean::parse)]
    pub accept_in_foreign_chains: Option<bool>,
    /// Write Kubernetes Events [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean::parse)]
    pub events: Option<bool>,
    /// Log lines for people or one JSON object a line; wins over --logging-format
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Metrics of every Service and real server, with Kubernetes names
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean::parse)]
    pub service_metrics: Option<bool>,
    /// Whether the kernel computes rates of virtual servers and endpoints [default: as it is]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean::parse)]
    pub ipvs_run_estimation: Option<bool>,
    /// Scheduler flags of Services that name no scheduler: sh-port, sh-fallback, mh-port (mh has it without being told), no-mh-port, mh-fallback
    #[arg(long, value_name = "FLAGS", value_delimiter = ',')]
    pub ipvs_scheduler_flags: Vec<String>,
    /// Where the ownership record is kept [default: /run/kube-ipvs]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Addresses of this node, instead of those of its Node object
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',')]
    pub node_addresses: Vec<IpAddr>,
    /// Annotations of Services and EndpointSlices that are honoured, without their prefix: scheduler,weights [default: all; none for none]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub service_annotations: Vec<String>,
    /// Serve the Services labelled with this service.kubernetes.io/service-proxy-name instead of those without the label
    #[arg(long, value_name = "NAME")]
    pub service_proxy_name: Option<String>,

    /// Address of the node, and the family it prefers
    #[arg(long, value_name = "IP")]
    pub bind_address: Option<String>,
    /// Exit when the address for health or metrics cannot be bound
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean::parse)]
    pub bind_address_hard_fail: Option<bool>,
    /// No meaning here
    #[arg(long, value_name = "FILES")]
    pub boot_id_file: Option<String>,
    /// Remove what is ours from this node and exit
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean::parse)]
    pub cleanup: Option<bool>,
    /// Networks of the pods, one or one a family
    #[arg(long, value_name = "CIDRS")]
    pub cluster_cidr: Option<String>,
    /// No meaning here
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub config_sync_period: Option<GoDuration>,
    /// nf_conntrack_max for each CPU; 0 leaves it alone
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub conntrack_max_per_core: Option<i32>,
    /// Least nf_conntrack_max
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub conntrack_min: Option<i32>,
    /// Let conntrack accept TCP packets outside the window
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean::parse)]
    pub conntrack_tcp_be_liberal: Option<bool>,
    /// Conntrack timeout of TCP connections in CLOSE_WAIT
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub conntrack_tcp_timeout_close_wait: Option<GoDuration>,
    /// Conntrack timeout of established TCP connections; 0 leaves it alone
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub conntrack_tcp_timeout_established: Option<GoDuration>,
    /// Conntrack timeout of UDP without answer; 0 leaves it alone
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub conntrack_udp_timeout: Option<GoDuration>,
    /// Conntrack timeout of UDP streams; 0 leaves it alone
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub conntrack_udp_timeout_stream: Option<GoDuration>,
    /// How local pods are known: ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix
    #[arg(long, value_name = "MODE")]
    pub detect_local_mode: Option<String>,
    /// Feature gates: NAME=true|false, ...
    #[arg(long, value_name = "GATES", value_delimiter = ',')]
    pub feature_gates: Vec<String>,
    /// Address of /healthz, /livez and /readyz; empty disables them
    #[arg(long, value_name = "ADDRESS")]
    pub healthz_bind_address: Option<String>,
    /// Port of the health address; 0 disables it (deprecated)
    #[arg(long, value_name = "PORT", hide = true, allow_negative_numbers = true)]
    pub healthz_port: Option<i32>,
    /// Name of this node, when it is not the host's name
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// Write sysctls and IPVS timeouts and exit
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean::parse)]
    pub init_only: Option<bool>,
    /// No meaning here
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean::parse)]
    pub iptables_localhost_nodeports: Option<bool>,
    /// Bit of the packet mark that asks for masquerading
    #[arg(
        long,
        alias = "masquerade-bit",
        value_name = "BIT",
        allow_negative_numbers = true
    )]
    pub iptables_masquerade_bit: Option<i32>,
    /// No meaning here
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub iptables_min_sync_period: Option<GoDuration>,
    /// No meaning here
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub iptables_sync_period: Option<GoDuration>,
    /// Networks whose virtual servers are never touched
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    pub ipvs_exclude_cidrs: Vec<String>,
    /// Least time between two syncs
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub ipvs_min_sync_period: Option<GoDuration>,
    /// Scheduler of Services that name none; mh with mh-port, as in kube-proxy [default: rr]
    #[arg(long, value_name = "NAME")]
    pub ipvs_scheduler: Option<String>,
    /// Set arp_ignore to 1 and arp_announce to 2
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean::parse)]
    pub ipvs_strict_arp: Option<bool>,
    /// How often the kernel is compared with what it should hold
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub ipvs_sync_period: Option<GoDuration>,
    /// IPVS timeout of idle TCP connections; 0 leaves the kernel's [default: 2h10m0s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub ipvs_tcp_timeout: Option<GoDuration>,
    /// IPVS timeout of TCP connections after FIN; 0 leaves it alone
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub ipvs_tcpfin_timeout: Option<GoDuration>,
    /// IPVS timeout of UDP; 0 leaves it alone
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub ipvs_udp_timeout: Option<GoDuration>,
    /// No meaning here
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub kube_api_burst: Option<i32>,
    /// No meaning here
    #[arg(long, value_name = "TYPE")]
    pub kube_api_content_type: Option<String>,
    /// No meaning here
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub kube_api_qps: Option<f32>,
    /// Where the API server is and who we are; without it the pod's service account
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// No meaning here
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub log_flush_frequency: Option<GoDuration>,
    /// No meaning here
    #[arg(long, value_name = "QUANTITY")]
    pub log_json_info_buffer_size: Option<String>,
    /// No meaning here
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean::parse)]
    pub log_json_split_stream: Option<bool>,
    /// No meaning here
    #[arg(long, value_name = "QUANTITY")]
    pub log_text_info_buffer_size: Option<String>,
    /// No meaning here
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean::parse)]
    pub log_text_split_stream: Option<bool>,
    /// text or json
    #[arg(long, value_name = "FORMAT")]
    pub logging_format: Option<String>,
    /// No meaning here
    #[arg(long, value_name = "FILES")]
    pub machine_id_file: Option<String>,
    /// Masquerade everything sent to a cluster address
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean::parse)]
    pub masquerade_all: Option<bool>,
    /// Address of the API server, instead of the kubeconfig's
    #[arg(long, value_name = "URL")]
    pub master: Option<String>,
    /// Address of /metrics, /proxyMode and /configz; empty disables them
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_bind_address: Option<String>,
    /// Port of the metrics address; 0 disables it (deprecated)
    #[arg(long, value_name = "PORT", hide = true, allow_negative_numbers = true)]
    pub metrics_port: Option<i32>,
    /// Addresses that take NodePorts: networks, and the words primary and all; without it all
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    pub nodeport_addresses: Vec<String>,
    /// Score of this process for the kernel's out-of-memory killer
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub oom_score_adj: Option<i32>,
    /// Bridge of the local pods, for detect-local-mode BridgeInterface
    #[arg(long, value_name = "NAME")]
    pub pod_bridge_interface: Option<String>,
    /// Prefix of the local pods' links, for detect-local-mode InterfaceNamePrefix
    #[arg(long, value_name = "PREFIX")]
    pub pod_interface_name_prefix: Option<String>,
    /// No meaning here
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean::parse)]
    pub profiling: Option<bool>,
    /// ipvs
    #[arg(long, value_name = "MODE")]
    pub proxy_mode: Option<String>,
    /// No meaning here
    #[arg(long, value_name = "VERSION")]
    pub show_hidden_metrics_for_version: Option<String>,
    /// How much is logged: 0 to 3 info, 4 and 5 debug, 6 and more trace
    #[arg(
        short = 'v',
        long = "v",
        value_name = "N",
        allow_negative_numbers = true
    )]
    pub v: Option<u32>,
    /// Print the version and exit
    #[arg(long, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub version: Option<String>,
    /// No meaning here
    #[arg(long, value_name = "PATTERNS")]
    pub vmodule: Option<String>,
    /// Make one sync and exit: 0 when everything was applied
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean::parse)]
    pub once: Option<bool>,
    /// Write the configuration that would be used to this file and exit
    #[arg(long, value_name = "FILE")]
    pub write_config_to: Option<PathBuf>,
}

/// How a VIP is bound to our link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VipBinding {
    /// An address (/32 or /128) on the link.
    #[default]
    Address,
    /// A local route through the link.
    Route,
}

/// What a NodePort is in IPVS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodePortVirtualServers {
    /// By mark where a family has more than eight addresses, else by address.
    #[default]
    Auto,
    /// A virtual server for each address of the host.
    Address,
    /// One for the firewall mark of all of them.
    Mark,
}

impl From<NodePortServers> for NodePortVirtualServers {
    fn from(how: NodePortServers) -> Self {
        match how {
            NodePortServers::Auto => Self::Auto,
            NodePortServers::Address => Self::Address,
            NodePortServers::Mark => Self::Mark,
        }
    }
}

impl From<NodePortVirtualServers> for NodePortServers {
    fn from(how: NodePortVirtualServers) -> Self {
        match how {
            NodePortVirtualServers::Auto => Self::Auto,
            NodePortVirtualServers::Address => Self::Address,
            NodePortVirtualServers::Mark => Self::Mark,
        }
    }
}

/// What becomes of traffic to a cluster address that no Service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnallocatedClusterIps {
    /// Dropped.
    #[default]
    Drop,
    /// Refused at once.
    Reject,
    /// Sent where the routes lead.
    Forward,
}

impl From<UnallocatedClusterIps> for Unallocated {
    fn from(what: UnallocatedClusterIps) -> Self {
        match what {
            UnallocatedClusterIps::Drop => Self::Drop,
            UnallocatedClusterIps::Reject => Self::Reject,
            UnallocatedClusterIps::Forward => Self::Forward,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Rewrites `--some_flag` to `--some-flag`, as kube-proxy accepts both. For the
/// program's arguments before clap sees them; values are left alone.
pub fn normalise(argument: std::ffi::OsString) -> std::ffi::OsString {
    let Some(text) = argument.to_str().filter(|x| x.starts_with("--")) else {
        return argument;
    };
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let name = name.replace('_', "-");
    match value {
        Some(value) => format!("{name}={value}").into(),
        None => name.into(),
    }
}
