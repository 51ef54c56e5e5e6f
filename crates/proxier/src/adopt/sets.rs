//! The ipsets of kube-proxy.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_are_known_and_others_are_left() {
        let listing = "KUBE-CLUSTER-IP\nKUBE-6-LOAD-BALANCER-SOURCE-CID\ncali40s\nKUBE-MINE\n";

        assert_eq!(
            of_kube_proxy(listing),
            ["KUBE-CLUSTER-IP", "KUBE-6-LOAD-BALANCER-SOURCE-CID"]
        );
    }
}
