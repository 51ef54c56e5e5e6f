//! Firewall marks: for traffic from inside, and for that of NodePorts.

use super::policy::{Masquerade, Outside, Treatment};
use super::ports::Port;
use super::{FrontKind, Surroundings};
use crate::names::ServiceName;
use crate::options::Options;
use crate::state::{Family, NftSet};

/// Bits that stay zero: 12 says "we serve this" to a foreign chain (the nft
/// table's accept bit), 14 and 15 are kube-proxy's, 30 and 31 are left to others.
const FREE: u32 = 0x3fff_ffff & !(1 << 12) & !(1 << 14) & !(1 << 15);

/// The marks of a Service port in one family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks {
    /// Leads to the endpoints of the whole cluster.
    cluster: u32,
    /// Leads to those on this node.
    local: u32,
    /// Whether NodePorts have marks.
    node_ports: bool,
    /// What the mark of a NodePort that is masqueraded has besides.
    masquerade: u32,
}

impl Marks {
    pub(super) fn of(
        name: &ServiceName,
        port: &Port,
        family: Family,
        around: &Surroundings<'_>,
    ) -> Self {
        let addresses = around.node_ports.iter();
        let addresses = addresses.filter(|address| Family::of(**address) == family);
        let options = around.options;
        Self {
            cluster: mark(name, port, family, "", options),
            local: mark(name, port, family, " local", options),
            node_ports: options.node_port_servers.by_mark(addresses.count()),
            masquerade: masquerade_bit(options),
        }
    }

    /// Whether a mark leads to the endpoints on this node.
    pub(super) fn is_local(&self, mark: u32) -> bool {
        mark & !self.masquerade == self.local
    }

    /// The marks that the traffic of a front gets, by the map that gives them.
    pub(super) fn for_front(&self, kind: FrontKind, treatment: &Treatment) -> Vec<(NftSet, u32)> {
        let mut marks = Vec::new();
        if treatment.inside {
            marks.push((NftSet::InsideMarks, self.cluster));
        }
        if self.node_ports && kind == FrontKind::NodePort {
            let mark = match treatment.outside {
                Outside::Cluster => Some(self.cluster),
                Outside::Local => Some(self.local),
                Outside::Dropped | Outside::Refused => None,
            };
            let masquerade = match treatment.masquerade {
                Masquerade::Never => 0,
                Masquerade::Always | Masquerade::OffCluster => self.masquerade,
            };
            marks.extend(mark.map(|mark| (NftSet::NodePortMarks, mark | masquerade)));
        }
        marks
    }
}

/// One of a Service port: a hash, so that it is the same after every restart
/// without being written down. Never 0.
fn mark(name: &ServiceName, port: &Port, family: Family, which: &str, options: &Options) -> u32 {
    let family = match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    let hash = crate::seed(&format!(
        "{name}:{}/{} {family}{which}",
        port.number, port.protocol
    ));
    let bits = FREE & !masquerade_bit(options);
    let folded = (hash ^ (hash >> 32)) as u32 & bits;
    match folded {
        // The lowest bit that may be set.
        0 => bits & bits.wrapping_neg(),
        mark => mark,
    }
}

fn masquerade_bit(options: &Options) -> u32 {
    1u32.wrapping_shl(options.masquerade_bit.into())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::fixtures::*;
    use crate::k8s::Service;
    use crate::model::Model;
    use crate::options::NodePortServers;
    use crate::state::Protocol;

    fn mark_of(name: &str) -> u32 {
        let port = Port {
            name: "".into(),
            protocol: Protocol::Tcp,
            number: 80,
            node_port: None,
        };
        let name = ServiceName::new("default", name);
        mark(&name, &port, Family::V4, "", &options())
    }

    /// Two names with one mark; by the birthday paradox they are soon found.
    fn twins() -> (String, String) {
        let mut seen = BTreeMap::new();
        for n in 0.. {
            let name = format!("s{n}");
            if let Some(other) = seen.insert(mark_of(&name), name.clone()) {
                return (other, name);
            }
        }
        unreachable!("there are fewer marks than names")
    }

    #[test]
    fn of_two_services_with_one_mark_the_oldest_has_it_and_the_other_is_safe() {
        let (one, other) = twins();
        let local = |name: &str, ip: &str, vip: &str, created: &str| -> Service {
            let service = service(name, ip).load_balancer(vip).external_local();
            service.created(created)
        };
        let old = local(&other, "10.96.0.2", "203.0.113.2", "2026-01-01T00:00:00Z");
        let young = local(&one, "10.96.0.1", "203.0.113.1", "2026-02-01T00:00:00Z");
        let mut cluster = cluster();
        for service in [young, old.clone()] {
            cluster
                .add(service.clone())
                .endpoints(&service, [ep("10.244.2.9")]);
            cluster.compile();
        }
        let text = cluster.text();
        assert!(
            text.contains("nft drop-outside  203.0.113.2 . tcp . 80\n"),
            "{text}"
        );
        assert!(
            text.contains("nft inside-marks  203.0.113.2 . tcp . 80 :"),
            "{text}"
        );
        assert!(
            text.contains("nft reject  203.0.113.1 . tcp . 80\n"),
            "{text}"
        );
        assert!(!text.contains("nft inside-marks  203.0.113.1"), "{text}");
        assert_eq!(cluster.warnings().len(), 1);
        let model = Model::new(cluster.desired().clone());
        assert!(model.dangers(&BTreeSet::new()).is_empty());

        cluster.remove(old);
        let text = cluster.text();
        assert!(
            text.contains("nft inside-marks  203.0.113.1 . tcp . 80 :"),
            "{text}"
        );
        assert!(cluster.warnings().is_empty());
    }

    #[test]
    fn a_node_port_whose_mark_is_anothers_is_refused() {
        let (one, other) = twins();
        let mut cluster = cluster_with(Options {
            node_port_servers: NodePortServers::Mark,
            ..options()
        });
        for (name, ip, port, created) in [
            (&other, "10.96.0.2", 30_002, "2026-01-01T00:00:00Z"),
            (&one, "10.96.0.1", 30_001, "2026-02-01T00:00:00Z"),
        ] {
            let service = service(name, ip).node_port(port).created(created);
            cluster
                .add(service.clone())
                .endpoints(&service, [ep("10.244.2.9")]);
        }
        let text = cluster.text();
        assert!(
            text.contains("nft node-port-marks  192.0.2.1 . tcp . 30002 :"),
            "{text}"
        );
        assert!(
            text.contains("nft reject  192.0.2.1 . tcp . 30001\n"),
            "{text}"
        );
        assert!(
            !text.contains("node-port-marks  192.0.2.1 . tcp . 30001"),
            "{text}"
        );
        assert_eq!(cluster.warnings().len(), 1);
        let model = Model::new(cluster.desired().clone());
        assert!(model.dangers(&BTreeSet::new()).is_empty());
    }

    #[test]
    fn marks_keep_clear_of_the_bits_of_others() {
        let all = (0..1000).fold(0, |bits, n| bits | mark_of(&format!("s{n}")));
        assert_eq!(all, FREE);
    }

    #[test]
    fn marks_are_stable() {
        assert_eq!(mark_of("web"), mark_of("web"));
        assert_ne!(mark_of("web"), mark_of("dns"));
    }
}
