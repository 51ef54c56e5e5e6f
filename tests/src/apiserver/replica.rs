//! What somebody who listens to a source knows: a copy of the server's
//! objects, built from events alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Access, ApiServer, Options, node, service_cidr};
use kube_ipvs_core::event::{Event, Kind, ObjectRef};
use kube_ipvs_core::k8s::Object;
use kube_ipvs_source::kube::{SourceStatus, WatchSettings, spawn};
use kube_ipvs_source::tasks::{Task, Tasks};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Time for anything that should happen to happen.
pub const SOON: Duration = Duration::from_secs(20);

/// The kinds a source watches.
pub const KINDS: [Kind; 4] = [
    Kind::Service,
    Kind::EndpointSlice,
    Kind::ServiceCidr,
    Kind::Node,
];

/// A source and what it has told.
pub struct Replica {
    /// The source's own account.
    pub status: Arc<SourceStatus>,
    /// The copy.
    pub objects: BTreeMap<ObjectRef, Object>,
    /// The last protected addresses told.
    pub protected: Option<BTreeSet<IpAddr>>,
    /// Lists completed.
    pub lists: BTreeMap<Kind, usize>,
    /// Upserts and deletions since the start.
    pub changes: usize,
    running: BTreeMap<Kind, BTreeSet<ObjectRef>>,
    events: mpsc::Receiver<Event>,
    _tasks: Vec<Task>,
    access: Access,
}

/// A server that knows node-1 and one ServiceCIDR.
pub fn server() -> ApiServer {
    server_with(Options::default())
}

/// Such a server that behaves as the options say.
pub fn server_with(options: Options) -> ApiServer {
    let server = ApiServer::local_with(options);
    server.upsert(node("node-1", &["192.0.2.1"]));
    server.upsert(service_cidr("kubernetes", &["10.96.0.0/16"]));
    server
}

/// Such a server that streams no list, as before Kubernetes 1.32.
pub fn paging_server() -> ApiServer {
    server_with(Options {
        streaming_lists: false,
        watch_cache: false,
        ..Options::default()
    })
}

/// WatchSettings whose times are for a test.
pub fn hasty() -> WatchSettings {
    WatchSettings {
        watch_timeout: Duration::from_secs(60),
        progress_timeout: Duration::from_secs(3),
        page_size: 3,
        first_pause: Duration::from_millis(20),
        longest_pause: Duration::from_millis(500),
        settled_after: Duration::from_secs(2),
        relist_jitter: Duration::from_millis(50),
        ..WatchSettings::new("node-1")
    }
}

impl Replica {
    /// With [`hasty`] settings.
    pub async fn of(server: &ApiServer) -> Self {
        Self::with(server, hasty()).await
    }

    /// With these settings, when all kinds have been listed.
    pub async fn synced_with(server: &ApiServer) -> Self {
        let mut replica = Self::of(server).await;
        replica.synced().await;
        replica
    }

    /// The same, when its watch on Services is open too.
    pub async fn watching(server: &ApiServer) -> Self {
        let mut replica = Self::synced_with(server).await;
        replica.watches(server).await;
        replica
    }

    /// With settings of its own.
    pub async fn with(server: &ApiServer, settings: WatchSettings) -> Self {
        Self::through(&server.kubeconfig(), settings).await
    }

    /// By the text of a kubeconfig.
    pub async fn through(text: &str, settings: WatchSettings) -> Self {
        Self::behind(Access::through(text).await, settings)
    }

    /// By this access.
    pub fn behind(access: Access, settings: WatchSettings) -> Self {
        let (sender, events) = mpsc::channel(1024);
        let tasks = spawn(
            &Tasks::unwatched(),
            &access.client,
            &settings,
            &sender,
            &access.status,
        );
        Self {
            status: access.status.clone(),
            objects: BTreeMap::new(),
            protected: None,
            lists: BTreeMap::new(),
            changes: 0,
            running: BTreeMap::new(),
            events,
            _tasks: tasks,
            access,
        }
    }

    /// Takes events in until the condition holds.
    ///
    /// Panics with what is wrong when it does not hold soon.
    pub async fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let waited = timeout(SOON, async {
            while !holds(self) {
                // The condition may be about the server or the status: look
                // again now and then even without an event.
                match timeout(Duration::from_millis(20), self.events.recv()).await {
                    Ok(Some(event)) => self.take(event),
                    Ok(None) => panic!("the source ended before {what}"),
                    Err(_) => {}
                }
            }
        });
        if waited.await.is_err() {
            panic!(
                "not within {SOON:?}: {what}; status {:?}; objects {:?}",
                self.status,
                self.names()
            );
        }
    }

    /// The kubeconfig's file.
    pub fn kubeconfig(&self) -> std::path::PathBuf {
        self.access.kubeconfig()
    }

    /// Until all kinds have been listed.
    pub async fn synced(&mut self) {
        self.until("all kinds are listed", |replica| {
            KINDS.iter().all(|kind| replica.lists.contains_key(kind))
        })
        .await;
    }

    /// Until its watch on Services is open.
    pub async fn watches(&mut self, server: &ApiServer) {
        self.until("a watch is open", |_| server.watches("services") == 1)
            .await;
    }

    /// Until Services have been listed so many times.
    pub async fn lists_services(&mut self, times: usize) {
        let what = format!("Services are listed {times} times");
        self.until(&what, |replica| replica.lists[&Kind::Service] == times)
            .await;
    }

    /// Until so many attempts at Services have failed.
    pub async fn fails(&mut self, times: u64) {
        let what = format!("{times} attempts fail");
        self.until(&what, |replica| {
            replica.status.kind(Kind::Service).failures >= times
        })
        .await;
    }

    /// Until it holds no Service.
    pub async fn loses_its_services(&mut self) {
        self.until("no Service is left", |replica| {
            replica.names_of(Kind::Service).is_empty()
        })
        .await;
    }

    /// Until the copy equals what the server has.
    pub async fn equals(&mut self, server: &ApiServer) {
        self.until("the copy equals the server's objects", |replica| {
            replica.versions() == stored(server)
        })
        .await;
    }

    /// The names of the objects of a kind.
    pub fn names_of(&self, kind: Kind) -> Vec<&str> {
        self.objects
            .keys()
            .filter(|object| object.kind == kind)
            .map(|object| object.name.as_str())
            .collect()
    }

    fn names(&self) -> Vec<String> {
        self.objects.keys().map(ToString::to_string).collect()
    }

    fn versions(&self) -> BTreeMap<(String, String), String> {
        let version = |object: &Object| object.metadata().resource_version.clone();
        let key = |object: &ObjectRef| {
            (
                object.kind.to_string(),
                format!("{}/{}", object.namespace, object.name),
            )
        };
        self.objects
            .iter()
            .map(|(reference, object)| (key(reference), version(object)))
            .collect()
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::ListStarted(kind) => {
                self.running.insert(kind, BTreeSet::new());
            }
            Event::ListCompleted(kind) => {
                let listed = self
                    .running
                    .remove(&kind)
                    .expect("a list that is completed was started");
                self.objects
                    .retain(|object, _| object.kind != kind || listed.contains(object));
                *self.lists.entry(kind).or_default() += 1;
            }
            Event::ListIncomplete(kind) => {
                panic!("the API gives a list of {kind} whole or not at all")
            }
            Event::Upsert(object) => {
                let reference = object.reference();
                if let Some(listed) = self.running.get_mut(&reference.kind) {
                    listed.insert(reference.clone());
                }
                self.objects.insert(reference, object);
                self.changes += 1;
            }
            Event::Unreadable(reference) => {
                let object = reference.object;
                if let Some(listed) = self.running.get_mut(&object.kind) {
                    listed.insert(object);
                }
            }
            Event::Delete(reference) => {
                self.objects.remove(&reference);
                self.changes += 1;
            }
            Event::Protected(addresses) => self.protected = Some(addresses),
            Event::Unchecked(_)
            | Event::HostAddresses(_)
            | Event::Gateways(_)
            | Event::Listeners(_)
            | Event::UnopenedHealthPorts(_)
            | Event::MissingSchedulers(_) => {
                panic!("the API source itself checks nothing and knows no host or kernel")
            }
        }
    }
}

/// What the server has of what a proxier of node-1 watches.
fn stored(server: &ApiServer) -> BTreeMap<(String, String), String> {
    let mut versions = BTreeMap::new();
    for kind in KINDS {
        for object in server.objects(&kind.to_string()) {
            let metadata = &object["metadata"];
            let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
            if kind == Kind::Node && text("name") != "node-1" {
                continue;
            }
            let name = format!("{}/{}", text("namespace"), text("name"));
            versions.insert((kind.to_string(), name), text("resourceVersion"));
        }
    }
    versions
}
