//! Why an address of a Service is not served here.

use alloc::sync::Arc;
use core::fmt;
use core::net::IpAddr;

use super::Surroundings;
use crate::services::FrontKind;

/// Whose an address that a Service asks for is instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Withheld {
    /// It is the ClusterIP of a Service.
    ClusterIp,
    /// It lies in a ServiceCIDR, where the cluster alone hands addresses out.
    ServiceCidr,
    /// It is another Node's, an API server's or a gateway's.
    Protected,
    /// It may be another Node's: nobody could look.
    Unchecked,
    /// It lies in a network of pods.
    PodNetwork,
    /// It is an endpoint's.
    Endpoint,
}

impl Withheld {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::ClusterIp,
        Self::ServiceCidr,
        Self::Protected,
        Self::Unchecked,
        Self::PodNetwork,
        Self::Endpoint,
    ];

    /// One word for metrics: `cluster-ip`, `endpoint`, ...
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterIp => "cluster-ip",
            Self::ServiceCidr => "service-cidr",
            Self::Protected => "protected",
            Self::Unchecked => "unchecked",
            Self::PodNetwork => "pod-network",
            Self::Endpoint => "endpoint",
        }
    }

    /// Why a Service of this namespace does not get an address, if so. An
    /// address of this host is served as it is, a ClusterIP in any case: neither
    /// can be taken away by what somebody writes into an object.
    pub(crate) fn of(
        address: IpAddr,
        kind: FrontKind,
        namespace: &Arc<str>,
        around: &Surroundings<'_>,
    ) -> Option<Self> {
        let own = around.host.contains(&address);
        if kind == FrontKind::ClusterIp {
            // Behind a gateway is everything else, so this is no address to hand out.
            let gateway = !own && around.gateways.contains(&address);
            return gateway.then_some(Self::Protected);
        }
        if around.territory.is_cluster_ip(address) {
            return Some(Self::ClusterIp);
        }
        let within = |nets: &alloc::collections::BTreeSet<ipnet::IpNet>| {
            nets.iter().any(|net| net.contains(&address))
        };
        if within(around.service_networks) {
            return Some(Self::ServiceCidr);
        }
        if own {
            return None;
        }
        if around.protected.contains(&address) {
            return Some(Self::Protected);
        }
        if around.unchecked.contains(&address) {
            return Some(Self::Unchecked);
        }
        if within(around.pod_networks) {
            return Some(Self::PodNetwork);
        }
        // Whoever may write a slice can name any address in it: one that names
        // no node takes no load balancer's address away from another namespace.
        let whose = (kind == FrontKind::LoadBalancer).then_some(namespace);
        let endpoint = around.territory.is_endpoint(address, whose);
        endpoint.then_some(Self::Endpoint)
    }
}

impl fmt::Display for Withheld {
    /// What is said of the address: `lies in a network of pods; it is not served`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "is the ClusterIP of a Service; it is served as that only",
            Self::ServiceCidr => {
                "lies in a ServiceCIDR, where only the cluster hands addresses out; \
                 it is not served"
            }
            Self::Protected => {
                "belongs to another node, the API server or a gateway; it is served there only"
            }
            Self::Unchecked => {
                "is not served yet: the addresses of other nodes could not be \
                 listed, and it may be one of them"
            }
            Self::PodNetwork => "lies in a network of pods; it is not served",
            Self::Endpoint => {
                "is the address of an endpoint, which nobody could reach any more; it is not served"
            }
        })
    }
}
