//! The arguments, as ipvsadm has them, and ours.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use ipvs_netlink::{Family, Protocol, ServiceId};

use super::render::{Form, ListOptions};

/// Flags of `kube-ipvs inspect`.
#[derive(Debug, Clone, Default, Args)]
pub struct InspectArgs {
    /// List virtual servers: what is done without it too
    #[arg(short = 'L', long, short_alias = 'l')]
    pub list: bool,
    /// Print rules that ipvsadm -R reads
    #[arg(short = 'S', long, conflicts_with_all = ["list", "connection", "timeout", "daemon"])]
    pub save: bool,
    /// Numbers instead of port names; addresses are always numbers
    #[arg(short, long)]
    pub numeric: bool,
    /// Connections instead of virtual servers
    #[arg(short, long, conflicts_with_all = ["timeout", "daemon"])]
    pub connection: bool,
    /// Connections, packets and bytes
    #[arg(long)]
    pub stats: bool,
    /// The same a second
    #[arg(long)]
    pub rate: bool,
    /// Upper and lower thresholds of real servers
    #[arg(long)]
    pub thresholds: bool,
    /// Persistent connections of real servers
    #[arg(long)]
    pub persistent_conn: bool,
    /// Tunnels of real servers
    #[arg(long)]
    pub tun_info: bool,
    /// Whole numbers instead of 123K
    #[arg(short = 'X', long)]
    pub exact: bool,
    /// In the kernel's order
    #[arg(long)]
    pub nosort: bool,
    /// Sorted, which is the default
    #[arg(long)]
    pub sort: bool,
    /// Time-outs of connections
    #[arg(long, conflicts_with = "daemon")]
    pub timeout: bool,
    /// Sync daemons
    #[arg(long)]
    pub daemon: bool,
    /// One TCP virtual server, ADDRESS:PORT
    #[arg(short, long, value_name = "FRONT", group = "one")]
    pub tcp_service: Option<String>,
    /// One UDP virtual server, ADDRESS:PORT
    #[arg(short, long, value_name = "FRONT", group = "one")]
    pub udp_service: Option<String>,
    /// One SCTP virtual server, ADDRESS:PORT
    #[arg(long, value_name = "FRONT", group = "one")]
    pub sctp_service: Option<String>,
    /// One virtual server by firewall mark
    #[arg(short, long, value_name = "MARK", group = "one", value_parser = clap::value_parser!(u32).range(1..))]
    pub fwmark_service: Option<u32>,
    /// The mark is for IPv6
    #[arg(short = '6', long, requires = "fwmark_service")]
    pub ipv6: bool,
    /// For programs, or with the names of Services
    #[arg(short, long, value_enum)]
    pub output: Option<Output>,
    /// Where the ownership record, with the names of Services, is kept
    #[arg(long, value_name = "DIR", default_value = "/run/kube-ipvs")]
    pub state_dir: PathBuf,
}

/// Forms that ipvsadm does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Everything, as JSON
    Json,
    /// Everything, as YAML
    Yaml,
    /// The listing with the names of Services
    Wide,
}

impl InspectArgs {
    /// How many of the options that choose columns are given.
    pub(super) fn form_flags(&self) -> usize {
        [self.stats, self.rate, self.thresholds]
            .into_iter()
            .filter(|given| *given)
            .count()
    }

    /// What the listing should look like; the first option in ipvsadm's order
    /// wins.
    pub(super) fn options(&self) -> ListOptions {
        let form = match self {
            _ if self.save => Form::Rules,
            _ if self.stats => Form::Stats,
            _ if self.rate => Form::Rate,
            _ if self.thresholds => Form::Thresholds,
            _ if self.persistent_conn => Form::Persistent,
            _ if self.tun_info => Form::Tunnels,
            _ => Form::Default,
        };
        let one = self.service().ok().flatten().is_some();
        ListOptions {
            form,
            exact: self.exact,
            sort: !self.nosort,
            heading: !one,
        }
    }

    /// The one virtual server that is asked for, if one is.
    pub(super) fn service(&self) -> anyhow::Result<Option<ServiceId>> {
        let front = |text: &Option<String>, protocol| -> anyhow::Result<Option<ServiceId>> {
            let Some(text) = text else { return Ok(None) };
            let (address, port) = address_and_port(text)?;
            Ok(Some(ServiceId::address(address, port, protocol)))
        };
        if let Some(mark) = self.fwmark_service {
            let family = if self.ipv6 { Family::V6 } else { Family::V4 };
            return Ok(Some(ServiceId::fwmark(mark, family)));
        }
        let tcp = front(&self.tcp_service, Protocol::Tcp)?;
        let udp = front(&self.udp_service, Protocol::Udp)?;
        let sctp = front(&self.sctp_service, Protocol::Sctp)?;
        Ok(tcp.or(udp).or(sctp))
    }
}

/// `10.96.0.1:80`, `[fd00::1]:80`, or an address alone with port 0.
fn address_and_port(text: &str) -> anyhow::Result<(IpAddr, u16)> {
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Ok((socket.ip(), socket.port()));
    }
    if text.starts_with('[') {
        bail!("{text:?} is not [ADDRESS]:PORT");
    }
    let address = text
        .parse()
        .with_context(|| format!("{text:?} is not ADDRESS:PORT"))?;
    Ok((address, 0))
}
