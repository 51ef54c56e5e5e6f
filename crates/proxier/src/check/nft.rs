//! Whether the kernel takes our table.

use kube_ipvs_nft::{Config, Elements, Family, Nft, render_table};

use super::finding::Finding;
use super::scratch::scratch;

const REMEDY: &str = "the kernel needs nf_tables with sets, NAT, reject and conntrack \
                      (CONFIG_NFT_*, CONFIG_NF_TABLES_INET)";

pub(super) fn check() -> Finding {
    let tables = scratch(|| Family::ALL.map(|family| (family, make_table(family))));
    judge(tables.map(Vec::from).map_err(|error| error.to_string()))
}

/// Whether a table was made, or the error.
type Made = Result<(), String>;

fn make_table(family: Family) -> Made {
    let commands = render_table(&Config::new(family), &Elements::new());
    let commands = commands.map_err(|error| error.to_string())?;
    let made = Nft::open().and_then(|mut nft| nft.apply(&commands));
    made.map_err(|error| error.to_string())
}

/// What became of our tables in a scratch namespace.
fn judge(tables: Result<Vec<(Family, Made)>, String>) -> Finding {
    let name = "nft table";
    let tables = match tables {
        Ok(tables) => tables,
        Err(error) => return Finding::ok(name, format!("not tried: {error}")),
    };
    let refused: Vec<(Family, String)> = tables
        .into_iter()
        .filter_map(|(family, result)| Some((family, result.err()?)))
        .collect();
    match refused.as_slice() {
        [] => Finding::ok(name, "taken by the kernel, ip and ip6"),
        [(Family::Ip6, error)] => Finding::warn(name, format!("ip6: {error}"), REMEDY),
        [(family, error), ..] => Finding::fail(name, format!("{family}: {error}"), REMEDY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;

    fn verdict(ip: Result<(), &str>, ip6: Result<(), &str>) -> Verdict {
        let tables = vec![
            (Family::Ip, ip.map_err(String::from)),
            (Family::Ip6, ip6.map_err(String::from)),
        ];
        judge(Ok(tables)).verdict
    }

    #[test]
    fn a_table_that_is_refused_fails_and_only_warns_for_ipv6() {
        assert_eq!(verdict(Ok(()), Ok(())), Verdict::Ok);
        assert_eq!(verdict(Ok(()), Err("no masq")), Verdict::Warn);
        assert_eq!(verdict(Err("no masq"), Err("no masq")), Verdict::Fail);
    }

    #[test]
    fn without_a_scratch_namespace_nothing_is_claimed() {
        let finding = judge(Err("make a network namespace: EPERM".into()));

        assert_eq!(finding.detail, "not tried: make a network namespace: EPERM");
    }
}
