//! `kube-ipvs inspect`: ipvsadm's listings, byte for byte, and ours beside
//! them: JSON, YAML, and a listing with the names of Services. Rules are saved
//! and restored, and counters zeroed, as by ipvsadm; it changes nothing else.

mod absent;
mod args;
mod connections;
mod document;
mod form;
mod lines;
mod names;
mod numbers;
mod options;
mod order;
mod others;
mod render;
mod restore;
mod rules;
mod snapshot;

use std::process::ExitCode;

use anyhow::Context;
use ipvs_netlink::{Client, ServiceId};
use kube_ipvs_dataplane::linux::with_hint;

pub use absent::why_absent;
pub use args::{InspectArgs, Output};
pub use form::{Form, ListOptions};
pub use names::Names;
pub use render::render;
pub use restore::requests;
pub use snapshot::Snapshot;
pub(crate) use snapshot::each;

use crate::streams;
use names::ServiceNames;

/// Exit code when IPVS cannot be had at all; ipvsadm's.
const NO_IPVS: u8 = 2;

/// Does what the arguments ask for: lists on standard output, restores from
/// standard input, or zeroes. Exit code 2 without IPVS or the right to use it.
///
/// # Errors
/// A usage error for a front that is none; a kernel that refuses or does not answer.
pub fn run(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let names = if args.numeric {
        Names::none()
    } else {
        Names::of_this_host()
    };
    args.service(&names)?;
    let mut client = match open() {
        Ok(client) => client,
        Err(error) => {
            streams::complain(format_args!("kube-ipvs: {error:#}"));
            return Ok(ExitCode::from(NO_IPVS));
        }
    };
    if args.restore {
        return restore::run(args, &mut client);
    }
    if args.zero {
        let one = args.service(&names)?;
        client.zero(one.as_ref()).map_err(with_hint)?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = list(args, &mut client, &names)?;
    if args.output == Some(Output::Json) {
        streams::print_json_text(&text)?;
    } else {
        streams::print(text)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn open() -> anyhow::Result<Client> {
    let mut client = Client::open().map_err(with_hint)?;
    // Anybody may find the family; asking it something takes the right to.
    client.info().map_err(with_hint)?;
    Ok(client)
}

/// What the arguments list.
///
/// # Errors
/// A usage error for a front that is none; a kernel that does not answer or has no
/// such virtual server, a record or a table that cannot be read.
pub fn list(args: &InspectArgs, client: &mut Client, names: &Names) -> anyhow::Result<String> {
    if args.connection {
        let table = std::fs::read_to_string("/proc/net/ip_vs_conn")
            .context("read /proc/net/ip_vs_conn: is the module ip_vs loaded?")?;
        return match args.output {
            Some(output) => others::connections(&table, &services(args, None)?, output),
            None => Ok(connections::render(&table, args.persistent_conn, names)),
        };
    }
    if args.timeout {
        let timeouts = client.timeouts().context("read IPVS time-outs")?;
        return others::timeouts(&timeouts, args.output);
    }
    if args.daemon {
        let daemons = client.daemons().context("read IPVS sync daemons")?;
        return others::daemons(&daemons, args.output);
    }
    let one = args.service(names)?;
    let snapshot = Snapshot::of(client, one.as_ref())?;
    let Some(output) = args.output else {
        return Ok(render(&snapshot, &args.options(), names));
    };
    let services = services(args, one.as_ref())?;
    match output {
        Output::Json => document::json(&snapshot, &services),
        Output::Yaml => document::yaml(&snapshot, &services),
        Output::Wide => Ok(document::wide(&snapshot, &services)),
    }
}

fn services(args: &InspectArgs, one: Option<&ServiceId>) -> anyhow::Result<ServiceNames> {
    ServiceNames::read(&args.state_dir)?.with_pods(&args.pods, one)
}
