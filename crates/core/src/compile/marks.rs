//! Firewall marks for traffic from inside.

use super::ports::Port;
use crate::names::ServiceName;
use crate::options::Options;
use crate::state::Family;

/// Bits that stay zero: 12 says "we serve this" to a foreign chain (the nft
/// table's accept bit), 14 and 15 are kube-proxy's, 30 and 31 are left to others.
const FREE: u32 = 0x3fff_ffff & !(1 << 12) & !(1 << 14) & !(1 << 15);

/// The mark of a Service port: a hash, so that it is the same after every
/// restart without being written down. Never 0.
pub(super) fn mark(name: &ServiceName, port: &Port, family: Family, options: &Options) -> u32 {
    let family = match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    let hash = crate::seed(&format!(
        "{name}:{}/{} {family}",
        port.number, port.protocol
    ));
    let bits = FREE & !1u32.wrapping_shl(options.masquerade_bit.into());
    let folded = (hash ^ (hash >> 32)) as u32 & bits;
    match folded {
        // The lowest bit that may be set.
        0 => bits & bits.wrapping_neg(),
        mark => mark,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::fixtures::*;
    use crate::k8s::Service;
    use crate::model::Model;
    use crate::state::Protocol;

    fn mark_of(name: &str) -> u32 {
        let port = Port {
            name: "".into(),
            protocol: Protocol::Tcp,
            number: 80,
            node_port: None,
        };
        let name = ServiceName::new("default", name);
        mark(&name, &port, Family::V4, &options())
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
