//! `KubeProxyConfiguration` (kubeproxy.config.k8s.io/v1alpha1), every field,
//! with the defaults kube-proxy gives to a file.
//!
//! Fields without effect here are kept too: `/configz` and `--write-config-to`
//! show what was given.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::duration::GoDuration;

/// The one `apiVersion` that is read.
pub const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
/// The one `kind` that is read.
pub const KIND: &str = "KubeProxyConfiguration";

/// Idle TCP connections live two hours and ten minutes, longer than keep-alive
/// needs to speak up; the kernel's 900 s are shorter. Also where a file says 0s,
/// as every file that kubeadm wrote does.
pub const DEFAULT_TCP_TIMEOUT: u32 = 7800;

/// The whole file. An optional field is one whose absence differs from zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "what a field does stands in SETTINGS")]
pub struct KubeProxyConfiguration {
    pub api_version: String,
    pub kind: String,
    pub feature_gates: BTreeMap<String, bool>,
    pub client_connection: ClientConnection,
    pub logging: Logging,
    pub hostname_override: String,
    pub bind_address: String,
    pub healthz_bind_address: String,
    pub metrics_bind_address: String,
    pub bind_address_hard_fail: bool,
    pub enable_profiling: bool,
    pub show_hidden_metrics_for_version: String,
    pub mode: String,
    pub iptables: Iptables,
    pub ipvs: Ipvs,
    pub nftables: Nftables,
    pub winkernel: Winkernel,
    pub detect_local_mode: String,
    pub detect_local: DetectLocal,
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    pub node_port_addresses: Vec<String>,
    pub oom_score_adj: Option<i32>,
    pub conntrack: Conntrack,
    pub config_sync_period: GoDuration,
    pub port_range: String,
    pub windows_run_as_service: bool,
}

/// `clientConnection`: the API server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "what a field does stands in SETTINGS")]
pub struct ClientConnection {
    pub kubeconfig: String,
    pub accept_content_types: String,
    pub content_type: String,
    pub qps: f32,
    pub burst: i32,
}

/// `logging`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "what a field does stands in SETTINGS")]
pub struct Logging {
    pub format: String,
    pub flush_frequency: GoDuration,
    pub verbosity: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vmodule: Vec<Vmodule>,
    pub options: LoggingOptions,
}

/// `logging.vmodule[]`: verbosity of one source file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "what a field does stands in SETTINGS")]
pub struct Vmodule {
    pub file_pattern: String,
    pub verbosity: u32,
}

/// `logging.options`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "what a field does stands in SETTINGS")]
pub struct LoggingOptions {
    pub text: OutputRouting,
    pub json: OutputRouting,
}

/// `logging.options.text` and `.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "what a field does stands in SETTINGS")]
pub struct OutputRouting {
    pub split_stream: bool,
    pub info_buffer_size: String,
}

/// `iptables`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "what a field does stands in SETTINGS")]
pub struct Iptables {
    pub masquerade_bit: Option<i32>,
    pub masquerade_all: bool,
    pub localhost_node_ports: Option<bool>,
    pub sync_period: GoDuration,
    pub min_sync_period: GoDuration,
}

/// `ipvs`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "what a field does stands in SETTINGS")]
pub struct Ipvs {
    pub sync_period: GoDuration,
    pub min_sync_period: GoDuration,
    pub scheduler: String,
    #[serde(rename = "excludeCIDRs")]
    pub exclude_cidrs: Vec<String>,
    #[serde(rename = "strictARP")]
    pub strict_arp: bool,
    pub tcp_timeout: GoDuration,
    pub tcp_fin_timeout: GoDuration,
    pub udp_timeout: GoDuration,
}

/// `nftables`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "what a field does stands in SETTINGS")]
pub struct Nftables {
    pub masquerade_bit: Option<i32>,
    pub masquerade_all: bool,
    pub sync_period: GoDuration,
    pub min_sync_period: GoDuration,
}

/// `winkernel`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "what a field does stands in SETTINGS")]
pub struct Winkernel {
    pub network_name: String,
    pub source_vip: String,
    #[serde(rename = "enableDSR")]
    pub enable_dsr: bool,
    pub root_hns_endpoint_name: String,
    #[serde(rename = "forwardHealthCheckVip")]
    pub forward_health_check_vip: bool,
}

/// `detectLocal`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "what a field does stands in SETTINGS")]
pub struct DetectLocal {
    pub bridge_interface: String,
    pub interface_name_prefix: String,
}

/// `conntrack`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "what a field does stands in SETTINGS")]
pub struct Conntrack {
    pub max_per_core: Option<i32>,
    pub min: Option<i32>,
    pub tcp_established_timeout: Option<GoDuration>,
    pub tcp_close_wait_timeout: Option<GoDuration>,
    pub tcp_be_liberal: bool,
    pub udp_timeout: GoDuration,
    pub udp_stream_timeout: GoDuration,
}

impl KubeProxyConfiguration {
    /// What an empty file means.
    pub fn of_empty_file() -> Self {
        let mut empty = Self::default();
        empty.fill_defaults();
        empty
    }

    /// What no flag and no file mean: as an empty file, but kube-proxy waits a
    /// second between syncs here and not at all there.
    pub fn of_no_flags() -> Self {
        let mut defaults = Self::of_empty_file();
        defaults.ipvs.min_sync_period = GoDuration::seconds(1);
        defaults
    }

    /// Gives every field that was left out its default. A zero counts as left
    /// out where kube-proxy counts it so.
    pub fn fill_defaults(&mut self) {
        text(&mut self.api_version, API_VERSION);
        text(&mut self.kind, KIND);
        text(&mut self.bind_address, "0.0.0.0");
        self.fill_addresses();
        text(&mut self.detect_local_mode, "ClusterCIDR");
        period(&mut self.config_sync_period, 15 * 60);
        self.oom_score_adj.get_or_insert(-999);
        self.fill_modes();
        self.fill_client_and_logging();
    }

    fn fill_addresses(&mut self) {
        let ipv6 = self.bind_address.contains(':');
        let (any, loopback) = if ipv6 {
            ("[::]", "[::1]")
        } else {
            ("0.0.0.0", "127.0.0.1")
        };
        text(&mut self.healthz_bind_address, &format!("{any}:10256"));
        text(&mut self.metrics_bind_address, &format!("{loopback}:10249"));
        with_port(&mut self.healthz_bind_address, 10256);
        with_port(&mut self.metrics_bind_address, 10249);
    }

    fn fill_modes(&mut self) {
        self.iptables.masquerade_bit.get_or_insert(14);
        self.iptables.localhost_node_ports.get_or_insert(true);
        period(&mut self.iptables.sync_period, 30);
        period(&mut self.iptables.min_sync_period, 1);
        period(&mut self.ipvs.sync_period, 30);
        period(&mut self.ipvs.tcp_timeout, DEFAULT_TCP_TIMEOUT.into());
        self.nftables.masquerade_bit.get_or_insert(14);
        period(&mut self.nftables.sync_period, 30);
        period(&mut self.nftables.min_sync_period, 1);
    }

    fn fill_client_and_logging(&mut self) {
        let client = &mut self.client_connection;
        text(
            &mut client.content_type,
            "application/vnd.kubernetes.protobuf",
        );
        if client.qps == 0.0 {
            client.qps = 5.0;
        }
        if client.burst == 0 {
            client.burst = 10;
        }
        text(&mut self.logging.format, "text");
        period(&mut self.logging.flush_frequency, 5);
        text(&mut self.logging.options.text.info_buffer_size, "0");
        text(&mut self.logging.options.json.info_buffer_size, "0");
    }
}

fn text(field: &mut String, default: &str) {
    if field.is_empty() {
        default.clone_into(field);
    }
}

fn period(field: &mut GoDuration, seconds: i64) {
    if field.is_zero() {
        *field = GoDuration::seconds(seconds);
    }
}

/// Adds the port where an address stands alone: `10.0.0.1`, `fd00::1`, `[fd00::1]`.
pub(super) fn with_port(field: &mut String, port: u16) {
    if let Ok(address) = field.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
        *field = std::net::SocketAddr::new(address, port).to_string();
    }
}
