//! Servers that answer who they are and whom they saw.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::Socket;

use crate::{Namespace, Protocol};

/// How soon a waiting thread sees that the server was stopped.
const TICK: Duration = Duration::from_millis(100);

/// Answers each datagram, or each line of a connection, with a line
/// `NAME saw ADDRESS:PORT`. Stopped on drop, with all its connections.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    protocol: Protocol,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts one called `name` that listens on `address` inside `namespace`.
    pub fn start(namespace: &Namespace, name: &str, protocol: Protocol, address: &str) -> Self {
        let address: SocketAddr = address.parse().unwrap_or_else(|e| panic!("{address}: {e}"));
        // A socket stays in the namespace it was made in; threads need not.
        let socket = namespace.run(|| listen(protocol, address));
        let stopped = Arc::new(AtomicBool::new(false));
        let service = Service {
            name: name.to_owned(),
            stopped: Arc::clone(&stopped),
        };
        let thread = thread::spawn(move || match protocol {
            Protocol::Udp => service.answer_datagrams(&socket),
            Protocol::Tcp | Protocol::Sctp => service.accept(&socket),
        });
        Self {
            address,
            protocol,
            stopped,
            thread: Some(thread),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it speaks.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(protocol: Protocol, address: SocketAddr) -> Socket {
    let socket = protocol.socket(address);
    let ready = || -> io::Result<()> {
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        if protocol != Protocol::Udp {
            socket.listen(128)?;
        }
        socket.set_read_timeout(Some(TICK))
    };
    ready().unwrap_or_else(|error| panic!("listen on {address}/{protocol}: {error}"));
    socket
}

#[derive(Clone)]
struct Service {
    name: String,
    stopped: Arc<AtomicBool>,
}

impl Service {
    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn answer(&self, peer: SocketAddr) -> String {
        format!("{} saw {peer}\n", self.name)
    }

    fn answer_datagrams(&self, socket: &Socket) {
        let mut buffer = [MaybeUninit::uninit(); 2048];
        while !self.stopped() {
            let Ok((_, peer)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            if let Some(address) = peer.as_socket() {
                // The client may be gone; the next one counts.
                let _ = socket.send_to(self.answer(address).as_bytes(), &peer);
            }
        }
    }

    fn accept(&self, socket: &Socket) {
        let mut connections = Vec::new();
        while !self.stopped() {
            let Ok((connection, peer)) = socket.accept() else {
                continue;
            };
            let Some(peer) = peer.as_socket() else {
                continue;
            };
            let service = self.clone();
            connections.push(thread::spawn(move || service.serve(&connection, peer)));
        }
        for connection in connections {
            let _ = connection.join();
        }
    }

    fn serve(&self, mut connection: &Socket, peer: SocketAddr) {
        if connection.set_read_timeout(Some(TICK)).is_err() {
            return;
        }
        let mut buffer = [0; 2048];
        while !self.stopped() {
            let length = match connection.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => length,
                Err(error) if waits(&error) => continue,
                Err(_) => return,
            };
            for _ in buffer[..length].iter().filter(|byte| **byte == b'\n') {
                if connection.write_all(self.answer(peer).as_bytes()).is_err() {
                    return;
                }
            }
        }
    }
}

fn waits(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
