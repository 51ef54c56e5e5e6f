//! One open watch: initial events, changes, bookmarks, and how it ends.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use super::fault::Strike;
use super::reply::{self, Body};
use super::request::Request;
use super::selector::Selector;
use super::serve::Shared;

/// How long a watch lasts when the client does not say.
const DEFAULT_TIMEOUT: u64 = 1800;

type Sender = mpsc::Sender<io::Result<Frame<Bytes>>>;

/// Answers a watch request.
pub(super) fn open(shared: &Arc<Shared>, request: &Request, selector: Selector) -> Response<Body> {
    let version = request.parameter("resourceVersion");
    if !version.bytes().all(|byte| byte.is_ascii_digit()) {
        let message = format!(
            "resourceVersion: Invalid value: {version:?}: strconv.ParseUint: parsing {version:?}: \
             invalid syntax"
        );
        return reply::failure(500, &message);
    }
    let from = request.number("resourceVersion").unwrap_or(0);
    let streaming = request.flag("sendInitialEvents");
    if streaming && !shared.options.streaming_lists {
        return no_list(
            "sendInitialEvents",
            "sendInitialEvents is forbidden for watch",
        );
    }
    if streaming && request.parameter("resourceVersionMatch") != "NotOlderThan" {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        return no_list("resourceVersionMatch", why);
    }
    let (sender, receiver) = mpsc::channel(64);
    let watch = Watch {
        changed: shared.version.subscribe(),
        strikes: shared.strikes.subscribe(),
        shared: shared.clone(),
        resource: request.resource.clone(),
        selector,
        from,
        bookmarks: request.flag("allowWatchBookmarks"),
        api_version: match request.group.as_str() {
            "" => request.version.clone(),
            group => format!("{group}/{}", request.version),
        },
        sender,
    };
    let deadline = Instant::now()
        + Duration::from_secs(
            request
                .number("timeoutSeconds")
                .filter(|s| *s > 0)
                .unwrap_or(DEFAULT_TIMEOUT),
        );
    tokio::spawn(watch.run(streaming, deadline));
    let frames = futures::stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::header::HeaderValue::from_static("application/json"),
    );
    response
}

/// A list that is not streamed, and which parameter stands in the way.
fn no_list(field: &str, why: &str) -> Response<Body> {
    let details = json!({"group": "meta.k8s.io", "kind": "ListOptions"});
    let why = format!("Forbidden: {why}");
    let what = "ListOptions.meta.k8s.io \"\"";
    reply::invalid(details, what, "FieldValueForbidden", field, &why)
}

struct Watch {
    shared: Arc<Shared>,
    changed: watch::Receiver<u64>,
    strikes: broadcast::Receiver<(String, Strike)>,
    resource: String,
    selector: Selector,
    /// The version up to which the client knows.
    from: u64,
    bookmarks: bool,
    api_version: String,
    sender: Sender,
}

/// Why a watch ends.
enum End {
    /// The client went, or everything is said.
    Quiet,
    /// This status is the last event.
    Status(u16),
}

impl Watch {
    async fn run(mut self, streaming: bool, deadline: Instant) {
        let _open = self.shared.count_watch(&self.resource);
        let end = self.follow(streaming, deadline).await;
        if let End::Status(code) = end {
            let message = match code {
                410 => format!(
                    "too old resource version: {} ({})",
                    self.from,
                    self.shared.store().version()
                ),
                _ => reply::message(code).to_owned(),
            };
            let status = reply::status(code, &message);
            let _ = self.event("ERROR", &status).await;
        }
    }

    async fn follow(&mut self, streaming: bool, deadline: Instant) -> End {
        if (self.from == 0 || streaming)
            && let Err(end) = self.initial(streaming).await
        {
            return end;
        }
        let mut bookmark = ticker(self.shared.options.bookmark_every);
        loop {
            if let Err(end) = self.catch_up().await {
                return end;
            }
            tokio::select! {
                changed = self.changed.changed() => if changed.is_err() { return End::Quiet },
                strike = self.strikes.recv() => match strike {
                    Ok((at, strike)) if at.is_empty() || at == self.resource => return self.suffer(strike).await,
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return End::Quiet,
                },
                _ = bookmark.tick(), if self.bookmarks && self.from <= self.shared.store().version() => {
                    if self.bookmark(false).await.is_err() { return End::Quiet }
                }
                () = sleep_until(deadline) => return End::Quiet,
                () = self.sender.closed() => return End::Quiet,
            }
        }
    }

    /// Sends everything there is as if it had just been added.
    async fn initial(&mut self, streaming: bool) -> Result<(), End> {
        let empty = self.shared.faults().take_empty_list(&self.resource);
        let (version, objects) = {
            let store = self.shared.store();
            (
                store.version(),
                store.list(&self.resource, "", &self.selector),
            )
        };
        self.from = version;
        for object in objects.iter().filter(|_| !empty) {
            self.event("ADDED", object).await?;
        }
        if streaming {
            self.bookmark(true).await
        } else {
            Ok(())
        }
    }

    /// Sends the changes since the last time.
    async fn catch_up(&mut self) -> Result<(), End> {
        if self.from > self.shared.store().version() {
            // A version of the future is waited for without a word.
            return Ok(());
        }
        let (version, changes) = {
            let store = self.shared.store();
            (
                store.version(),
                store.changes_after(self.from, &self.resource),
            )
        };
        let Some(changes) = changes else {
            return Err(End::Status(410));
        };
        self.from = version;
        let (duplicates, reorders) = {
            let faults = self.shared.faults();
            (
                faults.duplicates(&self.resource),
                faults.reorders(&self.resource),
            )
        };
        let mut seen: VecDeque<(&str, Arc<Value>)> = changes
            .iter()
            .filter_map(|change| change.seen_through(&self.selector))
            .collect();
        if reorders {
            seen.make_contiguous().reverse();
        }
        for (kind, object) in seen {
            for _ in 0..if duplicates { 2 } else { 1 } {
                self.event(kind, &object).await?;
            }
        }
        Ok(())
    }

    async fn bookmark(&self, initial_end: bool) -> Result<(), End> {
        let mut object = json!({
            "kind": kind_of(&self.resource), "apiVersion": self.api_version,
            "metadata": {"resourceVersion": self.from.to_string()},
        });
        for (field, value) in blank(&self.resource) {
            object[field] = value;
        }
        if initial_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        self.event("BOOKMARK", &object).await
    }

    async fn event(&self, kind: &str, object: &Value) -> Result<(), End> {
        let mut line = json!({"type": kind, "object": object}).to_string();
        line.push('\n');
        self.send(Ok(Frame::data(Bytes::from(line)))).await
    }

    async fn send(&self, frame: io::Result<Frame<Bytes>>) -> Result<(), End> {
        self.sender.send(frame).await.map_err(|_| End::Quiet)
    }

    async fn suffer(&self, strike: Strike) -> End {
        match strike {
            Strike::Gone => End::Status(410),
            Strike::End => End::Quiet,
            Strike::Reset => {
                let torn =
                    Bytes::from_static(b"{\"type\":\"MODIFIED\",\"object\":{\"metadata\":{\"na");
                let _ = self.send(Ok(Frame::data(torn))).await;
                let _ = self.send(Err(io::ErrorKind::ConnectionReset.into())).await;
                End::Quiet
            }
            Strike::Stall => {
                self.sender.closed().await;
                End::Quiet
            }
        }
    }
}

/// What an object of the resource has when nothing is filled in: a bookmark is
/// such an object, and lists can be `null` in it.
fn blank(resource: &str) -> Vec<(&'static str, Value)> {
    match resource {
        "services" => vec![("spec", json!({})), ("status", json!({"loadBalancer": {}}))],
        "endpointslices" => vec![
            ("addressType", json!("")),
            ("endpoints", Value::Null),
            ("ports", Value::Null),
        ],
        _ => vec![("spec", json!({}))],
    }
}

fn ticker(every: Duration) -> Interval {
    let mut ticker = interval_at(Instant::now() + every, every);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

/// The kind of a resource's objects, as far as this server is asked for them.
pub(super) fn kind_of(resource: &str) -> &str {
    match resource {
        "services" => "Service",
        "endpointslices" => "EndpointSlice",
        "servicecidrs" => "ServiceCIDR",
        "nodes" => "Node",
        "events" => "Event",
        other => other,
    }
}
