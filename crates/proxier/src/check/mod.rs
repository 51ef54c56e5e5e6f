//! `kube-ipvs check`: what stands in the way on this node, and what to do.
//!
//! Each part looks at one thing and says findings; what it judges is pure, so
//! that tests can make the node up. Kernel features are tried, not looked up by
//! module name: a built-in feature has no module, and a module that is there may
//! be forbidden. Nothing on the node is changed, except that the kernel loads
//! the modules it is asked for.

mod bridge;
mod capabilities;
mod finding;
mod foreign;
mod host;
mod ipvs;
mod kernel;
mod legacy;
mod local_ports;
mod neighbours;
mod nft;
mod policies;
mod ports;
mod proxies;
mod scratch;
mod sizes;
mod sysctl;
mod watch;
mod watching;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::config::NodePortVirtualServers;
use crate::streams;
use finding::{Answer, table};
pub(crate) use finding::{Finding, Verdict};
use host::Host;
use kube_ipvs_dataplane::lock::StateLock;
use kube_ipvs_nft::Nft;
pub(crate) use watch::Watch;

const EXAMPLES: &str = "\
Examples:
  kube-ipvs check                              before the first start, and on a node that runs
  kube-ipvs check --adopt-kube-proxy           before it takes a node over from kube-proxy
  kube-ipvs check --watch                      on a canary node: says when a verdict changes
  kube-ipvs check -o json                      for programs

Exit code: 0; 1 a check failed, and its line says what to do; 64 a wrong command line.";

/// Flags of `kube-ipvs check`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// Scheduler of Services that name none: without it nothing works
    #[arg(long, value_name = "NAME", default_value = "rr")]
    pub ipvs_scheduler: String,
    /// Where the ownership record is kept: what it names is ours and no remains of kube-proxy
    #[arg(long, value_name = "DIR", default_value = "/run/kube-ipvs")]
    pub state_dir: PathBuf,
    /// The proxy will take over what kube-proxy left: its remains are as they should be
    #[arg(long)]
    pub adopt_kube_proxy: bool,
    /// What a NodePort is in IPVS; where it is a mark, local ports may have its number
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    pub nodeport_virtual_servers: NodePortVirtualServers,
    /// Look again every ten seconds, later where that would take over a twentieth of a processor, and
    /// say everything again when a verdict changes, until SIGTERM or SIGINT: a table below a line that
    /// begins with #, JSON one document a line. The exit code is that of the last look
    #[arg(short, long)]
    pub watch: bool,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Programs may be started, to look into what only they can read
    #[arg(skip = true)]
    pub by_hand: bool,
}

impl Default for CheckArgs {
    fn default() -> Self {
        Self {
            ipvs_scheduler: "rr".into(),
            state_dir: "/run/kube-ipvs".into(),
            adopt_kube_proxy: false,
            nodeport_virtual_servers: NodePortVirtualServers::default(),
            watch: false,
            output: Output::Table,
            by_hand: false,
        }
    }
}

/// Form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// A line for each finding, and one for its remedy
    Table,
    /// For programs
    Json,
}

/// Runs all checks and prints them; exit code 1 when one failed.
///
/// # Errors
/// They cannot be written.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    if args.watch {
        return watching::run(args);
    }
    let findings = preflight(args);
    match args.output {
        Output::Table => streams::print(table(&findings))?,
        Output::Json => streams::print_json(&Answer::of(&findings))?,
    }
    Ok(code_of(&findings))
}

fn code_of(findings: &[Finding]) -> ExitCode {
    let failed = |finding: &Finding| finding.verdict == Verdict::Fail;
    ExitCode::from(u8::from(findings.iter().any(failed)))
}

/// All checks of this node, in the network namespace of this thread. Blocks: a
/// daemon runs it on a thread of its own, which inherits the namespace.
pub(crate) fn preflight(args: &CheckArgs) -> Vec<Finding> {
    look(args, &Tried::new(args))
}

/// What is tried rather than looked at: once is enough, since kernels do not change.
struct Tried {
    ipvs: ipvs::Probe,
    nft: Finding,
    ourselves: proxies::Ourselves,
}

impl Tried {
    fn new(args: &CheckArgs) -> Self {
        Self {
            // Asking for IPVS loads it, and with it its sysctls.
            ipvs: ipvs::probe(&args.ipvs_scheduler),
            nft: nft::check(),
            ourselves: proxies::Ourselves::default(),
        }
    }
}

fn look(args: &CheckArgs, tried: &Tried) -> Vec<Finding> {
    let host = Host::this();
    // Who may not see the lock may not see much else, and is told so.
    let runs = StateLock::is_held(&args.state_dir).unwrap_or_default();
    let mut findings = vec![kernel::check(&host), capabilities::check(&host)];
    findings.extend(tried.ipvs.findings(&args.ipvs_scheduler));
    findings.extend(sysctl::check(&host, runs));
    findings.push(tried.nft.clone());
    // Read once, for all who judge by them; iptables-nft may have many.
    let chains = Nft::open().and_then(|mut nft| nft.chains());
    let chains = chains.unwrap_or_default();
    let drops = Nft::open().and_then(|mut nft| nft.foreign_drops());
    findings.extend(proxies::check(&host, args, &chains, runs, &tried.ourselves));
    findings.extend(neighbours::check(&host));
    findings.extend(foreign::check(&drops));
    // What cannot be read is told by the finding on firewalls.
    findings.extend(
        drops
            .ok()
            .and_then(|drops| policies::check(&chains, &drops)),
    );
    findings.extend(legacy::check(&host, args.by_hand));
    findings.push(ports::check(&host));
    let rows = tried.ipvs.conn_tab_size;
    let ipvs = rows.and_then(|rows| Some((ipvs::connections()?, rows)));
    findings.extend(sizes::check(&host, ipvs));
    findings.push(bridge::check(&host));
    if args.nodeport_virtual_servers != NodePortVirtualServers::Mark {
        findings.push(local_ports::check(&host));
    }
    findings
}

/// Says in the log what is not as it should be.
pub(crate) fn log(findings: &[Finding]) {
    for finding in findings {
        let Finding {
            name,
            verdict,
            detail,
            remedy,
        } = finding;
        match verdict {
            Verdict::Ok => tracing::debug!(check = name, "{detail}"),
            Verdict::Warn => tracing::warn!(check = name, remedy, "{detail}"),
            Verdict::Fail => tracing::error!(check = name, remedy, "{detail}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the machine that runs the tests, whatever it is.
    #[test]
    fn whatever_is_not_well_comes_with_a_remedy() {
        let findings = preflight(&CheckArgs::default());

        println!("{}", table(&findings));
        assert!(findings.len() >= 6, "{findings:#?}");
        for finding in findings {
            assert!(!finding.detail.is_empty(), "{finding:?}");
            assert_eq!(
                finding.verdict == Verdict::Ok,
                finding.remedy.is_empty(),
                "{finding:?}"
            );
        }
    }
}
