//! Removes the chains and sets that kube-proxy left.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Context;

use super::programs::Iptables;
use super::{BY_HAND, chains, programs, sets};

/// The kernel lets go of a set a moment after the rule that named it is gone.
const TRIES: usize = 30;
const BETWEEN: Duration = Duration::from_millis(100);

/// What became of kube-proxy's chains and sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Chains that are gone, as `iptables-nft nat KUBE-SERVICES`.
    pub chains: Vec<String>,
    /// Sets that are gone.
    pub sets: Vec<String>,
    /// Chains that stay, since rules of others lead to them.
    pub kept: Vec<String>,
    /// What could not be removed, with the reason.
    pub failed: Vec<String>,
    /// What could not be looked into.
    pub unseen: Vec<String>,
}

/// Removes them with the node's own iptables and ipset programs, in the network
/// namespace of this thread. Only when our table stands: its rules do the same
/// from then on.
pub fn remove_leftovers() -> Leftovers {
    let mut report = Leftovers::default();
    let found = programs::find();
    report.unseen = found.unseen;
    for program in &found.programs {
        remove_chains(program, &mut report);
    }
    if found.programs.is_empty() {
        report.look_at_nft();
    }
    if let Err(error) = remove_sets(&mut report) {
        report.failed.push(format!("{error:#}"));
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
    report
        .unseen
        .extend(removal.unreadable.into_iter().map(full));
    if removal.text.is_empty() {
        return;
    }
    match program.restore(&removal.text) {
        Ok(()) => report.chains.extend(removal.removed.into_iter().map(full)),
        Err(error) => report.failed.push(format!("{error:#}")),
    }
}

fn remove_sets(report: &mut Leftovers) -> anyhow::Result<()> {
    let Some(listing) = programs::list_sets()? else {
        report.note_missing_ipset();
        return Ok(());
    };
    for set in sets::of_kube_proxy(&listing) {
        let result = destroy(&set).with_context(|| format!("destroy ipset {set}"));
        match result {
            Ok(()) => report.sets.push(set),
            Err(error) => report.failed.push(format!("{error:#}")),
        }
    }
    Ok(())
}

fn destroy(set: &str) -> anyhow::Result<()> {
    let mut result = programs::destroy_set(set);
    for _ in 1..TRIES {
        if result.is_ok() {
            break;
        }
        sleep(BETWEEN);
        result = programs::destroy_set(set);
    }
    result
}

impl Leftovers {
    /// Without iptables, `nft` still shows the chains that one of its kind made.
    fn look_at_nft(&mut self) {
        let tables = crate::check::tables_of_kube_proxy();
        if !tables.is_empty() {
            self.unseen.push(format!(
                "chains of kube-proxy are in nft {}, and there is no iptables here",
                tables.join(", ")
            ));
        }
    }

    /// Only worth a word where there are chains that nobody can remove here.
    fn note_missing_ipset(&mut self) {
        if !self.unseen.is_empty() {
            self.unseen.push("there is no ipset here".to_owned());
        }
    }

    /// Says it in the log: what is gone at INFO, what is not at WARN, with what
    /// to run on the node.
    pub fn log(&self) {
        if !self.chains.is_empty() || !self.sets.is_empty() {
            tracing::info!(
                chains = self.chains.len(),
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
