//! A client that says how its call went.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::{Namespace, Protocol};

/// How a call went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A [`crate::Server`] answered.
    Answered {
        /// Its name.
        who: String,
        /// The client's address and port as the server saw them.
        saw: SocketAddr,
    },
    /// Connection refused, or ICMP port unreachable.
    Refused,
    /// No answer in time.
    TimedOut,
    /// The connection was cut, or closed without an answer.
    Reset,
    /// No route, or ICMP unreachable of another kind.
    Unreachable,
    /// The host's own kernel refused to send (EPERM).
    NotPermitted,
}

impl Verdict {
    /// Name of the server that answered; panics when none did.
    #[track_caller]
    pub fn who(&self) -> &str {
        match self {
            Self::Answered { who, .. } => who,
            other => panic!("nobody answered: {other:?}"),
        }
    }

    /// Name of the server that answered, or else how the call ended: `Refused`.
    pub fn name(&self) -> String {
        match self {
            Self::Answered { who, .. } => who.clone(),
            other => format!("{other:?}"),
        }
    }

    /// Client address as the server saw it; panics when none answered.
    #[track_caller]
    pub fn saw(&self) -> IpAddr {
        match self {
            Self::Answered { saw, .. } => saw.ip(),
            other => panic!("nobody answered: {other:?}"),
        }
    }

    fn of(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::TimedOut,
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof => Self::Reset,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Self::Unreachable,
            ErrorKind::PermissionDenied => Self::NotPermitted,
            _ => panic!("a call failed in a way no test expects: {error}"),
        }
    }
}

/// Where calls come from.
#[derive(Debug, Clone)]
pub struct Client<'a> {
    namespace: Option<&'a Namespace>,
    address: Option<IpAddr>,
    port: u16,
    timeout: Duration,
}

impl<'a> Client<'a> {
    /// A client in the namespace this thread is in.
    pub fn here() -> Self {
        Self {
            namespace: None,
            address: None,
            port: 0,
            timeout: Duration::from_secs(3),
        }
    }

    /// A client in `namespace`.
    pub fn within(namespace: &'a Namespace) -> Self {
        Self {
            namespace: Some(namespace),
            ..Self::here()
        }
    }

    /// Calls from this address.
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Calls from this port.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Waits so long to connect, and for each answer (3 s otherwise).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Connects, asks once, and closes.
    pub fn call(&self, protocol: Protocol, to: &str) -> Verdict {
        match self.connect(protocol, to) {
            Ok(mut connection) => connection.ask(),
            Err(verdict) => verdict,
        }
    }

    /// Calls `times` times; the names of those who answered, in order.
    #[track_caller]
    pub fn callees(&self, protocol: Protocol, to: &str, times: usize) -> Vec<String> {
        (0..times)
            .map(|_| self.call(protocol, to).who().to_owned())
            .collect()
    }

    /// Whether one echo request (ping) is answered.
    pub fn pings(&self, to: IpAddr) -> bool {
        let exchange = || {
            let groups = "/proc/sys/net/ipv4/ping_group_range";
            std::fs::write(groups, "0 0").expect("allow ping sockets");
            // Type, code; the kernel writes checksum and identifier.
            let (protocol, request) = match to {
                IpAddr::V4(_) => (socket2::Protocol::ICMPV4, [8, 0, 0, 0, 0, 0, 0, 1]),
                IpAddr::V6(_) => (socket2::Protocol::ICMPV6, [128, 0, 0, 0, 0, 0, 0, 1]),
            };
            let to = SocketAddr::new(to, 0);
            let mut socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(protocol))?;
            socket.set_read_timeout(Some(self.timeout))?;
            socket.connect(&to.into())?;
            socket.write_all(&request)?;
            socket.read(&mut [0; 64])
        };
        let answer = match self.namespace {
            Some(namespace) => namespace.run(exchange),
            None => exchange(),
        };
        answer.is_ok()
    }

    /// A connection to keep. UDP "connects" without a packet.
    ///
    /// # Errors
    /// How the attempt went, when it did not succeed.
    pub fn connect(&self, protocol: Protocol, to: &str) -> Result<Connection, Verdict> {
        let to: SocketAddr = to.parse().unwrap_or_else(|e| panic!("{to}: {e}"));
        let socket = match self.namespace {
            Some(namespace) => namespace.run(|| self.open(protocol, to)),
            None => self.open(protocol, to),
        };
        socket
            .map(|socket| Connection { socket })
            .map_err(|error| Verdict::of(&error))
    }

    fn open(&self, protocol: Protocol, to: SocketAddr) -> io::Result<Socket> {
        let socket = protocol.socket(to);
        if protocol == Protocol::Sctp {
            // Otherwise SCTP tells of an ICMP error only when it gives up.
            tell_errors(&socket, to)?;
        }
        if self.address.is_some() || self.port != 0 {
            let any = match to {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let from = SocketAddr::new(self.address.unwrap_or(any), self.port);
            socket.set_reuse_address(true)?;
            socket
                .bind(&from.into())
                .unwrap_or_else(|e| panic!("call from {from}: {e}"));
        }
        socket.connect_timeout(&to.into(), self.timeout)?;
        socket.set_read_timeout(Some(self.timeout))?;
        Ok(socket)
    }
}

fn tell_errors(socket: &Socket, to: SocketAddr) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    match to {
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvErr, &true)?,
    }
    Ok(())
}

/// An open connection to a [`crate::Server`].
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
}

impl Connection {
    /// Sends a line (or datagram) and waits for the answer.
    pub fn ask(&mut self) -> Verdict {
        self.try_ask().unwrap_or_else(|error| Verdict::of(&error))
    }

    /// Sends a line (or datagram) and waits for nothing.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn tell(&mut self) {
        self.socket.write_all(b"hello\n").expect("send");
    }

    /// Our own end.
    pub fn local_address(&self) -> SocketAddr {
        let address = self
            .socket
            .local_addr()
            .expect("a connected socket has an address");
        address.as_socket().expect("an IP socket has an IP address")
    }

    /// Ends it at once with a reset.
    pub fn reset(self) {
        self.socket
            .set_linger(Some(Duration::ZERO))
            .expect("a socket takes SO_LINGER");
    }

    fn try_ask(&mut self) -> io::Result<Verdict> {
        self.socket.write_all(b"hello\n")?;
        let mut answer = [0; 512];
        let length = self.socket.read(&mut answer)?;
        let text = String::from_utf8_lossy(&answer[..length]);
        let Some((who, saw)) = text.trim_end().split_once(" saw ") else {
            if length == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            panic!("not an answer of a Server: {text:?}");
        };
        let saw = saw
            .parse()
            .unwrap_or_else(|e| panic!("not an answer of a Server: {text:?}: {e}"));
        Ok(Verdict::Answered {
            who: who.to_owned(),
            saw,
        })
    }
}
