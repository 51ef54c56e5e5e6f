//! The command line: which command, and what its arguments become.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{self, Action, RunArgs, Settings};
use crate::run::{self, resolve};
use crate::tool::Output;
use crate::usage::Usage;
use crate::{
    check, cleanup, compile, explain, help, initialise, inspect, panics, plugin, status, streams,
    top, usage,
};

/// The IPVS Service proxy for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "kube-ipvs", version, about, max_term_width = 100)]
#[command(help_template = help::TEMPLATE, after_help = help::overview::<Command>())]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Flags by which tools that else look change something, and those that belong to them.
pub(crate) const CHANGING: [&str; 3] = ["restore", "zero", "force"];

/// Flags by which a tool goes on until it is ended.
pub(crate) const FOLLOWING: [&str; 1] = ["watch"];

impl Cli {
    /// The flag by which a tool goes on until it is ended, if it is given.
    pub(crate) fn follows(&self) -> Option<&'static str> {
        match &self.command {
            Command::Check(args) if args.watch => Some("--watch"),
            _ => None,
        }
    }

    /// The flag by which a tool that else looks changes something, if it is given.
    pub(crate) fn changes(&self) -> Option<&'static str> {
        match &self.command {
            Command::Inspect(args) if args.restore => Some("--restore"),
            Command::Inspect(args) if args.zero => Some("--zero"),
            _ => None,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy on this node
    #[command(mut_args(config::arranged), after_help = help::RUN)]
    Run(Box<RunArgs>),
    /// Show what a sync would change now
    #[command(after_help = help::PLAN)]
    Plan(Box<PlanArgs>),
    /// Compile manifests to the desired state; no kernel needed
    #[command(after_help = help::COMPILE)]
    Compile(Box<CompileArgs>),
    /// List virtual servers as ipvsadm does; save, restore, zero
    Inspect(Box<inspect::InspectArgs>),
    /// Say who answers at an address or for a Service, and why
    Explain(explain::ExplainArgs),
    /// Show who calls what: rates, connections, weights, live or once
    Top(top::TopArgs),
    /// One page about this node: what runs, what is wrong now and what to do
    Status(status::StatusArgs),
    /// Say whether this node can run the proxy, and what stands in the way
    Check(check::CheckArgs),
    /// Remove exactly what is ours from this node
    Cleanup(cleanup::CleanupArgs),
    /// Write a completion script for a shell
    #[command(after_help = help::COMPLETION)]
    Completion(CompletionArgs),
    /// Print the version, and what the build knows of itself
    #[command(after_help = help::VERSION)]
    Version(VersionArgs),
    /// Write man pages into a directory
    #[command(hide = true)]
    Man(ManArgs),
}

#[derive(Debug, Args)]
struct PlanArgs {
    #[command(flatten)]
    common: LookArgs,
    /// Show it again whenever it changes, until SIGTERM or SIGINT: text below a line that begins
    /// with #, JSON one document a line. The exit code is that of the last plan
    #[arg(short, long)]
    watch: bool,
}

/// Of commands that only look.
#[derive(Debug, Args)]
#[command(mut_args(without_actions))]
struct LookArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Text, or JSON for programs
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct CompileArgs {
    #[command(flatten)]
    common: LookArgs,
    /// Exit with 1 when anything is warned of, also a field or an annotation that nobody reads, or a
    /// key given twice: a check for CI. Warnings are those of manifests and Services, not of settings
    #[arg(long)]
    strict: bool,
}

/// A command that only looks does not offer what changes something, and what its answer
/// does not hang on in the long help only.
fn without_actions(arg: clap::Arg) -> clap::Arg {
    const ACTIONS: [&str; 5] = ["once", "init_only", "cleanup", "write_config_to", "version"];
    if ACTIONS.contains(&arg.get_id().as_str()) {
        return arg.hide(true);
    }
    config::arranged_to_look(arg)
}

#[derive(Debug, Args)]
struct CompletionArgs {
    /// bash, zsh, fish, elvish, powershell
    shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
struct VersionArgs {
    /// Text, or JSON for programs
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct ManArgs {
    /// An existing directory: kube-ipvs.1, and a page for each command
    directory: PathBuf,
}

/// Runs a command. Errors come out on standard error: exit code 1, or 64 for a
/// command line that makes no sense.
pub fn main() -> ExitCode {
    panics::exit_on_panic();
    let arguments: Vec<_> = std::env::args_os().collect();
    let result = if plugin::complete::is_called(&arguments) {
        // Words of a line that is still being written: nothing is wrong with any.
        plugin::complete::run(&arguments)
    } else {
        answer(arguments.into_iter().map(config::normalise).collect())
    };
    result.unwrap_or_else(|error: anyhow::Error| {
        streams::complain(format_args!("kube-ipvs: {error:#}"));
        code_of(&error)
    })
}

/// The plugin of kubectl or the program itself, by the name it was called with.
fn answer(arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    if plugin::is_called(&arguments) {
        match plugin::read(&arguments) {
            Ok(args) => plugin::run(&args),
            Err(answer) => no_command(&answer, &arguments),
        }
    } else {
        match Cli::try_parse_from(&arguments) {
            Ok(cli) => run(cli.command),
            Err(answer) => no_command(&answer, &arguments),
        }
    }
}

/// Help, the version, or what is wrong with the command line.
fn no_command(answer: &clap::Error, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    if let Some(why) = absent(answer, arguments) {
        return Err(Usage(why).into());
    }
    let printed = answer
        .print()
        .and_then(|()| std::io::stdout().lock().flush());
    if answer.use_stderr() {
        // Who cannot be told sees the code.
        return Ok(ExitCode::from(usage::EXIT_CODE));
    }
    streams::written(printed)?;
    Ok(ExitCode::SUCCESS)
}

/// Why `inspect` does not know an option of ipvsadm, if that is what is wrong.
fn absent(answer: &clap::Error, arguments: &[OsString]) -> Option<String> {
    let inspect = arguments.get(1).is_some_and(|command| command == "inspect");
    match answer.get(ContextKind::InvalidArg)? {
        ContextValue::String(option) if inspect && answer.kind() == ErrorKind::UnknownArgument => {
            inspect::why_absent(option)
        }
        _ => None,
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => start(&args),
        Command::Plan(args) => plan(&args),
        Command::Compile(args) => compile(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Cleanup(args) => cleanup::run(&args),
        Command::Completion(args) => completion(args.shell),
        Command::Version(args) => version(args.output),
        Command::Man(args) => man(&args),
    }
}

fn completion(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kube-ipvs", &mut script);
    // clap_complete takes the hyphen of the name for a subcommand in some places
    // of the script for bash and not in others, so that it knows no flag.
    let script = String::from_utf8_lossy(&script).replace("kube__subcmd__ipvs", "kube__ipvs");
    streams::print(script)?;
    Ok(ExitCode::SUCCESS)
}

fn version(output: Output) -> anyhow::Result<ExitCode> {
    if output == Output::Json {
        streams::print_json(&config::Build::here())?;
    } else {
        streams::print(format_args!("{}\n", config::version(true)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    clap_mangen::generate_to(Cli::command(), &args.directory)
        .with_context(|| format!("write man pages into {}", args.directory.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// That of a wrong command line where it is to blame, also for a value that
/// only makes no sense beside another; else 1.
fn code_of(error: &anyhow::Error) -> ExitCode {
    let flags = error.downcast_ref::<config::Problems>();
    if flags.is_some_and(config::Problems::of_flags) || error.is::<Usage>() {
        return ExitCode::from(usage::EXIT_CODE);
    }
    ExitCode::FAILURE
}

fn start(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let settings = settings(args, config::logging::level)?;
    match &settings.action {
        Action::Version { raw } => {
            streams::print(format_args!("{}\n", config::version(*raw)))?;
            Ok(ExitCode::SUCCESS)
        }
        Action::WriteConfig(path) => write_config(&settings, path),
        Action::Once => run::once(&program(&settings)?),
        Action::Run => run::run(program(&settings)?, &settings),
        Action::Cleanup => cleanup::run(&cleanup::CleanupArgs {
            state_dir: settings.state_dir.clone(),
            ..cleanup::CleanupArgs::default()
        }),
        Action::InitOnly => initialise::init_only(&resolve::initialise(&settings)),
    }
}

/// The settings of the arguments, with logging started and warnings logged.
fn settings(args: &RunArgs, level: fn(u32) -> tracing::Level) -> anyhow::Result<Settings> {
    let settings = config::load(args)?;
    start_logging(&settings, level);
    Ok(settings)
}

fn start_logging(settings: &Settings, level: fn(u32) -> tracing::Level) {
    run::start_logging(settings.log.format, level(settings.log.verbosity));
    // Who asks for the version is told the version.
    let asked = !matches!(settings.action, Action::Version { .. });
    for warning in settings.warnings.iter().filter(|_| asked) {
        tracing::warn!("{warning}");
    }
}

/// Commands that print a result log no more than warnings, unless asked.
fn quiet(verbosity: u32) -> tracing::Level {
    match verbosity {
        0 => tracing::Level::WARN,
        more => config::logging::level(more),
    }
}

fn program(settings: &Settings) -> anyhow::Result<run::Program> {
    let name = resolve::node_name(settings)?;
    let node = match &settings.source {
        config::Source::Manifests(path) => resolve::node_in_manifests(path, &name)?,
        config::Source::Kubernetes => run::own_node(settings, &name)?,
    };
    resolve::program(settings, node.as_ref())
}

fn write_config(settings: &Settings, path: &PathBuf) -> anyhow::Result<ExitCode> {
    std::fs::write(path, config::yaml(&settings.configuration))
        .with_context(|| format!("write configuration {}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The settings of a command that only looks, and what is `wrong` with them for it. A command
/// line that makes no sense is all that is told of it.
fn settings_to_look(
    args: &LookArgs,
    command: &str,
    wrong: impl Fn(&config::Source) -> Option<&'static str>,
) -> anyhow::Result<Settings> {
    let settings = config::load(&args.run)?;
    if let Some(flag) = settings.action.flag() {
        let why = format!("{flag} is for `kube-ipvs run`; `{command}` only shows what would be");
        return Err(Usage(why).into());
    }
    if let Some(why) = wrong(&settings.source) {
        return Err(Usage(why.to_owned()).into());
    }
    start_logging(&settings, quiet);
    Ok(settings)
}

/// Why what is read once cannot be watched.
fn unwatchable(source: &config::Source) -> Option<&'static str> {
    let is_read_once = matches!(source, config::Source::Manifests(path) if path == Path::new("-"));
    is_read_once.then_some("--watch follows a directory or a file; standard input is read once")
}

/// What to compile, if it is not named.
fn nothing_to_compile(source: &config::Source) -> Option<&'static str> {
    let is_named = matches!(source, config::Source::Manifests(_));
    (!is_named).then_some("compile needs --manifests: a directory, a file, or - for standard input")
}

fn plan(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let settings = settings_to_look(&args.common, "plan", |source| {
        args.watch.then(|| unwatchable(source)).flatten()
    })?;
    let showing = run::plan::Showing {
        json: args.common.output == Output::Json,
        watch: args.watch,
    };
    run::plan::plan(&program(&settings)?, showing)
}

fn compile(args: &CompileArgs) -> anyhow::Result<ExitCode> {
    let settings = settings_to_look(&args.common, "compile", nothing_to_compile)?;
    let (output, warnings) = compile::run(&settings, args.strict)?;
    match args.common.output {
        Output::Text => streams::print(&output)?,
        Output::Json => streams::print_json(&output)?,
    }
    anyhow::ensure!(
        !args.strict || warnings == 0,
        "--strict: {warnings} {}",
        if warnings == 1 { "warning" } else { "warnings" }
    );
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_flag_is_usage_and_a_wrong_file_is_not() {
        let code = |bit: &str, file: Option<&str>| {
            let cli = Cli::parse_from(["kube-ipvs", "run", "--accept-in-foreign-chains", bit]);
            let Command::Run(args) = cli.command else {
                unreachable!("run was asked for")
            };
            let file = file.map(|text| (std::path::Path::new("conf"), text));
            let error = config::settings(&args, file).expect_err("bit 12 is taken");
            code_of(&anyhow::Error::from(error).context("load"))
        };
        let file = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n\
                    kind: KubeProxyConfiguration\niptables: {masqueradeBit: 12}";
        assert_eq!(code("--masquerade-bit=12", None), ExitCode::from(64));
        assert_eq!(code("--masquerade-bit=13", Some(file)), ExitCode::FAILURE);
        assert_eq!(code_of(&anyhow::anyhow!("other")), ExitCode::FAILURE);
    }
}
