//! The test's side of the server.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::fault::{Fault, Strike};
use super::request::Request;
use super::serve::{self, Shared};
use super::store::Store;
use super::tls::Authority;

/// How the server behaves when nothing is wrong.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether `sendInitialEvents` is understood, as since Kubernetes 1.32.
    pub streaming_lists: bool,
    /// Whether lists at version 0 come from a cache, which knows no pages.
    pub watch_cache: bool,
    /// How often a watch gets a bookmark; a real server takes a minute.
    pub bookmark_every: Duration,
    /// The token that every request must bear at first.
    pub bearer_token: Option<String>,
    /// Whether to speak TLS, and so HTTP/2.
    pub tls: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            streaming_lists: true,
            watch_cache: true,
            bookmark_every: Duration::from_secs(1),
            bearer_token: None,
            tls: false,
        }
    }
}

/// All objects of a server as they were.
#[derive(Debug, Clone)]
pub struct Backup(Store);

/// A running server. It stops when this is dropped.
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    up: Option<watch::Sender<bool>>,
    thread: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Starts a server in the calling thread's network namespace. Port 0 picks
    /// a free port.
    pub fn start(address: SocketAddr) -> Self {
        Self::start_with(address, Options::default())
    }

    /// Starts a server on a free port of the loopback address.
    pub fn local() -> Self {
        Self::local_with(Options::default())
    }

    /// Starts a server on such a port that behaves as the options say.
    pub fn local_with(options: Options) -> Self {
        Self::start_with(SocketAddr::from(([127, 0, 0, 1], 0)), options)
    }

    /// Starts a server that behaves as the options say.
    ///
    /// # Panics
    ///
    /// When the address cannot be listened on: there is no test without it.
    pub fn start_with(address: SocketAddr, options: Options) -> Self {
        let authority = options
            .tls
            .then(|| Authority::new().expect("an authority can be made"));
        Self::serving(
            Arc::new(Shared::new(options, authority)),
            address,
            address.ip(),
        )
    }

    /// The same API server at one more address, as on a further node of the
    /// control plane: it has all that this one has, and fails by itself. Its
    /// certificate is for the host named.
    ///
    /// # Panics
    ///
    /// When the address cannot be listened on: there is no test without it.
    pub fn twin(&self, address: SocketAddr, host: IpAddr) -> Self {
        Self::serving(self.shared.clone(), address, host)
    }

    fn serving(shared: Arc<Shared>, address: SocketAddr, host: IpAddr) -> Self {
        let tls = shared
            .authority
            .as_ref()
            .map(|authority| authority.vouch(host).expect("a certificate can be made"));
        let (up, watching) = watch::channel(true);
        let (ready, started) = std::sync::mpsc::channel();
        let serving = shared.clone();
        let thread = std::thread::Builder::new()
            .name("apiserver".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                let runtime = runtime.expect("a current-thread runtime needs nothing special");
                runtime.block_on(async {
                    let listener =
                        serve::listen(address).and_then(|l| l.local_addr().map(|at| (l, at)));
                    let (listener, bound) = match listener {
                        Ok(listening) => listening,
                        Err(error) => return ready.send(Err(error)).unwrap_or(()),
                    };
                    let _ = ready.send(Ok(bound));
                    if let Err(error) = serve::serve(serving, tls, listener, bound, watching).await
                    {
                        eprintln!("fake API server at {bound}: {error}");
                    }
                });
            })
            .expect("a thread can be started");
        let address = match started.recv() {
            Ok(Ok(address)) => address,
            Ok(Err(error)) => panic!("listen on {address}: {error}"),
            Err(_) => panic!("the fake API server ended before it listened on {address}"),
        };
        Self {
            address,
            shared,
            up: Some(up),
            thread: Some(thread),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let scheme = if self.shared.authority.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.address)
    }

    /// A kubeconfig that leads to it.
    pub fn kubeconfig(&self) -> String {
        let user = match &*self.shared.token() {
            Some(token) => json!({"token": token}),
            None => json!({}),
        };
        let mut cluster = json!({"server": self.url()});
        if let Some(authority) = &self.shared.authority {
            let authority = base64::engine::general_purpose::STANDARD.encode(authority.pem());
            cluster["certificate-authority-data"] = json!(authority);
        }
        // JSON is YAML.
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": cluster}],
            "users": [{"name": "fake", "user": user}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        })
        .to_string()
    }

    /// Writes [`ApiServer::kubeconfig`] to a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write_kubeconfig(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, self.kubeconfig())
    }

    /// Adds or replaces an object and returns its resource version. `kind`
    /// says where it belongs.
    ///
    /// # Panics
    ///
    /// When the object has no `kind` or no `metadata.name`: a mistake in the test.
    pub fn upsert(&self, object: Value) -> u64 {
        let resource = resource_of(object["kind"].as_str().expect("an object has a kind"));
        assert!(
            object["metadata"]["name"].is_string(),
            "an object has a name: {object}"
        );
        let version = self.shared.store().upsert(&resource, object);
        serve::wake(&self.shared);
        version
    }

    /// Adds or replaces many objects at once: watches wake only afterwards.
    pub fn upsert_all(&self, objects: impl IntoIterator<Item = Value>) {
        let mut store = self.shared.store();
        for object in objects {
            let resource = resource_of(object["kind"].as_str().expect("an object has a kind"));
            store.upsert(&resource, object);
        }
        drop(store);
        serve::wake(&self.shared);
    }

    /// Deletes an object; false if there is none. `namespace` is empty for
    /// objects of the cluster.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let deleted = self
            .shared
            .store()
            .delete(&resource_of(kind), namespace, name);
        serve::wake(&self.shared);
        deleted.is_some()
    }

    /// The object as it stands.
    pub fn object(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.shared
            .store()
            .get(&resource_of(kind), namespace, name)
            .map(|object| (*object).clone())
    }

    /// All objects of a kind.
    pub fn objects(&self, kind: &str) -> Vec<Value> {
        let objects = self.shared.store().list(
            &resource_of(kind),
            "",
            &super::selector::Selector::default(),
        );
        objects.iter().map(|object| (**object).clone()).collect()
    }

    /// The newest resource version.
    pub fn version(&self) -> u64 {
        self.shared.store().version()
    }

    /// Makes something go wrong for every resource.
    pub fn fault(&self, fault: Fault) {
        self.fault_at("", fault);
    }

    /// Makes something go wrong for one resource, such as `services`.
    pub fn fault_at(&self, resource: &str, fault: Fault) {
        let strike = match fault {
            Fault::Gone => Strike::Gone,
            Fault::Reset => Strike::Reset,
            Fault::Stall => Strike::Stall,
            other => {
                let forget = matches!(other, Fault::GoneStatus { .. });
                self.shared.faults().push(resource, other);
                if forget {
                    self.shared.store().forget();
                }
                return;
            }
        };
        if strike == Strike::Gone {
            self.shared.store().forget();
        }
        // An error means that no watch is open, and so none to strike.
        let _ = self.shared.strikes.send((resource.to_owned(), strike));
    }

    /// A copy of all objects, for [`ApiServer::restore`].
    pub fn backup(&self) -> Backup {
        Backup(self.shared.store().clone())
    }

    /// Goes back to a copy, with versions and all, as when etcd is restored;
    /// open watches end, in order or broken.
    pub fn restore(&self, backup: Backup, in_order: bool) {
        self.shared.store().restore(backup.0);
        let strike = if in_order { Strike::End } else { Strike::Reset };
        // An error means that no watch is open, and so none to end.
        let _ = self.shared.strikes.send((String::new(), strike));
    }

    /// Ends all faults and denials.
    pub fn heal(&self) {
        self.shared.faults().clear();
    }

    /// Refuses a verb on a resource with 403, as missing RBAC does.
    pub fn deny(&self, verb: &str, resource: &str) {
        self.shared.faults().deny(verb, resource);
    }

    /// Takes [`ApiServer::deny`] back.
    pub fn allow(&self, verb: &str, resource: &str) {
        self.shared.faults().allow(verb, resource);
    }

    /// Accepts another token from now on, and only that.
    pub fn set_bearer_token(&self, token: &str) {
        *self.shared.token() = Some(token.to_owned());
    }

    /// Cuts every connection and refuses new ones until [`ApiServer::resume`].
    pub fn outage(&self) {
        self.up.as_ref().map(|up| up.send_replace(false));
    }

    /// Ends an outage.
    pub fn resume(&self) {
        self.up.as_ref().map(|up| up.send_replace(true));
    }

    /// Every request so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests().clone()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.shared.requests().clear();
    }

    /// How many requests of a verb a resource has had.
    pub fn count(&self, verb: &str, resource: &str) -> usize {
        let requests = self.shared.requests();
        requests
            .iter()
            .filter(|request| request.verb == verb && request.resource == resource)
            .count()
    }

    /// How many watches of a resource are open.
    pub fn watches(&self, resource: &str) -> usize {
        self.shared.watches(resource)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.up = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the server has been printed; dropping must not panic.
            let _ = thread.join();
        }
    }
}

/// The resource of a kind.
fn resource_of(kind: &str) -> String {
    format!("{}s", kind.to_ascii_lowercase())
}
