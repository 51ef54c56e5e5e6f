//! The task of one kind: list, watch, and start again where it stopped.

mod lessons;
mod lists;

use std::sync::Arc;
use std::time::Duration;

use kube_ipvs_core::event::{Event, Kind, ObjectRef};
use kube_ipvs_core::k8s::Object;
use kube_ipvs_core::regarding::Reference;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::WatchSettings;
use super::cursor::{Cursor, number};
use super::failure::Failure;
use super::lines::Lines;
use super::requests::{Identity, Requests, tree};
use super::seen::Seen;
use super::signs::{Ear, Signs};
use super::status::{KindStatus, SourceStatus};
use crate::backoff::Backoff;

/// Annotation of the bookmark that ends a streamed list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
/// A server may end a watch this much later than it was asked to.
const GRACE: Duration = Duration::from_secs(15);
/// A watch that ends sooner is no good watch, even if it ends in order.
const AT_ONCE: Duration = Duration::from_millis(500);
/// Longest wait of a kind that is woken, so that not all ask at once.
const WOKEN: Duration = Duration::from_millis(500);

/// Follows one kind.
pub(super) struct Follower {
    requests: Requests,
    settings: WatchSettings,
    events: mpsc::Sender<Event>,
    status: Arc<SourceStatus>,
    seen: Seen,
    backoff: Backoff,
    cursor: Cursor,
    /// The server streams lists, as far as we know.
    streaming: bool,
    /// The server sends bookmarks: its silence means something.
    bookmarks: bool,
    /// The last connection went silent.
    silent: bool,
    /// The last watch ended before its time: the server may be another one
    /// since, or an older one.
    doubt: bool,
    /// When the server had lost our place last.
    gone: Option<Instant>,
    /// When there was no answer last.
    away: Option<Instant>,
    /// The last failure was the server's.
    waiting: bool,
    signs: Signs,
    ear: Ear,
    /// Objects in the list that runs.
    listed: usize,
}

/// One line of a watch.
#[derive(Deserialize)]
struct WatchLine<'a> {
    #[serde(rename = "type")]
    change: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl Follower {
    pub(super) fn new(
        requests: Requests,
        settings: WatchSettings,
        events: mpsc::Sender<Event>,
        status: Arc<SourceStatus>,
        signs: Signs,
    ) -> Self {
        status.update(requests.resource().kind, |_| {});
        Self {
            backoff: Backoff::new(settings.first_pause, settings.longest_pause),
            requests,
            settings,
            events,
            status,
            seen: Seen::default(),
            cursor: Cursor::default(),
            streaming: true,
            bookmarks: false,
            silent: false,
            doubt: false,
            gone: None,
            away: None,
            waiting: false,
            ear: signs.listen(),
            signs,
            listed: 0,
        }
    }

    /// Runs until nobody listens any more.
    pub(super) async fn run(mut self) {
        let events = self.events.clone();
        tokio::select! {
            () = self.rounds() => {}
            () = events.closed() => {}
        }
    }

    async fn rounds(&mut self) {
        loop {
            let begun = Instant::now();
            self.ear.forget();
            let lasting = self.settings.watch_timeout;
            let outcome = self.round().await;
            self.doubt |= outcome.is_err() || begun.elapsed() < lasting;
            self.update(|status| status.watching = false);
            if begun.elapsed() >= self.settings.settled_after {
                self.backoff.reset();
            }
            let failure = match outcome {
                Ok(()) if begun.elapsed() >= AT_ONCE => continue,
                Ok(()) => Failure::Broken("the watch ended as soon as it began".to_owned()),
                Err(Failure::Unheard) => return,
                Err(failure) => failure,
            };
            let pause = self.learn(&failure).await;
            self.report(&failure, pause);
            self.wait(pause).await;
        }
    }

    /// Waits, but no longer than until the server answers somebody.
    async fn wait(&mut self, pause: Duration) {
        let woken = async {
            if self.waiting {
                self.ear.hear().await
            } else {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = woken => {
                self.backoff.reset();
                sleep(WOKEN.mul_f64(rand::random())).await;
            }
        }
    }

    /// The server answered: others may have waited for that.
    fn answered(&mut self) {
        if std::mem::take(&mut self.waiting) {
            self.signs.alive();
        }
    }

    /// Lists if need be, then watches until the watch ends.
    async fn round(&mut self) -> Result<(), Failure> {
        let lasting = self
            .settings
            .watch_timeout
            .mul_f64(1.0 + rand::random::<f64>() / 2.0);
        if self.cursor.position().is_none() {
            if self.streaming {
                return self.streamed_list(lasting).await;
            }
            self.paged_list().await?;
        }
        if self.doubt {
            self.check_history().await?;
            self.doubt = false;
        }
        let position = self.cursor.position().unwrap_or_default();
        let fresh = std::mem::take(&mut self.silent);
        let lines = self.requests.watch(position, lasting, fresh).await?;
        self.answered();
        self.update(|status| status.failure = None);
        self.follow(lines, lasting, false).await
    }

    /// Reads a watch to its end. `listing`: it begins with a list.
    async fn follow(
        &mut self,
        mut lines: Lines,
        lasting: Duration,
        mut listing: bool,
    ) -> Result<(), Failure> {
        self.update(|status| status.watching = true);
        loop {
            let patience = if self.bookmarks {
                self.settings.progress_timeout
            } else {
                lasting + GRACE
            };
            let line = timeout(patience, lines.next())
                .await
                .map_err(|_| Failure::Silent(patience))??;
            self.status.heard(self.kind());
            match line {
                Some(line) if line.is_empty() => {}
                Some(line) => listing = self.take(&line, listing).await?,
                None if listing => {
                    return Err(Failure::Broken(
                        "the watch ended within the list".to_owned(),
                    ));
                }
                None => return Ok(()),
            }
        }
    }

    /// Takes one line in; says whether the list still runs.
    async fn take(&mut self, line: &[u8], listing: bool) -> Result<bool, Failure> {
        let line: WatchLine = serde_json::from_slice(line)
            .map_err(|error| Failure::Nonsense(format!("watch event: {error}")))?;
        match line.change.as_str() {
            "ADDED" | "MODIFIED" => self.apply(line.object, listing).await?,
            "DELETED" => self.remove(&Identity::of(line.object)?, listing).await?,
            "BOOKMARK" => return self.bookmark(&tree(line.object)?, listing).await,
            "ERROR" => return Err(Failure::from_event(tree(line.object)?)),
            other => tracing::debug!(kind = %self.kind(), "unknown watch event {other:?}"),
        }
        Ok(listing)
    }

    async fn apply(&mut self, text: &RawValue, listing: bool) -> Result<(), Failure> {
        let decoded = Object::decode_text(self.kind(), text.get());
        let identity = match &decoded {
            Ok(_) => Identity::default(),
            Err(_) => Identity::of(text)?,
        };
        let (namespace, name, version) = match &decoded {
            Ok(object) => {
                let metadata = object.metadata();
                (
                    &*metadata.namespace,
                    &*metadata.name,
                    &*metadata.resource_version,
                )
            }
            Err(_) => (
                &*identity.namespace,
                &*identity.name,
                &*identity.resource_version,
            ),
        };
        let at = number(version);
        let news = if listing {
            self.listed += 1;
            self.seen.listed(namespace, name, at);
            true
        } else {
            self.seen.changed(namespace, name, at)
        };
        if !self.counts(news, at, listing) {
            return Ok(());
        }
        let event = match decoded {
            Err(error) => {
                tracing::warn!(%error, "object skipped: what it was before, if anything, stays");
                self.update(|status| status.undecodable += 1);
                Event::Unreadable(Reference {
                    object: self.reference(&identity.namespace, &identity.name),
                    uid: identity.uid,
                })
            }
            Ok(object) => Event::Upsert(object),
        };
        self.send(event).await?;
        if self.kind() == Kind::Node {
            self.node_is_known(true);
        }
        Ok(())
    }

    async fn remove(&mut self, object: &Identity, listing: bool) -> Result<(), Failure> {
        let Identity {
            namespace,
            name,
            resource_version: version,
            ..
        } = object;
        let at = number(version);
        let news = self.seen.removed(namespace, name, at);
        if !self.counts(news, at, listing) {
            return Ok(());
        }
        let reference = self.reference(namespace, name);
        self.send(Event::Delete(reference)).await?;
        if self.kind() == Kind::Node {
            self.node_is_known(false);
        }
        Ok(())
    }

    fn reference(&self, namespace: &str, name: &str) -> ObjectRef {
        ObjectRef {
            kind: self.kind(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Notes a repeat, or moves our place forward.
    fn counts(&mut self, news: bool, at: u64, listing: bool) -> bool {
        if !news {
            self.update(|status| status.repeats += 1);
        } else if !listing {
            self.cursor.advance(at);
        }
        news
    }

    async fn bookmark(&mut self, object: &Value, listing: bool) -> Result<bool, Failure> {
        let version = object["metadata"]["resourceVersion"].as_str();
        let version = version.unwrap_or_default();
        if version.is_empty() {
            return Err(Failure::Nonsense(
                "a bookmark without a resource version".to_owned(),
            ));
        }
        self.bookmarks = true;
        let ends_list = object["metadata"]["annotations"][INITIAL_EVENTS_END] == "true";
        if listing && ends_list {
            self.list_completed(version.to_owned()).await?;
            return Ok(false);
        }
        if !listing {
            self.cursor.check_bookmark(version)?;
            self.seen.bookmark(number(version));
            self.cursor.advance(number(version));
        }
        Ok(listing)
    }

    fn node_is_known(&self, known: bool) {
        let name = &self.settings.node_name;
        if !known && self.status.missing_node().is_none() {
            tracing::warn!(
                "Node {name} is not known to the API server: waiting for it; is --hostname-override right?"
            );
        }
        self.status.set_missing_node((!known).then_some(name));
    }

    async fn send(&self, event: Event) -> Result<(), Failure> {
        self.status.learned().hear(&event);
        self.events.send(event).await.map_err(|_| Failure::Unheard)
    }

    fn update(&self, change: impl FnOnce(&mut KindStatus)) {
        self.status.update(self.kind(), change);
    }

    fn kind(&self) -> Kind {
        self.requests.resource().kind
    }
}
