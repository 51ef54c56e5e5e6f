//! From settings to a program: what the flags leave open is read off this host.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use ipnet::IpNet;
use kube_ipvs_core::k8s::{Node, Object};
use kube_ipvs_core::state::Family;
use kube_ipvs_core::{Event, Options, read};
use kube_ipvs_dataplane::linux::Setup;
use kube_ipvs_dataplane::sysctl::{self, Sysctls};
use kube_ipvs_source::kube::KubeConfig;
use kube_ipvs_source::manifests::Manifests;
use kube_ipvs_vip::{Binder, Binding, HostAddress};

use super::{Program, Source};
use crate::adopt;
use crate::config::{self, Settings, VipBinding};
use crate::health::diagnostics::Pages;
use crate::initialise::Initialise;
use crate::sync::driver::Times;

/// Name of the link that carries VIPs: others know it by this name.
pub(crate) const LINK: &str = "kube-ipvs0";

/// The name of this node: as told, or the host's, in lower case.
///
/// # Errors
/// When the host has none.
pub(crate) fn node_name(settings: &Settings) -> anyhow::Result<String> {
    if let Some(name) = &settings.hostname {
        return Ok(name.clone());
    }
    let name =
        nix::unistd::gethostname().context("read this host's name; give --hostname-override")?;
    Ok(name.to_string_lossy().trim().to_lowercase())
}

/// What `compile` needs: options without a kernel.
///
/// # Errors
/// When the host has no name and none was given.
pub(crate) fn options(settings: &Settings, families: Vec<Family>) -> anyhow::Result<Options> {
    Ok(settings.options(node_name(settings)?, families))
}

/// Everything a run needs.
///
/// # Errors
/// When the host's addresses cannot be read, or what must be known of this
/// node is not.
pub(crate) fn program(settings: &Settings, node: Option<&Node>) -> anyhow::Result<Program> {
    let families = families(settings);
    let mut options = options(settings, families.clone())?;
    if let Some(node) = node
        && options.node_addresses.is_empty()
    {
        options.node_addresses = addresses_of(node);
    }
    let pod_cidrs = match node {
        Some(node) => pod_cidrs(node),
        None if settings.needs_node() => anyhow::bail!(
            "--detect-local-mode=NodeCIDR needs the Node object of {}, which is not known",
            options.node_name
        ),
        None => Vec::new(),
    };
    let binding = binding(settings, &options.node_addresses)?;
    Ok(Program {
        source: source(settings),
        setup: Setup {
            link: LINK.to_owned(),
            binding,
            tables: tables(settings, &families, &pod_cidrs),
            sysctls: sysctls(settings, &families),
            sysctl_root: "/proc/sys".into(),
            timeouts: timeouts(settings),
        },
        options,
        times: Times {
            min_sync_period: settings.min_sync_period,
            sync_period: settings.sync_period,
        },
        drain_timeout: settings.drain_timeout,
        real_server_passes: settings
            .real_server_sync_period
            .map(|period| passes(period, settings.sync_period)),
        state_dir: settings.state_dir.clone(),
        config_file: settings.config_file.clone(),
        healthz: settings.http.healthz,
        metrics: settings.http.metrics,
        bind_hard_fail: settings.http.hard_fail,
        pages: pages(settings)?,
        events: settings.events,
        conntrack: settings.host.conntrack,
        adopt: settings
            .adopt_kube_proxy
            .then(|| adopt::Terms::of_this_node(settings.exclude_cidrs.clone())),
    })
}

/// Passes of the audit that fit into a period.
fn passes(period: Duration, pass: Duration) -> u32 {
    let passes = period.as_millis() / pass.as_millis().max(1);
    u32::try_from(passes).unwrap_or(u32::MAX).max(1)
}

fn pages(settings: &Settings) -> anyhow::Result<Pages> {
    let configuration =
        serde_json::to_value(&settings.configuration).context("write the configuration as JSON")?;
    Ok(Pages {
        configuration,
        flags: settings.http.flagz.then(|| settings.flags.clone()),
        statusz: settings.http.statusz,
    })
}

/// What `--init-only` sets.
pub(crate) fn initialise(settings: &Settings) -> Initialise {
    Initialise {
        sysctl_root: "/proc/sys".into(),
        state_dir: settings.state_dir.clone(),
        sysctls: sysctls(settings, &families(settings)),
        conntrack: settings.host.conntrack,
        timeouts: timeouts(settings),
    }
}

fn timeouts(settings: &Settings) -> ipvs_netlink::Timeouts {
    ipvs_netlink::Timeouts {
        tcp: settings.host.ipvs_timeouts.tcp.unwrap_or(0),
        tcp_fin: settings.host.ipvs_timeouts.tcp_fin.unwrap_or(0),
        udp: settings.host.ipvs_timeouts.udp.unwrap_or(0),
    }
}

fn source(settings: &Settings) -> Source {
    match &settings.source {
        config::Source::Manifests(path) => Source::Manifests(path.clone()),
        config::Source::Kubernetes => Source::Kubernetes(KubeConfig {
            path: settings.client.kubeconfig.clone(),
            server: settings.client.master.clone(),
            more: settings.client.more.clone(),
            agent: config::user_agent(),
        }),
    }
}

/// Both families where the host has IPv6, the preferred one first.
pub(crate) fn families(settings: &Settings) -> Vec<Family> {
    let ipv6 = Path::new("/proc/net/if_inet6").exists()
        && std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6")
            .is_ok_and(|value| value.trim() != "1");
    match (ipv6, settings.bind_address) {
        (false, _) => vec![Family::V4],
        (true, IpAddr::V6(address)) if !address.is_unspecified() => vec![Family::V6, Family::V4],
        (true, _) => vec![Family::V4, Family::V6],
    }
}

fn tables(
    settings: &Settings,
    families: &[Family],
    pod_cidrs: &[IpNet],
) -> Vec<kube_ipvs_nft::Config> {
    let families = families.iter();
    families
        .map(|family| settings.table(*family, pod_cidrs))
        .collect()
}

fn sysctls(settings: &Settings, families: &[Family]) -> Vec<sysctl::Wanted> {
    Sysctls::wanted(sysctl::Options {
        ipv6: families.contains(&Family::V6),
        strict_arp: settings.host.strict_arp,
        run_estimation: settings.host.run_estimation,
    })
}

fn binding(settings: &Settings, node_addresses: &[IpAddr]) -> anyhow::Result<Binding> {
    if settings.vip_binding == VipBinding::Address {
        return Ok(Binding::Address);
    }
    let mut binder = Binder::new(LINK, Binding::Address).context("open rtnetlink")?;
    let host = binder
        .host_addresses()
        .context("read this host's addresses")?;
    Ok(Binding::Route {
        source_v4: source_hint(&host, node_addresses, |address| match address {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        }),
        source_v6: source_hint(&host, node_addresses, |address| match address {
            IpAddr::V6(v6) => Some(v6),
            IpAddr::V4(_) => None,
        }),
    })
}

/// The node's own address if this host has it, else the host's first global one.
fn source_hint<A>(
    host: &[HostAddress],
    node: &[IpAddr],
    of_family: impl Fn(IpAddr) -> Option<A>,
) -> Option<A> {
    let usable =
        |address: &&HostAddress| address.is_global() && !address.deprecated && !address.tentative;
    let own = host.iter().filter(usable).map(|address| address.address);
    let preferred = own.clone().filter(|address| node.contains(address));
    preferred.chain(own).find_map(of_family)
}

/// The addresses of a Node, internal ones first.
fn addresses_of(node: &Node) -> Vec<IpAddr> {
    let of_type = |wanted: &'static str| {
        let listed = node
            .status
            .addresses
            .iter()
            .filter(move |listed| listed.type_ == wanted);
        listed.filter_map(|listed| Some(read::address(&listed.address)?.value))
    };
    of_type("InternalIP").chain(of_type("ExternalIP")).collect()
}

fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    node.spec
        .pod_cidrs
        .iter()
        .filter_map(|cidr| Some(read::network(cidr)?.value))
        .collect()
}

/// This node among the manifests.
///
/// # Errors
/// When the manifests cannot be read at all.
pub(crate) fn node_in_manifests(path: &PathBuf, name: &str) -> anyhow::Result<Option<Node>> {
    if path == Path::new("-") {
        return Ok(None);
    }
    let reading = Manifests::at(path).read()?;
    Ok(reading.events.into_iter().find_map(|event| match event {
        Event::Upsert(Object::Node(node)) if node.metadata.name == name => Some(*node),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_nodes_internal_address_comes_first() {
        let node: Node = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "n"},
            "spec": {"podCIDRs": ["10.244.1.0/24", "nonsense"]},
            "status": {"addresses": [
                {"type": "Hostname", "address": "n"},
                {"type": "ExternalIP", "address": "203.0.113.1"},
                {"type": "InternalIP", "address": "192.168.0.1"},
            ]},
        }))
        .unwrap();
        let expected: [IpAddr; 2] = [
            Ipv4Addr::new(192, 168, 0, 1).into(),
            Ipv4Addr::new(203, 0, 113, 1).into(),
        ];
        assert_eq!(addresses_of(&node), expected);
        assert_eq!(
            pod_cidrs(&node),
            ["10.244.1.0/24".parse::<IpNet>().unwrap()]
        );
    }
}
