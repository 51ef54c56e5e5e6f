//! `kube-ipvs inspect`: ipvsadm's listings, byte for byte, and ours beside
//! them: JSON, YAML, and a listing with the names of Services.

mod args;
mod connections;
mod document;
mod lines;
mod names;
mod numbers;
mod order;
mod render;
mod snapshot;

use std::process::ExitCode;

use anyhow::{Context, bail, ensure};

pub use args::{InspectArgs, Output};
pub use render::{Form, ListOptions, render};
pub use snapshot::Snapshot;

use crate::streams;
use names::{PortNames, ServiceNames};

/// Lists what the arguments ask for on standard output.
///
/// # Errors
/// Arguments that exclude one another, or a kernel that does not answer.
pub fn run(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    if args.connection {
        ensure!(
            args.form_flags() == 0,
            "options conflicts in the list command"
        );
        let text = std::fs::read_to_string("/proc/net/ip_vs_conn")
            .context("read /proc/net/ip_vs_conn: is the module ip_vs loaded?")?;
        streams::print(connections::render(&text, args.persistent_conn))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut client = ipvs_netlink::Client::open().map_err(crate::dataplane::linux::with_hint)?;
    if args.timeout {
        let timeouts = client.timeouts().context("read IPVS time-outs")?;
        streams::print(lines::timeouts(&timeouts))?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.daemon {
        for daemon in client.daemons().context("read IPVS sync daemons")? {
            streams::print(lines::daemon(&daemon))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let snapshot = Snapshot::of(&mut client, args.service()?.as_ref())?;
    let services = ServiceNames::read(&args.state_dir)?;
    let text = text(args, &snapshot, &services)?;
    match args.output {
        Some(Output::Json) => streams::print_json_text(&text)?,
        _ => streams::print(text)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(
    args: &InspectArgs,
    snapshot: &Snapshot,
    services: &ServiceNames,
) -> anyhow::Result<String> {
    if let Some(output) = args.output {
        return match output {
            Output::Json => Ok(document::json(snapshot, services)?),
            Output::Yaml => Ok(document::yaml(snapshot, services)?),
            Output::Wide => Ok(document::wide(snapshot, services)),
        };
    }
    if args.form_flags() > 1 && args.save {
        bail!("options conflicts in the list command");
    }
    let ports = if args.numeric {
        PortNames::none()
    } else {
        PortNames::of_this_host()
    };
    Ok(render(snapshot, &args.options(), &ports))
}
