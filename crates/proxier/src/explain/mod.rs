//! `kube-ipvs explain`: who answers at a front, why, and what each layer holds
//! for it. Read from the kernel and the ownership record; it needs no API
//! server and no daemon, and changes nothing.

mod judge;
mod look;
mod reason;
mod seen;
mod target;
#[cfg(test)]
mod tests;
mod verdict;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::streams;
pub use reason::{Nobody, Outcome, Reason, Said};
pub use seen::Seen;
use target::{Target, Wanted};
pub use verdict::{Endpoint, Explanation, explain};

/// Said where traffic from inside has a way of its own.
const PODS: &str = "\"from pods\" is said of pods in the networks that kube-ipvs was told of \
                    (clusterCIDR, detectLocalMode); others count as outside";

/// Flags of `kube-ipvs explain`.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// [NAMESPACE/]NAME[:PORT] or NAME.NAMESPACE.svc of a Service; ADDRESS or ADDRESS:PORT[/PROTOCOL]
    /// of a VIP, a node or a pod; nodeport:PORT
    #[arg(value_name = "TARGET")]
    pub target: Target,
    /// Judge for this client: whether source ranges let it in
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<IpAddr>,
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

/// The whole answer, as JSON.
#[derive(Debug, Serialize)]
struct Answer {
    /// Of this form: 1.
    version: u32,
    /// Whether a kube-ipvs runs here.
    daemon: bool,
    /// What holds for everything here.
    notes: Vec<String>,
    fronts: Vec<Explanation>,
    /// The target is the address of an endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<Endpoint>,
}

/// Explains on standard output. Exit code 1 when nothing is known of the target.
///
/// # Errors
/// The kernel or the record cannot be read.
pub fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let seen = look::look(args)?;
    let answer = answer(args, &seen)?;
    match args.output {
        Output::Text => {
            for note in &answer.notes {
                streams::print(format_args!("note: {note}\n"))?;
            }
            answer.fronts.iter().try_for_each(streams::print)?;
            answer.endpoint.iter().try_for_each(streams::print)?;
        }
        Output::Json => streams::print_json(&answer)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn answer(args: &ExplainArgs, seen: &Seen) -> anyhow::Result<Answer> {
    let fronts = args.target.fronts(seen);
    let endpoint = match args.target {
        Target::Address(address) => verdict::endpoint(address, seen),
        Target::Front(socket, _) if !fronts.iter().any(|front| seen.holds(front)) => {
            verdict::endpoint(socket.ip(), seen)
        }
        _ => None,
    };
    if fronts.is_empty() && endpoint.is_none() {
        anyhow::bail!(nothing(args, seen));
    }
    // A pod that is no front of anything: which Services lead there says it all.
    let fronts = fronts
        .iter()
        .filter(|front| endpoint.is_none() || seen.holds(front));
    let all = fronts.map(|front| explain(front, args.from, &Nobody::Unknown, seen));
    let fronts = verdict::joined(all.collect());
    let mut notes = seen.notes();
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
        fronts,
        endpoint,
    })
}

/// Why there is nothing to explain, claiming no more than is known.
fn nothing(args: &ExplainArgs, seen: &Seen) -> String {
    let record = args.state_dir.display();
    let Target::Service(wanted) = &args.target else {
        return format!(
            "{}: neither IPVS, nor our table, nor the record in {record} knows it",
            args.target
        );
    };
    let mut text = format!("{wanted}: no virtual server of it is recorded in {record}");
    text += match seen.runs {
        true => {
            "; it is headless, has nobody who could answer, or does not exist, which the record does not tell"
        }
        false => "; no kube-ipvs runs here that could tell more: start it",
    };
    text += &others(wanted, seen);
    text
}

/// Names that may have been meant.
fn others(wanted: &Wanted, seen: &Seen) -> String {
    let services = seen.recorded.values().map(|service| {
        let object = service.split(':').next();
        object.unwrap_or_default().to_owned()
    });
    let near = target::near(wanted, services);
    if near.is_empty() {
        return String::new();
    }
    format!("; there are {}", near.join(", "))
}
