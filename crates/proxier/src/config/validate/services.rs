//! Which traffic is served and for whom: node ports, pods of this node, external
//! addresses, annotations, untracked Services.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use kube_ipvs_core::annotation_words;
use kube_ipvs_core::options::NodePortAddresses;
use kube_ipvs_core::state::Family;

use super::{Check, NETWORKS};
use crate::config::door;
use crate::config::flags::RunArgs;
use crate::config::settings::{DetectLocal, NodePortSettings, Untracked};

impl Check<'_> {
    /// Networks and words side by side, as kube-proxy takes them since 1.37; and
    /// the families whose loopback address is among them.
    pub(super) fn node_ports(&mut self, args: &RunArgs) -> NodePortSettings {
        let texts = &self.configuration.node_port_addresses;
        let says = |word: &str| texts.iter().any(|text| text == word);
        let networks: Vec<String> = texts
            .iter()
            .flat_map(|text| match text.as_str() {
                "all" | "primary" => Vec::new(),
                // Both: a family without a network would have all of its addresses.
                "localhost" => vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()],
                network => vec![network.to_owned()],
            })
            .collect();
        let networks = self.node_port_networks(&networks);
        let localhost = loopback_families(&networks);
        let addresses = match (says("primary"), networks.is_empty()) {
            _ if texts.is_empty() || says("all") => NodePortAddresses::All,
            (true, true) => NodePortAddresses::Primary,
            (true, false) => NodePortAddresses::PrimaryAnd(networks),
            (false, _) => NodePortAddresses::Cidrs(networks),
        };
        NodePortSettings {
            addresses,
            localhost,
            reserved: self.reserved_ports(args),
            servers: args.nodeport_virtual_servers.unwrap_or_default().into(),
        }
    }

    fn node_port_networks(&mut self, texts: &[String]) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for text in texts {
            match text.parse() {
                Ok(network) => networks.push(network),
                Err(_) => self.collector.field(
                    "nodePortAddresses",
                    format!("{text:?}"),
                    "allowed: networks, such as 10.0.0.0/8, and the words all, primary, localhost",
                ),
            }
        }
        networks
    }

    /// The words alone; `all` and `none` stand by themselves.
    pub(super) fn annotations(&mut self, args: &RunArgs) -> Option<Vec<&'static str>> {
        let words: Vec<&str> = args
            .service_annotations
            .iter()
            .map(String::as_str)
            .collect();
        match words[..] {
            [] | ["all"] => return None,
            ["none"] => return Some(Vec::new()),
            _ => {}
        }
        let mut honoured = Vec::new();
        for word in words {
            match annotation_words().find(|known| *known == word) {
                Some(known) => honoured.push(known),
                None => {
                    let known: Vec<_> = annotation_words().collect();
                    let allowed = format!("allowed: all, none, or some of {}", known.join(", "));
                    let flag = "service-annotations";
                    self.collector.flag(flag, format!("{word:?}"), allowed);
                }
            }
        }
        Some(honoured)
    }

    fn reserved_ports(&mut self, args: &RunArgs) -> Vec<RangeInclusive<u16>> {
        let mut ranges = Vec::new();
        let words = args.nodeport_reserved_ports.iter();
        for word in words.filter(|word| !word.is_empty()) {
            match door::ports(word) {
                Some(range) => ranges.push(range),
                None => self.collector.flag(
                    "nodeport-reserved-ports",
                    format!("{word:?}"),
                    "allowed: ports from 1 to 65535, and ranges such as 10250-10260",
                ),
            }
        }
        ranges
    }

    /// Names of Services, and whether others may ask by annotation.
    pub(super) fn untracked_services(&mut self, args: &RunArgs) -> Untracked {
        let mut named = BTreeSet::new();
        let mut by_annotation = false;
        let words = args.ipvs_untracked_services.iter();
        for word in words.filter(|word| !word.is_empty()) {
            match (word.as_str(), door::service_name(word)) {
                ("annotated", _) => by_annotation = true,
                (_, Some(name)) => _ = named.insert(name),
                (_, None) => self.collector.flag(
                    "ipvs-untracked-services",
                    format!("{word:?}"),
                    "allowed: Services as NAMESPACE/NAME, and the word annotated",
                ),
            }
        }
        Untracked {
            services: named,
            by_annotation,
        }
    }

    pub(super) fn detect_local(&mut self) -> DetectLocal {
        let configuration = self.configuration;
        let details = &configuration.detect_local;
        match configuration.detect_local_mode.as_str() {
            "ClusterCIDR" => self.cluster_cidr(),
            "NodeCIDR" => DetectLocal::NodeCidrs,
            "BridgeInterface" => DetectLocal::Bridge(details.bridge_interface.clone()),
            "InterfaceNamePrefix" => {
                DetectLocal::InterfacePrefix(details.interface_name_prefix.clone())
            }
            other => {
                let allowed =
                    "allowed: ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix";
                self.collector
                    .field("detectLocalMode", format!("{other:?}"), allowed);
                DetectLocal::Unknown
            }
        }
    }

    fn cluster_cidr(&mut self) -> DetectLocal {
        let text = &self.configuration.cluster_cidr;
        if text.is_empty() {
            self.warnings.push(
                "clusterCIDR is not set: local pods are not known, so traffic from outside the cluster to a cluster address is not masqueraded".to_owned(),
            );
            return DetectLocal::Unknown;
        }
        let parts: Vec<_> = text.split(',').map(|x| x.trim().to_owned()).collect();
        let networks = self.networks("clusterCIDR", &parts);
        let families = |v4: bool| networks.iter().filter(|x| x.addr().is_ipv4() == v4).count();
        if parts.len() > 2 || families(true) > 1 || families(false) > 1 {
            let allowed = "allowed: one network, or one of each family";
            self.collector
                .field("clusterCIDR", format!("{text:?}"), allowed);
        }
        DetectLocal::Cidrs(networks)
    }

    /// By the gate `AllowServiceExternalIPs` and our list: without either none
    /// are honoured, since anybody who may write a Service could claim any
    /// address.
    pub(super) fn external_ips(&mut self, args: &RunArgs) -> Vec<IpNet> {
        let gate = self.gates();
        let mut networks = Vec::new();
        for text in args.allow_external_ips.iter().filter(|x| !x.is_empty()) {
            match text.parse() {
                Ok(network) => networks.push(network),
                Err(_) => self
                    .collector
                    .flag("allow-external-ips", format!("{text:?}"), NETWORKS),
            }
        }
        match gate {
            Some(false) if !networks.is_empty() => {
                let reason = "contradicts featureGates.AllowServiceExternalIPs: false; allowed: one of the two";
                self.collector.flag(
                    "allow-external-ips",
                    args.allow_external_ips.join(","),
                    reason,
                );
            }
            Some(true) if networks.is_empty() => {
                let all = [IpAddr::from([0; 4]), IpAddr::from([0; 16])];
                networks = all.map(|x| IpNet::new_assert(x, 0)).to_vec();
            }
            _ => {}
        }
        networks
    }

    /// The gate for externalIPs; those without meaning here are named.
    fn gates(&mut self) -> Option<bool> {
        for (name, on) in &self.configuration.feature_gates {
            if name == "PreferSameTrafficDistribution" && !on {
                let field = "featureGates.PreferSameTrafficDistribution";
                self.collector
                    .field(field, on, "allowed: true; it cannot be switched off");
            } else if !GATES.contains(&name.as_str()) {
                self.warnings
                    .push(format!("feature gate {name} has no meaning here"));
            }
        }
        self.configuration
            .feature_gates
            .get("AllowServiceExternalIPs")
            .copied()
    }
}

/// The families whose loopback address somebody means by these networks. All
/// addresses of a family are not meant so, as in kube-proxy.
fn loopback_families(networks: &[IpNet]) -> Vec<Family> {
    let families = [
        (Family::V4, IpAddr::from(Ipv4Addr::LOCALHOST)),
        (Family::V6, Ipv6Addr::LOCALHOST.into()),
    ];
    let is_meant = |network: &IpNet, loopback: &IpAddr| {
        let is_of_family = network.addr().is_ipv4() == loopback.is_ipv4();
        let within = network.addr().is_loopback() || network.contains(loopback);
        network.prefix_len() > 0 && is_of_family && within
    };
    let meant = families
        .into_iter()
        .filter(|(_, loopback)| networks.iter().any(|net| is_meant(net, loopback)));
    meant.map(|(family, _)| family).collect()
}

/// Feature gates that mean something here.
const GATES: [&str; 3] = [
    "AllowServiceExternalIPs",
    "ComponentFlagz",
    "ComponentStatusz",
];
