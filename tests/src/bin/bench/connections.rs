//! What calls cost, client and server included: with our table, on IPVS alone,
//! and on IPVS with connection tracking and nothing else, which is the floor of
//! whoever needs masquerading.
//!
//! Guest time follows the instructions, all of them run on one processor, and
//! each step of a call is the answer to the one before, so nobody waits: the
//! time of many calls is what their instructions took.

mod calls;
pub(crate) mod city;
pub(crate) mod shares;

use anyhow::Result;

use calls::{BY_UDP, CALLS, Costs};
use city::{City, Table};

/// Services in the table, and in the kernel's.
const SIZES: [usize; 2] = [1_000, 10_000];
/// Ours against tracking alone, call by call. What is aimed at is 1.05, 1.06,
/// 1.02 and 1.003; builds differ by half a percent.
const WORST: [f64; CALLS.len()] = [1.05, 1.07, 1.02, 1.01];
/// What the UDP question is against IPVS alone where its Service is untracked.
const UNTRACKED: &str = "UDP question and answer, untracked Service";
const WORST_UNTRACKED: f64 = 1.11;

pub(crate) fn run() -> Result<bool> {
    println!(
        "{:>8}  {:<42} {:>9} {:>9} {:>9} {:>9} {:>13} {:>12}",
        "Services",
        "instructions of",
        "alone",
        "tracked",
        "ours",
        "masked",
        "ours/tracked",
        "ours/alone"
    );
    let mut kept = true;
    for services in SIZES {
        kept &= measure(services)?;
    }
    Ok(kept)
}

/// Prints the lines of a size, and says whether all bounds were kept.
fn measure(services: usize) -> Result<bool> {
    let city = City::build(services, &[])?;
    let ours = city.measure(Table::Ours)?;
    let tracked = city.measure(Table::Tracked)?;
    let alone = city.measure(Table::None)?;
    city.leave();
    let city = City::build(services, &["--masquerade-all"])?;
    let masked = city.measure(Table::Ours)?;
    city.leave();
    let city = City::build(services, &["--ipvs-untracked-services=default/service-2"])?;
    let untracked = city.measure_untracked()?;
    city.leave();
    let mut kept = true;
    for (number, (name, _)) in CALLS.iter().enumerate() {
        let of = |costs: &Costs| costs[number];
        let ratio = of(&ours) / of(&tracked);
        println!(
            "{services:>8}  {name:<42} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {ratio:>13.4} {:>12.3}",
            of(&alone),
            of(&tracked),
            of(&ours),
            of(&masked),
            of(&ours) / of(&alone)
        );
        kept &= ratio <= WORST[number];
    }
    let [alone, tracked] = [alone[BY_UDP], tracked[BY_UDP]];
    let ratio = untracked / alone;
    // To be masqueraded is to be tracked.
    println!(
        "{services:>8}  {UNTRACKED:<42} {alone:>9.0} {tracked:>9.0} {untracked:>9.0} {:>9} {:>13.4} {ratio:>12.3}",
        "-",
        untracked / tracked
    );
    Ok(kept && ratio <= WORST_UNTRACKED)
}
