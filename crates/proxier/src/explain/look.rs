//! Reads what `explain` judges.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Context;
use kube_ipvs_core::state::Family;
use kube_ipvs_dataplane::Dataplane;
use kube_ipvs_dataplane::linux::{Linux, Setup};
use kube_ipvs_dataplane::lock::StateLock;
use kube_ipvs_dataplane::record::RecordFile;
use kube_ipvs_dataplane::sysctl::{Options, Sysctls};
use kube_ipvs_nft::{ForeignChain, Nft, SomeDropped, SomeRedirected};
use kube_ipvs_vip::{Binder, Binding};

use super::seen::Seen;
use crate::adopt::LEGACY;
use crate::tool::NodeArgs;

/// What the layers hold now.
pub(crate) fn look(at: &NodeArgs) -> anyhow::Result<Seen> {
    let NodeArgs { link, state_dir } = at;
    let families = [kube_ipvs_nft::Family::Ip, kube_ipvs_nft::Family::Ip6];
    let mut linux = Linux::open(Setup {
        link: link.clone(),
        binding: Binding::Address,
        tables: families.map(kube_ipvs_nft::Config::new).to_vec(),
        sysctls: Vec::new(),
        sysctl_root: "/proc/sys".into(),
        timeouts: ipvs_netlink::Timeouts::default(),
    })?;
    let record = RecordFile::open(state_dir)?;
    let mut observed = linux.observe()?;
    observed.complete(&mut linux, record.record().virtual_servers.keys())?;
    let host = linux.host_addresses()?;
    let mut unjudged = legacy();
    let chains = chains().unwrap_or_else(|error| {
        unjudged.push(format!("chains of others: {error:#}"));
        Chains::default()
    });
    let Chains {
        dropping,
        some,
        redirecting,
        accept_bits,
    } = chains;
    unjudged.extend(
        some.iter()
            .map(|chain| format!("whether Service traffic is among what it drops: {chain}")),
    );
    Ok(Seen {
        state: observed.state,
        connections: observed.connections,
        routed: routed(link)?,
        host: host.iter().map(|host| host.address).collect(),
        links: host.into_iter().map(|h| (h.address, h.link)).collect(),
        recorded: record.record().virtual_servers.clone(),
        chains: dropping,
        redirecting,
        accept_bits,
        sysctls: sysctls(),
        runs: StateLock::is_held(state_dir)?,
        unjudged,
        unread: Vec::new(),
    })
}

/// VIPs that are bound by a route.
fn routed(link: &str) -> anyhow::Result<BTreeSet<IpAddr>> {
    let by_route = Binding::Route {
        source_v4: None,
        source_v6: None,
    };
    let mut binder = Binder::new(link, by_route).context("open the VIP binder")?;
    binder.bound_in(by_route).context("read routes to VIPs")
}

/// What nf_tables holds of others, and the bits with which our tables mark what
/// they serve.
#[derive(Default)]
struct Chains {
    /// Those that drop what they do not know.
    dropping: Vec<ForeignChain>,
    /// Those that drop some.
    some: Vec<SomeDropped>,
    /// Those that send some elsewhere.
    redirecting: Vec<SomeRedirected>,
    accept_bits: BTreeMap<Family, u8>,
}

fn chains() -> anyhow::Result<Chains> {
    let mut nft = Nft::open()?;
    let (dropping, some) = nft.foreign_drops_and_some()?;
    let redirecting = nft.foreign_redirects()?;
    let mut accept_bits = BTreeMap::new();
    let families = [
        (Family::V4, kube_ipvs_nft::Family::Ip),
        (Family::V6, kube_ipvs_nft::Family::Ip6),
    ];
    for (family, of) in families {
        accept_bits.extend(nft.accept_bit(of)?.map(|bit| (family, bit)));
    }
    Ok(Chains {
        dropping,
        some,
        redirecting,
        accept_bits,
    })
}

/// Those that we would set, as they are.
fn sysctls() -> BTreeMap<&'static str, String> {
    let wanted = Sysctls::wanted(Options {
        ipv6: true,
        ..Options::default()
    });
    let value = |path: &str| std::fs::read_to_string(format!("/proc/sys/{path}")).ok();
    let read = wanted.iter().filter_map(|wanted| {
        let value = value(wanted.path)?;
        Some((wanted.path, value.trim().to_owned()))
    });
    read.collect()
}

/// Filter tables of iptables-legacy: nobody can look into them by nf_tables.
fn legacy() -> Vec<String> {
    let used = LEGACY.iter().filter(|(_, names)| {
        let tables = std::fs::read_to_string(names).unwrap_or_default();
        tables.lines().any(|table| table == "filter")
    });
    used.map(|(program, _)| format!("the filter table of {program}-legacy: {program}-legacy -S"))
        .collect()
}
