//! `kube-ipvs explain`: who answers at a front, why, and what each layer holds
//! for it. Read from the kernel and the ownership record, and where a daemon
//! runs it is asked what it knows of the Service. Needs no API server, works
//! without a daemon, and changes nothing.

mod account;
mod answer;
mod judge;
mod look;
mod nobody;
mod reason;
mod remedy;
mod seen;
mod target;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;
use kube_ipvs_core::state::{Family, Front};
use serde::Serialize;

use crate::answers::{self, Ask, Told};
use crate::streams;
use crate::tool::{NodeArgs, Output};
use crate::usage::Usage;
pub(crate) use account::Service;
pub(crate) use look::look;
pub(crate) use reason::plural;
pub(crate) use seen::Seen;
use target::{Target, Wanted};
pub(crate) use verdict::{Endpoint, Explanation, explain};

/// Said where traffic from inside has a way of its own.
const PODS: &str = "\"from pods\" is said of pods in the networks that kube-ipvs was told of \
                    (clusterCIDR, detectLocalMode); others count as outside";

const EXAMPLES: &str = "\
Examples:
  kube-ipvs explain default/web                all fronts of a Service
  kube-ipvs explain default/web:http           one port, by name or number
  kube-ipvs explain 10.96.0.10:53/UDP          a VIP, a node's address or a pod's
  kube-ipvs explain nodeport:30080
  kube-ipvs explain 203.0.113.7:443 --from 198.51.100.9
  kube-ipvs explain default/web -o json        for programs

Exit code: 0 an answer was given, whatever it is; 1 nothing is known of the target, or the kernel
cannot be read; 64 a wrong command line.";

/// Flags of `kube-ipvs explain`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExplainArgs {
    /// `[NAMESPACE/]NAME[:PORT]` or `NAME.NAMESPACE.svc` of a Service; ADDRESS or
    /// `ADDRESS:PORT[/PROTOCOL]` of a VIP, a node or a pod; `nodeport:PORT`
    #[arg(
        value_name = "TARGET",
        help = "[NAMESPACE/]NAME[:PORT] or NAME.NAMESPACE.svc of a Service; ADDRESS or ADDRESS:PORT[/PROTOCOL] of a VIP, a node or a pod; nodeport:PORT"
    )]
    pub target: Target,
    /// Judge for this client: whether source ranges let it in
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<IpAddr>,
    /// Where to look
    #[command(flatten)]
    pub node: NodeArgs,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// The whole answer, as JSON.
#[derive(Debug, Serialize)]
struct Answer {
    /// Of this form: 1.
    version: u32,
    /// Whether a kube-ipvs runs here.
    daemon: bool,
    /// What holds for everything here.
    notes: Vec<String>,
    /// As the daemon knows them; none where it does not answer.
    services: Vec<Service>,
    fronts: Vec<Explanation>,
    /// The target is the address of an endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<Endpoint>,
}

/// Explains on standard output. Exit code 1 when nothing is known of the target.
///
/// # Errors
/// The kernel or the record cannot be read.
pub(crate) fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let mut seen = look(&args.node)?;
    let told = asked(args, &mut seen);
    let answer = answer(args, &seen, &told)?;
    match args.output {
        Output::Text => {
            for note in &answer.notes {
                streams::print(format_args!("note: {note}\n"))?;
            }
            answer.services.iter().try_for_each(streams::print)?;
            answer.fronts.iter().try_for_each(streams::print)?;
            answer.endpoint.iter().try_for_each(streams::print)?;
        }
        Output::Json => streams::print_json(&answer)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Services at one address that are asked about, at most: each is a question.
const MOST_SERVICES: usize = 20;

/// What the daemon says of each Service that is meant. That one runs and gives
/// no answer is told, not an error.
fn asked(args: &ExplainArgs, seen: &mut Seen) -> Vec<Told> {
    match ask_all(args, seen) {
        Ok(Some(all)) => {
            let awaited: BTreeSet<&str> = all.iter().flat_map(Told::awaits).collect();
            if !awaited.is_empty() {
                let awaited = Vec::from_iter(awaited).join(", ");
                seen.unjudged.push(format!(
                    "the cluster: kube-ipvs still waits for its first full list of {awaited}"
                ));
            }
            seen.unread.extend(all.iter().filter_map(unread));
            seen.unread.extend(all.first().and_then(behind));
            return all;
        }
        Ok(None) if !seen.runs => {}
        Ok(None) => seen.unasked("it does not listen for questions"),
        Err(error) => seen.unasked(&format!("{error:#}")),
    }
    Vec::new()
}

/// None where nobody listens.
fn ask_all(args: &ExplainArgs, seen: &mut Seen) -> anyhow::Result<Option<Vec<Told>>> {
    let ask = |ask: &Ask| answers::ask(&args.node.state_dir, ask);
    if let Target::Service(wanted) = &args.target {
        let Wanted {
            namespace, name, ..
        } = wanted.clone();
        return Ok(ask(&Ask::Service { namespace, name })?.map(|told| vec![told]));
    }
    let mut all: Vec<Told> = Vec::new();
    for key in args.target.fronts(seen).iter().map(reason::key) {
        if all.iter().any(|told| told.has(&key)) {
            continue;
        }
        if all.len() == MOST_SERVICES {
            let what = "all Services there: they are many; ask for ADDRESS:PORT";
            seen.unjudged.push(what.to_owned());
            break;
        }
        let Some(told) = ask(&Ask::Front(key))? else {
            return Ok(None);
        };
        all.push(told);
    }
    Ok(Some(all))
}

/// What could not be read of a Service, and why, as far as it is known.
fn unread(told: &Told) -> Option<String> {
    let what = told.unread.as_ref()?;
    let named = told
        .account
        .as_ref()
        .map_or("the Service", |of| &of.service);
    let why: Vec<&str> = told.source_reasons().collect();
    let why = match &why[..] {
        [] => "the log of kube-ipvs says why".to_owned(),
        why => why.join("; "),
    };
    Some(format!("{named}: {what}: {why}"))
}

/// Why what is known of the whole cluster may be of before, where the Service
/// itself is not named.
fn behind(told: &Told) -> Option<String> {
    // Of a first list that is awaited, or a Service that is named, the same is told there.
    if told.is_partial() {
        return None;
    }
    let why: Vec<&str> = told.source_reasons().collect();
    let why = (!why.is_empty()).then(|| why.join("; "))?;
    Some(format!(
        "the cluster, whose last known state stays in force: {why}"
    ))
}

fn answer(args: &ExplainArgs, seen: &Seen, told: &[Told]) -> anyhow::Result<Answer> {
    let services: Vec<Service> = told.iter().filter_map(Service::of).collect();
    let mut fronts = args.target.fronts(seen);
    if let (Target::Service(wanted), [service]) = (&args.target, &services[..]) {
        if let Some(why) = service.no_such_port(wanted) {
            anyhow::bail!(why);
        }
        // While something is awaited or not read the daemon knows of less than
        // it serves.
        if !told.iter().any(Told::is_partial) {
            fronts.clear();
        }
        fronts.extend(service.fronts(wanted));
    }
    let client = args.from.map(|client| client.to_canonical());
    if let Some(client) = client {
        keep_callable(&mut fronts, client, &args.target)?;
    }
    let endpoint = match args.target {
        Target::Address(address) => verdict::endpoint(address, None, seen),
        Target::Front(socket, _) if !fronts.iter().any(|front| seen.holds(front)) => {
            verdict::endpoint(socket.ip(), Some(socket.port()), seen)
        }
        _ => None,
    };
    if fronts.is_empty() && endpoint.is_none() && services.is_empty() {
        anyhow::bail!(nothing(args, seen, told));
    }
    // A pod that is no front of anything: which Services lead there says it all.
    fronts.retain(|front| endpoint.is_none() || seen.holds(front));
    let all = fronts.iter().map(|front| {
        let mut known = services.iter().map(|service| service.known(front));
        let known = known.find(|known| known.service.is_some());
        explain(front, client, &known.unwrap_or_default(), seen)
    });
    let mut notes = seen.notes();
    notes.extend(seen.redirected(&fronts));
    let fronts = verdict::joined(all.collect());
    notes.extend(
        fronts
            .iter()
            .any(Explanation::has_inside)
            .then(|| PODS.to_owned()),
    );
    Ok(Answer {
        version: 1,
        daemon: seen.runs,
        notes,
        services,
        fronts,
        endpoint,
    })
}

/// Leaves those that a client can call at all: the fronts of its family.
fn keep_callable(
    fronts: &mut BTreeSet<Front>,
    client: IpAddr,
    target: &Target,
) -> Result<(), Usage> {
    let family = Family::of(client);
    let had_some = !fronts.is_empty();
    fronts.retain(|front| Family::of(front.address) == family);
    if had_some && fronts.is_empty() {
        let other = family.other();
        return Err(Usage(format!(
            "--from {client}: no client with an address of {family} calls {target}, which is \
             there over {other} alone"
        )));
    }
    Ok(())
}

/// Why there is nothing to explain, claiming no more than is known.
fn nothing(args: &ExplainArgs, seen: &Seen, told: &[Told]) -> String {
    let record = args.node.state_dir.display();
    let Target::Service(wanted) = &args.target else {
        return format!(
            "{}: neither IPVS, nor our table, nor the record in {record} knows it",
            args.target
        );
    };
    let mut named = Wanted {
        port: None,
        ..wanted.clone()
    }
    .to_string();
    let near = match told.first() {
        Some(told) => {
            named = if !told.awaited.is_empty() {
                format!("Service {named} is not known yet: the first full list is awaited")
            } else if let Some(unread) = unread(told) {
                // Named already, by what was asked for.
                let why = unread.strip_prefix("the Service: ").unwrap_or(&unread);
                format!("Service {named} is not known: {why}")
            } else {
                format!("there is no Service {named}")
            };
            // One of the same name in another namespace is near too.
            let near = told
                .near
                .iter()
                .filter(|near| !told.elsewhere.contains(near));
            told.elsewhere.iter().chain(near).cloned().collect()
        }
        None => {
            let who = if seen.runs {
                "the kube-ipvs that runs here could tell, and it does not answer"
            } else {
                "a running kube-ipvs could tell"
            };
            named += &format!(
                ": no virtual server of it is recorded in {record}; whether there is such a \
                 Service, only {who}"
            );
            let services = seen.recorded.values();
            let objects = services.map(|service| answers::object(service).to_owned());
            answers::near(&wanted.name, objects)
        }
    };
    if near.is_empty() {
        named
    } else {
        format!("{named}; there is {}", near.join(", "))
    }
}
