//! Connections, and the answer to each request.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::{Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use super::fault::{Faults, Strike};
use super::handle::Options;
use super::reply::{self, Body};
use super::request::Request;
use super::selector::Selector;
use super::store::Store;
use super::tls::{Authority, Tls};
use super::watch as watching;

/// The resources there are, those of namespaces first.
const KNOWN: &[&str] = &[
    "services",
    "endpointslices",
    "events",
    "secrets",
    "nodes",
    "servicecidrs",
];
/// Those among them.
const NAMESPACED: &[&str] = &["services", "endpointslices", "events", "secrets"];

/// What the handle and the connections share.
pub(super) struct Shared {
    pub(super) options: Options,
    /// What its kubeconfig trusts.
    pub(super) authority: Option<Authority>,
    token: Mutex<Option<String>>,
    store: Mutex<Store>,
    faults: Mutex<Faults>,
    requests: Mutex<Vec<Request>>,
    watches: Mutex<BTreeMap<String, usize>>,
    /// The newest resource version, to wake the watches.
    pub(super) version: watch::Sender<u64>,
    pub(super) strikes: broadcast::Sender<(String, Strike)>,
}

impl Shared {
    pub(super) fn new(options: Options, authority: Option<Authority>) -> Self {
        Self {
            authority,
            token: Mutex::new(options.bearer_token.clone()),
            options,
            store: Mutex::default(),
            faults: Mutex::default(),
            requests: Mutex::default(),
            watches: Mutex::default(),
            version: watch::Sender::new(0),
            strikes: broadcast::Sender::new(64),
        }
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    pub(super) fn token(&self) -> MutexGuard<'_, Option<String>> {
        lock(&self.token)
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    pub(super) fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        lock(&self.requests)
    }

    pub(super) fn watches(&self, resource: &str) -> usize {
        lock(&self.watches).get(resource).copied().unwrap_or(0)
    }

    /// Counts an open watch for as long as the guard lives.
    pub(super) fn count_watch(self: &Arc<Self>, resource: &str) -> OpenWatch {
        *lock(&self.watches).entry(resource.to_owned()).or_default() += 1;
        OpenWatch {
            shared: self.clone(),
            resource: resource.to_owned(),
        }
    }
}

/// One open watch in the count.
pub(super) struct OpenWatch {
    shared: Arc<Shared>,
    resource: String,
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        if let Some(count) = lock(&self.shared.watches).get_mut(&self.resource) {
            *count -= 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Serves until `up` closes; while it says false nothing listens and every
/// connection is cut.
pub(super) async fn serve(
    shared: Arc<Shared>,
    tls: Option<Tls>,
    listener: TcpListener,
    address: SocketAddr,
    mut up: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let Some(listening) = &listener else {
            if up.wait_for(|up| *up).await.is_err() {
                return Ok(());
            }
            listener = Some(listen(address)?);
            continue;
        };
        tokio::select! {
            accepted = listening.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(connection(shared.clone(), tls.clone(), stream));
            },
            changed = up.changed() => {
                if changed.is_err() { return Ok(()) }
                if !*up.borrow() {
                    listener = None;
                    connections.shutdown().await;
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A listening socket that may follow another one at once.
pub(super) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

async fn connection(shared: Arc<Shared>, tls: Option<Tls>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => converse(shared, stream).await,
        Some(tls) => {
            // A client that does not trust us finds out by itself.
            if let Ok(stream) = tls.acceptor.accept(stream).await {
                converse(shared, stream).await;
            }
        }
    }
}

async fn converse(shared: Arc<Shared>, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    // An aborted response is what faults are for: nothing to report.
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(shared: &Arc<Shared>, incoming: http::Request<Incoming>) -> Response<Body> {
    let mut response = plain_answer(shared, incoming).await;
    reply::dress(&mut response);
    response
}

async fn plain_answer(shared: &Arc<Shared>, incoming: http::Request<Incoming>) -> Response<Body> {
    let Some(mut request) = Request::read(incoming.method(), incoming.uri()) else {
        return reply::unknown();
    };
    request.http = incoming.version();
    let agent = incoming.headers().get(header::USER_AGENT);
    request.user_agent = agent
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let index = {
        let mut requests = shared.requests();
        requests.push(request.clone());
        requests.len() - 1
    };
    let delay = shared.faults().delay(&request.resource);
    if delay > Duration::ZERO {
        tokio::time::sleep(delay).await;
    }
    let response = match refusal(shared, &request, incoming.headers()) {
        Some(refusal) => refusal,
        None => match incoming.into_body().collect().await {
            Ok(body) => carry_out(shared, &request, &body.to_bytes()),
            Err(error) => reply::failure(400, &error.to_string()),
        },
    };
    if let Some(request) = shared.requests().get_mut(index) {
        request.status = response.status().as_u16();
    }
    response
}

/// The answer to a request that is not let through.
fn refusal(
    shared: &Shared,
    request: &Request,
    headers: &header::HeaderMap,
) -> Option<Response<Body>> {
    if let Some(token) = shared.token().as_deref() {
        let presented = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        if presented.and_then(|value| value.strip_prefix("Bearer ")) != Some(token) {
            return Some(reply::failure(401, "Unauthorized"));
        }
    }
    let mut faults = shared.faults();
    if faults.denies(&request.verb, &request.resource) {
        let Request {
            verb,
            group,
            resource,
            ..
        } = request;
        let message = format!(
            "{} is forbidden: User \"system:serviceaccount:kube-system:kube-ipvs\" cannot {verb} \
             resource \"{resource}\" in API group \"{group}\" at the cluster scope",
            reply::qualified(request)
        );
        return Some(reply::failure_about(
            403,
            &message,
            reply::about(request, ""),
        ));
    }
    if !KNOWN.contains(&request.resource.as_str()) {
        return Some(reply::unknown());
    }
    let accept = headers.get(header::ACCEPT);
    let accept = accept
        .and_then(|value| value.to_str().ok())
        .unwrap_or("*/*");
    if !["application/json", "*/*"]
        .iter()
        .any(|ours| accept.contains(ours))
    {
        let message = "406: Not Acceptable\n\nAvailable representations: application/json";
        return Some(reply::failure_about(406, message, json!({})));
    }
    let (code, retry_after) = faults.take_status(&request.resource)?;
    let mut response = reply::failure(code, reply::message(code));
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    Some(response)
}

fn carry_out(shared: &Arc<Shared>, request: &Request, body: &[u8]) -> Response<Body> {
    let selector = match Selector::parse(
        request.parameter("labelSelector"),
        request.parameter("fieldSelector"),
    ) {
        Ok(selector) => selector,
        Err(message) => return reply::failure(400, &message),
    };
    match request.verb.as_str() {
        "watch" => watching::open(shared, request, selector),
        "list" => list(shared, request, &selector),
        "get" => match shared
            .store()
            .get(&request.resource, &request.namespace, &request.name)
        {
            Some(object) => reply::json(200, &object),
            None => missing(request),
        },
        "create" => create(shared, request, body),
        "patch" | "update" => patch(shared, request, body),
        "delete" => {
            let removed =
                shared
                    .store()
                    .delete(&request.resource, &request.namespace, &request.name);
            wake(shared);
            removed.map_or_else(|| missing(request), |object| reply::json(200, &object))
        }
        _ => not_allowed(),
    }
}

fn not_allowed() -> Response<Body> {
    let message = "the server does not allow this method on the requested resource";
    let code = StatusCode::METHOD_NOT_ALLOWED.as_u16();
    reply::failure_about(code, message, json!({}))
}

fn missing(request: &Request) -> Response<Body> {
    let message = format!(
        "{} \"{}\" not found",
        reply::qualified(request),
        request.name
    );
    reply::failure_about(404, &message, reply::about(request, &request.name))
}

/// A version that the server has not reached. A real one waits three seconds
/// for it, and then says so.
fn too_large(wanted: u64, current: u64) -> Response<Body> {
    let message = "Too large resource version";
    let details = json!({
        "causes": [{"reason": "ResourceVersionTooLarge", "message": message}],
        "retryAfterSeconds": 1,
    });
    let message = format!("Timeout: {message}: {wanted}, current: {current}");
    let mut response = reply::failure_about(504, &message, details);
    response.headers_mut().insert(header::RETRY_AFTER, 1.into());
    response
}

fn list(shared: &Shared, request: &Request, selector: &Selector) -> Response<Body> {
    let empty = shared.faults().take_empty_list(&request.resource);
    let stale = shared.faults().take_stale(&request.resource);
    let mut store = shared.store();
    let wanted = request.number("resourceVersion").unwrap_or(0);
    if wanted > store.version() {
        return too_large(wanted, store.version());
    }
    let exact = request.parameter("resourceVersionMatch") == "Exact";
    let stale = stale.or(exact.then_some(wanted));
    let token = request.parameter("continue");
    let (version, mut objects) = if !token.is_empty() {
        match store.take_page(token) {
            Some(page) => page,
            None if !token.starts_with("page-") => {
                let message = "invalid continue token: continue key is not valid";
                return reply::failure(400, message);
            }
            None => return reply::failure(410, "The provided continue parameter is too old"),
        }
    } else if let Some(version) = stale {
        match store.list_at(version, &request.resource, selector) {
            Some(objects) => (version, objects),
            None => return reply::failure(410, reply::message(410)),
        }
    } else {
        (
            store.version(),
            store.list(&request.resource, &request.namespace, selector),
        )
    };
    if empty {
        objects.clear();
    }
    let mut metadata = json!({"resourceVersion": version.to_string()});
    let cached = shared.options.watch_cache && request.parameter("resourceVersion") == "0";
    if let Some(limit) = request
        .number("limit")
        .filter(|_| !cached)
        .map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
        && limit > 0
        && objects.len() > limit
    {
        let rest = objects.split_off(limit);
        metadata["remainingItemCount"] = json!(rest.len());
        metadata["continue"] = json!(store.keep_page(version, rest));
    }
    drop(store);
    let kind = watching::kind_of(&request.resource);
    reply::json(
        200,
        &json!({"kind": format!("{kind}List"), "apiVersion": api_version(request), "metadata": metadata,
                "items": objects.iter().map(|object| untyped(object)).collect::<Vec<_>>()}),
    )
}

/// Items of a list carry neither kind nor version.
fn untyped(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    object
}

fn api_version(request: &Request) -> String {
    match request.group.as_str() {
        "" => request.version.clone(),
        group => format!("{group}/{}", request.version),
    }
}

fn create(shared: &Shared, request: &Request, body: &[u8]) -> Response<Body> {
    let mut object: Value = match serde_json::from_slice(body) {
        Ok(object) => object,
        Err(error) => return reply::failure(400, &error.to_string()),
    };
    if request.namespace.is_empty() && NAMESPACED.contains(&request.resource.as_str()) {
        return not_allowed();
    }
    let name = object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if name.is_empty() {
        return reply::failure(
            422,
            "metadata.name: Required value: name or generateName is required",
        );
    }
    if !request.namespace.is_empty() {
        object["metadata"]["namespace"] = json!(request.namespace);
    }
    if object["note"]
        .as_str()
        .is_some_and(|note| note.len() > 1024)
    {
        let why = "Invalid value: \"\": can have at most 1024 characters";
        let what = format!("Event \"{name}\"");
        let details = json!({"name": name, "kind": "Event"});
        return reply::invalid(details, &what, "FieldValueInvalid", "message", why);
    }
    complete(&mut object, &request.resource);
    let mut store = shared.store();
    if store
        .get(&request.resource, &request.namespace, &name)
        .is_some()
    {
        let message = format!("{} \"{name}\" already exists", reply::qualified(request));
        return reply::failure_about(409, &message, reply::about(request, &name));
    }
    store.upsert(&request.resource, object);
    let created = store.get(&request.resource, &request.namespace, &name);
    drop(store);
    wake(shared);
    reply::json(201, created.as_deref().unwrap_or(&Value::Null))
}

/// What the server writes into an Event that it is given.
fn complete(object: &mut Value, resource: &str) {
    if resource != "events" {
        return;
    }
    for (field, value) in [
        ("deprecatedSource", json!({})),
        ("deprecatedFirstTimestamp", Value::Null),
        ("deprecatedLastTimestamp", Value::Null),
    ] {
        object[field] = value;
    }
}

/// A merge patch, or a replacement when the verb is `update`.
fn patch(shared: &Shared, request: &Request, body: &[u8]) -> Response<Body> {
    let change: Value = match serde_json::from_slice(body) {
        Ok(change) => change,
        Err(error) => return reply::failure(400, &error.to_string()),
    };
    let mut store = shared.store();
    let Some(before) = store.get(&request.resource, &request.namespace, &request.name) else {
        drop(store);
        return missing(request);
    };
    let mut object = (*before).clone();
    merge(&mut object, change);
    store.upsert(&request.resource, object);
    let patched = store.get(&request.resource, &request.namespace, &request.name);
    drop(store);
    wake(shared);
    reply::json(200, patched.as_deref().unwrap_or(&Value::Null))
}

/// RFC 7396.
fn merge(target: &mut Value, change: Value) {
    let Value::Object(change) = change else {
        *target = change;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (field, value) in change {
        if value.is_null() {
            target.as_object_mut().map(|fields| fields.remove(&field));
        } else {
            merge(&mut target[field.as_str()], value);
        }
    }
}

/// Tells the watches to look.
pub(super) fn wake(shared: &Shared) {
    let version = shared.store().version();
    shared.version.send_replace(version);
}
