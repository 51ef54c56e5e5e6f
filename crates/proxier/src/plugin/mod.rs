//! `kubectl ipvs`: tools of this program on many nodes, their answers side by
//! side. It runs kubectl, which runs them in the daemon's pods; only tools that
//! look can be asked for.

mod answers;
pub mod complete;
mod kubectl;
mod words;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::ensure;
use clap::{Parser, ValueEnum};

use crate::cli::Cli;
use crate::streams;
use crate::usage::Usage;
use answers::Answer;
use kubectl::{Kubectl, Pod};

/// The name under which kubectl finds it.
const NAME: &str = "kubectl-ipvs";
/// Nodes that are asked at the same time.
const AT_ONCE: usize = 8;

const EXAMPLES: &str = "\
Examples:
  kubectl ipvs explain default/web             on every node: who answers, and which node differs
  kubectl ipvs --node node-3 top               rates of connections on one node, once
  kubectl ipvs --pod shop/web-0 explain web    on the node of a pod
  kubectl ipvs status                          a page about each node, and what is wrong there
  kubectl ipvs inspect -Sn                     rules without counters: the same on every node?
  kubectl ipvs check -o json                   one document with the answers of all nodes

It needs kubectl, and the rights to list pods and to create pods/exec in the namespace of
kube-ipvs. Exit code: the highest of all nodes'; 1 where one could not be asked; 64 a wrong
command line.";

/// Ask kube-ipvs on the nodes of a cluster, and say which differ.
#[derive(Debug, Parser)]
#[command(name = NAME, bin_name = "kubectl ipvs", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct PluginArgs {
    /// Only on this node; can be given more than once
    #[arg(long, value_name = "NODE")]
    node: Vec<String>,
    /// Only on the node of this pod, [NAMESPACE/]NAME
    #[arg(long, value_name = "POD", conflicts_with = "node", value_parser = pod)]
    pod: Option<String>,
    /// Namespace of kube-ipvs
    #[arg(short, long, value_name = "NAME", default_value = "kube-system")]
    namespace: String,
    /// Labels of its pods
    #[arg(
        short = 'l',
        long,
        value_name = "LABELS",
        default_value = "app.kubernetes.io/name=kube-ipvs"
    )]
    selector: String,
    /// Context of kubectl
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// What is asked
    #[arg(value_enum)]
    tool: Tool,
    /// Its own arguments
    #[arg(
        value_name = "ARGUMENT",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    arguments: Vec<String>,
}

/// Tools that look and change nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tool {
    /// Who answers, and why
    Explain,
    /// One page about each node
    Status,
    /// Rates, connections, weights, once
    Top,
    /// Virtual servers, as ipvsadm lists them
    Inspect,
    /// What stands in the way
    Check,
    /// Version and build
    Version,
}

impl Tool {
    /// Whether its answer is the same on nodes that are well.
    fn is_alike(self) -> bool {
        !matches!(self, Self::Status | Self::Top)
    }
}

/// Whether the program was called as the plugin.
pub fn is_called(arguments: &[OsString]) -> bool {
    let name = arguments
        .first()
        .and_then(|path| Path::new(path).file_name());
    name.is_some_and(|name| name == NAME)
}

/// Asks, and prints the answers.
///
/// # Errors
/// A usage error for what no tool takes or what changes something; kubectl cannot be
/// run or refuses, or there is no pod to ask.
pub fn run(args: &PluginArgs) -> anyhow::Result<ExitCode> {
    let command = command(args)?;
    let kubectl = Kubectl::new(args.context.clone(), args.namespace.clone());
    let wanted = match &args.pod {
        Some(pod) => vec![kubectl.node_of(pod)?],
        None => args.node.clone(),
    };
    let pods = chosen(kubectl.pods(&args.selector)?, &wanted, args)?;
    let mut answers = Vec::with_capacity(pods.len());
    for some in pods.chunks(AT_ONCE) {
        answers.extend(kubectl.ask(some, &command)?);
    }
    if wants_json(&args.arguments) {
        streams::print_json(&answers::document(&answers))?;
    } else {
        streams::print(answers::side_by_side(&answers, args.tool.is_alike()))?;
    }
    Ok(ExitCode::from(code(&answers)))
}

/// What is written behind `kubectl ipvs`, or the help that is asked for.
///
/// # Errors
/// That help, of the plugin or of a tool, or a wrong command line, as clap prints them.
pub fn read(arguments: &[OsString]) -> Result<PluginArgs, clap::Error> {
    let args = PluginArgs::try_parse_from(words::arranged(arguments))?;
    match Cli::try_parse_from(words_of(&args)) {
        Err(answer) if !answer.use_stderr() => Err(answer),
        _ => Ok(args),
    }
}

/// `[NAMESPACE/]NAME` of something that can be a pod.
fn pod(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let mut parts = text.split('/');
    let named = parts.all(|part| !part.is_empty() && part.chars().all(fits));
    if named && text.split('/').count() <= 2 {
        Ok(text.to_owned())
    } else {
        Err("allowed: [NAMESPACE/]NAME, in small letters".to_owned())
    }
}

/// What a tool is called with.
fn words_of(args: &PluginArgs) -> Vec<String> {
    let tool = args.tool.to_possible_value();
    let tool = tool.map(|tool| tool.get_name().to_owned());
    let own = ["kube-ipvs".to_owned()].into_iter().chain(tool);
    own.chain(args.arguments.iter().cloned()).collect()
}

/// The command line of a tool, as its pod is to run it.
fn command(args: &PluginArgs) -> Result<Vec<String>, Usage> {
    let mut command = words_of(args);
    if args.tool == Tool::Top && !args.arguments.iter().any(|word| word == "--once") {
        command.push("--once".to_owned());
    }
    // What makes no sense is told once and here, not by every node.
    let parsed = Cli::try_parse_from(&command).map_err(|error| Usage(error.to_string()))?;
    if let Some(flag) = parsed.changes() {
        let why =
            format!("{flag} changes the node's table: kubectl ipvs only looks; run it on the node");
        return Err(Usage(why));
    }
    if let Some(flag) = parsed.follows() {
        let why = format!(
            "{flag} goes on until it is ended: kubectl ipvs asks once; leave it out, or run it on the node"
        );
        return Err(Usage(why));
    }
    Ok(command)
}

/// The pods of the nodes that are asked for; all of them when none is named.
fn chosen(pods: Vec<Pod>, wanted: &[String], args: &PluginArgs) -> anyhow::Result<Vec<Pod>> {
    ensure!(
        !pods.is_empty(),
        "no pod in namespace {} has the labels {}: where kube-ipvs runs say --namespace and --selector",
        args.namespace,
        args.selector
    );
    for node in wanted {
        ensure!(
            pods.iter().any(|pod| pod.node == *node),
            "no kube-ipvs runs on a node {node}: its nodes are {}",
            names(pods.iter().map(|pod| &pod.node[..]))
        );
    }
    let asked = |pod: &Pod| wanted.is_empty() || wanted.contains(&pod.node);
    Ok(pods.into_iter().filter(asked).collect())
}

fn names<'a>(nodes: impl Iterator<Item = &'a str>) -> String {
    nodes.collect::<Vec<_>>().join(", ")
}

/// `-o json`, in each way to write it.
fn wants_json(arguments: &[String]) -> bool {
    let pair = arguments
        .windows(2)
        .any(|pair| matches!(&pair[0][..], "-o" | "--output") && pair[1] == "json");
    pair || arguments
        .iter()
        .any(|word| matches!(&word[..], "-ojson" | "-o=json" | "--output=json"))
}

fn code(answers: &[Answer]) -> u8 {
    let codes = answers.iter().map(|answer| answer.code);
    codes.max().unwrap_or(0)
}
