//! What it costs to make our table with all that many Services put in it: by our
//! messages, and by `nft -f -` from its own listing of the same table.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube_ipvs_nft::{Config, Elements, Family, Nft, render_table};
use kube_ipvs_tests::{Namespace, command, run_with_input};

use crate::connections::city::City;

const SERVICES: usize = 10_000;
/// Bound of ours against nft.
const WORST: f64 = 0.5;

pub(crate) fn run() -> Result<bool> {
    let city = City::build(SERVICES, &[])?;
    let elements = city.elements()?;
    city.leave();
    let (ours, listing) = with_ours(&elements)?;
    let theirs = with_nft(&listing, &elements)?;
    let [ours, theirs] = [ours, theirs].map(|time| time.as_secs_f64());
    let ratio = ours / theirs;
    println!(
        "filling: {SERVICES} Services, {} elements: ours {ours:.3} s, nft -f {theirs:.3} s, \
         ours/nft {ratio:.2}",
        elements.values().map(|set| set.len()).sum::<usize>()
    );
    Ok(ratio <= WORST)
}

/// The time, and what nft lists then.
fn with_ours(elements: &Elements) -> Result<(Duration, String)> {
    in_fresh_namespace(|| {
        let started = Instant::now();
        let table = render_table(&Config::new(Family::Ip), elements)?;
        Nft::open()?.apply(&table)?;
        let took = started.elapsed();
        Ok((
            took,
            command::run("nft", ["list", "table", "ip", "kube-ipvs"]),
        ))
    })
}

fn with_nft(listing: &str, elements: &Elements) -> Result<Duration> {
    in_fresh_namespace(|| {
        let started = Instant::now();
        run_with_input("nft", ["-f", "-"], listing);
        let took = started.elapsed();
        let table = Nft::open()?
            .read(Family::Ip)?
            .context("nft made no table")?;
        ensure!(table.elements == *elements, "nft made another table");
        Ok(took)
    })
}

fn in_fresh_namespace<T>(fill: impl FnOnce() -> Result<T>) -> Result<T> {
    let namespace = Namespace::child("bench");
    let inside = namespace.inside();
    let result = fill();
    drop(inside);
    drop(namespace);
    // The kernel takes namespaces down in its own time and says nothing at the
    // end. An idle guest's clock jumps, so this is cheap.
    thread::sleep(Duration::from_secs(2));
    result
}
