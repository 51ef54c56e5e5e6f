//! What tells of a kube-proxy on this node: what only it makes.

use std::collections::BTreeSet;
use std::path::Path;

use kube_ipvs_nft::{NamedChain, Nft};

use super::Ipsets;
use super::names::{TABLE, table_of};
use super::sets;

/// Chains of its that a kubelet before 1.28 makes too.
const KUBELETS: [&str; 3] = ["KUBE-MARK-MASQ", "KUBE-MARK-DROP", "KUBE-POSTROUTING"];
/// There when the kernel knows sets. To ask for sets would load the module.
const IPSET: &str = "/sys/module/ip_set";

/// What a kube-proxy has made here, in words: `nft table ip kube-proxy`, `chains
/// KUBE-* in nft table ip nat`, `ipsets KUBE-*`. Chains of legacy iptables are none
/// of nf_tables, and not seen. Costs a list of all nftables chains, as `nft list
/// chains`, and of the names of sets, as `ipset list -n`.
///
/// # Errors
/// The kernel cannot be heard.
pub fn signs(nft: &mut Nft) -> anyhow::Result<BTreeSet<String>> {
    let mut signs = of_chains(&nft.chains()?);
    if Path::new(IPSET).exists() {
        let names = Ipsets::open()?.names()?;
        if !sets::of_kube_proxy(names).is_empty() {
            signs.insert("ipsets KUBE-*".to_owned());
        }
    }
    Ok(signs)
}

fn of_chains(chains: &[NamedChain]) -> BTreeSet<String> {
    let sign = |chain: &NamedChain| {
        let (family, table) = table_of(chain)?;
        if table == TABLE {
            return Some(format!("nft table {family} {table}"));
        }
        let is_only_its = !KUBELETS.contains(&chain.chain.as_str());
        is_only_its.then(|| format!("chains KUBE-* in nft table {family} {table}"))
    };
    chains.iter().filter_map(sign).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_kube_proxy_makes_tells_of_it() {
        let chains = [
            ("ip", "nat", "KUBE-SERVICES"),
            ("ip", "nat", "KUBE-SVC-ABC"),
            ("ip6", "kube-proxy", "services"),
            ("ip", "mangle", "KUBE-PROXY-CANARY"),
            // The kubelet's, ours, and anybody's.
            ("ip6", "nat", "KUBE-POSTROUTING"),
            ("ip6", "mangle", "KUBE-KUBELET-CANARY"),
            ("ip", "kube-ipvs", "postrouting"),
            ("inet", "fw", "KUBE-SERVICES"),
        ]
        .map(|(family, table, chain)| NamedChain::new(family, table, chain));

        let signs: Vec<_> = of_chains(&chains).into_iter().collect();

        assert_eq!(
            signs,
            [
                "chains KUBE-* in nft table ip mangle",
                "chains KUBE-* in nft table ip nat",
                "nft table ip6 kube-proxy",
            ]
        );
    }
}
