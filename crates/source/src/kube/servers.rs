//! The addresses of the API server: the one of the configuration, those that
//! the operator names beside it, and those that the slices of
//! `default/kubernetes` had when they were listed last.
//!
//! A connection is made to the first one that answers. The next address is not
//! waited for until the one before has failed: a control-plane node that lost
//! its power refuses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use http::Uri;
use http::uri::Authority;
use hyper_rustls::{DefaultServerNameResolver, ResolveServerName};
use kube_ipvs_core::event::{Event, Kind, ObjectRef};
use kube_ipvs_core::k8s::{EndpointSlice, Object, SERVICE_NAME_LABEL};
use kube_ipvs_core::read::port_number;
use rand::seq::SliceRandom;
use rustls::pki_types::ServerName;
use tokio::time::{sleep, timeout};
use tower::{BoxError, Service};

use super::failure::chain;
use super::status::SourceStatus;

/// Head start of an address over the next one.
const HEAD_START: Duration = Duration::from_secs(1);
/// Time for a connection to be made and for TLS to be agreed on.
const PATIENCE: Duration = Duration::from_secs(10);
/// Learned addresses that are tried at most.
const MOST: usize = 16;

/// What `default/kubernetes` said.
#[derive(Debug, Default)]
pub(super) struct Learned {
    slices: Mutex<Slices>,
}

#[derive(Debug, Default)]
struct Slices {
    /// Addresses by slice, as of the last whole list and what came since.
    known: BTreeMap<String, BTreeSet<SocketAddr>>,
    /// Those of the list that runs.
    listed: Option<BTreeMap<String, BTreeSet<SocketAddr>>>,
}

impl Learned {
    /// Takes in what a source tells. A list counts when it is whole.
    pub(super) fn hear(&self, event: &Event) {
        match event {
            Event::ListStarted(Kind::EndpointSlice) => {
                self.slices().listed = Some(BTreeMap::new());
            }
            Event::ListCompleted(Kind::EndpointSlice) => {
                let mut slices = self.slices();
                if let Some(listed) = slices.listed.take() {
                    slices.known = listed;
                }
            }
            Event::Upsert(Object::EndpointSlice(slice)) if is_ours(slice) => {
                let (name, addresses) = (slice.metadata.name.clone(), addresses(slice));
                self.slices().current().insert(name, addresses);
            }
            // It may have led somewhere else before.
            Event::Upsert(Object::EndpointSlice(slice))
                if slice.metadata.namespace == "default" =>
            {
                self.slices().current().remove(&slice.metadata.name);
            }
            Event::Delete(ObjectRef {
                kind: Kind::EndpointSlice,
                namespace,
                name,
            }) if namespace == "default" => {
                self.slices().current().remove(name);
            }
            _ => {}
        }
    }

    fn addresses(&self) -> BTreeSet<SocketAddr> {
        self.slices().known.values().flatten().copied().collect()
    }

    fn slices(&self) -> MutexGuard<'_, Slices> {
        self.slices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slices {
    fn current(&mut self) -> &mut BTreeMap<String, BTreeSet<SocketAddr>> {
        self.listed.as_mut().unwrap_or(&mut self.known)
    }
}

fn is_ours(slice: &EndpointSlice) -> bool {
    let metadata = &slice.metadata;
    metadata.namespace == "default"
        && metadata.labels.get(SERVICE_NAME_LABEL).map(String::as_str) == Some("kubernetes")
}

/// Each endpoint that is ready, with the port named `https`.
fn addresses(slice: &EndpointSlice) -> BTreeSet<SocketAddr> {
    let mut ports = slice.ports.iter();
    let https = ports.find(|port| port.name.as_deref() == Some("https"));
    let Some(port) = https.and_then(|port| port_number(port.port?)) else {
        return BTreeSet::new();
    };
    let ready = slice
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.conditions.ready != Some(false));
    let addresses = ready.filter_map(|endpoint| endpoint.addresses.value());
    addresses
        .map(|address| SocketAddr::new(address, port))
        .collect()
}

/// Where to connect to, in order, and by which name a server there has to be known.
#[derive(Clone)]
pub(super) struct Servers {
    configured: Uri,
    named: Vec<Uri>,
    /// None where the configuration has nothing that a stranger would fail at.
    learned: Option<Arc<SourceStatus>>,
    /// The name of all of them, if the configuration says one.
    name: Option<ServerName<'static>>,
}

impl Servers {
    /// Those of a configuration, and of what the source learns.
    ///
    /// What anybody may write into a slice gets our token only after it has
    /// shown a certificate for the configured name: so nothing is learned
    /// without TLS, or where certificates are not looked at.
    pub(super) fn new(
        config: &::kube::Config,
        named: &[Authority],
        status: &Arc<SourceStatus>,
    ) -> anyhow::Result<Self> {
        let configured = config.cluster_url.clone();
        let verified = configured.scheme_str() == Some("https") && !config.accept_invalid_certs;
        let named = named.iter().map(|named| at(&configured, named.clone()));
        let name = config.tls_server_name.clone().map(|name| {
            ServerName::try_from(name.clone()).with_context(|| format!("tls-server-name {name:?}"))
        });
        Ok(Self {
            named: named.collect::<Result<_, _>>()?,
            learned: verified.then(|| status.clone()),
            name: name.transpose()?,
            configured,
        })
    }

    /// Learned ones in any order, so that nodes do not all go to the same.
    fn candidates(&self) -> Vec<Uri> {
        let mut all = vec![self.configured.clone()];
        all.extend(self.named.iter().cloned());
        let status = self.learned.iter();
        let mut learned: Vec<SocketAddr> = status
            .flat_map(|status| status.learned().addresses())
            .collect();
        learned.shuffle(&mut rand::rng());
        // As many as are tried: slices may name thousands.
        let mut learned: Vec<Uri> = learned
            .into_iter()
            .filter_map(|address| at(&self.configured, address.to_string().parse().ok()?).ok())
            .filter(|uri| !all.iter().any(|known| known.authority() == uri.authority()))
            .take(MOST)
            .collect();
        all.append(&mut learned);
        all
    }
}

impl ResolveServerName for Servers {
    /// A learned address is known by the configured name, since whoever may
    /// write slices can name a host that has a certificate of its own.
    fn resolve(&self, uri: &Uri) -> Result<ServerName<'static>, BoxError> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let is_named = self
            .named
            .iter()
            .any(|named| named.authority() == uri.authority());
        let known_by = if is_named { uri } else { &self.configured };
        DefaultServerNameResolver::default().resolve(known_by)
    }
}

/// The same URI at another place.
fn at(uri: &Uri, authority: Authority) -> anyhow::Result<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(authority);
    Uri::from_parts(parts).context("address of an API server")
}

/// Connects to the first of the servers that answers.
#[derive(Clone)]
pub(super) struct Connector<C> {
    servers: Servers,
    inner: C,
}

impl<C> Connector<C> {
    pub(super) fn new(servers: Servers, inner: C) -> Self {
        Self { servers, inner }
    }
}

impl<C, S> Service<Uri> for Connector<C>
where
    C: Service<Uri, Response = S, Error = BoxError, Future: Send> + Clone + Send + 'static,
    S: Send + 'static,
{
    type Response = S;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S, BoxError>>;

    fn poll_ready(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    /// All requests are for one server, so where is no matter of the request.
    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(first(self.inner.clone(), self.servers.candidates()))
    }
}

/// The first connection that is made; with none, what each address failed of.
async fn first<C, S>(inner: C, candidates: Vec<Uri>) -> Result<S, BoxError>
where
    C: Service<Uri, Response = S, Error = BoxError, Future: Send> + Clone + Send + 'static,
{
    let mut attempts = FuturesUnordered::new();
    let mut failures = Vec::new();
    let preferred = candidates.first().cloned();
    let mut waiting = candidates.into_iter().peekable();
    loop {
        if let Some(uri) = waiting.next() {
            attempts.push(attempt(inner.clone(), uri));
        }
        let more = waiting.peek().is_some();
        let ended = tokio::select! {
            ended = attempts.next() => ended,
            () = sleep(HEAD_START), if more => continue,
        };
        match ended {
            Some((uri, Ok(stream))) => {
                if preferred.as_ref() != Some(&uri) {
                    tracing::info!(server = %uri, "the API server is reached by another address");
                }
                return Ok(stream);
            }
            Some((uri, Err(error))) => failures.push((uri, error)),
            None => return Err(none_answered(failures)),
        }
    }
}

async fn attempt<C, S>(mut inner: C, uri: Uri) -> (Uri, Result<S, BoxError>)
where
    C: Service<Uri, Response = S, Error = BoxError>,
{
    let connected = timeout(PATIENCE, inner.call(uri.clone())).await;
    let silent = || format!("no answer within {} s", PATIENCE.as_secs()).into();
    (uri, connected.unwrap_or_else(|_| Err(silent())))
}

/// One failure as it is, several with the address of each.
fn none_answered(mut failures: Vec<(Uri, BoxError)>) -> BoxError {
    if failures.len() == 1
        && let Some((_, error)) = failures.pop()
    {
        return error;
    }
    let told = failures.iter().map(|(uri, error)| {
        let address = uri.authority().map_or("", Authority::as_str);
        format!("{address}: {}", chain(&**error))
    });
    told.collect::<Vec<_>>().join("; ").into()
}
