//! `--adopt-kube-proxy`: go on where a kube-proxy has stopped. What one in iptables
//! or nftables mode has translated lives on in conntrack, and needs no claim.
//!
//! 1. [`claim`], before the first sync: the virtual servers that kube-proxy
//!    left are put in the ownership record. The first difference then changes
//!    them in place, so that live connections go on, and removes what no
//!    Service wants. Its link and VIPs need no claim: what hangs on the link is
//!    ours. Which NodePorts were kube-proxy's stands in its ipsets.
//! 2. [`settle`], after the first clean round, when our table stands: its
//!    chains, its nftables table and its ipsets are removed, all by netlink.
//!    Where the kernel holds tables of legacy iptables, the programs
//!    `iptables-legacy-save` and `-restore` are run, and nowhere else is one.
//!
//! Both do nothing where nothing was left, so that the flag may stay.

mod chains;
mod claim;
mod leftovers;
mod nft;
mod programs;

use kube_ipvs_dataplane::linux::Linux;

pub use claim::{Claimed, NodePorts, Terms, claim};
pub use leftovers::{Leftovers, remove_leftovers};
pub(crate) use programs::{LEGACY, save_legacy};

/// What to run on the node where the programs are not at hand.
pub const BY_HAND: &str = include_str!("by-hand.sh");

/// What is left to do after the first round without a refusal, when all that
/// is wanted stands: VIPs that are bound the other way are unbound, and with
/// `adopt` the chains and sets of kube-proxy removed. Logs what became of them.
pub fn settle(linux: &mut Linux, adopt: bool) {
    match linux.unbind_other_way() {
        Ok(0) => {}
        Ok(vips) => tracing::info!(vips, "VIPs unbound that were bound the other way"),
        Err(error) => tracing::warn!("{error:#}"),
    }
    if adopt {
        remove_leftovers().log();
    }
}
