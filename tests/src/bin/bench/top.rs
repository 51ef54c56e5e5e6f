//! What `kube-ipvs top` takes of a processor while it shows a big table.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ipvs_netlink::{Client, Request};
use kube_ipvs::top::{self, Choice, Column, Kernel, Level};
use kube_ipvs_tests::{Namespace, command, require_ipvs};

use crate::programming::{requests, table};
use crate::replay::Dumps;

const SERVICES: u32 = 10_000;
const REAL_SERVERS: u32 = 10;
/// Looks that are measured, after the first one, which reads everything.
const LOOKS: u32 = 10;
/// What is between two looks unless told otherwise.
const INTERVAL: Duration = Duration::from_secs(2);
/// Bound of the share of the guest's processor, of 500 million instructions a second.
const WORST: f64 = 0.25;

pub(crate) fn run() -> Result<bool> {
    require_ipvs();
    let namespace = Namespace::child("bench");
    let inside = namespace.inside();
    let mut client = Client::open()?;
    let table = table(SERVICES, REAL_SERVERS);
    let filled: Vec<Request> = table.iter().flat_map(requests).collect();
    ensure!(client.apply(&filled)?.is_empty(), "requests were refused");

    let floor = bare_dump()?;
    let directory = tempfile::tempdir()?;
    let mut kernel = Kernel::open(directory.path().to_owned())?;
    let mut shares = Vec::new();
    for level in [Level::VirtualServers, Level::RealServers] {
        let choice = Choice {
            level,
            focus: None,
            sort: Column::Connections,
            reversed: false,
            filter: String::new(),
        };
        let mut screens = top::screens(choice, &mut kernel, (160, 50))?;
        let started = Instant::now();
        for _ in 0..LOOKS {
            screens.look()?;
        }
        let look = started.elapsed() / LOOKS;
        shares.push(look.as_secs_f64() / INTERVAL.as_secs_f64());
        println!(
            "top: {SERVICES} virtual servers x {REAL_SERVERS} real servers, by {level:?}: \
             a look and a screen {:.1} ms, {:.2} % of a processor; the kernel's bare list of \
             virtual servers {:.1} ms",
            look.as_secs_f64() * 1e3,
            100.0 * shares[shares.len() - 1],
            floor.as_secs_f64() * 1e3
        );
    }
    command::run("ipvsadm", ["-C"]);
    drop(inside);
    Ok(shares[0] <= WORST)
}

/// What no look can do without: the kernel's list, with nothing made of it.
fn bare_dump() -> Result<Duration> {
    let mut dumps = Dumps::open()?;
    dumps.virtual_servers()?;
    let started = Instant::now();
    for _ in 0..LOOKS {
        dumps.virtual_servers()?;
    }
    Ok(started.elapsed() / LOOKS)
}
