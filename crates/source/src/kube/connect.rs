//! The client: how it connects, notices a dead peer, and takes up new
//! credentials.
//!
//! A peer can vanish without a word (a control-plane node that loses power, a
//! load balancer whose backend does), and a watch that waits for the next
//! change would wait for ever. TCP keep-alive finds a dead peer within
//! [`PING_INTERVAL`] + [`PING_TIMEOUT`], HTTP/2 pings find one behind a load
//! balancer just as soon, and bookmarks find a server that is only half dead.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ::kube::client::{Body, ConfigExt};
use ::kube::{Client, Config};
use anyhow::Context;
use http::uri::Authority;
use http::{Request, Response, StatusCode};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::{BoxError, ServiceBuilder, service_fn};

use super::access::{KubeConfig, Stamp};
use super::servers::{Connector, Servers};
use super::status::SourceStatus;

/// Time for a connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence after which the peer is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Time to answer that.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// How often files are looked at, and how often credentials that were refused
/// are read again.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// Marks a request that must not use a connection that exists: the last one
/// went silent.
#[derive(Debug, Clone, Copy)]
pub(super) struct OnFreshConnection;

/// Makes a client. Nothing is sent yet: a server that is down is no error here.
///
/// Requests are counted in `status`.
///
/// # Errors
///
/// When the configuration or a file it names is missing, unreadable or wrong.
pub async fn connect(config: &KubeConfig, status: &Arc<SourceStatus>) -> anyhow::Result<Client> {
    // An error means that there is a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let read = config.read().await?;
    if read.proxy_url.is_some() {
        tracing::warn!("HTTPS_PROXY is ignored: the API server is connected to directly");
    }
    let namespace = read.default_namespace.clone();
    let rotating = Arc::new(Rotating {
        client: RwLock::new(stack(&read, &config.more, status)?),
        freshness: Mutex::new(Freshness {
            stamps: config.stamps(),
            checked: Instant::now(),
            refused: false,
        }),
        config: config.clone(),
        status: status.clone(),
    });
    let service = service_fn(move |request| {
        let rotating = rotating.clone();
        async move { rotating.send(request).await }
    });
    Ok(Client::new(service, namespace))
}

/// A client that is made anew when its credentials change.
struct Rotating {
    config: KubeConfig,
    client: RwLock<Client>,
    freshness: Mutex<Freshness>,
    status: Arc<SourceStatus>,
}

struct Freshness {
    stamps: Vec<Stamp>,
    checked: Instant,
    /// The last answer was 401.
    refused: bool,
}

impl Rotating {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, ::kube::Error> {
        if self.outdated() || request.extensions().get::<OnFreshConnection>().is_some() {
            self.renew().await;
        }
        let call = super::count::Call::of(&request);
        let client = self
            .client
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let answer = client.send(request).await;
        let code = answer
            .as_ref()
            .map_or(0, |response| response.status().as_u16());
        self.status.count_request(call, code);
        if code == StatusCode::UNAUTHORIZED.as_u16() {
            self.freshness().refused = true;
        }
        answer
    }

    /// Whether the credentials' files changed, or were refused; looked at now
    /// and then.
    fn outdated(&self) -> bool {
        let mut freshness = self.freshness();
        if freshness.checked.elapsed() < RELOAD_INTERVAL {
            return false;
        }
        freshness.checked = Instant::now();
        let stamps = self.config.stamps();
        let changed = stamps != freshness.stamps;
        freshness.stamps = stamps;
        std::mem::take(&mut freshness.refused) || changed
    }

    /// Reads the configuration again and starts with no connection. If it
    /// cannot be read, the one there is goes on.
    async fn renew(&self) {
        let renewed = match self.config.read().await {
            Ok(read) => stack(&read, &self.config.more, &self.status),
            Err(error) => Err(error),
        };
        match renewed {
            Ok(client) => *self.client.write().unwrap_or_else(PoisonError::into_inner) = client,
            Err(error) => tracing::warn!("credentials stay as they were: {error:#}"),
        }
    }

    fn freshness(&self) -> MutexGuard<'_, Freshness> {
        self.freshness
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client over one pool of connections.
fn stack(
    config: &Config,
    more: &[Authority],
    status: &Arc<SourceStatus>,
) -> anyhow::Result<Client> {
    let tls = trusting(config)
        .rustls_client_config()
        .context("TLS to the API server")?;
    let servers = Servers::new(config, more, status)?;
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .with_server_name_resolver(servers.clone())
        .enable_all_versions()
        .wrap_connector(tcp());
    let connector = Connector::new(servers, connector);
    let client = legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_adaptive_window(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build::<_, Body>(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(
            config
                .auth_layer()
                .context("credentials for the API server")?,
        )
        .layer(
            config
                .extra_headers_layer()
                .context("headers for the API server")?,
        )
        .map_err(BoxError::from)
        .service(client);
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// The configuration without a look at the machine's own certificates where
/// none is needed: a machine that has none refuses to make a TLS client at all.
fn trusting(config: &Config) -> Cow<'_, Config> {
    let plain = config.cluster_url.scheme_str() == Some("http");
    if config.root_cert.is_none() && (plain || config.accept_invalid_certs) {
        let mut config = config.clone();
        config.root_cert = Some(Vec::new());
        return Cow::Owned(config);
    }
    Cow::Borrowed(config)
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(PING_INTERVAL));
    tcp.set_keepalive_interval(Some(PING_TIMEOUT / 2));
    tcp.set_keepalive_retries(Some(2));
    // Sent and never acknowledged is dead too.
    tcp.set_tcp_user_timeout(Some(PING_INTERVAL + PING_TIMEOUT));
    tcp
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorities(url: &str, change: impl FnOnce(&mut Config)) -> Option<Vec<Vec<u8>>> {
        let mut config = Config::new(url.parse().expect("a URL"));
        change(&mut config);
        trusting(&config).root_cert.clone()
    }

    #[test]
    fn machine_without_certificates_can_speak_plain_http() {
        assert_eq!(authorities("http://10.0.0.1:8080", |_| {}), Some(vec![]));
    }

    #[test]
    fn machine_without_certificates_can_be_told_to_trust_anybody() {
        let insecure = |config: &mut Config| config.accept_invalid_certs = true;

        assert_eq!(authorities("https://10.0.0.1:6443", insecure), Some(vec![]));
    }

    #[test]
    fn https_without_authority_asks_the_machine() {
        assert_eq!(authorities("https://10.0.0.1:6443", |_| {}), None);
    }
}
