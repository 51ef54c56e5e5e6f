//! What it costs to decode a Service and its slice from the text of the API, with
//! all that nobody here reads: the greater part of a cold start.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kube_ipvs_core::event::Kind;
use kube_ipvs_core::{Cluster, Event, Object, Options};
use kube_ipvs_tests::figures::Figures;

use crate::daemon::objects;

const SERVICES: usize = 1_000;
const ENDPOINTS: usize = 10;
/// What comes after a change: one that is decoded must cost less than this.
const WORST: Duration = Duration::from_millis(2);

pub(crate) fn run(figures: &mut Figures) -> Result<bool> {
    let kinds = [Kind::Service, Kind::EndpointSlice];
    let texts: Vec<_> = (0..SERVICES)
        .flat_map(|number| objects(number, ENDPOINTS, 0))
        .map(|object| object.to_string())
        .collect();
    let length: usize = texts.iter().map(String::len).sum();
    let mut cluster = Cluster::new(Options::default());

    let started = Instant::now();
    for (text, kind) in texts.iter().zip(kinds.into_iter().cycle()) {
        let object = Object::decode_text(kind, text)?;
        cluster.apply(Event::Upsert(object));
    }
    let each = started.elapsed() / u32::try_from(SERVICES)?;

    cluster.compile();
    ensure!(
        cluster.desired().virtual_servers.len() > SERVICES,
        "every Service is taken in"
    );
    let microseconds = each.as_secs_f64() * 1e6;
    println!(
        "decode: a Service and its slice of {ENDPOINTS} endpoints, {} bytes of text: {microseconds:.1} us",
        length / SERVICES
    );
    figures.tell("decode/one-us", microseconds);
    Ok(each < WORST)
}
