//! What kube-proxy keeps in nf_tables: chains in the tables of iptables-nft, and
//! in nftables mode a table of its own.

use std::collections::BTreeSet;

use kube_ipvs_dataplane::kube_proxy::names::{TABLE, is_chain, table_of};
use kube_ipvs_nft::{NamedChain, Nft, NftError};

use super::leftovers::Leftovers;

/// Removes it; a table that cannot be changed does not keep the others from it.
pub(super) fn remove(report: &mut Leftovers) {
    let listed = Nft::open().and_then(|mut nft| {
        let tables = tables(&nft.chains()?);
        Ok((nft, tables))
    });
    let (mut nft, tables) = match listed {
        Ok(listed) => listed,
        Err(error) => return report.failed.push(error.to_string()),
    };
    for (family, table) in tables {
        if let Err(error) = remove_of(&mut nft, family, table, report) {
            report.failed.push(error.to_string());
        }
    }
}

/// Tables with something of kube-proxy.
fn tables(chains: &[NamedChain]) -> BTreeSet<(&'static str, &'static str)> {
    chains.iter().filter_map(table_of).collect()
}

fn remove_of(
    nft: &mut Nft,
    family: &str,
    table: &str,
    report: &mut Leftovers,
) -> Result<(), NftError> {
    if table == TABLE {
        nft.remove_table(family, table)?;
        report.tables.push(format!("{family} {table}"));
        return Ok(());
    }
    let remains = nft.remove_chains(family, table, is_chain)?;
    let full = |chain: String| format!("nft {family} {table} {chain}");
    report.chains.extend(remains.removed.into_iter().map(full));
    report.kept.extend(remains.kept.into_iter().map(full));
    Ok(())
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
            tables(&chains),
            [("ip", "nat"), ("ip6", "mangle"), ("ip", "kube-proxy")].into()
        );
    }
}
