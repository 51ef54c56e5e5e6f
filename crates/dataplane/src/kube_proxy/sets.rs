//! The ipsets of kube-proxy.

use std::collections::BTreeSet;

use kube_ipvs_core::state::Protocol;
use netlink_exchange::Error;

use super::Ipsets;

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

/// Those of these names that kube-proxy gives its sets.
pub fn of_kube_proxy(names: Vec<String>) -> Vec<String> {
    let known: Vec<String> = ["KUBE-", "KUBE-6-"]
        .iter()
        .flat_map(|prefix| NAMES.map(|name| format!("{prefix}{name}")))
        .map(|name| name[..name.len().min(LONGEST)].to_owned())
        .collect();
    let names = names.into_iter();
    names.filter(|name| known.contains(name)).collect()
}

/// The NodePorts in kube-proxy's sets; none when there is no set for them.
///
/// # Errors
/// The kernel cannot be heard, or a set vanished meanwhile.
pub fn node_ports(sets: &mut Ipsets) -> Result<Option<BTreeSet<(Protocol, u16)>>, Error> {
    let mut ports = BTreeSet::new();
    let mut found = false;
    for set in sets.names()? {
        let Some(protocol) = protocol_of(&set) else {
            continue;
        };
        found = true;
        let of_set = sets.ports(&set)?.into_iter();
        ports.extend(of_set.map(|port| (protocol, port)));
    }
    Ok(found.then_some(ports))
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
    fn sets_of_node_ports_are_known_in_both_families() {
        let protocols = [
            "KUBE-NODE-PORT-TCP",
            "KUBE-6-NODE-PORT-UDP",
            "KUBE-6-NODE-PORT-SCTP-HASH",
        ]
        .map(protocol_of);
        assert_eq!(
            protocols.map(|protocol| protocol.expect("a set of NodePorts")),
            [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        );
        for other in ["KUBE-NODE-PORT-LOCAL-TCP", "KUBE-CLUSTER-IP", "stranger"] {
            assert_eq!(protocol_of(other), None, "{other}");
        }
    }

    #[test]
    fn both_families_are_known_and_others_are_left() {
        let names = [
            "KUBE-CLUSTER-IP",
            "KUBE-6-LOAD-BALANCER-SOURCE-CID",
            "cali40s",
            "KUBE-MINE",
        ];

        assert_eq!(
            of_kube_proxy(names.map(str::to_owned).into()),
            ["KUBE-CLUSTER-IP", "KUBE-6-LOAD-BALANCER-SOURCE-CID"]
        );
    }
}
