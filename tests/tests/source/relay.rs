//! A load balancer on layer 4 that can lose its backend without a word.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Relays connections to one server.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    /// Counts how often the connections of the time were frozen.
    frozen: Arc<watch::Sender<u64>>,
    dead: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("listen on a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let frozen = Arc::new(watch::Sender::new(0));
        let mut tasks = JoinSet::new();
        let dead = Arc::new(AtomicBool::new(false));
        let (freezing, died) = (frozen.clone(), dead.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                if died.load(Ordering::Relaxed) {
                    connections.spawn(hold(client));
                } else {
                    connections.spawn(relay(client, server, freezing.subscribe()));
                }
            }
        });
        Self {
            address,
            frozen,
            dead,
            _tasks: tasks,
        }
    }

    /// From now on all connections, old and new, stay open and carry nothing:
    /// a host that answers by its kernel alone.
    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
        self.freeze();
    }

    /// Connections that exist stay open and carry nothing any more; new ones
    /// are relayed.
    pub(crate) fn freeze(&self) {
        self.frozen.send_modify(|times| *times += 1);
    }
}

async fn hold(client: TcpStream) {
    std::future::pending::<()>().await;
    drop(client);
}

async fn relay(mut client: TcpStream, server: SocketAddr, mut frozen: watch::Receiver<u64>) {
    let Ok(mut backend) = TcpStream::connect(server).await else {
        return;
    };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut backend) => {}
        // The sockets stay open: the kernel goes on acknowledging.
        _ = frozen.changed() => std::future::pending().await,
    }
}
