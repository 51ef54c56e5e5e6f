//! What it costs to compile a big cluster from nothing, and one change in it: by
//! itself, and while many other Services are rolled out.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kube_ipvs_core::diff::{Terms, diff, diff_touched};
use kube_ipvs_core::drain::{Drain, Key, Load};
use kube_ipvs_core::event::{Event, Kind};
use kube_ipvs_core::{Cluster, KernelState, Object, Options};
use kube_ipvs_tests::memory_kib;
use nix::unistd::Pid;
use serde_json::json;

use kube_ipvs_tests::figures::Figures;

const SERVICES: usize = 10_000;
const ENDPOINTS: usize = 10;
/// Their mean is the cost of one.
const CHANGES: usize = 200;
/// Services with an endpoint that drains, while others change.
const ROLLOUT: usize = 500;
/// A change during the rollout against one without.
const WORST_ROLLOUT: f64 = 3.0;
/// One change against the whole.
const WORST_SHARE: f64 = 1.0 / 1000.0;

pub(crate) fn run(figures: &mut Figures) -> Result<bool> {
    let mut objects = Vec::with_capacity(2 * SERVICES);
    for number in 0..SERVICES {
        objects.push(service(number)?);
        objects.push(slice(number, 0, false)?);
    }
    // Of others than are rolled out, and each time of another one.
    let change = |change| {
        slice(
            ROLLOUT + change * 7_919 % (SERVICES - ROLLOUT),
            change,
            false,
        )
    };
    let changes = (1..=CHANGES).map(change).collect::<Result<Vec<_>>>()?;
    let more = (CHANGES + 1..=2 * CHANGES).map(change);
    let more = more.collect::<Result<Vec<_>>>()?;

    let mut cluster = Cluster::new(Options {
        node_name: "node-1".to_owned(),
        ..Options::default()
    });
    let started = Instant::now();
    for object in objects {
        cluster.apply(Event::Upsert(object));
    }
    cluster.compile();
    let plan = diff(
        cluster.desired(),
        &KernelState::default(),
        &Terms::default(),
    );
    let whole = started.elapsed();
    ensure!(
        cluster.desired().virtual_servers.len() == SERVICES && !plan.is_empty(),
        "every Service is compiled"
    );
    let memory = memory_kib(Pid::this(), "VmHWM");
    let one = changed(&mut cluster, changes)?;
    let (meanwhile, counted) = changed_in_rollout(&mut cluster, more)?;

    let [whole, one, meanwhile] = [whole, one, meanwhile].map(|time| time.as_secs_f64());
    let share = one / whole;
    println!(
        "compile: whole {whole:.3} s, one change {:.1} us, change/whole 1/{:.0}, peak memory {} MiB; \
         during a rollout of {ROLLOUT} Services {:.1} us, connections of {counted} counted",
        one * 1e6,
        1.0 / share,
        memory / 1024,
        meanwhile * 1e6,
    );
    figures.tell("compile/whole-ms", whole * 1e3);
    figures.tell("compile/one-change-us", one * 1e6);
    figures.tell("compile/one-change-in-a-rollout-us", meanwhile * 1e6);
    figures.tell("compile/peak-mib", memory as f64 / 1024.0);
    Ok(share < WORST_SHARE && meanwhile / one < WORST_ROLLOUT && counted == 0)
}

/// The mean cost of one endpoint that changes, up to its plan.
fn changed(cluster: &mut Cluster, changes: Vec<Object>) -> Result<Duration> {
    let before = cluster.desired().clone();
    let terms = Terms::default();
    let started = Instant::now();
    for object in changes {
        cluster.apply(Event::Upsert(object));
        let touched = cluster.compile();
        let plan = diff_touched(cluster.desired(), &before, &touched, &terms);
        ensure!(!plan.is_empty(), "a changed endpoint is a plan");
    }
    Ok(started.elapsed() / u32::try_from(CHANGES)?)
}

/// The same while other Services have an endpoint that drains; and for how many
/// of these connections were counted, none of which is due.
fn changed_in_rollout(cluster: &mut Cluster, changes: Vec<Object>) -> Result<(Duration, usize)> {
    for number in 0..ROLLOUT {
        cluster.apply(Event::Upsert(slice(number, 0, true)?));
    }
    let touched = cluster.compile();
    let before = cluster.desired().clone();
    let busy = |_: &Key| {
        Some(Load {
            weight: 0,
            active: 1,
            inactive: 0,
        })
    };
    let mut drain = Drain::new(900_000);
    drain.step(0, cluster, &before, &touched, busy);
    let mut counted = 0;
    let started = Instant::now();
    for object in changes {
        cluster.apply(Event::Upsert(object));
        let mut touched = cluster.compile();
        let step = drain.step(1, cluster, &before, &touched, |key| {
            counted += 1;
            busy(key)
        });
        touched.extend(step.touched);
        let terms = Terms {
            drained: drain.drained().clone(),
            kept: drain.kept().clone(),
            ..Terms::default()
        };
        let plan = diff_touched(cluster.desired(), &before, &touched, &terms);
        ensure!(!plan.is_empty(), "a changed endpoint is a plan");
    }
    Ok((started.elapsed() / u32::try_from(CHANGES)?, counted))
}

fn service(number: usize) -> Result<Object> {
    let json = json!({
        "metadata": {"name": format!("service-{number}"), "namespace": "default"},
        "spec": {
            "clusterIP": format!("10.96.{}.{}", number / 256, number % 256),
            "ports": [{"port": 80, "protocol": "TCP"}]
        }
    });
    Ok(Object::decode(Kind::Service, json)?)
}

/// The last endpoint is another one after each change; the first one may be
/// terminating.
fn slice(number: usize, change: usize, leaves: bool) -> Result<Object> {
    let address = |endpoint: usize| {
        // Never 0 for a change: that is where it was before.
        let last = if endpoint + 1 == ENDPOINTS && change > 0 {
            change % 255 + 1
        } else {
            0
        };
        format!("172.{}.{}.{}", 16 + endpoint, last, number % 254 + 1)
    };
    let endpoints = (0..ENDPOINTS).map(|endpoint| {
        json!({
            "addresses": [address(endpoint)], "nodeName": format!("node-{}", endpoint % 50),
            "conditions": {
                "ready": !(leaves && endpoint == 0), "serving": true,
                "terminating": leaves && endpoint == 0
            }
        })
    });
    let json = json!({
        "metadata": {
            "name": format!("service-{number}-1"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": format!("service-{number}")}
        },
        "addressType": "IPv4",
        "endpoints": endpoints.collect::<Vec<_>>(),
        "ports": [{"port": 8080}]
    });
    Ok(Object::decode(Kind::EndpointSlice, json)?)
}
