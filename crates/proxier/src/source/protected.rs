//! Addresses that must never become VIPs here: those of other Nodes, of the
//! API server and of gateways.
//!
//! They are listed, never watched: a watch over all Nodes on every node costs
//! the square of the cluster. They are asked for only while a Service has an
//! address from outside the cluster's own ranges, when a new one of those
//! appears, and every ten minutes or more.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ::kube::Client;
use kube_ipvs_core::event::{Event, Kind};
use kube_ipvs_core::k8s::{Object, SERVICE_NAME_LABEL};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::kube::{As, Failure, Requests, Resource};

/// Objects a page.
const PAGE: u32 = 500;

/// How often to list.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Time between lists while they are needed; a random half is added.
    pub every: Duration,
    /// Longest wait before a list that a new VIP asks for: several VIPs share
    /// one list, and nodes do not all ask at once.
    pub jitter: Duration,
    /// Pause after a failure; a random half is added.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(600),
            jitter: Duration::from_secs(1),
            retry: Duration::from_secs(15),
        }
    }
}

/// What the task needs to know from others.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// This node's name: its own addresses are the host's, not protected here.
    pub node_name: String,
    /// Addresses that Services claim from outside the cluster's own ranges
    /// (external, load balancer). While there are none, nothing is listed.
    pub claimed: watch::Receiver<BTreeSet<IpAddr>>,
    /// Addresses protected in any case: gateways, the API server's from the
    /// kubeconfig.
    pub fixed: watch::Receiver<BTreeSet<IpAddr>>,
}

/// How far the claimed addresses have been checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Claimed addresses that a list has been held against. One that is not in
    /// here may be a Node's.
    pub addresses: BTreeSet<IpAddr>,
    /// Why the last list failed.
    pub failure: Option<String>,
}

/// The task, and how far it is.
#[derive(Debug)]
pub struct ProtectedSource {
    /// Changes after each list.
    pub checked: watch::Receiver<Checked>,
    task: JoinHandle<()>,
}

impl ProtectedSource {
    /// Starts the task. It sends [`Event::Protected`] with all protected
    /// addresses whenever they changed, and ends when the channel's receiver
    /// or the senders of the inputs are dropped, or with this.
    pub fn spawn(
        client: &Client,
        inputs: Inputs,
        timing: Timing,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let (progress, checked) = watch::channel(Checked::default());
        let kubernetes = format!("{SERVICE_NAME_LABEL}=kubernetes");
        let lister = Lister {
            nodes: Requests::new(client.clone(), Resource::new(Kind::Node, "", "")),
            api_servers: Requests::new(
                client.clone(),
                Resource::new(
                    Kind::EndpointSlice,
                    &kubernetes,
                    "metadata.namespace=default",
                ),
            ),
            inputs,
            timing,
            events,
            progress,
            listed: None,
            sent: None,
        };
        Self {
            checked,
            task: tokio::spawn(lister.run()),
        }
    }
}

impl Drop for ProtectedSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Lister {
    nodes: Requests,
    api_servers: Requests,
    inputs: Inputs,
    timing: Timing,
    events: mpsc::Sender<Event>,
    progress: watch::Sender<Checked>,
    /// What the last list said.
    listed: Option<BTreeSet<IpAddr>>,
    /// What was sent last.
    sent: Option<BTreeSet<IpAddr>>,
}

/// The other side has gone.
struct Unheard;

impl Lister {
    async fn run(mut self) {
        // The channel's other end is gone: nobody needs us any more.
        let Err(Unheard) = self.rounds().await;
    }

    async fn rounds(&mut self) -> Result<std::convert::Infallible, Unheard> {
        let mut due = None;
        loop {
            self.send().await?;
            due = self.due(due);
            tokio::select! {
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    due = Some(Instant::now() + self.list().await);
                }
                changed = self.inputs.claimed.changed() => changed.map_err(|_| Unheard)?,
                changed = self.inputs.fixed.changed() => changed.map_err(|_| Unheard)?,
                () = self.events.closed() => return Err(Unheard),
            }
        }
    }

    /// When to list next, if it was `planned` before: never while nothing is
    /// claimed, soon when a claim is new.
    fn due(&mut self, planned: Option<Instant>) -> Option<Instant> {
        let claimed = self.inputs.claimed.borrow_and_update().clone();
        if claimed.is_empty() {
            // What is claimed later must be held against a list of its time.
            self.progress
                .send_if_modified(|checked| std::mem::take(checked) != Checked::default());
            return None;
        }
        let soon = Instant::now() + self.timing.jitter.mul_f64(rand::random());
        let checked = self.progress.borrow();
        match planned {
            None => Some(soon),
            Some(planned) if checked.failure.is_some() || claimed.is_subset(&checked.addresses) => {
                Some(planned)
            }
            Some(planned) => Some(planned.min(soon)),
        }
    }

    /// Sends the protected addresses if they changed.
    async fn send(&mut self) -> Result<(), Unheard> {
        let mut all = self.inputs.fixed.borrow_and_update().clone();
        all.extend(self.listed.iter().flatten());
        if self.sent.as_ref() != Some(&all) {
            self.sent = Some(all.clone());
            self.events
                .send(Event::Protected(all))
                .await
                .map_err(|_| Unheard)?;
        }
        Ok(())
    }

    /// Lists once; says when to do so again.
    async fn list(&mut self) -> Duration {
        // Claims that come while the list runs are not held against it.
        let claimed = self.inputs.claimed.borrow().clone();
        let around = 1.0 + rand::random::<f64>() / 2.0;
        match self.addresses().await {
            Ok(addresses) => {
                self.listed = Some(addresses);
                // The event goes first: who sees an address checked finds the
                // protected ones in the channel already.
                let _ = self.send().await;
                self.progress.send_replace(Checked {
                    addresses: claimed,
                    failure: None,
                });
                self.timing.every.mul_f64(around)
            }
            Err(failure) => {
                let failure = format!("list addresses of Nodes and API servers: {failure}");
                tracing::warn!("{failure}");
                self.progress
                    .send_modify(|checked| checked.failure = Some(failure));
                self.timing.retry.mul_f64(around)
            }
        }
    }

    async fn addresses(&self) -> Result<BTreeSet<IpAddr>, Failure> {
        let mut addresses = BTreeSet::new();
        for object in all(&self.nodes, Kind::Node).await? {
            if let Object::Node(node) = object
                && node.metadata.name != self.inputs.node_name
            {
                addresses.extend(
                    node.status
                        .addresses
                        .iter()
                        .filter_map(|at| at.address.parse::<IpAddr>().ok()),
                );
            }
        }
        for object in all(&self.api_servers, Kind::EndpointSlice).await? {
            if let Object::EndpointSlice(slice) = object {
                let endpoints = slice
                    .endpoints
                    .iter()
                    .flat_map(|endpoint| &endpoint.addresses);
                addresses.extend(endpoints.filter_map(|address| address.parse::<IpAddr>().ok()));
            }
        }
        Ok(addresses)
    }
}

/// All objects of a list out of the server's cache; one that does not decode
/// is skipped with a warning.
async fn all(requests: &Requests, kind: Kind) -> Result<Vec<Object>, Failure> {
    let decode = |object: Value| match Object::decode(kind, object) {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::warn!(%error, "object skipped");
            None
        }
    };
    let mut objects = Vec::new();
    let mut page = requests.first_page(PAGE, &As::Cached).await?;
    loop {
        let next = page.next();
        objects.extend(page.into_items().into_iter().filter_map(decode));
        match next {
            Some(token) => page = requests.further_page(PAGE, &token).await?,
            None => return Ok(objects),
        }
    }
}
