//! The Linux dataplane: IPVS by netlink, VIPs by rtnetlink, one table by nf_tables.
//!
//! Everything happens on the calling thread, in the network namespace it was
//! opened in.

mod apply;
pub mod convert;
mod foreign;
mod observe;
mod projection;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use ipvs_netlink as ipvs;
use kube_ipvs_core::drain::Load;
use kube_ipvs_core::listing::Compared;
use kube_ipvs_core::plan::Plan;
use kube_ipvs_core::state::{
    Family, Front, Protocol, RealServer, RealServerKey, VirtualServer, VirtualServerKey,
};
use kube_ipvs_core::table::Table as Rows;
use kube_ipvs_core::{HostAddress, Listener};
use kube_ipvs_vip::{Binder, Binding};

use super::conntrack::Conntrack;
use super::progress::Progress;
use super::record::ChangedTimeouts;
use super::{ApplyReport, Dataplane, Observed, Prepared, sysctl};
use table::Table;

pub use convert::key as key_of;

/// How the Linux dataplane is set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Name of the link that carries VIPs.
    pub link: String,
    /// How VIPs are bound to it.
    pub binding: Binding,
    /// The tables, one for each family that is served.
    pub tables: Vec<kube_ipvs_nft::Config>,
    /// Sysctls that must have a value.
    pub sysctls: Vec<sysctl::Wanted>,
    /// `/proc/sys`.
    pub sysctl_root: PathBuf,
    /// Time-outs of IPVS connections in seconds; 0 keeps what is there.
    pub timeouts: ipvs::Timeouts,
}

/// The kernel of this machine.
pub struct Linux {
    setup: Setup,
    client: ipvs::Client,
    binder: Binder,
    tables: Vec<Table>,
    foreign: foreign::Foreign,
    nft: kube_ipvs_nft::Nft,
    conntrack: Conntrack,
    progress: Progress,
}

impl Linux {
    /// Opens the sockets. Nothing is changed yet.
    ///
    /// # Errors
    /// No IPVS in the kernel, or no right to use it: each with its remedy.
    pub fn open(setup: Setup) -> anyhow::Result<Self> {
        let client = ipvs::Client::open()
            .map_err(with_hint)
            .context("open IPVS")?;
        Self::over(setup, client, kube_ipvs_nft::Nft::open()?)
    }

    /// The same over sockets to IPVS and nftables that are open already.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn over(
        setup: Setup,
        mut client: ipvs::Client,
        nft: kube_ipvs_nft::Nft,
    ) -> anyhow::Result<Self> {
        // Anybody may find the family; asking it something takes the right to.
        client.info().map_err(with_hint).context("use IPVS")?;
        let binder = Binder::new(&setup.link, setup.binding).context("open the VIP binder")?;
        let conntrack = Conntrack::open().context("open connection tracking")?;
        let tables = setup.tables.iter().cloned().map(Table::new).collect();
        Ok(Self {
            setup,
            client,
            binder,
            tables,
            foreign: foreign::Foreign::default(),
            nft,
            conntrack,
            progress: Progress::default(),
        })
    }

    /// The IPVS client, for those who look further than a plan does.
    pub fn client(&mut self) -> &mut ipvs::Client {
        &mut self.client
    }

    /// Addresses bound to our link, whatever the binding is now.
    ///
    /// # Errors
    /// When they could not be read whole.
    pub fn addresses_on_link(&mut self) -> anyhow::Result<BTreeSet<IpAddr>> {
        self.binder
            .bound_in(Binding::Address)
            .context("read addresses of the VIP link")
    }

    /// Unbinds what is bound in the other way than ours: left by a kube-proxy,
    /// or by us before `--vip-binding` was changed. Only once all VIPs are bound
    /// in our way, so that none is ever without. Gives their number.
    ///
    /// # Errors
    /// They could not be read whole, or the kernel refuses one.
    pub fn unbind_other_way(&mut self) -> anyhow::Result<usize> {
        let other = match self.setup.binding {
            Binding::Address => Binding::Route {
                source_v4: None,
                source_v6: None,
            },
            Binding::Route { .. } => Binding::Address,
        };
        let vips = self.binder.bound_in(other).context("read bound VIPs")?;
        let vips: Vec<_> = vips.into_iter().collect();
        let refused = self.binder.unbind_in(other, &vips)?;
        match refused.into_iter().next() {
            Some((_, error)) => Err(error).context("unbind VIPs that are bound the other way"),
            None => Ok(vips.len()),
        }
    }

    fn serves(&self, family: Family) -> bool {
        let family = convert::table_family(family);
        self.setup
            .tables
            .iter()
            .any(|config| config.family == family)
    }
}

/// The error with what to do about it, where that is known.
pub fn with_hint(error: ipvs::Error) -> anyhow::Error {
    match error.hint() {
        Some(hint) => anyhow::anyhow!("{error}; {hint}"),
        None => error.into(),
    }
}

impl Dataplane for Linux {
    fn tell(&mut self, progress: Progress) {
        self.progress = progress;
    }

    fn observe(&mut self) -> anyhow::Result<Observed> {
        observe::all(self)
    }

    fn compare_virtual_servers(
        &mut self,
        known: &BTreeMap<VirtualServerKey, Arc<VirtualServer>>,
    ) -> anyhow::Result<Compared> {
        observe::compare_virtual_servers(self, known)
    }

    fn virtual_server(
        &mut self,
        server: &VirtualServerKey,
    ) -> anyhow::Result<Option<VirtualServer>> {
        observe::virtual_server(self, server)
    }

    fn real_servers(
        &mut self,
        server: &VirtualServerKey,
    ) -> anyhow::Result<Option<BTreeMap<RealServerKey, RealServer>>> {
        observe::real_servers(self, server)
    }

    fn vips(&mut self) -> anyhow::Result<BTreeSet<IpAddr>> {
        observe::vips(self)
    }

    fn tables(&mut self) -> anyhow::Result<Rows> {
        observe::tables(self)
    }

    fn tables_changed(&mut self) -> bool {
        self.nft.tables_changed()
    }

    fn signs_of_others(&mut self) -> anyhow::Result<BTreeSet<String>> {
        crate::kube_proxy::signs(&mut self.nft)
    }

    fn prepare(&mut self, observed: &Observed) -> anyhow::Result<Prepared> {
        let report = sysctl::ensure(&self.setup.sysctl_root, &self.setup.sysctls);
        if let Some(failed) = report.failed.first() {
            anyhow::bail!("{failed}");
        }
        for change in &report.changed {
            tracing::info!(path = %change.path, from = %change.old, to = %change.new, reason = %change.reason, "sysctl set");
        }
        let timeouts = self.set_timeouts()?;
        let ensured = self.binder.ensure_link().context("prepare the VIP link")?;
        if ensured != kube_ipvs_vip::Ensured::Unchanged {
            tracing::info!(link = self.binder.link_name(), ?ensured, "link prepared");
        }
        for table in &mut self.tables {
            table.prepare(&mut self.nft, &observed.state.table)?;
        }
        // After our tables: what they mark is what the rule lets pass.
        if self.nft.chains_changed() {
            let accept = self.setup.tables.iter().find_map(|table| table.accept_bit);
            let before = self.nft.now();
            self.foreign.look(&mut self.nft, accept);
            self.nft.chains_read(before);
        }
        Ok(Prepared {
            sysctls: report.changed,
            timeouts,
        })
    }

    fn apply(&mut self, plan: &Plan) -> ApplyReport {
        apply::plan(self, plan)
    }

    fn forget_flows(
        &mut self,
        fronts: &BTreeMap<Front, BTreeSet<RealServerKey>>,
    ) -> anyhow::Result<usize> {
        let deleted = self
            .conntrack
            .delete_stale(fronts)
            .context("delete stale connection tracking entries")?;
        tracing::debug!(?deleted, "stale flows forgotten");
        Ok(deleted.count)
    }

    fn loads(
        &mut self,
        server: &VirtualServerKey,
    ) -> anyhow::Result<BTreeMap<RealServerKey, Load>> {
        observe::loads(self, server)
    }

    fn host_addresses(&mut self) -> anyhow::Result<Vec<HostAddress>> {
        let addresses = self
            .binder
            .host_addresses()
            .context("read this host's addresses")?;
        let usable = addresses.into_iter().filter(|address| !address.tentative);
        Ok(usable
            .map(|address| HostAddress {
                address: address.address,
                prefix: address.prefix,
                link: address.link,
            })
            .collect())
    }

    fn listeners(
        &mut self,
        ports: &BTreeSet<(Protocol, u16)>,
    ) -> anyhow::Result<BTreeSet<Listener>> {
        super::listeners::listeners(ports)
    }

    fn lacks_scheduler(&mut self, name: &str) -> anyhow::Result<bool> {
        let has = self.client.has_scheduler(&name.to_owned().into());
        let has = has
            .map_err(with_hint)
            .with_context(|| format!("ask for scheduler {name}"))?;
        Ok(has == Some(false))
    }

    fn gateways(&mut self) -> anyhow::Result<BTreeSet<IpAddr>> {
        self.binder
            .default_gateways()
            .context("read default gateways")
    }
}

impl Linux {
    fn set_timeouts(&mut self) -> anyhow::Result<Option<ChangedTimeouts>> {
        set_timeouts(&mut self.client, self.setup.timeouts)
    }
}

/// Sets IPVS time-outs; a 0 keeps that one. Says what they were, when they changed.
///
/// # Errors
/// They cannot be read or set.
pub fn set_timeouts(
    client: &mut ipvs::Client,
    wanted: ipvs::Timeouts,
) -> anyhow::Result<Option<ChangedTimeouts>> {
    let now = client.timeouts().context("read IPVS time-outs")?;
    let keep = |wanted: u32, now: u32| if wanted == 0 { now } else { wanted };
    let target = ipvs::Timeouts {
        tcp: keep(wanted.tcp, now.tcp),
        tcp_fin: keep(wanted.tcp_fin, now.tcp_fin),
        udp: keep(wanted.udp, now.udp),
    };
    if target == now {
        return Ok(None);
    }
    client.set_timeouts(&target).context("set IPVS time-outs")?;
    tracing::info!(from = ?now, to = ?target, "IPVS time-outs set");
    let seconds = |timeouts: ipvs::Timeouts| [timeouts.tcp, timeouts.tcp_fin, timeouts.udp];
    Ok(Some(ChangedTimeouts {
        old: seconds(now),
        new: seconds(target),
    }))
}
