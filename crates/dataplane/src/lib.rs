//! Carries a plan out: over IPVS, VIPs, our nftables table and connection
//! tracking; and tells what is there.
//!
//! Synchronous, since a network namespace belongs to a thread. It knows neither
//! the API server nor where objects come from.

#![cfg_attr(
    not(test),
    deny(
        clippy::print_stdout,
        clippy::print_stderr,
        reason = "they panic when the stream is closed or full, and a library is asked nothing"
    )
)]

pub mod conntrack;
mod directory;
pub mod kube_proxy;
pub mod linux;
pub mod listeners;
pub mod lock;
mod netfilter;
pub mod progress;
pub mod record;
mod refusal;
pub mod sysctl;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kube_ipvs_core::drain::Load;
use kube_ipvs_core::listing::{Compared, Listing};
use kube_ipvs_core::plan::Plan;
use kube_ipvs_core::state::{
    Family, Front, KernelState, Protocol, RealServer, RealServerKey, VirtualServer,
    VirtualServerKey,
};
use kube_ipvs_core::table::Table;
use kube_ipvs_core::{HostAddress, Listener};

pub use self::refusal::{Nature, Refusal};

/// Carries plans out and tells what is there. Synchronous: one thread owns the
/// kernel, and a fake needs no runtime.
pub trait Dataplane {
    /// Reads everything that a plan may change.
    ///
    /// # Errors
    /// When something could not be read whole. A partial answer is never given.
    fn observe(&mut self) -> anyhow::Result<Observed>;

    /// Reads the list of virtual servers: what it has other than is known. Without
    /// an implementation of their own, the parts are taken from the whole.
    ///
    /// This listing and that of [`Self::observe`] may lack one that is there, see
    /// [`Self::virtual_server`].
    ///
    /// # Errors
    /// As [`Self::observe`].
    fn compare_virtual_servers(
        &mut self,
        known: &BTreeMap<VirtualServerKey, Arc<VirtualServer>>,
    ) -> anyhow::Result<Compared> {
        let mut listing = Listing::new(known);
        for (key, server) in self.observe()?.state.virtual_servers {
            listing.take(key, Arc::unwrap_or_clone(server));
        }
        listing.compared().context("a list with one twice")
    }

    /// Reads one virtual server, its real servers left out or not; none when it is
    /// not there.
    ///
    /// To be asked of each that a listing should have and lacks. The kernel goes
    /// through a table of all network namespaces ([`ip_vs_genl_dump_services`]) and
    /// from one part of its answer to the next remembers only how far it was: when
    /// virtual servers of another namespace go meanwhile, some of ours are skipped.
    ///
    /// [`ip_vs_genl_dump_services`]: https://github.com/torvalds/linux/blob/v6.1/net/netfilter/ipvs/ip_vs_ctl.c#L3291
    ///
    /// # Errors
    /// As [`Self::observe`].
    fn virtual_server(
        &mut self,
        server: &VirtualServerKey,
    ) -> anyhow::Result<Option<VirtualServer>> {
        let server = self.observe()?.state.virtual_servers.remove(server);
        Ok(server.map(Arc::unwrap_or_clone))
    }

    /// Reads the real servers of one virtual server; none when it is not there.
    ///
    /// # Errors
    /// As [`Self::observe`].
    fn real_servers(
        &mut self,
        server: &VirtualServerKey,
    ) -> anyhow::Result<Option<BTreeMap<RealServerKey, RealServer>>> {
        let server = self.observe()?.state.virtual_servers.remove(server);
        Ok(server.map(|server| Arc::unwrap_or_clone(server).real_servers))
    }

    /// Reads the addresses that are bound to our link.
    ///
    /// # Errors
    /// As [`Self::observe`].
    fn vips(&mut self) -> anyhow::Result<BTreeSet<IpAddr>> {
        Ok(self.observe()?.state.vips)
    }

    /// Reads the rows of our tables. To be followed by [`Self::prepare`].
    ///
    /// # Errors
    /// As [`Self::observe`].
    fn tables(&mut self) -> anyhow::Result<Table> {
        Ok(self.observe()?.state.table)
    }

    /// Whether anybody but us changed nftables since the tables were read: a
    /// cheap question, so that they need not be read to find nothing.
    fn tables_changed(&mut self) -> bool {
        true
    }

    /// What another Service proxy has made on this node, in words for people.
    /// Costs more than a question, so ask where there is a reason to.
    ///
    /// # Errors
    /// When that could not be read.
    fn signs_of_others(&mut self) -> anyhow::Result<BTreeSet<String>> {
        Ok(BTreeSet::new())
    }

    /// Makes sure that the ground is there: sysctls, link, table. What was
    /// observed stays: a table that is made anew gets the rows it had.
    ///
    /// # Errors
    /// When a part could not be made; nothing should be bound then.
    fn prepare(&mut self, observed: &Observed) -> anyhow::Result<Prepared>;

    /// Takes where it tells how far a long plan is. One that is never long, or
    /// never asked, need not.
    fn tell(&mut self, _progress: progress::Progress) {}

    /// Carries a plan out in its order, stage by stage ([`Plan::next_stage`]). A
    /// stage in which something is refused is carried out but for that, and is
    /// the last one: what follows may stand on it, and has to be planned anew.
    fn apply(&mut self, plan: &Plan) -> ApplyReport;

    /// Deletes connection tracking entries of these fronts that lead to none of
    /// the real servers given with them; says how many.
    ///
    /// # Errors
    /// When connection tracking cannot be read or refuses.
    fn forget_flows(
        &mut self,
        fronts: &BTreeMap<Front, BTreeSet<RealServerKey>>,
    ) -> anyhow::Result<usize>;

    /// Connections of the real servers of one virtual server; empty when there
    /// is none.
    ///
    /// # Errors
    /// When they could not be read whole.
    fn loads(&mut self, server: &VirtualServerKey)
    -> anyhow::Result<BTreeMap<RealServerKey, Load>>;

    /// All addresses of this host but those on our link.
    ///
    /// # Errors
    /// When they could not be read whole.
    fn host_addresses(&mut self) -> anyhow::Result<Vec<HostAddress>>;

    /// Sockets of this host that take calls on one of these ports.
    ///
    /// # Errors
    /// When they could not be read whole.
    fn listeners(
        &mut self,
        ports: &BTreeSet<(Protocol, u16)>,
    ) -> anyhow::Result<BTreeSet<Listener>> {
        _ = ports;
        Ok(BTreeSet::new())
    }

    /// Whether the kernel is known to lack a scheduler. It is asked, and loads
    /// the module where it can; nothing else comes of it.
    ///
    /// # Errors
    /// When it does not answer.
    fn lacks_scheduler(&mut self, name: &str) -> anyhow::Result<bool>;

    /// Next hops of the default routes.
    ///
    /// # Errors
    /// When they could not be read whole.
    fn gateways(&mut self) -> anyhow::Result<BTreeSet<IpAddr>>;
}

/// What `prepare` changed.
#[derive(Debug, Clone, Default)]
pub struct Prepared {
    /// Sysctls that had another value before.
    pub sysctls: Vec<sysctl::Changed>,
    /// IPVS time-outs, when they were others before.
    pub timeouts: Option<record::ChangedTimeouts>,
}

/// What the kernel holds.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// In the form that is compared with the desired state.
    pub state: KernelState,
    /// Connections by real server; those without any are left out.
    pub connections: BTreeMap<(VirtualServerKey, RealServerKey), Connections>,
}

impl Observed {
    /// Asks for each of these virtual servers by itself that was not listed: it may
    /// be there, see [`Dataplane::virtual_server`].
    ///
    /// # Errors
    /// As [`Dataplane::observe`].
    pub fn complete<'a>(
        &mut self,
        dataplane: &mut impl Dataplane,
        expected: impl IntoIterator<Item = &'a VirtualServerKey>,
    ) -> anyhow::Result<()> {
        for key in expected {
            if self.state.virtual_servers.contains_key(key) {
                continue;
            }
            let Some(mut server) = dataplane.virtual_server(key)? else {
                continue;
            };
            let Some(real_servers) = dataplane.real_servers(key)? else {
                continue;
            };
            server.real_servers = real_servers;
            for (real, load) in dataplane.loads(key)? {
                let Load {
                    active, inactive, ..
                } = load;
                let connections = Connections { active, inactive };
                if connections != Connections::default() {
                    self.connections.insert((*key, real), connections);
                }
            }
            self.state.virtual_servers.insert(*key, server.into());
        }
        Ok(())
    }
}

/// Connections of a real server, as `ipvsadm -Ln` counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// `ActiveConn`.
    pub active: u32,
    /// `InActConn`: TIME_WAIT and all of UDP.
    pub inactive: u32,
}

/// What became of a plan. It is no `Result` on purpose: after a refusal the
/// rest has been done.
#[must_use]
#[derive(Debug, Default)]
pub struct ApplyReport {
    /// Operations that were done, or needed no doing.
    pub done: usize,
    /// Operations that were refused.
    pub refused: Vec<Refusal>,
    /// Time spent in the kernel's netlink calls.
    pub netlink: Duration,
    /// Time spent on the tables.
    pub table: Duration,
    /// Clean-ups of connection tracking.
    pub conntrack: Vec<Cleaned>,
    /// Tables did not hold what they were thought to, and were made anew of what
    /// is left and the change: more may be missing.
    pub remade: bool,
}

/// A clean-up of connection tracking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleaned {
    /// Of which family.
    pub family: Family,
    /// How long it took.
    pub took: Duration,
    /// How many entries it deleted.
    pub deleted: usize,
}

impl ApplyReport {
    /// Takes in what became of a later part.
    pub fn extend(&mut self, later: Self) {
        self.done += later.done;
        self.refused.extend(later.refused);
        self.netlink += later.netlink;
        self.table += later.table;
        self.conntrack.extend(later.conntrack);
        self.remade |= later.remade;
    }
}
