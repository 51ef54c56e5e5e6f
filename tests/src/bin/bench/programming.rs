//! What it costs to fill an empty table: through our client, as a bare replay
//! of prepared messages, and with `ipvsadm -R`.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ipvs_netlink::{Client, Destination, DestinationId, Request, Scheduler, Service, ServiceId};
use kube_ipvs_tests::{Namespace, command, require_ipvs, run_with_input};

use crate::replay::Replay;

const SERVICES: u32 = 2000;
const REAL_SERVERS: u32 = 5;
/// Bounds of ours against the replay, and of ours against ipvsadm.
const WORST_REPLAY: f64 = 1.5;
const WORST_IPVSADM: f64 = 1.0 / 3.0;

/// A virtual server's address and those of its real servers.
pub(crate) type Entry = (Ipv4Addr, Vec<Ipv4Addr>);

pub(crate) const PORT: u16 = 80;
pub(crate) const TARGET_PORT: u16 = 8080;

pub(crate) fn run() -> Result<bool> {
    require_ipvs();
    // Loads the modules outside the measurement.
    fill_with_ours(&table(1, REAL_SERVERS))?;
    let table = table(SERVICES, REAL_SERVERS);

    let ours = best_of(3, || fill_with_ours(&table))?;
    let replay = best_of(3, || fill_by_replay(&table))?;
    let ipvsadm = fill_with_ipvsadm(&table)?;

    let [ours, replay, ipvsadm] = [ours, replay, ipvsadm].map(|time| time.as_secs_f64());
    let [by_replay, by_ipvsadm] = [ours / replay, ours / ipvsadm];
    println!(
        "programming: ours {ours:.3} s, replay {replay:.3} s, ipvsadm {ipvsadm:.3} s, \
         ours/replay {by_replay:.2}, ours/ipvsadm {by_ipvsadm:.2}"
    );
    Ok(by_replay <= WORST_REPLAY && by_ipvsadm <= WORST_IPVSADM)
}

/// Virtual servers with so many real servers each.
pub(crate) fn table(services: u32, real_servers: u32) -> Vec<Entry> {
    let pods = u32::from(Ipv4Addr::new(10, 244, 0, 2));
    (0..services)
        .map(|number| {
            let vip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 1, 0)) + number);
            let first = pods + number * real_servers;
            (
                vip,
                (first..first + real_servers).map(Ipv4Addr::from).collect(),
            )
        })
        .collect()
}

fn fill_with_ours(table: &[Entry]) -> Result<Duration> {
    in_fresh_namespace(table, || {
        let started = Instant::now();
        let requests: Vec<Request> = table.iter().flat_map(requests).collect();
        let refused = Client::open()?.apply(&requests)?;
        let took = started.elapsed();
        ensure!(
            refused.is_empty(),
            "{} requests were refused: {}",
            refused.len(),
            refused[0].1
        );
        Ok(took)
    })
}

/// What makes an entry.
pub(crate) fn requests((vip, pods): &Entry) -> Vec<Request> {
    let id = ServiceId::tcp(*vip, PORT);
    let destinations = pods.iter().map(|pod| {
        Request::AddDestination(id, Destination::new(DestinationId::new(*pod, TARGET_PORT)))
    });
    std::iter::once(Request::AddService(Service::new(id, Scheduler::RR)))
        .chain(destinations)
        .collect()
}

fn fill_by_replay(table: &[Entry]) -> Result<Duration> {
    in_fresh_namespace(table, || {
        let mut replay = Replay::prepare(table)?;
        let started = Instant::now();
        replay.send()?;
        Ok(started.elapsed())
    })
}

fn fill_with_ipvsadm(table: &[Entry]) -> Result<Duration> {
    let mut text = String::new();
    for (vip, pods) in table {
        writeln!(text, "-A -t {vip}:{PORT} -s rr")?;
        for pod in pods {
            writeln!(text, "-a -t {vip}:{PORT} -r {pod}:{TARGET_PORT} -m -w 1")?;
        }
    }
    in_fresh_namespace(table, || {
        let started = Instant::now();
        run_with_input("ipvsadm", ["-R"], &text);
        Ok(started.elapsed())
    })
}

/// Runs `fill` in an empty namespace, checks that the table is there, and clears
/// it again: services of all namespaces share the kernel's hash buckets, and
/// removed destinations stay in a list that later additions walk.
fn in_fresh_namespace(
    table: &[Entry],
    fill: impl FnOnce() -> Result<Duration>,
) -> Result<Duration> {
    let namespace = Namespace::child("bench");
    let inside = namespace.inside();
    let took = fill()?;
    let mut client = Client::open()?;
    ensure!(
        client.services()?.len() == table.len(),
        "the table is not what was asked for"
    );
    for (vip, pods) in table.iter().take(1).chain(table.last()) {
        let found = client.destinations(&ServiceId::tcp(*vip, PORT))?;
        ensure!(
            found.len() == pods.len(),
            "{vip} has {} destinations",
            found.len()
        );
    }
    command::run("ipvsadm", ["-C"]);
    drop(inside);
    drop(namespace);
    // The kernel takes namespaces down in its own time and says nothing at the
    // end. An idle guest's clock jumps, so this is cheap.
    thread::sleep(Duration::from_secs(2));
    Ok(took)
}

fn best_of(times: usize, mut measure: impl FnMut() -> Result<Duration>) -> Result<Duration> {
    let mut best = measure()?;
    for _ in 1..times {
        best = best.min(measure()?);
    }
    Ok(best)
}
