//! The Kubernetes objects a proxier reads, with only the fields it needs.
//!
//! Unknown fields are ignored and `null` means absent, so an object of a newer
//! API server still decodes. Values are kept as they were written: what makes
//! no sense becomes a warning when the Service is compiled, not an error here.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

pub use crate::endpoint_address::EndpointAddress;
use crate::metadata_texts;
pub use crate::object::{DecodeError, Object};
use crate::regarding::{self, Uid};

/// Label of an EndpointSlice: the Service it belongs to.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Label of a Service that another proxier serves.
pub const SERVICE_PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// Label of an EndpointSlice that nobody proxies.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// Annotation of an EndpointSlice: when that changed which made it what it is.
pub const TRIGGER_TIME_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Annotation of an EndpointSlice: weight of its endpoints.
pub const WEIGHT_ANNOTATION: &str = "ipvs.kube-ipvs.dev/weight";
/// Label of a Node: its zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Metadata common to all objects.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// Name.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// Namespace; empty for Nodes and ServiceCIDRs.
    #[serde(deserialize_with = "or_default")]
    pub namespace: String,
    /// Unique id; none when absent or no UUID.
    #[serde(deserialize_with = "regarding::uid")]
    pub uid: Option<Uid>,
    /// Version for watches.
    #[serde(deserialize_with = "or_default")]
    pub resource_version: String,
    /// When it was created; none when absent or not a time.
    #[serde(deserialize_with = "timestamp")]
    pub creation_timestamp: Option<Timestamp>,
    /// When it was asked to go; none when absent or not a time.
    #[serde(deserialize_with = "timestamp")]
    pub deletion_timestamp: Option<Timestamp>,
    /// Labels, as far as anything reads them.
    #[serde(deserialize_with = "metadata_texts::labels")]
    pub labels: BTreeMap<String, String>,
    /// Annotations, likewise.
    #[serde(deserialize_with = "metadata_texts::annotations")]
    pub annotations: BTreeMap<String, String>,
}

/// A Service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(deserialize_with = "or_default")]
    pub spec: ServiceSpec,
    /// What the load balancer said.
    #[serde(deserialize_with = "or_default")]
    pub status: ServiceStatus,
}

/// `spec` of a Service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName`; absent is `ClusterIP`.
    #[serde(rename = "type")]
    pub type_: Option<String>,
    /// First cluster address, or `None` for headless.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    /// Cluster addresses, one a family.
    #[serde(rename = "clusterIPs", deserialize_with = "or_default")]
    pub cluster_ips: Vec<String>,
    /// `IPv4`, `IPv6`.
    #[serde(deserialize_with = "or_default")]
    pub ip_families: Vec<String>,
    /// Addresses somebody else routes here.
    #[serde(rename = "externalIPs", deserialize_with = "or_default")]
    pub external_ips: Vec<String>,
    /// Ports.
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<ServicePort>,
    /// `None` or `ClientIP`.
    pub session_affinity: Option<String>,
    /// Time-out of the above.
    #[serde(deserialize_with = "or_default")]
    pub session_affinity_config: SessionAffinityConfig,
    /// `Cluster` or `Local`, for cluster addresses.
    pub internal_traffic_policy: Option<String>,
    /// `Cluster` or `Local`, for node ports, external and load-balancer addresses.
    pub external_traffic_policy: Option<String>,
    /// Port on which a node says whether it has local endpoints; 0 is none.
    pub health_check_node_port: Option<i64>,
    /// Networks that may use the load-balancer addresses; empty is all.
    #[serde(deserialize_with = "or_default")]
    pub load_balancer_source_ranges: Vec<String>,
}

/// One port of a Service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// Name; may be empty when there is one port.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// `TCP` (also when absent), `UDP`, `SCTP`.
    pub protocol: Option<String>,
    /// Port.
    #[serde(deserialize_with = "or_default")]
    pub port: i64,
    /// Port on the nodes; 0 or absent is none.
    pub node_port: Option<i64>,
}

/// `sessionAffinityConfig`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionAffinityConfig {
    /// For `ClientIP`.
    #[serde(rename = "clientIP", deserialize_with = "or_default")]
    pub client_ip: ClientIpConfig,
}

/// `sessionAffinityConfig.clientIP`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientIpConfig {
    /// Seconds; absent is 10800.
    pub timeout_seconds: Option<i64>,
}

/// `status` of a Service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    /// Addresses of the load balancer.
    #[serde(deserialize_with = "or_default")]
    pub load_balancer: LoadBalancerStatus,
}

/// `status.loadBalancer`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerStatus {
    /// Where it takes traffic.
    #[serde(deserialize_with = "or_default")]
    pub ingress: Vec<LoadBalancerIngress>,
}

/// One address of a load balancer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerIngress {
    /// Address; absent for those known by host name only.
    pub ip: Option<String>,
    /// `VIP` (also when absent): captured on the node; `Proxy`: left alone.
    pub ip_mode: Option<String>,
}

/// An EndpointSlice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    /// Metadata; the label `kubernetes.io/service-name` names the Service.
    pub metadata: ObjectMeta,
    /// `IPv4`, `IPv6` or `FQDN`.
    #[serde(deserialize_with = "or_default")]
    pub address_type: String,
    /// Endpoints.
    #[serde(deserialize_with = "or_default")]
    pub endpoints: Vec<Endpoint>,
    /// Ports all of them have.
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<EndpointPort>,
}

/// One endpoint of a slice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// Addresses; the first one counts.
    #[serde(deserialize_with = "or_default")]
    pub addresses: EndpointAddress,
    /// State; absent fields mean ready, serving, not terminating.
    #[serde(deserialize_with = "or_default")]
    pub conditions: EndpointConditions,
    /// Node it runs on.
    pub node_name: Option<String>,
    /// Zone of that node.
    pub zone: Option<String>,
    /// Who should use it.
    #[serde(deserialize_with = "or_default")]
    pub hints: EndpointHints,
}

/// State of an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    /// Takes new connections; absent is true.
    pub ready: Option<bool>,
    /// Answers; absent is true.
    pub serving: Option<bool>,
    /// On its way out; absent is false.
    pub terminating: Option<bool>,
}

/// Hints of an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointHints {
    /// Zones that should use it.
    #[serde(deserialize_with = "or_default")]
    pub for_zones: Vec<Hint>,
    /// Nodes that should use it.
    #[serde(deserialize_with = "or_default")]
    pub for_nodes: Vec<Hint>,
}

/// A zone or a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hint {
    /// Its name.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
}

/// One port of a slice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointPort {
    /// Name of the Service port it stands for; absent is the unnamed one.
    pub name: Option<String>,
    /// `TCP` (also when absent), `UDP`, `SCTP`.
    pub protocol: Option<String>,
    /// Port of the endpoints; absent means none.
    pub port: Option<i64>,
}

/// A ServiceCIDR.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceCidr {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// The networks.
    #[serde(deserialize_with = "or_default")]
    pub spec: ServiceCidrSpec,
}

/// `spec` of a ServiceCIDR.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceCidrSpec {
    /// Networks, one a family.
    #[serde(deserialize_with = "or_default")]
    pub cidrs: Vec<String>,
}

/// A Node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Metadata; the label `topology.kubernetes.io/zone` names the zone.
    pub metadata: ObjectMeta,
    /// Pod networks and taints.
    #[serde(deserialize_with = "or_default")]
    pub spec: NodeSpec,
    /// Addresses.
    #[serde(deserialize_with = "or_default")]
    pub status: NodeStatus,
}

/// `spec` of a Node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// Networks of the pods on this node.
    #[serde(rename = "podCIDRs", deserialize_with = "or_default")]
    pub pod_cidrs: Vec<String>,
    /// Taints.
    #[serde(deserialize_with = "or_default")]
    pub taints: Vec<Taint>,
}

/// A taint of a Node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Taint {
    /// Its key.
    #[serde(deserialize_with = "or_default")]
    pub key: String,
}

/// `status` of a Node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Addresses by type.
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<NodeAddress>,
}

/// An address of a Node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// `InternalIP`, `ExternalIP`, `Hostname`, ...
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub type_: String,
    /// The address or name.
    #[serde(deserialize_with = "or_default")]
    pub address: String,
}

/// `null` is the default value.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// RFC 3339; what is no time counts as absent, since it only decides ties.
fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}
