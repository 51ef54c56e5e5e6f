//! Chains of others that drop what we serve: named in the log, or opened by one
//! rule when the operator asked for that (`--accept-in-foreign-chains`).

use std::collections::BTreeSet;

use kube_ipvs_nft::{ForeignChain, Nft};

/// What was said already; an audit would say it again.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    told: BTreeSet<String>,
}

impl Foreign {
    /// Looks at all chains. With an accept bit, our rule is put into those that
    /// drop, again whenever it is gone; without, rules of an earlier run go.
    /// Nothing here keeps a sync from being made.
    pub(super) fn look(&mut self, nft: &mut Nft, accept_bit: Option<u8>) {
        let chains = match nft.foreign_drops() {
            Ok(chains) => chains,
            Err(error) => {
                return self.tell("", &format!("chains of others are not known: {error}"));
            }
        };
        let there: BTreeSet<String> = chains.iter().map(ToString::to_string).collect();
        self.told.retain(|chain| there.contains(chain));
        match accept_bit {
            Some(bit) => {
                for chain in &chains {
                    self.open(nft, chain, bit);
                }
            }
            None => self.leave(nft, &chains),
        }
    }

    fn open(&mut self, nft: &mut Nft, chain: &ForeignChain, bit: u8) {
        match nft.accept_in(chain, bit) {
            Ok(true) => tracing::info!(%chain, "accept rule inserted"),
            Ok(false) => {}
            Err(error) => self.tell(
                &chain.to_string(),
                &format!("it drops Service traffic and cannot be opened: {error}"),
            ),
        }
    }

    fn leave(&mut self, nft: &mut Nft, chains: &[ForeignChain]) {
        if chains.iter().any(ForeignChain::accepted) {
            match nft.remove_accepts() {
                Ok(count) => tracing::info!(count, "accept rules of an earlier run removed"),
                Err(error) => self.tell("", &format!("accept rules are left: {error}")),
            }
        }
        for chain in chains {
            self.tell(
                &chain.to_string(),
                "it drops Service traffic unless one of its rules accepts that; \
                 --accept-in-foreign-chains inserts such a rule",
            );
        }
    }

    fn tell(&mut self, chain: &str, message: &str) {
        if self.told.insert(chain.to_owned()) {
            tracing::warn!(chain, "{message}");
        }
    }
}
