//! The arguments, as ipvsadm has them, and ours.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ipvs_netlink::{Family, Protocol, ServiceId};

use super::form::{Form, ListOptions};
use super::names::Names;
use super::rules;
use crate::pods::PodArgs;
use crate::usage::Usage;

const COMMANDS: &str = "Commands";

const EXAMPLES: &str = "\
Examples:
  kube-ipvs inspect -Ln                        as ipvsadm -Ln
  kube-ipvs inspect -o wide                    with the names of Services
  kube-ipvs inspect -o json --pods             and of pods, which the API server is asked for
  kube-ipvs inspect -Ln -t 10.96.0.10:53 --stats
  kube-ipvs inspect -Lnc -o json               connections, for programs
  kube-ipvs inspect -Sn > table                and back: kube-ipvs inspect -R < table

Exit code: 0; 1 there is no such virtual server, or a rule was refused; 2 no IPVS, or no
permission (root, or CAP_NET_ADMIN); 64 a wrong command line.";

/// Flags of `kube-ipvs inspect`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = EXAMPLES)]
pub struct InspectArgs {
    /// List virtual servers: what is done without it too
    #[arg(short = 'L', long, short_alias = 'l', help_heading = COMMANDS)]
    pub list: bool,
    /// Print rules that --restore and ipvsadm -R read
    #[arg(short = 'S', long, help_heading = COMMANDS, conflicts_with_all = [
        "list", "connection", "stats", "rate", "thresholds", "persistent_conn", "tun_info",
        "exact", "nosort", "timeout", "daemon", "one", "output",
    ])]
    pub save: bool,
    /// Carry out rules from standard input, as --save and ipvsadm -S print them: all are read
    /// before the first is carried out
    #[arg(short = 'R', long, help_heading = COMMANDS, conflicts_with_all = [
        "list", "save", "numeric", "connection", "stats", "rate", "thresholds",
        "persistent_conn", "tun_info", "exact", "nosort", "timeout", "daemon", "one", "output",
    ])]
    pub restore: bool,
    /// Set the counters of one virtual server, or of all, to zero
    #[arg(short = 'Z', long, help_heading = COMMANDS, conflicts_with_all = [
        "list", "save", "restore", "numeric", "connection", "stats", "rate", "thresholds",
        "persistent_conn", "tun_info", "exact", "nosort", "timeout", "daemon", "output",
    ])]
    pub zero: bool,
    /// Restore rules for virtual servers of the daemon too; it puts them right again
    #[arg(long, requires = "restore", help_heading = COMMANDS)]
    pub force: bool,
    /// Numbers instead of the names of ports and hosts
    #[arg(short, long)]
    pub numeric: bool,
    /// Connections instead of virtual servers
    #[arg(short, long, conflicts_with_all = ["timeout", "daemon", "stats", "rate", "thresholds", "one"])]
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
    #[arg(long, conflicts_with_all = ["daemon", "stats", "rate", "thresholds", "persistent_conn", "one"])]
    pub timeout: bool,
    /// Sync daemons
    #[arg(long, conflicts_with_all = ["stats", "rate", "thresholds", "persistent_conn", "one"])]
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
    /// Names of pods in these forms
    #[command(flatten)]
    pub pods: PodArgs,
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
    /// The flags that these words are, as a command line without the command.
    ///
    /// # Errors
    /// Words that make no sense.
    pub fn of<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, clap::Error> {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            args: InspectArgs,
        }
        let words = std::iter::once("inspect").chain(words);
        <Alone as clap::Parser>::try_parse_from(words).map(|alone| alone.args)
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
        let one = [&self.tcp_service, &self.udp_service, &self.sctp_service];
        let one = one.iter().any(|given| given.is_some()) || self.fwmark_service.is_some();
        ListOptions {
            form,
            exact: self.exact,
            sort: !self.nosort,
            heading: !one,
        }
    }

    /// The one virtual server that is asked for, if one is.
    ///
    /// # Errors
    /// [`Usage`] when a front is none.
    pub(super) fn service(&self, names: &Names) -> Result<Option<ServiceId>, Usage> {
        if let Some(mark) = self.fwmark_service {
            let family = if self.ipv6 { Family::V6 } else { Family::V4 };
            return Ok(Some(ServiceId::fwmark(mark, family)));
        }
        let given = [
            (&self.tcp_service, Protocol::Tcp),
            (&self.udp_service, Protocol::Udp),
            (&self.sctp_service, Protocol::Sctp),
        ];
        for (text, protocol) in given {
            if let Some(text) = text {
                let (address, port) =
                    rules::socket(text, Some(protocol), names).map_err(|e| Usage(e.to_string()))?;
                let id = ServiceId::address(address, port.unwrap_or(0), protocol);
                return Ok(Some(id));
            }
        }
        Ok(None)
    }
}
