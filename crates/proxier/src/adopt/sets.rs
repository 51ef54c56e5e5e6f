//! The ipsets of kube-proxy.

use std::collections::BTreeSet;

use kube_ipvs_core::state::Protocol;

/// Longest name of a set.
const LONGEST: usize = 31;
/// Without the prefix of the family.
const NAMES: [&str; 17] = [
    "LOOP-BACK",
    "CLUSTER-IP",
    "EXTERNAL-IP",
    "EXTERNAL-IP-LOCAL",
    "LOAD-BALANCER",
    "LOAD-BALANCER-LOCAL",
    "LOAD-BALANCER-FW",
    "LOAD-BALANCER-SOURCE-CIDR",
    "LOAD-BALANCER-SOURCE-IP",
    "NODE-PORT-TCP",
    "NODE-PORT-UDP",
    "NODE-PORT-LOCAL-TCP",
    "NODE-PORT-LOCAL-UDP",
    "NODE-PORT-SCTP-HASH",
    "NODE-PORT-LOCAL-SCTP-HASH",
    "HEALTH-CHECK-NODE-PORT",
    "IPVS-IPS",
];

/// The names in a listing (`ipset list -n`) that kube-proxy gives its sets.
pub(super) fn of_kube_proxy(listing: &str) -> Vec<String> {
    let known: Vec<String> = ["KUBE-", "KUBE-6-"]
        .iter()
        .flat_map(|prefix| NAMES.map(|name| format!("{prefix}{name}")))
        .map(|name| name[..name.len().min(LONGEST)].to_owned())
        .collect();
    let names = listing.lines().map(|line| line.trim().to_owned());
    names.filter(|name| known.contains(name)).collect()
}

/// The NodePorts in `ipset save`; none when there is no set for them.
pub(super) fn node_ports(saved: &str) -> Option<BTreeSet<(Protocol, u16)>> {
    let mut ports = BTreeSet::new();
    let mut sets = 0;
    for line in saved.lines() {
        let mut words = line.split(' ');
        let (verb, set) = (words.next(), words.next());
        let Some(protocol) = set.and_then(protocol_of) else {
            continue;
        };
        match (verb, words.next()) {
            (Some("create"), _) => sets += 1,
            // `30080`, or `192.0.2.1,sctp:30080`.
            (Some("add"), Some(entry)) => {
                let port = entry.rsplit(':').next().and_then(|x| x.parse().ok());
                ports.extend(port.map(|port| (protocol, port)));
            }
            _ => {}
        }
    }
    (sets > 0).then_some(ports)
}

/// The protocol of a set of NodePorts.
fn protocol_of(set: &str) -> Option<Protocol> {
    let rest = set.strip_prefix("KUBE-")?;
    let rest = rest.strip_prefix("6-").unwrap_or(rest);
    match rest.strip_prefix("NODE-PORT-")? {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP-HASH" => Some(Protocol::Sctp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ports_are_read_off_the_sets_of_both_families() {
        let saved = "create KUBE-NODE-PORT-TCP bitmap:port range 0-65535\n\
                     add KUBE-NODE-PORT-TCP 31999\n\
                     add KUBE-NODE-PORT-TCP 8443\n\
                     create KUBE-NODE-PORT-LOCAL-TCP bitmap:port range 0-65535\n\
                     add KUBE-NODE-PORT-LOCAL-TCP 31998\n\
                     create KUBE-6-NODE-PORT-SCTP-HASH hash:ip,port family inet6\n\
                     add KUBE-6-NODE-PORT-SCTP-HASH 2001:db8::1,sctp:30132\n\
                     create stranger hash:ip\nadd stranger 192.0.2.1\n";

        let ports = node_ports(saved).expect("there are sets");

        let expected = [
            (Protocol::Tcp, 8443),
            (Protocol::Tcp, 31999),
            (Protocol::Sctp, 30132),
        ];
        assert_eq!(ports, expected.into());
        assert_eq!(node_ports("create stranger hash:ip\n"), None);
    }

    #[test]
    fn both_families_are_known_and_others_are_left() {
        let listing = "KUBE-CLUSTER-IP\nKUBE-6-LOAD-BALANCER-SOURCE-CID\ncali40s\nKUBE-MINE\n";

        assert_eq!(
            of_kube_proxy(listing),
            ["KUBE-CLUSTER-IP", "KUBE-6-LOAD-BALANCER-SOURCE-CID"]
        );
    }
}
