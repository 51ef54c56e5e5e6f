//! The task of one kind: list, watch, and start again where it stopped.

use std::sync::Arc;
use std::time::Duration;

use kube_ipvs_core::event::{Event, Kind, ObjectRef};
use kube_ipvs_core::k8s::Object;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::Settings;
use super::failure::Failure;
use super::lines::Lines;
use super::requests::{As, Identity, Requests, tree};
use super::seen::Seen;
use super::signs::{Ear, Signs};
use super::status::{KindStatus, SourceStatus};
use crate::backoff::{Backoff, LONGEST};

/// Annotation of the bookmark that ends a streamed list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
/// A server may end a watch this much later than it was asked to.
const GRACE: Duration = Duration::from_secs(15);
/// A watch that ends sooner is no good watch, even if it ends in order.
const AT_ONCE: Duration = Duration::from_millis(500);
/// While nobody answers, one kind asks this often, for all.
const PROBE: Duration = Duration::from_millis(2500);
/// Longest wait of a kind that is woken, so that not all ask at once.
const WOKEN: Duration = Duration::from_millis(500);
/// A relist so soon after an outage needs less chance: the outage's end has
/// spread the nodes already.
const AFTER_OUTAGE: Duration = Duration::from_secs(60);
/// So often a list from the past is refused; then it is believed, since a
/// cluster restored from a backup does go back.
const STALE_LISTS: u32 = 5;

/// Follows one kind.
pub(super) struct Follower {
    requests: Requests,
    settings: Settings,
    events: mpsc::Sender<Event>,
    status: Arc<SourceStatus>,
    seen: Seen,
    backoff: Backoff,
    /// Where the next watch starts; none means list first.
    position: Option<String>,
    /// The newest version known to exist.
    known: Option<String>,
    /// The server streams lists, as far as we know.
    streaming: bool,
    /// The server sends bookmarks: its silence means something.
    bookmarks: bool,
    /// The last connection went silent.
    silent: bool,
    /// The server has lost our place: only a list as of now will do.
    lost: bool,
    /// Lists in a row that were older than what we know.
    stale: u32,
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
        settings: Settings,
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
            position: None,
            known: None,
            streaming: true,
            bookmarks: false,
            silent: false,
            lost: false,
            stale: 0,
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
        if self.position.is_none() {
            if self.streaming {
                return self.streamed_list(lasting).await;
            }
            self.paged_list().await?;
        }
        if self.doubt {
            self.check_history().await?;
            self.doubt = false;
        }
        let position = self.position.clone().unwrap_or_default();
        let fresh = std::mem::take(&mut self.silent);
        let lines = self.requests.watch(&position, lasting, fresh).await?;
        self.answered();
        self.update(|status| status.failure = None);
        self.follow(lines, lasting, false).await
    }

    /// A watch that begins with everything there is.
    async fn streamed_list(&mut self, lasting: Duration) -> Result<(), Failure> {
        let fresh = std::mem::take(&mut self.silent);
        let lines = self
            .requests
            .streaming_list(&self.wanted(As::Newest), lasting, fresh)
            .await?;
        self.answered();
        self.list_started().await?;
        self.follow(lines, lasting, true).await
    }

    /// A list page by page, each sent on and forgotten before the next.
    async fn paged_list(&mut self) -> Result<(), Failure> {
        let size = self.settings.page_size;
        let mut page = self
            .requests
            .first_page(size, &self.wanted(As::Cached))
            .await?;
        self.answered();
        let version = page.version().to_owned();
        self.check_age(&version)?;
        self.list_started().await?;
        loop {
            self.status.heard(self.kind());
            let next = page.next();
            for object in page.into_texts() {
                self.apply(&object, true).await?;
            }
            match next {
                Some(token) => page = self.requests.further_page(size, &token).await?,
                None => return self.list_completed(version).await,
            }
        }
    }

    /// How new a list must be.
    fn wanted(&self, at_first: As) -> As {
        match &self.known {
            _ if self.lost => As::Newest,
            Some(known) => As::NotOlderThan(known.clone()),
            None => at_first,
        }
    }

    /// A watch from a version that the server has not reached says nothing, and
    /// so does one where nothing happens. A server that was restored from a
    /// backup would be listened to in vain until it is as far as it was: so it
    /// is asked, as cheaply as can be, whether it has our version, and if not,
    /// which is its newest.
    async fn check_history(&mut self) -> Result<(), Failure> {
        let Some(known) = self.known.clone() else {
            return Ok(());
        };
        let at_least = As::NotOlderThan(known.clone());
        let now = match self.requests.first_page(1, &at_least).await {
            Err(Failure::Refused { code: 504, .. }) => {
                self.requests.first_page(1, &As::Newest).await
            }
            answer => answer,
        };
        let now = now?.version().to_owned();
        self.answered();
        if number(&now) < number(&known) {
            return Err(Failure::Back { known, now });
        }
        Ok(())
    }

    fn check_age(&self, version: &str) -> Result<(), Failure> {
        match &self.known {
            Some(known) if number(version) < number(known) => Err(Failure::Stale {
                listed: version.to_owned(),
                known: known.clone(),
            }),
            _ => Ok(()),
        }
    }

    async fn list_started(&mut self) -> Result<(), Failure> {
        self.seen.list_started();
        self.listed = 0;
        self.send(Event::ListStarted(self.kind())).await
    }

    async fn list_completed(&mut self, version: String) -> Result<(), Failure> {
        self.check_age(&version)?;
        self.seen.list_completed();
        self.send(Event::ListCompleted(self.kind())).await?;
        self.position = Some(version.clone());
        self.known = Some(version);
        (self.lost, self.stale, self.doubt) = (false, 0, false);
        self.update(|status| {
            status.listed = true;
            status.lists += 1;
            status.failure = None;
        });
        if self.kind() == Kind::Node {
            self.node_is_known(self.listed > 0);
        }
        tracing::debug!(kind = %self.kind(), objects = self.listed, "listed");
        Ok(())
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
                Event::Unreadable(self.reference(&identity.namespace, &identity.name))
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
            self.advance(at);
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
        let known = self.known.as_deref().map_or(0, number);
        if !listing && number(version) < known {
            let why = format!("a bookmark at {version}, though {known} was seen before");
            return Err(Failure::Broken(why));
        }
        if !listing {
            self.seen.bookmark(number(version));
            self.advance(number(version));
        }
        Ok(listing)
    }

    /// Moves our place forward, never back.
    fn advance(&mut self, at: u64) {
        if at > self.position.as_deref().map_or(0, number) {
            self.position = Some(at.to_string());
            self.known = self.position.clone();
        }
    }

    /// Draws the lesson from a failure; says how long to wait.
    async fn learn(&mut self, failure: &Failure) -> Duration {
        if failure.code().is_some_and(|code| code < 500) {
            self.answered();
        }
        self.waiting = failure.heals_with_the_server();
        if failure.unreachable() {
            self.away = Some(Instant::now());
        }
        match failure {
            Failure::NoStreaming(_) => {
                self.streaming = false;
                return Duration::ZERO;
            }
            Failure::Refused { code: 404, .. } if self.kind() == Kind::ServiceCidr => {
                return self.kind_is_absent().await;
            }
            // The rights of an older release: not worth a node without a proxy,
            // while all other kinds are worth the wait.
            Failure::Refused { code: 403, .. }
                if self.kind() == Kind::ServiceCidr && !self.status.kind(self.kind()).listed =>
            {
                return self.kind_is_absent().await;
            }
            Failure::Gone(_) => {
                (self.position, self.lost) = (None, true);
                let before = self.gone.replace(Instant::now());
                if before.is_none_or(|before| before.elapsed() > LONGEST) {
                    // An answer: that there was none before has no say in it. Only
                    // a storm of them is answered slower and slower.
                    self.backoff.reset();
                }
            }
            Failure::Back { .. } => {
                (self.position, self.known, self.lost) = (None, None, true);
                self.backoff.reset();
                return self.relist_jitter();
            }
            // Not a version this server can wait for.
            Failure::Refused { code: 504, .. } => self.lost = true,
            Failure::Refused { code: 400, .. } => self.position = None,
            Failure::Silent(_) => self.silent = true,
            Failure::Stale { .. } => {
                self.stale += 1;
                if self.stale >= STALE_LISTS {
                    self.known = None;
                }
            }
            _ => {}
        }
        let pause = self.backoff.pause(failure.retry_after(), rand::random());
        match failure {
            Failure::Gone(_) => pause + self.relist_jitter(),
            failure if failure.unreachable() && self.kind() == Kind::Service => {
                pause.min(PROBE.mul_f64(0.5 + rand::random::<f64>() / 2.0))
            }
            _ => pause,
        }
    }

    /// A random wait, so that nodes which lost their place at once do not all
    /// list at once.
    fn relist_jitter(&self) -> Duration {
        let outage = self.away.is_some_and(|away| away.elapsed() < AFTER_OUTAGE);
        let longest = if outage {
            self.settings.relist_jitter / 5
        } else {
            self.settings.relist_jitter
        };
        longest.mul_f64(rand::random())
    }

    /// A server before Kubernetes 1.33 has no ServiceCIDRs, and one that does not
    /// show them to us has none for us: that is a full, empty list.
    async fn kind_is_absent(&mut self) -> Duration {
        if !self.status.kind(self.kind()).listed {
            for event in [
                Event::ListStarted(self.kind()),
                Event::ListCompleted(self.kind()),
            ] {
                // When nobody listens any more, the next round finds out.
                let _ = self.events.send(event).await;
            }
        }
        self.update(|status| status.listed = true);
        LONGEST.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }

    fn report(&self, failure: &Failure, pause: Duration) {
        if matches!(failure, Failure::NoStreaming(_)) {
            tracing::debug!(kind = %self.kind(), %failure, "lists are paged instead");
            return;
        }
        let resource = self.requests.resource();
        let what = match resource.group() {
            "" => resource.plural().to_owned(),
            group => format!("{}.{group}", resource.plural()),
        };
        let text = format!("list and watch {what}: {failure}");
        let pause = format!("{:.1}s", pause.as_secs_f64());
        // One break heals by itself; it is worth waking someone when it does not.
        let went_back = matches!(failure, Failure::Back { .. });
        if went_back
            || self.backoff.failures() > 1
            || failure.code().is_some_and(|code| code != 410)
        {
            tracing::warn!(kind = %self.kind(), retry = pause, "{text}");
        } else {
            tracing::info!(kind = %self.kind(), retry = pause, "{text}");
        }
        self.update(|status| {
            status.failures += 1;
            status.failure = Some(text);
        });
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

/// A resource version as a number; 0 if it is none.
fn number(version: &str) -> u64 {
    version.parse().unwrap_or(0)
}
