//! Which virtual servers a kube-proxy in ipvs mode left.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use anyhow::Context;
use ipnet::IpNet;
use kube_ipvs_core::state::{Front, KernelState, Protocol, VirtualServer, VirtualServerKey};
use kube_ipvs_dataplane::Dataplane;
use kube_ipvs_dataplane::kube_proxy::{Ipsets, sets};
use kube_ipvs_dataplane::linux::Linux;
use kube_ipvs_dataplane::record::RecordFile;

/// What to take over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// How NodePorts that no Service has any more are known.
    pub node_ports: NodePorts,
    /// Networks whose virtual servers are others' (`--ipvs-exclude-cidrs`).
    pub exclude: Vec<IpNet>,
}

/// Which ports at addresses of this host were NodePorts of kube-proxy. Those
/// that a Service has today need not be known: they are taken over anyway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePorts {
    /// Those in kube-proxy's own sets.
    Listed(BTreeSet<(Protocol, u16)>),
    /// Where there are no sets: the range that a cluster has unless told otherwise.
    Within(RangeInclusive<u16>),
}

impl NodePorts {
    /// Kubernetes' default; the API server alone knows another.
    pub(crate) const RANGE: RangeInclusive<u16> = 30000..=32767;

    /// Read off kube-proxy's sets, where they are.
    fn of_this_node() -> Self {
        match Ipsets::open().and_then(|mut sets| sets::node_ports(&mut sets)) {
            Ok(ports) => ports.map_or_else(Self::default, Self::Listed),
            Err(error) => {
                tracing::warn!(
                    "the NodePorts of kube-proxy are not known: list ipsets: {error}; \
                     those of {:?} are taken for its",
                    Self::RANGE
                );
                Self::default()
            }
        }
    }

    fn contain(&self, protocol: Protocol, port: u16) -> bool {
        match self {
            Self::Listed(ports) => ports.contains(&(protocol, port)),
            Self::Within(range) => range.contains(&port),
        }
    }
}

impl Default for NodePorts {
    fn default() -> Self {
        Self::Within(Self::RANGE)
    }
}

impl Terms {
    /// For this node, with networks that are not ours.
    pub fn of_this_node(exclude: Vec<IpNet>) -> Self {
        Self {
            node_ports: NodePorts::of_this_node(),
            exclude,
        }
    }
}

/// What was taken over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// Virtual servers that were in no record of ours.
    pub virtual_servers: BTreeSet<VirtualServerKey>,
}

/// Puts what kube-proxy left in the ownership record, which is not written yet:
/// the first sync does that before it changes anything.
///
/// # Errors
/// The kernel's state could not be read whole.
pub fn claim(record: &mut RecordFile, linux: &mut Linux, terms: &Terms) -> anyhow::Result<Claimed> {
    let observed = linux.observe().context("look for what kube-proxy left")?;
    let on_link = linux.addresses_on_link()?;
    let host = linux.host_addresses()?;
    let host = host.into_iter().map(|address| address.address).collect();
    let mut claimed = left_by_kube_proxy(&observed.state, &on_link, &host, terms);
    claimed.retain(|key| !record.record().virtual_servers.contains_key(key));
    for key in &claimed {
        record.add(*key, String::new());
    }
    if !claimed.is_empty() {
        tracing::info!(
            virtual_servers = claimed.len(),
            vips = on_link.len(),
            "taken over from kube-proxy"
        );
    }
    Ok(Claimed {
        virtual_servers: claimed,
    })
}

/// Virtual servers at an address on the link, and those at an address of this
/// host with a NodePort and real servers as kube-proxy makes them.
fn left_by_kube_proxy(
    state: &KernelState,
    on_link: &BTreeSet<IpAddr>,
    host: &BTreeSet<IpAddr>,
    terms: &Terms,
) -> BTreeSet<VirtualServerKey> {
    let is_left = |key: &VirtualServerKey, server: &VirtualServer| {
        let VirtualServerKey::Front(Front {
            address,
            port,
            protocol,
        }) = key
        else {
            return false;
        };
        let excluded = terms.exclude.iter().any(|net| net.contains(address));
        let node_port = host.contains(address) && terms.node_ports.contain(*protocol, *port);
        !excluded && (on_link.contains(address) || node_port && is_masqueraded(server))
    };
    let servers = state.virtual_servers.iter();
    servers
        .filter(|(key, server)| is_left(key, server))
        .map(|(key, _)| *key)
        .collect()
}

/// kube-proxy makes no other real servers; those of another forwarding method
/// are observed with a weight that nobody gives.
fn is_masqueraded(server: &VirtualServer) -> bool {
    server.real_servers.values().all(|x| x.weight != u32::MAX)
}

#[cfg(test)]
mod tests {
    use kube_ipvs_core::state::RealServer;

    use super::*;

    fn state(servers: &[(&str, u32)]) -> KernelState {
        let mut state = KernelState::default();
        for (key, weight) in servers {
            let real = RealServer {
                weight: *weight,
                upper_threshold: 0,
                lower_threshold: 0,
            };
            let server = VirtualServer {
                scheduler: "rr".into(),
                flags: Default::default(),
                persistence: None,
                real_servers: [("10.244.0.9:8080".parse().expect("a real server"), real)].into(),
            };
            let key = key.parse().expect("a virtual server");
            state.virtual_servers.insert(key, server.into());
        }
        state
    }

    fn claimed(servers: &[(&str, u32)], terms: &Terms) -> Vec<String> {
        let addresses = |text: &[&str]| text.iter().map(|x| x.parse().expect("an IP")).collect();
        let on_link = addresses(&["10.96.0.10", "fd00:96::10"]);
        let host = addresses(&["192.168.50.1"]);
        left_by_kube_proxy(&state(servers), &on_link, &host, terms)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    const SERVERS: [(&str, u32); 7] = [
        ("10.96.0.10:80/TCP", 1),
        ("[fd00:96::10]:53/UDP", 1),
        ("10.96.200.1:80/TCP", 1),
        ("192.168.50.1:30080/TCP", 1),
        ("192.168.50.1:30081/TCP", u32::MAX),
        ("192.168.50.1:8443/TCP", 1),
        ("FWM 7", 1),
    ];

    #[test]
    fn what_is_on_the_link_or_a_node_port_is_taken_over() {
        assert_eq!(
            claimed(&SERVERS, &Terms::default()),
            [
                "10.96.0.10:80/TCP",
                "192.168.50.1:30080/TCP",
                "[fd00:96::10]:53/UDP",
            ]
        );
    }

    #[test]
    fn excluded_networks_and_other_ranges_are_left() {
        let terms = Terms {
            node_ports: NodePorts::Within(20000..=21000),
            exclude: vec!["fd00:96::/112".parse().expect("a network")],
        };

        assert_eq!(claimed(&SERVERS, &terms), ["10.96.0.10:80/TCP"]);
    }

    #[test]
    fn ports_in_kube_proxys_sets_are_node_ports_and_no_others() {
        let terms = Terms {
            node_ports: NodePorts::Listed([(Protocol::Tcp, 8443), (Protocol::Udp, 30080)].into()),
            exclude: Vec::new(),
        };

        assert_eq!(
            claimed(&SERVERS, &terms),
            [
                "10.96.0.10:80/TCP",
                "192.168.50.1:8443/TCP",
                "[fd00:96::10]:53/UDP",
            ]
        );
    }
}
