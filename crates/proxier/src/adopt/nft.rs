//! What kube-proxy keeps in nf_tables: chains in the tables of iptables-nft, and
//! in nftables mode a table of its own.

use kube_ipvs_dataplane::kube_proxy::names::{TABLE, is_chain, tables_of};
use kube_ipvs_nft::{Nft, NftError};

use super::leftovers::Leftovers;

/// Removes it; a table that cannot be changed does not keep the others from it.
pub(super) fn remove(report: &mut Leftovers) {
    let listed = Nft::open().and_then(|mut nft| {
        let tables = tables_of(&nft.chains()?);
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
