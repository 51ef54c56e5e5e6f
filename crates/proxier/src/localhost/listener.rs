//! One NodePort on a loopback address: accepts, and gives each connection a place
//! and an endpoint.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube_ipvs_core::state::Family;
use kube_ipvs_core::{LocalhostPort, ServiceName};
use kube_ipvs_source::tasks::Tasks;
use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::forward;
use super::route::Route;
use crate::health::server::{Reach, listen};
use crate::metrics::{LocalhostEnd, Metrics};

/// Pause when the kernel gives no connection.
const PAUSE: Duration = Duration::from_millis(100);

/// What all listeners share.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub(super) tasks: Tasks,
    pub(super) metrics: Metrics,
    /// Places for connections to all ports.
    pub(super) places: Arc<Semaphore>,
    /// Most connections to one port.
    pub(super) most_of_one: usize,
}

/// A port that is listened on. When it is dropped the port is free, and the
/// connections to it end.
#[derive(Debug)]
pub(super) struct Listener {
    port: Arc<Port>,
    socket: Arc<TcpListener>,
    /// Connections end with it.
    _open: watch::Sender<()>,
}

#[derive(Debug)]
struct Port {
    address: SocketAddr,
    service: ServiceName,
    name: Arc<str>,
    common: Common,
    places: Arc<Semaphore>,
    route: Mutex<Route>,
    /// That there is no place was said.
    said_full: AtomicBool,
}

/// A place of all, and one of the port.
type Place = [OwnedSemaphorePermit; 2];

impl Listener {
    /// Listens, and serves until it is dropped.
    ///
    /// # Errors
    /// As `socket(2)`, `bind(2)` (`EADDRINUSE`: a program of the host has the
    /// port) and `listen(2)`.
    pub(super) fn open(
        address: SocketAddr,
        port: &Arc<LocalhostPort>,
        common: &Common,
    ) -> io::Result<Self> {
        let _entered = common.tasks.runtime().enter();
        let socket = Arc::new(listen(address, Reach::OwnFamily)?);
        let port = Arc::new(Port {
            address,
            service: port.service.service.clone(),
            name: format!("NodePort {address} of Service {}", port.service).into(),
            common: common.clone(),
            places: Arc::new(Semaphore::new(common.most_of_one)),
            route: Mutex::new(Route::new(port.clone())),
            said_full: AtomicBool::new(false),
        });
        let (open, closed) = watch::channel(());
        let serving = serve(port.clone(), socket.clone(), closed);
        let name = port.name.clone();
        // It ends when the socket is shut down.
        common.tasks.spawn_job(name, serving).detach();
        Ok(Self {
            port,
            socket,
            _open: open,
        })
    }

    /// Whether this is for the same Service.
    pub(super) fn is_of(&self, port: &LocalhostPort) -> bool {
        self.port.service == port.service.service
    }

    /// New connections go by this.
    pub(super) fn update(&self, port: &Arc<LocalhostPort>) {
        self.port.route().update(port);
    }
}

impl Drop for Listener {
    /// Leaves the port free on return, while the task that held it still ends.
    fn drop(&mut self) {
        if let Err(error) = shutdown(self.socket.as_raw_fd(), Shutdown::Both) {
            debug!(%error, "close {}", self.port.name);
        }
    }
}

async fn serve(port: Arc<Port>, socket: Arc<TcpListener>, closed: watch::Receiver<()>) {
    loop {
        match socket.accept().await {
            Ok((client, from)) => port.take(client, from.ip(), closed.clone()),
            // It was shut down: the listener was dropped.
            Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => return,
            Err(error) => {
                debug!(%error, "accept a connection to {}", port.name);
                sleep(PAUSE).await;
            }
        }
    }
}

impl Port {
    fn route(&self) -> std::sync::MutexGuard<'_, Route> {
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn family(&self) -> Family {
        Family::of(self.address.ip())
    }

    fn count(&self, end: LocalhostEnd) {
        self.common.metrics.localhost_connection(self.family(), end);
    }

    fn take(self: &Arc<Self>, client: TcpStream, from: IpAddr, closed: watch::Receiver<()>) {
        // Where somebody has opened `route_localnet`, neighbours reach loopback
        // addresses: nothing of ours is for them.
        if !from.is_loopback() {
            self.count(LocalhostEnd::Stranger);
            return reset(&client);
        }
        let Some(place) = self.place() else {
            self.count(LocalhostEnd::Full);
            return reset(&client);
        };
        let port = self.clone();
        let carried = async move { port.carry(client, closed, place).await };
        let tasks = &self.common.tasks;
        tasks.spawn_job(self.name.clone(), carried).detach();
    }

    fn place(&self) -> Option<Place> {
        let of = |places: &Arc<Semaphore>| places.clone().try_acquire_owned().ok();
        let place = of(&self.common.places).zip(of(&self.places));
        if place.is_none() && !self.said_full.swap(true, Ordering::Relaxed) {
            warn!(
                most = self.common.most_of_one,
                "{} has no place for another connection: it is closed, as are those that follow; \
                 use an address of the node, or raise the limit of open files",
                self.name
            );
        }
        place.map(|(all, one)| [all, one])
    }

    async fn carry(&self, client: TcpStream, mut closed: watch::Receiver<()>, _place: Place) {
        let _open = self.common.metrics.localhost_open(self.family());
        let Some(to) = self.route().choose(Instant::now(), rand_below) else {
            return reset(&client);
        };
        let dialled = tokio::select! {
            dialled = forward::dial(to) => dialled,
            _ = closed.changed() => return reset(&client),
        };
        let endpoint = match dialled {
            Ok(endpoint) => endpoint,
            Err(error) => {
                debug!(%error, endpoint = %to, "connect for {}", self.name);
                self.count(LocalhostEnd::Unanswered);
                return reset(&client);
            }
        };
        self.count(LocalhostEnd::Forwarded);
        let broken = tokio::select! {
            end = forward::both(&client, &endpoint) => end.err(),
            _ = closed.changed() => Some(io::ErrorKind::ConnectionAborted.into()),
        };
        if let Some(error) = broken {
            debug!(%error, endpoint = %to, "a connection to {} breaks off", self.name);
            reset(&client);
            reset(&endpoint);
        }
    }
}

/// The next drop says that this was no orderly end.
fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        debug!(%error, "reset a connection");
    }
}

fn rand_below(count: usize) -> usize {
    rand::random_range(0..count.max(1))
}
