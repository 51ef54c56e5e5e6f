//! What the operator decides.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::RangeInclusive;

use ipnet::IpNet;

use crate::names::ServiceName;
use crate::state::{Family, Flags, VirtualServerKey};

/// Schedulers a kernel may have.
pub const SCHEDULERS: [&str; 14] = [
    "rr", "wrr", "lc", "wlc", "sh", "dh", "mh", "sed", "nq", "lblc", "lblcr", "fo", "ovf", "twos",
];

/// What is said of an annotation that the operator leaves out.
pub(crate) const NOT_HONOURED: &str =
    "this node does not honour it (--service-annotations); it is ignored";

/// Settings that change what is compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Name of this node.
    pub node_name: String,
    /// Scheduler of Services that name none.
    pub scheduler: String,
    /// Flags of Services that name none; `fallback` is added for `mh` and `sh`.
    pub flags: Flags,
    /// Addresses of this host that take NodePorts.
    pub node_port_addresses: NodePortAddresses,
    /// Families whose loopback address (127.0.0.1, ::1) takes the NodePorts of
    /// TCP too, by a program that listens there.
    pub localhost_node_ports: Vec<Family>,
    /// What a NodePort is in IPVS.
    pub node_port_servers: NodePortServers,
    /// Ports of this host that no Service gets on the host's own addresses.
    pub reserved_ports: Vec<RangeInclusive<u16>>,
    /// The node's own addresses, when the operator gave them; otherwise the Node object's.
    pub node_addresses: Vec<IpAddr>,
    /// Whether the networks of ServiceCIDRs are told to the table, which lets
    /// nothing through to an address in them that no Service has.
    pub close_service_cidrs: bool,
    /// Networks of the cluster's pods, as far as the operator named them.
    pub pod_networks: Vec<IpNet>,
    /// Networks from which `externalIPs` are honoured; empty ignores all of them.
    pub allow_external_ips: Vec<IpNet>,
    /// Services whose ClusterIPs are not tracked.
    pub untracked_services: BTreeSet<ServiceName>,
    /// Whether a Service may ask for that by annotation.
    pub untracked_by_annotation: bool,
    /// Masquerade everything sent to a cluster address.
    pub masquerade_all: bool,
    /// Whether local pods can be told from others; without it traffic to
    /// cluster addresses is not masqueraded by where it comes from.
    pub detect_local: bool,
    /// Families to serve.
    pub families: Vec<Family>,
    /// Number of the mark bit that asks for masquerading, 0 to 31.
    pub masquerade_bit: u8,
    /// Serve Services with this value of the label
    /// `service.kubernetes.io/service-proxy-name`; none serves those without.
    pub service_proxy_name: Option<String>,
    /// Nothing is removed before the first list of Nodes is complete too: with
    /// an API server, whose list may come after all others. A list without this
    /// node is an answer.
    pub wait_for_node: bool,
    /// Nor before that of ServiceCIDRs, likewise: no address in one is bound
    /// meanwhile, and none that nobody has let through.
    pub wait_for_service_cidrs: bool,
    /// Which annotations are honoured, by their
    /// [words](crate::annotation_words); none says all.
    pub annotations: Option<Vec<&'static str>>,
    /// Name of the link that carries VIPs; its addresses are not the host's.
    pub link: String,
    /// Whether addresses of Services that are gone stay bound for a while, so
    /// that connections that are open are reset and not left without an answer.
    pub farewell: bool,
    /// Networks in which virtual servers that were there before us stay
    /// somebody else's, also when a Service wants the same front.
    pub exclude: Vec<IpNet>,
}

impl Options {
    /// Whether this virtual server, when it was there before us, is never to
    /// be removed. One for a mark has no address and is not.
    pub fn excludes(&self, key: &VirtualServerKey) -> bool {
        match key {
            VirtualServerKey::Front(front) => self.excludes_address(front.address),
            VirtualServerKey::Mark { .. } => false,
        }
    }

    /// Whether no Service gets this port on the host's own addresses.
    pub(crate) fn reserves(&self, port: u16) -> bool {
        self.reserved_ports
            .iter()
            .any(|range| range.contains(&port))
    }

    /// Whether an annotation is listened to, by its word.
    pub(crate) fn honours(&self, word: &str) -> bool {
        let honoured = self.annotations.as_ref();
        honoured.is_none_or(|honoured| honoured.contains(&word))
    }

    pub(crate) fn excludes_address(&self, address: IpAddr) -> bool {
        self.exclude.iter().any(|net| net.contains(&address))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node_name: String::new(),
            scheduler: "rr".to_owned(),
            flags: Flags::default(),
            node_port_addresses: NodePortAddresses::All,
            localhost_node_ports: Vec::new(),
            node_port_servers: NodePortServers::Auto,
            reserved_ports: Vec::new(),
            node_addresses: Vec::new(),
            close_service_cidrs: true,
            pod_networks: Vec::new(),
            allow_external_ips: Vec::new(),
            untracked_services: BTreeSet::new(),
            untracked_by_annotation: false,
            masquerade_all: false,
            detect_local: false,
            families: vec![Family::V4, Family::V6],
            masquerade_bit: 14,
            service_proxy_name: None,
            wait_for_node: false,
            wait_for_service_cidrs: false,
            annotations: None,
            link: "kube-ipvs0".to_owned(),
            farewell: false,
            exclude: Vec::new(),
        }
    }
}

/// What a NodePort is in IPVS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NodePortServers {
    /// One virtual server for each address of the host that takes NodePorts, or,
    /// in a family with more than eight of them, one for their mark.
    #[default]
    Auto,
    /// One for each address.
    Address,
    /// One for the firewall mark that traffic to any of the addresses gets.
    Mark,
}

impl NodePortServers {
    /// Whether NodePorts on so many addresses of a family have one virtual server.
    pub(crate) fn by_mark(self, addresses: usize) -> bool {
        const MANY: usize = 8;
        match self {
            Self::Auto => addresses > MANY,
            Self::Address => false,
            Self::Mark => true,
        }
    }
}

/// Which addresses of this host take NodePorts by IPVS. Loopback, link-local and
/// the addresses on our own link never do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NodePortAddresses {
    /// All of them.
    #[default]
    All,
    /// The node's own, one a family.
    Primary,
    /// The node's own, one a family, and those in these networks.
    PrimaryAnd(Vec<IpNet>),
    /// Those in these networks. A family without a network here has all of its addresses.
    Cidrs(Vec<IpNet>),
}
