//! What kube-proxy calls what it makes.

use std::collections::BTreeSet;

use kube_ipvs_nft::NamedChain;

/// Chains of kube-proxy: those of its ipvs mode and of its iptables mode. The
/// kubelet's (`KUBE-FIREWALL`, `KUBE-KUBELET-CANARY`, `KUBE-IPTABLES-HINT`) are
/// not among them.
const CHAINS: [&str; 14] = [
    "KUBE-SERVICES",
    "KUBE-POSTROUTING",
    "KUBE-NODE-PORT",
    "KUBE-LOAD-BALANCER",
    "KUBE-MARK-MASQ",
    "KUBE-FORWARD",
    "KUBE-PROXY-FIREWALL",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
    "KUBE-NODEPORTS",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-PROXY-CANARY",
    "KUBE-MARK-DROP",
];
/// One chain a Service or endpoint, in iptables mode.
const CHAIN_PREFIXES: [&str; 6] = [
    "KUBE-SVC-",
    "KUBE-SEP-",
    "KUBE-EXT-",
    "KUBE-SVL-",
    "KUBE-XLB-",
    "KUBE-FW-",
];
/// Families and tables of nf_tables in which iptables-nft keeps its chains.
const FAMILIES: [&str; 2] = ["ip", "ip6"];
const TABLES: [&str; 3] = ["mangle", "nat", "filter"];
/// The table of its nftables mode, in both families, all of it its own.
pub const TABLE: &str = "kube-proxy";

/// A chain that kube-proxy made, in a table of iptables.
pub fn is_chain(name: &str) -> bool {
    let by_prefix = |prefix| name.starts_with(prefix);
    CHAINS.contains(&name) || CHAIN_PREFIXES.into_iter().any(by_prefix)
}

/// Families and tables of nf_tables with something of kube-proxy.
pub fn tables_of(chains: &[NamedChain]) -> BTreeSet<(&'static str, &'static str)> {
    chains.iter().filter_map(table_of).collect()
}

/// Family and table of a chain of nf_tables that kube-proxy made.
pub(super) fn table_of(chain: &NamedChain) -> Option<(&'static str, &'static str)> {
    let family = FAMILIES.into_iter().find(|x| *x == chain.family)?;
    if chain.table == TABLE {
        return Some((family, TABLE));
    }
    let table = TABLES.into_iter().find(|x| *x == chain.table)?;
    is_chain(&chain.chain).then_some((family, table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tables_of_iptables_and_its_own_are_looked_at() {
        let chains = [
            ("ip", "nat", "KUBE-SERVICES"),
            ("ip", "nat", "KUBE-POSTROUTING"),
            ("ip6", "filter", "KUBE-FIREWALL"),
            ("inet", "nat", "KUBE-SERVICES"),
            ("ip", "mine", "KUBE-SERVICES"),
            ("ip6", "mangle", "KUBE-PROXY-CANARY"),
            ("ip", "kube-proxy", "services"),
            ("inet", "kube-proxy", "services"),
        ]
        .map(|(family, table, chain)| NamedChain::new(family, table, chain));

        assert_eq!(
            tables_of(&chains),
            [("ip", "nat"), ("ip6", "mangle"), ("ip", "kube-proxy")].into()
        );
    }
}
