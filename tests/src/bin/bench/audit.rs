//! What a look at all of IPVS costs: as bare dumps, and through our client.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ipvs_netlink::{Client, Request, ServiceId};
use kube_ipvs_tests::figures::Figures;
use kube_ipvs_tests::{Namespace, command, require_ipvs};

use crate::programming::{Entry, PORT, requests, table};
use crate::replay::Dumps;

const SERVICES: u32 = 10_000;
const REAL_SERVERS: u32 = 10;
/// Bound of ours against the bare dumps.
const WORST: f64 = 1.3;

pub(crate) fn run(figures: &mut Figures) -> Result<bool> {
    require_ipvs();
    let namespace = Namespace::child("bench");
    let inside = namespace.inside();
    let table = table(SERVICES, REAL_SERVERS);
    let mut client = Client::open()?;
    let filled: Vec<Request> = table.iter().flat_map(requests).collect();
    let refused = client.apply(&filled)?;
    ensure!(
        refused.is_empty(),
        "{} requests were refused",
        refused.len()
    );

    let mut dumps = Dumps::open()?;
    let bare = timed(|| dumps.read(&table).map(drop))?;
    let ours = timed(|| read(&mut client, &table))?;

    command::run("ipvsadm", ["-C"]);
    drop(inside);
    let [bare, ours] = [bare, ours].map(|time| time.as_secs_f64());
    let ratio = ours / bare;
    println!(
        "audit: {SERVICES} Services x {REAL_SERVERS} endpoints: bare dumps {bare:.3} s, ours {ours:.3} s, ratio {ratio:.2}"
    );
    figures.tell("audit/of-the-bare-dumps", ratio);
    Ok(ratio <= WORST)
}

fn read(client: &mut Client, table: &[Entry]) -> Result<()> {
    ensure!(
        client.services()?.len() == table.len(),
        "services are missing"
    );
    for (vip, pods) in table {
        let found = client.destinations(&ServiceId::tcp(*vip, PORT))?;
        ensure!(
            found.len() == pods.len(),
            "destinations of {vip} are missing"
        );
    }
    Ok(())
}

fn timed(mut action: impl FnMut() -> Result<()>) -> Result<Duration> {
    let started = Instant::now();
    action()?;
    Ok(started.elapsed())
}
