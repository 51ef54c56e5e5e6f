//! Addresses that must never become VIPs here: those of other Nodes and of the
//! API server.
//!
//! They are listed, never watched: a watch over all Nodes on every node costs
//! the square of the cluster. They are asked for only while a Service claims an
//! address from outside the cluster's own ranges: when a new one of those
//! appears and the last list is not fresh, and every ten minutes or more. Until
//! a claim has been checked its Service is held back, so that no address of a
//! Node is bound even for a moment.

mod gate;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ::kube::Client;
use kube_ipvs_core::event::{Event, Kind};
use kube_ipvs_core::k8s::SERVICE_NAME_LABEL;
use kube_ipvs_core::read;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use self::gate::Gate;
use super::kube::{Failure, LONGEST, Requests, Resource};
use crate::tasks::{Task, Tasks};

/// Events that may wait before the gate.
const QUEUE: usize = 64;
/// Time for all pages: Services wait for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often to list.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Time between lists while they are needed; a random half is added.
    pub every: Duration,
    /// A list is good for new claims for so long.
    pub fresh: Duration,
    /// Longest random wait before a list that a new claim asks for: several
    /// claims share one list, and nodes do not all ask at once.
    pub jitter: Duration,
    /// Pause after a failure; a random half is added.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(600),
            fresh: Duration::from_secs(60),
            jitter: Duration::from_millis(400),
            retry: Duration::from_secs(15),
        }
    }
}

/// How far the claims have been checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Claims that a list has been held against.
    pub addresses: BTreeSet<IpAddr>,
    /// Addresses of other Nodes and of API servers, as last listed.
    pub others: BTreeSet<IpAddr>,
    /// Why the last list failed.
    pub failure: Option<String>,
}

/// Two tasks between a source and the loop: one lets events through, one lists.
#[derive(Debug)]
pub struct Guard {
    /// How far the claims have been checked; changes after each list.
    pub checked: watch::Receiver<Checked>,
    _tasks: [Task; 2],
}

/// Stands between a source, which sends to the returned channel, and the loop,
/// which listens at `events`. Services with claims pass when these have been
/// checked, [`Event::Protected`] goes before them; everything else passes at
/// once. When addresses cannot be listed, Services pass after an
/// [`Event::Unchecked`] that names the claims.
///
/// `always` is protected whatever is listed: the API server's address in the
/// kubeconfig, say. This node's own addresses are the host's and not protected here. Both tasks
/// end with the loop's end of the channel, or when the guard is dropped.
pub fn guard(
    tasks: &Tasks,
    client: &Client,
    node_name: &str,
    always: BTreeSet<IpAddr>,
    timing: Timing,
    events: mpsc::Sender<Event>,
) -> (mpsc::Sender<Event>, Guard) {
    let (sender, incoming) = mpsc::channel(QUEUE);
    let (claims, claimed) = watch::channel(BTreeSet::new());
    let (progress, checked) = watch::channel(Checked::default());
    let kubernetes = format!("{SERVICE_NAME_LABEL}=kubernetes");
    let slices = Resource::new(
        Kind::EndpointSlice,
        &kubernetes,
        "metadata.namespace=default",
    );
    let lister = Lister {
        nodes: Requests::new(client.clone(), Resource::new(Kind::Node, "", "")),
        api_servers: Requests::new(client.clone(), slices),
        node_name: node_name.to_owned(),
        timing,
        claimed,
        progress,
        listed: None,
    };
    let passage = pass(Gate::new(always), incoming, events, claims, checked.clone());
    let running = [
        tasks.spawn("gate before claimed addresses", passage),
        tasks.spawn("list of protected addresses", lister.run()),
    ];
    let guard = Guard {
        checked,
        _tasks: running,
    };
    (sender, guard)
}

/// Lets events through the gate until one of its ends is gone.
async fn pass(
    mut gate: Gate,
    mut incoming: mpsc::Receiver<Event>,
    events: mpsc::Sender<Event>,
    claims: watch::Sender<BTreeSet<IpAddr>>,
    mut checked: watch::Receiver<Checked>,
) {
    loop {
        let passing = tokio::select! {
            event = incoming.recv() => match event {
                Some(event) => gate.event(event),
                None => return,
            },
            changed = checked.changed() => match changed {
                Ok(()) => gate.checked(checked.borrow_and_update().clone()),
                Err(_) => return,
            },
            () = events.closed() => return,
        };
        claims.send_if_modified(|before| {
            let now = gate.claimed();
            std::mem::replace(before, now) != *before
        });
        for event in passing {
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}

struct Lister {
    nodes: Requests,
    api_servers: Requests,
    node_name: String,
    timing: Timing,
    claimed: watch::Receiver<BTreeSet<IpAddr>>,
    progress: watch::Sender<Checked>,
    /// When the last list began that did not fail.
    listed: Option<Instant>,
}

impl Lister {
    /// Runs until nobody claims any more, the gate being gone.
    async fn run(mut self) {
        let mut due = None;
        loop {
            due = self.due(due);
            tokio::select! {
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    due = Some(Instant::now() + self.list().await);
                }
                changed = self.claimed.changed() => if changed.is_err() { return },
            }
        }
    }

    /// When to list next, if it was `planned` before: never while nothing is
    /// claimed, soon when a claim is new and the last list is not fresh.
    fn due(&mut self, planned: Option<Instant>) -> Option<Instant> {
        let claimed = self.claimed.borrow_and_update().clone();
        if claimed.is_empty() {
            // What is claimed later must be held against a list of its time.
            self.progress
                .send_if_modified(|checked| !std::mem::take(&mut checked.addresses).is_empty());
            return None;
        }
        let (failed, unchecked) = {
            let checked = self.progress.borrow();
            (
                checked.failure.is_some(),
                !claimed.is_subset(&checked.addresses),
            )
        };
        let fresh = self
            .listed
            .is_some_and(|listed| listed.elapsed() < self.timing.fresh);
        if unchecked && fresh && !failed {
            self.progress
                .send_modify(|checked| checked.addresses = claimed);
            return planned.or(Some(Instant::now() + self.timing.every));
        }
        let soon = Instant::now() + self.timing.jitter.mul_f64(rand::random());
        match planned {
            None => Some(soon),
            Some(planned) if failed || !unchecked => Some(planned),
            Some(planned) => Some(planned.min(soon)),
        }
    }

    /// Lists once; says when to do so again.
    async fn list(&mut self) -> Duration {
        // Claims that come while the list runs are not held against it.
        let claimed = self.claimed.borrow().clone();
        let begun = Instant::now();
        let around = 1.0 + rand::random::<f64>() / 2.0;
        let listed = timeout(PATIENCE, self.addresses()).await;
        match listed.unwrap_or(Err(Failure::Silent(PATIENCE))) {
            Ok(others) => {
                self.listed = Some(begun);
                self.progress.send_replace(Checked {
                    addresses: claimed,
                    others,
                    failure: None,
                });
                self.timing.every.mul_f64(around)
            }
            Err(failure) => {
                let asked = failure.retry_after().unwrap_or_default();
                let failure = format!("list addresses of Nodes and API servers: {failure}");
                tracing::warn!("{failure}");
                self.progress
                    .send_modify(|checked| checked.failure = Some(failure));
                self.timing.retry.mul_f64(around).max(asked).min(LONGEST)
            }
        }
    }

    async fn addresses(&self) -> Result<BTreeSet<IpAddr>, Failure> {
        let mut addresses = BTreeSet::new();
        let others = |node: &Value| {
            if node.pointer("/metadata/name").and_then(Value::as_str) != Some(&self.node_name) {
                addresses.extend(node_addresses(node));
            }
        };
        self.nodes.each(others).await?;
        let api_servers = |slice: &Value| addresses.extend(endpoint_addresses(slice));
        self.api_servers.each(api_servers).await?;
        Ok(addresses)
    }
}

/// Read from whatever else the Node holds: were one skipped that does not
/// decode, its addresses could be bound here.
fn node_addresses(node: &Value) -> impl Iterator<Item = IpAddr> {
    let all = node.pointer("/status/addresses").and_then(Value::as_array);
    let all = all.into_iter().flatten();
    all.filter_map(|at| parse(at.get("address")?))
}

/// Likewise for an EndpointSlice.
fn endpoint_addresses(slice: &Value) -> impl Iterator<Item = IpAddr> {
    let endpoints = slice.get("endpoints").and_then(Value::as_array);
    let endpoints = endpoints.into_iter().flatten();
    let all = endpoints.filter_map(|endpoint| endpoint.get("addresses")?.as_array());
    all.flatten().filter_map(parse)
}

fn parse(address: &Value) -> Option<IpAddr> {
    Some(read::address(address.as_str()?)?.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_others_are_read_as_the_cluster_reads_them() {
        let node = serde_json::json!({
            "status": {"addresses": [{"address": " 192.0.2.66"}, {"address": "192.0.2.067"}]}
        });
        let slice = serde_json::json!({
            "endpoints": [{"addresses": ["::ffff:192.0.2.68"]}, {"addresses": ["name"]}]
        });

        let found: Vec<String> = node_addresses(&node)
            .chain(endpoint_addresses(&slice))
            .map(|address| address.to_string())
            .collect();

        assert_eq!(found, ["192.0.2.66", "192.0.2.67", "192.0.2.68"]);
    }
}
