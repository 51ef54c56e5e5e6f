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
mod local_ports;
mod nft;
mod proxies;
mod scratch;
mod sizes;
mod sysctl;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::config::NodePortVirtualServers;
use crate::streams;
pub use finding::{Finding, Verdict};
use finding::{json, table};
use host::Host;
pub use watch::{Seen, Watch};

/// Flags of `kube-ipvs check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
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
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

impl Default for CheckArgs {
    fn default() -> Self {
        Self {
            ipvs_scheduler: "rr".into(),
            state_dir: "/run/kube-ipvs".into(),
            adopt_kube_proxy: false,
            nodeport_virtual_servers: NodePortVirtualServers::default(),
            output: Output::Table,
        }
    }
}

/// Form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A line for each finding, and one for its remedy
    Table,
    /// For programs
    Json,
}

/// Runs all checks and prints them; exit code 1 when one failed.
///
/// # Errors
/// They cannot be written.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let findings = preflight(args);
    match args.output {
        Output::Table => streams::print(table(&findings))?,
        Output::Json => streams::print_json_text(json(&findings))?,
    }
    let failed = |finding: &Finding| finding.verdict == Verdict::Fail;
    Ok(if findings.iter().any(failed) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// All checks of this node, in the network namespace of this thread. Blocks: a
/// daemon runs it on a thread of its own, which inherits the namespace.
pub fn preflight(args: &CheckArgs) -> Vec<Finding> {
    let host = Host::this();
    let scheduler = &args.ipvs_scheduler;
    let mut findings = vec![kernel::check(&host), capabilities::check(&host)];
    // Asking for IPVS loads it, and with it its sysctls.
    let ipvs = ipvs::probe(scheduler);
    findings.extend(ipvs.findings(scheduler));
    findings.extend(sysctl::check(&host));
    findings.push(nft::check());
    findings.extend(proxies::check(&host, args));
    findings.extend(foreign::check(&host));
    findings.extend(sizes::check(&host, ipvs.conn_tab_size));
    findings.push(bridge::check(&host));
    if args.nodeport_virtual_servers != NodePortVirtualServers::Mark {
        findings.push(local_ports::check(&host));
    }
    findings
}

/// Says in the log what is not as it should be.
pub fn log(findings: &[Finding]) {
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
