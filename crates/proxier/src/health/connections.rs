//! Connections to our HTTP ports: few, short, and none at the cost of another.
//!
//! Whoever reaches a port may open connections and say nothing. So all ports
//! together have a bounded number, one port has half of it at most, and a
//! new connection always finds a place: the one that has been quiet longest is
//! closed for it. A probe that connects and asks is answered, whatever else is
//! open. HTTP/1 only, since that is what probes and scrapers speak, with small
//! buffers and time-outs.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use kube_ipvs_source::tasks::Tasks;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

/// Time for a request's header, and for the next request to begin.
const HEADER: Duration = Duration::from_secs(15);
/// A connection is closed at the first opportunity after this.
const LIFE: Duration = Duration::from_secs(60);
/// And then after this, whatever it does: its reader may have stopped.
const LEAVE: Duration = Duration::from_secs(15);
/// Most bytes of a header, and of an answer that waits to be sent beside its page.
const BUFFER: usize = 16 << 10;
/// Most fields of a header.
const FIELDS: usize = 64;
/// Pause when the kernel gives no connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Most connections to all ports, where descriptors are plenty.
const MOST: u64 = 512;
/// And where they are few.
const FEWEST: u64 = 16;

/// The connections of all ports of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connections {
    tasks: Tasks,
    most: usize,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    /// Counts accepted connections and requests: a clock for "quiet longest".
    moments: u64,
    open: BTreeMap<u64, Open>,
}

/// An open connection; it is closed when this is dropped.
#[derive(Debug)]
struct Open {
    port: SocketAddr,
    heard: u64,
    _close: oneshot::Sender<()>,
}

/// A port that is served.
#[derive(Clone)]
pub(super) struct Port {
    /// Address that it listens on.
    pub(super) address: SocketAddr,
    /// What is answered.
    pub(super) router: Router,
}

impl Connections {
    /// As many as a quarter of the descriptors that this process may have: the
    /// rest is for itself, and for the ports.
    pub fn new(tasks: Tasks) -> Self {
        Self::at_most(tasks, most(descriptors()))
    }

    /// As many as are said.
    pub fn at_most(tasks: Tasks, most: usize) -> Self {
        Self {
            tasks,
            most,
            table: Arc::default(),
        }
    }

    /// Where tasks are started.
    pub(super) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Accepts and serves until the future is dropped, or the socket is shut
    /// down.
    pub(super) async fn serve(&self, listener: TcpListener, port: Port) {
        let name: Arc<str> = format!("connection to {}", port.address).into();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.take(&name, stream, &port),
                // It was shut down: see `node_ports`.
                Err(error) if is(&error, Errno::EINVAL) => return,
                Err(error) => {
                    tracing::debug!(address = %port.address, %error, "accept a connection");
                    if is(&error, Errno::EMFILE) || is(&error, Errno::ENFILE) {
                        self.table().close_one(None);
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Closes all connections to a port.
    pub(super) fn close(&self, port: SocketAddr) {
        self.table().open.retain(|_, open| open.port != port);
    }

    fn take(&self, name: &Arc<str>, stream: TcpStream, port: &Port) {
        let (close, closed) = oneshot::channel();
        let id = self.table().enter(port.address, close, self.most);
        let (connections, router) = (self.clone(), port.router.clone());
        let serving = async move {
            tokio::select! {
                () = connections.answer(id, stream, router) => {}
                _ = closed => {}
            }
            connections.table().open.remove(&id);
        };
        self.tasks.spawn_job(name.clone(), serving).detach();
    }

    /// Answers the requests of a connection, one after another.
    async fn answer(&self, id: u64, stream: TcpStream, router: Router) {
        let service = service_fn(|request: Request<Incoming>| {
            self.table().hear(id);
            router.clone().oneshot(request.map(Body::new))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER)
            .max_headers(FIELDS)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        // A client that breaks off, or is too slow, concerns nobody else.
        if timeout(LIFE, connection.as_mut()).await.is_err() {
            connection.as_mut().graceful_shutdown();
            _ = timeout(LEAVE, connection).await;
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Takes a connection in; gives its number.
    fn enter(&mut self, port: SocketAddr, close: oneshot::Sender<()>, most: usize) -> u64 {
        let of_port = self.open.values().filter(|open| open.port == port).count();
        if of_port >= (most / 2).max(1) {
            self.close_one(Some(port));
        } else if self.open.len() >= most {
            self.close_one(self.busiest());
        }
        self.moments += 1;
        let id = self.moments;
        let open = Open {
            port,
            heard: id,
            _close: close,
        };
        self.open.insert(id, open);
        id
    }

    /// A request came.
    fn hear(&mut self, id: u64) {
        self.moments += 1;
        if let Some(open) = self.open.get_mut(&id) {
            open.heard = self.moments;
        }
    }

    /// Closes the connection that has been quiet longest, of a port or of all.
    fn close_one(&mut self, port: Option<SocketAddr>) {
        let of_port = |open: &Open| port.is_none_or(|port| open.port == port);
        let candidates = self.open.iter().filter(|(_, open)| of_port(open));
        let quietest = candidates.min_by_key(|(_, open)| open.heard);
        if let Some(id) = quietest.map(|(id, _)| *id) {
            self.open.remove(&id);
        }
    }

    /// The port with the most connections.
    fn busiest(&self) -> Option<SocketAddr> {
        let mut counts: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        for open in self.open.values() {
            *counts.entry(open.port).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        most.map(|(port, _)| port)
    }
}

/// How many descriptors this process may have.
pub(crate) fn descriptors() -> u64 {
    // One that cannot be read is the usual one.
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft)
}

fn most(descriptors: u64) -> usize {
    let quarter = (descriptors / 4).clamp(FEWEST, MOST);
    usize::try_from(quarter).unwrap_or(usize::MAX)
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::health::testing;

    /// An open port that answers `hi`, of a process with room for `most` connections.
    async fn served(most: usize) -> (Connections, SocketAddr) {
        let connections = Connections::at_most(Tasks::unwatched(), most);
        let address = also_served(&connections).await;
        (connections, address)
    }

    async fn also_served(connections: &Connections) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().route("/", get(|| async { "hi" }));
        let served = connections.clone();
        tokio::spawn(async move { served.serve(listener, Port { address, router }).await });
        address
    }

    async fn unfinished(to: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(to).await.expect("connect");
        stream
            .write_all(b"GET / HTTP/1.1\r\nX: ")
            .await
            .expect("send");
        stream
    }

    /// Waits until the other side has closed.
    async fn is_closed(stream: &mut TcpStream) {
        let mut rest = Vec::new();
        // An answer or a reset, and then the end.
        _ = stream.read_to_end(&mut rest).await;
    }

    async fn ask(stream: &mut TcpStream) -> String {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .expect("send");
        let mut answer = vec![0; 4096];
        let length = stream.read(&mut answer).await.expect("an answer");
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    #[tokio::test]
    async fn a_thousand_unfinished_headers_take_few_places_and_hold_no_probe_up() {
        let (connections, address) = served(32).await;

        let mut open = Vec::new();
        for _ in 0..1000 {
            open.push(unfinished(address).await);
        }

        assert_eq!(testing::get(address, "/").await.body, "hi");
        let count = connections.table().open.len();
        assert!(count <= 16, "{count}");
        is_closed(&mut open[0]).await;
    }

    #[tokio::test]
    async fn one_port_has_no_more_than_half_and_who_asked_last_stays() {
        let (connections, flooded) = served(8).await;
        let quiet = also_served(&connections).await;
        let mut scraper = TcpStream::connect(flooded).await.expect("connect");
        let mut other = TcpStream::connect(quiet).await.expect("connect");
        assert!(ask(&mut other).await.ends_with("hi"));

        for _ in 0..20 {
            assert!(ask(&mut scraper).await.ends_with("hi"));
            drop(unfinished(flooded).await);
            let _held = unfinished(flooded).await;
        }

        assert!(
            ask(&mut scraper).await.ends_with("hi"),
            "it asked all the time"
        );
        assert!(
            ask(&mut other).await.ends_with("hi"),
            "another port's is left alone"
        );
    }

    #[tokio::test]
    async fn many_ports_share_the_places() {
        let (connections, first) = served(8).await;
        let mut ports = vec![first];
        for _ in 0..5 {
            ports.push(also_served(&connections).await);
        }
        let mut open = Vec::new();
        for port in ports.iter().cycle().take(60) {
            open.push(unfinished(*port).await);
        }

        for port in &ports {
            assert_eq!(testing::get(*port, "/").await.body, "hi");
        }
        assert!(connections.table().open.len() <= 8);
    }

    #[tokio::test]
    async fn clear_text_http_2_is_not_spoken() {
        let (_connections, address) = served(8).await;
        let mut stream = TcpStream::connect(address).await.expect("connect");

        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
        stream.write_all(preface).await.expect("send");
        let mut answer = Vec::new();
        _ = stream.read_to_end(&mut answer).await;

        // A server that spoke it would answer with its settings, a frame of type 4.
        assert_ne!(answer.get(3), Some(&4), "{answer:?}");
    }

    #[tokio::test]
    async fn a_header_without_end_is_refused() {
        let (_connections, address) = served(8).await;
        let mut stream = unfinished(address).await;

        // The other side stops to read and closes.
        let sent = stream.write_all(&vec![b'x'; 8 << 20]).await;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer).await;

        let refused = answer.starts_with(b"HTTP/1.1 431");
        assert!(sent.is_err() || read.is_err() || refused, "{answer:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_does_not_end_in_time_is_waited_for_no_longer() {
        let (connections, address) = served(8).await;
        let begun = tokio::time::Instant::now();
        let mut stream = unfinished(address).await;

        is_closed(&mut stream).await;

        assert!(begun.elapsed() < HEADER * 2, "{:?}", begun.elapsed());
        all_closed(&connections).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_is_given_up() {
        let connections = Connections::at_most(Tasks::unwatched(), 8);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address");
        let page = || async { "x".repeat(64 << 20) };
        let router = Router::new().route("/", get(page));
        let served = connections.clone();
        tokio::spawn(async move { served.serve(listener, Port { address, router }).await });
        let begun = tokio::time::Instant::now();

        let mut stream = TcpStream::connect(address).await.expect("connect");
        let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request).await.expect("send");
        // The first byte has come: the connection is known.
        stream.readable().await.expect("an answer");
        all_closed(&connections).await;

        assert!(
            begun.elapsed() <= (LIFE + LEAVE) * 2,
            "{:?}",
            begun.elapsed()
        );
    }

    /// Waits until no connection is open any more.
    async fn all_closed(connections: &Connections) {
        while !connections.table().open.is_empty() {
            sleep(Duration::from_secs(1)).await;
        }
    }

    #[test]
    fn connections_leave_three_quarters_of_the_descriptors() {
        assert_eq!(most(256), 64);
        assert_eq!(most(1024), 256);
        assert_eq!(most(20), 16);
        assert_eq!(most(u64::MAX), 512);
    }
}
