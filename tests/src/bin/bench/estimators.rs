//! What the kernel's estimators cost a node whose only work is one open
//! connection: the share of the processor that is taken from its questions, and
//! how long the slowest of them waits.

use std::time::Duration;

use anyhow::{Result, ensure};
use ipvs_netlink::{Client, Request};

use crate::connections::city::City;
use crate::programming::{requests, table};

const SERVICES: u32 = 10_000;
const REAL_SERVERS: u32 = 10;
/// Rates are computed every two seconds.
const WATCHED: Duration = Duration::from_secs(8);
/// A question takes a fifth of that.
const PAUSE: Duration = Duration::from_micros(500);
/// Bounds of the share of a processor of 500 million instructions a second that
/// estimation takes, and of the slowest question with it and without.
const WORST_SHARE: f64 = 0.03;
const WORST: Duration = Duration::from_millis(40);
const WORST_WITHOUT: Duration = Duration::from_millis(15);
const RUN: &str = "net/ipv4/vs/run_estimation";

/// What questions on an open connection came to.
struct Seen {
    /// The slowest one.
    worst: Duration,
    /// Share of the time that pauses took.
    paused: f64,
}

pub(crate) fn run() -> Result<bool> {
    let city = City::build(3, &[])?;
    look(&city, "3 x 1, estimated")?;
    let filled: Vec<Request> = table(SERVICES, REAL_SERVERS)
        .iter()
        .flat_map(requests)
        .collect();
    let refused = city.node().run(|| Client::open()?.apply(&filled))?;
    ensure!(refused.is_empty(), "requests were refused");
    drop(filled);
    let size = format!("{SERVICES} x {REAL_SERVERS}");
    let with = look(&city, &format!("{size}, estimated"))?;
    city.node().sysctl(RUN, "0");
    let without = look(&city, &format!("{size}, not estimated"))?;
    city.leave();

    let share = with.paused - without.paused;
    println!(
        "estimators: they take {:.2} % of a processor, {:.1} million instructions a second",
        share * 100.0,
        share * 500.0
    );
    let kept = share <= WORST_SHARE && with.worst <= WORST && without.worst <= WORST_WITHOUT;
    Ok(kept)
}

fn look(city: &City, what: &str) -> Result<Seen> {
    let mut took = city.ask_for(WATCHED)?;
    took.sort();
    let all: Duration = took.iter().sum();
    let pauses = took.iter().filter(|one| **one >= PAUSE);
    let paused: Duration = pauses.clone().sum();
    let (usual, worst) = (took[took.len() / 2], took[took.len() - 1]);
    let paused = paused.as_secs_f64() / all.as_secs_f64();
    println!(
        "estimators: {what}: a question takes {:.3} ms, the slowest {:.1} ms; {} pauses take \
         {:.2} % of the time",
        usual.as_secs_f64() * 1e3,
        worst.as_secs_f64() * 1e3,
        pauses.count(),
        paused * 100.0
    );
    Ok(Seen { worst, paused })
}
