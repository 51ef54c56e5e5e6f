//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kube_ipvs_core::options::SCHEDULERS;
use kube_ipvs_core::state::Family;
use kube_ipvs_core::{Cluster, Options};
use kube_ipvs_vip::Binding;

use crate::dataplane::linux::Setup;
use crate::dataplane::sysctl::{self, Sysctls};
use crate::run::{self, LogFormat, Program, Source};
use crate::source::manifests::Manifests;
use crate::sync::driver::Times;

/// The IPVS Service proxy for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "kube-ipvs", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy on this node.
    Run(RunArgs),
    /// Show what a sync would change now: exit code 0 nothing, 2 something.
    Plan(PlanArgs),
    /// Compile manifests to the desired state; no kernel needed.
    Compile(CompileArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    common: Common,
    /// Sync once from --manifests and end.
    #[arg(long, requires = "manifests")]
    once: bool,
    /// Address and port of /healthz, /livez and /readyz.
    #[arg(long, default_value = "0.0.0.0:10256", value_name = "ADDRESS:PORT")]
    healthz_bind_address: SocketAddr,
    /// Address and port of /metrics.
    #[arg(long, default_value = "127.0.0.1:10249", value_name = "ADDRESS:PORT")]
    metrics_bind_address: SocketAddr,
}

#[derive(Debug, Args)]
struct PlanArgs {
    #[command(flatten)]
    common: Common,
    /// Text, or JSON for programs.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct CompileArgs {
    #[command(flatten)]
    common: Common,
    /// Text, or JSON for programs.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Args)]
struct Common {
    /// Directory, file, or - with Services, EndpointSlices, Nodes and ServiceCIDRs.
    #[arg(long, value_name = "PATH")]
    manifests: Option<PathBuf>,
    /// Name of this node.
    #[arg(long, value_name = "NAME", default_value = "")]
    hostname_override: String,
    /// Addresses of this node, instead of the host's own.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    node_addresses: Vec<IpAddr>,
    /// Scheduler of Services that name none.
    #[arg(long, default_value = "rr", value_parser = scheduler)]
    ipvs_scheduler: String,
    /// How VIPs are bound to kube-ipvs0.
    #[arg(long, value_enum, default_value_t = VipBinding::Address)]
    vip_binding: VipBinding,
    /// Where the ownership record is kept.
    #[arg(long, value_name = "DIR", default_value = "/run/kube-ipvs")]
    state_dir: PathBuf,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Human)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum VipBinding {
    Address,
    Route,
}

fn scheduler(name: &str) -> Result<String, String> {
    if SCHEDULERS.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(format!("known schedulers are {}", SCHEDULERS.join(", ")))
}

/// Runs a command. Errors come out on standard error with exit code 1.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => {
            run::start_logging(args.common.log_format, "info");
            start(&args)
        }
        Command::Plan(args) => {
            run::start_logging(args.common.log_format, "warn");
            program(&args.common)
                .and_then(|program| run::plan(&program, args.output == Output::Json))
        }
        Command::Compile(args) => {
            run::start_logging(args.common.log_format, "warn");
            compile(&args)
        }
    };
    result.unwrap_or_else(|error: anyhow::Error| {
        eprintln!("kube-ipvs: {error:#}");
        ExitCode::FAILURE
    })
}

fn start(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let mut program = program(&args.common)?;
    if args.once {
        return run::once(&program);
    }
    program.healthz = Some(args.healthz_bind_address);
    program.metrics = Some(args.metrics_bind_address);
    run::run(program)
}

fn program(args: &Common) -> anyhow::Result<Program> {
    let Some(path) = &args.manifests else {
        anyhow::bail!("--manifests is needed")
    };
    let families = vec![Family::V4, Family::V6];
    Ok(Program {
        source: Source::Manifests(path.clone()),
        options: options(args),
        setup: Setup {
            link: "kube-ipvs0".to_owned(),
            binding: match args.vip_binding {
                VipBinding::Address => Binding::Address,
                VipBinding::Route => Binding::Route {
                    source_v4: None,
                    source_v6: None,
                },
            },
            tables: [kube_ipvs_nft::Family::Ip, kube_ipvs_nft::Family::Ip6]
                .map(kube_ipvs_nft::Config::new)
                .into(),
            sysctls: Sysctls::wanted(sysctl::Options {
                ipv6: families.contains(&Family::V6),
                strict_arp: false,
            }),
            sysctl_root: "/proc/sys".into(),
            timeouts: ipvs_netlink::Timeouts {
                tcp: 7800,
                tcp_fin: 0,
                udp: 0,
            },
        },
        times: Times {
            min_sync_period: Duration::from_secs(1),
            sync_period: Duration::from_secs(30),
        },
        drain_timeout: Duration::from_secs(900),
        state_dir: args.state_dir.clone(),
        healthz: None,
        metrics: None,
        bind_hard_fail: false,
        configuration: serde_json::Value::Null,
        events: false,
    })
}

fn options(args: &Common) -> Options {
    Options {
        node_name: args.hostname_override.clone(),
        node_addresses: args.node_addresses.clone(),
        scheduler: args.ipvs_scheduler.clone(),
        ..Options::default()
    }
}

fn compile(args: &CompileArgs) -> anyhow::Result<ExitCode> {
    let Some(path) = &args.common.manifests else {
        anyhow::bail!("--manifests is needed")
    };
    let reading = Manifests::at(path).read()?;
    for problem in &reading.problems {
        tracing::warn!("{problem}");
    }
    let mut cluster = Cluster::new(options(&args.common));
    reading
        .events
        .into_iter()
        .for_each(|event| cluster.apply(event));
    cluster.compile();
    let output = kube_ipvs_core::output::Output::of(&cluster);
    match args.output {
        Output::Text => print!("{output}"),
        Output::Json => println!("{}", serde_json::to_string_pretty(&output)?),
    }
    Ok(ExitCode::SUCCESS)
}
