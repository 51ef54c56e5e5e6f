//! Removes the chains, tables and sets that kube-proxy left.

use std::thread::sleep;
use std::time::Duration;

use kube_ipvs_dataplane::kube_proxy::{Destroyed, Ipsets, sets};
use netlink_exchange::Error;

use super::programs::Iptables;
use super::{BY_HAND, chains, nft, programs};

/// The kernel lets go of a set a moment after the rule that named it is gone.
const TRIES: usize = 10;
const BETWEEN: Duration = Duration::from_millis(100);

/// What became of kube-proxy's chains, tables and sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Chains that are gone, as `nft ip nat KUBE-SERVICES` or
    /// `iptables-legacy nat KUBE-SERVICES`.
    pub chains: Vec<String>,
    /// Tables of its nftables mode that are gone, as `ip kube-proxy`.
    pub tables: Vec<String>,
    /// Sets that are gone.
    pub sets: Vec<String>,
    /// Chains that stay, since rules of others lead to them.
    pub kept: Vec<String>,
    /// What could not be removed, with the reason.
    pub failed: Vec<String>,
    /// What could not be looked into.
    pub unseen: Vec<String>,
}

/// Removes them, in the network namespace of this thread. Only when our table
/// stands: its rules do the same from then on.
pub fn remove_leftovers() -> Leftovers {
    let mut report = Leftovers::default();
    nft::remove(&mut report);
    let found = programs::find();
    report.unseen = found.unseen;
    for program in &found.programs {
        remove_chains(program, &mut report);
    }
    if let Err(error) = remove_sets(&mut report) {
        report.failed.push(format!("list ipsets: {error}"));
    }
    report
}

fn remove_chains(program: &Iptables, report: &mut Leftovers) {
    let name = program.name();
    let removal = match program.save() {
        Ok(saved) => chains::removal(&saved),
        Err(error) => return report.failed.push(format!("{error:#}")),
    };
    let full = |chain: String| format!("{name} {chain}");
    report.kept.extend(removal.kept.into_iter().map(full));
    if removal.text.is_empty() {
        return;
    }
    match program.restore(&removal.text) {
        Ok(()) => report.chains.extend(removal.removed.into_iter().map(full)),
        Err(error) => report.failed.push(format!("{error:#}")),
    }
}

fn remove_sets(report: &mut Leftovers) -> Result<(), Error> {
    let mut ipsets = Ipsets::open()?;
    let mut left = sets::of_kube_proxy(ipsets.names()?);
    for round in 0..TRIES {
        if round > 0 {
            sleep(BETWEEN);
        }
        left.retain(|set| match ipsets.destroy(set) {
            Ok(Destroyed::Busy) => true,
            Ok(Destroyed::Gone) => {
                report.sets.push(set.clone());
                false
            }
            Err(error) => {
                report.failed.push(format!("destroy ipset {set}: {error}"));
                false
            }
        });
        if left.is_empty() {
            break;
        }
    }
    let busy = left.iter();
    let busy = busy.map(|set| format!("destroy ipset {set}: a rule that stays names it"));
    report.failed.extend(busy);
    Ok(())
}

impl Leftovers {
    /// Says it in the log: what is gone at INFO, what is not at WARN, with what
    /// to run on the node.
    pub fn log(&self) {
        if [&self.chains, &self.tables, &self.sets]
            .into_iter()
            .any(|x| !x.is_empty())
        {
            tracing::info!(
                chains = self.chains.len(),
                tables = self.tables.len(),
                sets = self.sets.len(),
                "chains and sets of kube-proxy removed"
            );
        }
        for chain in &self.kept {
            tracing::warn!(%chain, "chain of kube-proxy left: rules of others lead to it");
        }
        let undone = self.failed.iter().chain(&self.unseen);
        for reason in undone.clone() {
            tracing::warn!(%reason, "leftovers of kube-proxy are not removed");
        }
        if undone.count() > 0 {
            tracing::warn!("to remove them, run this on the node:\n{BY_HAND}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_the_one_of_the_guide() {
        let guide = include_str!("../../../../docs/migration.md");

        assert!(guide.contains(BY_HAND));
    }
}
