//! The API server as a source.
//!
//! One task a kind lists and watches: Services, EndpointSlices, ServiceCIDRs
//! and this Node, each through the selectors of kube-proxy. What comes is
//! decoded at once into the core's small types and sent on as [`Event`]s; the
//! source itself keeps two numbers an object, to tell old news from new.
//!
//! A watch ends for many reasons, none of which loses anything: the next one
//! starts where it stopped, and only a server that has forgotten that place
//! (410) is asked for everything again, after a random wait, so that a thousand
//! nodes do not ask at once. How long the source has heard nothing, and why, is
//! in [`SourceStatus`].

mod access;
mod connect;
mod count;
mod cursor;
mod failure;
mod follow;
mod lines;
mod requests;
mod resources;
mod seen;
mod servers;
mod signs;
mod status;

use std::sync::Arc;
use std::time::Duration;

use ::kube::Client;
use kube_ipvs_core::event::Event;
use tokio::sync::mpsc;

use crate::tasks::{Task, Tasks};

pub use access::KubeConfig;
pub use connect::connect;
pub use status::{KindStatus, SourceStatus};

pub use crate::backoff::LONGEST;
pub use failure::Failure;
pub use requests::{As, Requests, answer};
pub use resources::Resource;

/// Whose objects to watch, and how patiently.
#[derive(Debug, Clone)]
pub struct WatchSettings {
    /// This node's name.
    pub node_name: String,
    /// Watch Services with this value of `service.kubernetes.io/service-proxy-name`
    /// instead of those without the label.
    pub service_proxy_name: Option<String>,
    /// How long one watch lasts before it is asked for anew; a random half is
    /// added.
    pub watch_timeout: Duration,
    /// A watch whose server sends bookmarks, but has been silent for this
    /// long, is taken for dead. A server sends one a minute.
    pub progress_timeout: Duration,
    /// Objects a page of a list, where lists are not streamed.
    pub page_size: u32,
    /// First pause after a failure; it doubles, with jitter, up to `longest_pause`.
    pub first_pause: Duration,
    /// Longest pause between attempts.
    pub longest_pause: Duration,
    /// A watch that held this long was fine: the next pause is the first one.
    pub settled_after: Duration,
    /// Upper bound of the random wait before a full list is asked for again.
    pub relist_jitter: Duration,
}

impl WatchSettings {
    /// The usual patience, for a node.
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.to_owned(),
            service_proxy_name: None,
            watch_timeout: Duration::from_secs(300),
            progress_timeout: Duration::from_secs(150),
            page_size: 500,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            settled_after: Duration::from_secs(10),
            relist_jitter: Duration::from_secs(5),
        }
    }
}

/// Starts a task for each kind. They end when the channel's receiver is
/// dropped, or when they are.
pub fn spawn(
    tasks: &Tasks,
    client: &Client,
    settings: &WatchSettings,
    events: &mpsc::Sender<Event>,
    status: &Arc<SourceStatus>,
) -> Vec<Task> {
    let mut running = Vec::new();
    let signs = signs::Signs::default();
    for resource in resources::watched(settings) {
        let name = format!("watch of {}", resource.plural());
        let follower = follow::Follower::new(
            Requests::new(client.clone(), resource),
            settings.clone(),
            events.clone(),
            status.clone(),
            signs.clone(),
        );
        running.push(tasks.spawn(name, follower.run()));
    }
    running
}
