//! `kube-ipvs explain`: who answers at a front, why, and what each layer holds
//! for it. Read from the kernel and the ownership record alone: it needs no API
//! server and no daemon, and changes nothing.

mod target;
mod verdict;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use kube_ipvs_vip::{Binder, Binding};

use crate::dataplane::Dataplane;
use crate::dataplane::linux::{Linux, Setup};
use crate::dataplane::record::RecordFile;
use crate::streams;
use target::Target;
pub use verdict::{Explanation, Seen, explain};

/// Flags of `kube-ipvs explain`.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// ADDRESS:PORT or ADDRESS:PORT/PROTOCOL of a VIP or node port; or a Service, as NAME, NAMESPACE/NAME or NAMESPACE/NAME:PORT
    #[arg(value_name = "FRONT|SERVICE")]
    pub target: Target,
    /// Link that carries the VIPs
    #[arg(long, value_name = "NAME", default_value = "kube-ipvs0")]
    pub link: String,
    /// Where the ownership record, with the names of Services, is kept
    #[arg(long, value_name = "DIR", default_value = "/run/kube-ipvs")]
    pub state_dir: PathBuf,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A few lines for each front
    Text,
    /// For programs
    Json,
}

/// Explains on standard output. Exit code 1 when nothing is known of the Service.
///
/// # Errors
/// The kernel, `nft` or the record cannot be read.
pub fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let seen = look(args)?;
    let fronts = args.target.fronts(&seen);
    anyhow::ensure!(
        !fronts.is_empty(),
        "no virtual server of {} is recorded in {}: it has none without endpoints, or is not served here; ask by ADDRESS:PORT",
        args.target,
        args.state_dir.display()
    );
    let all: Vec<Explanation> = fronts.iter().map(|front| explain(front, &seen)).collect();
    match args.output {
        Output::Text => all.iter().try_for_each(streams::print)?,
        Output::Json => streams::print_json(&all)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What the layers hold now.
fn look(args: &ExplainArgs) -> anyhow::Result<Seen> {
    let families = [kube_ipvs_nft::Family::Ip, kube_ipvs_nft::Family::Ip6];
    let mut linux = Linux::open(Setup {
        link: args.link.clone(),
        binding: Binding::Address,
        tables: families.map(kube_ipvs_nft::Config::new).to_vec(),
        sysctls: Vec::new(),
        sysctl_root: "/proc/sys".into(),
        timeouts: ipvs_netlink::Timeouts::default(),
    })?;
    let observed = linux.observe()?;
    let host = linux.host_addresses()?.into_iter();
    let record = RecordFile::open(&args.state_dir)?;
    Ok(Seen {
        state: observed.state,
        connections: observed.connections,
        routed: routed(&args.link)?,
        host: host.map(|address| address.address).collect(),
        recorded: record.record().virtual_servers.clone(),
    })
}

/// VIPs that are bound by a route.
fn routed(link: &str) -> anyhow::Result<BTreeSet<std::net::IpAddr>> {
    let by_route = Binding::Route {
        source_v4: None,
        source_v6: None,
    };
    let mut binder = Binder::new(link, by_route).context("open the VIP binder")?;
    binder.bound_in(by_route).context("read routes to VIPs")
}
