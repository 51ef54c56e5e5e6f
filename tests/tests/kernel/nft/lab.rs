//! Namespaces, a node with one neighbour, and words for what happened to a packet.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use kube_ipvs_nft::{
    Class, Commands, Config, Elements, Family, Masquerading, Nft, Set, render_table,
};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt,
};

/// How long a packet is waited for that is dropped: enough for one SYN sent again.
const DROPPED: Duration = Duration::from_millis(2500);
/// And one that is answered, on a slow machine; nobody waits it out.
const LATE: Duration = Duration::from_secs(30);

/// A network namespace of its own, with `lo` up; gone with the last handle and socket.
pub(super) struct Netns(File);

impl Netns {
    pub(super) fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace (needs root)");
            File::open("/proc/thread-self/ns/net").expect("open the namespace")
        };
        let netns = Self(std::thread::spawn(make).join().expect("make a namespace"));
        netns.ip("link set lo up");
        netns
    }

    /// Does something inside. Sockets made there stay there.
    pub(super) fn run<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
            task()
        };
        std::thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Runs `ip` with these words.
    pub(super) fn ip(&self, words: &str) {
        self.command("ip", &words.split_whitespace().collect::<Vec<_>>());
    }

    /// Feeds a text of somebody else to nft.
    pub(super) fn nft(&self, words: &str) -> String {
        self.command("nft", &[words])
    }

    fn command(&self, program: &str, args: &[&str]) -> String {
        let output = self
            .run(|| Command::new(program).args(args).output())
            .expect("start a program");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {stderr}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A path by which `ip` finds it.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// A node with a VIP of each family on `lo`, and a neighbour that routes VIPs to it.
///
/// ```text
/// peer 192.168.50.2, fd00:50::2 --- veth0 --- node 192.168.50.1, fd00:50::1
/// ```
pub(super) struct Lab {
    pub(super) node: Netns,
    pub(super) peer: Netns,
    pub(super) family: Family,
}

impl Lab {
    pub(super) fn new(family: Family) -> Self {
        let (node, peer) = (Netns::new(), Netns::new());
        node.ip(&format!(
            "link add veth0 type veth peer name eth0 netns {}",
            peer.path()
        ));
        for (netns, link, number) in [(&node, "veth0", 1), (&peer, "eth0", 2)] {
            netns.ip(&format!("addr add 192.168.50.{number}/24 dev {link}"));
            netns.ip(&format!("addr add fd00:50::{number}/64 dev {link} nodad"));
            netns.ip(&format!("link set {link} up"));
        }
        node.ip("addr add 10.96.0.10/32 dev lo");
        node.ip("addr add fd00:96::a/128 dev lo nodad");
        peer.ip("route add 10.96.0.0/16 via 192.168.50.1");
        peer.ip("route add fd00:96::/64 via fd00:50::1");
        Self { node, peer, family }
    }

    /// One more neighbour: `.1` on the node, `.2` there.
    pub(super) fn attach(&self, netns: &Netns, link: &str, net: &str) {
        self.node.ip(&format!(
            "link add {link} type veth peer name eth0 netns {}",
            netns.path()
        ));
        for (netns, link, number) in [(&self.node, link, 1), (netns, "eth0", 2)] {
            netns.ip(&format!("addr add {net}.{number}/24 dev {link}"));
            netns.ip(&format!("link set {link} up"));
        }
    }

    pub(super) fn vip(&self) -> IpAddr {
        self.either("10.96.0.10", "fd00:96::a")
    }

    pub(super) fn node_address(&self) -> IpAddr {
        self.either("192.168.50.1", "fd00:50::1")
    }

    pub(super) fn peer_address(&self) -> IpAddr {
        self.either("192.168.50.2", "fd00:50::2")
    }

    fn either(&self, v4: &str, v6: &str) -> IpAddr {
        let text = match self.family {
            Family::Ip => v4,
            Family::Ip6 => v6,
        };
        text.parse().expect("an address")
    }

    pub(super) fn config(&self) -> Config {
        Config::new(self.family)
    }

    /// Puts the table in place on the node.
    pub(super) fn apply(&self, config: &Config, content: &Content) {
        let table = render_table(config, &said(content)).expect("valid");
        self.apply_commands(&table);
    }

    pub(super) fn apply_commands(&self, commands: &Commands) {
        self.node.run(|| nft().apply(commands)).expect("applied");
    }

    /// A listener on the node, on any address of the family.
    pub(super) fn listen(&self, port: u16) -> TcpListener {
        let any = self.any(port);
        self.node.run(|| TcpListener::bind(any)).expect("listen")
    }

    /// Everything that comes to this port of the VIP or of the node comes back,
    /// till the namespace goes.
    pub(super) fn echo(&self, port: u16) {
        for address in [self.vip(), self.node_address()] {
            let here = SocketAddr::new(address, port);
            let socket = self.node.run(|| UdpSocket::bind(here)).expect("bind");
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    // A refused answer is the asker's loss.
                    let _ = socket.send_to(&buffer[..length], from);
                }
            });
        }
    }

    /// A server on a port of the peer is asked by the node from this source, with
    /// this mark: the source it saw, and the length of its answer of six bytes.
    pub(super) fn ask_peer(
        &self,
        source: SocketAddr,
        port: u16,
        mark: u32,
    ) -> (SocketAddr, io::Result<usize>) {
        let target = SocketAddr::new(self.peer_address(), port);
        let server = self.peer.run(|| UdpSocket::bind(target)).expect("bind");
        let client = self.node.run(|| UdpSocket::bind(source)).expect("bind");
        setsockopt(&client, sockopt::Mark, &mark).expect("mark");
        client.connect(target).expect("connect");
        client.send(b"ask").expect("send");
        let (_, from) = server.recv_from(&mut [0; 8]).expect("asked");
        server.send_to(b"answer", from).expect("send");
        client
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a time-out");
        (from, client.recv(&mut [0; 8]))
    }

    pub(super) fn any(&self, port: u16) -> SocketAddr {
        let any: IpAddr = match self.family {
            Family::Ip => "0.0.0.0".parse().expect("an address"),
            Family::Ip6 => "::".parse().expect("an address"),
        };
        SocketAddr::new(any, port)
    }

    pub(super) fn front(&self, protocol: &str, port: u16) -> String {
        format!("{} . {protocol} . {port}", self.vip())
    }
}

/// nf_tables of the namespace that the caller is in.
pub(super) fn nft() -> Nft {
    Nft::open().expect("a netlink socket")
}

/// Elements from pairs.
pub(super) fn elements<const N: usize>(pairs: [(Set, String); N]) -> Elements {
    let mut elements = Elements::new();
    for (set, text) in pairs {
        elements.entry(set).or_default().insert(text);
    }
    elements
}

/// What can be said of a front, one thing at a time, or an element as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Said {
    Served,
    Outside,
    Refused,
    OffCluster,
    Always,
    Restricted,
    In(Set),
}

/// All that is said.
pub(super) type Content = BTreeSet<(Said, String)>;

/// The elements that say it.
pub(super) fn said(content: &Content) -> Elements {
    let mut elements = Elements::new();
    let mut classes: BTreeMap<&str, Class> = BTreeMap::new();
    let mut marked = BTreeSet::new();
    for (said, text) in content {
        if let Said::In(set) = said {
            elements.entry(*set).or_default().insert(text.clone());
            marked.extend(text.split_once(" : ").map(|(front, _)| front));
            continue;
        }
        let class = classes.entry(text).or_default();
        match said {
            Said::Served => class.fate = class.fate.max(kube_ipvs_nft::Fate::Served),
            Said::Outside => class.fate = class.fate.max(kube_ipvs_nft::Fate::Outside),
            Said::Refused => class.fate = class.fate.max(kube_ipvs_nft::Fate::Refused),
            Said::OffCluster => {
                class.masquerading = class.masquerading.max(Masquerading::OffCluster);
            }
            Said::Always => class.masquerading = Masquerading::Always,
            Said::Restricted => class.restricted = true,
            Said::In(_) => {}
        }
    }
    for (front, class) in classes {
        if let Some((set, text)) = class.element(front, marked.contains(front)) {
            elements.entry(set).or_default().insert(text);
        }
    }
    elements
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Passed,
    Refused,
    Dropped,
}

fn fate<T>(result: io::Result<T>) -> Fate {
    match result.map_err(|error| error.kind()) {
        Ok(_) => Fate::Passed,
        Err(ErrorKind::ConnectionRefused) => Fate::Refused,
        Err(ErrorKind::TimedOut | ErrorKind::WouldBlock) => Fate::Dropped,
        Err(other) => panic!("unexpected: {other:?}"),
    }
}

impl Fate {
    /// How long it takes until that is what became of a packet.
    fn patience(self) -> Duration {
        match self {
            Self::Dropped => DROPPED,
            Self::Passed | Self::Refused => LATE,
        }
    }
}

/// A caller who knows what to expect, and waits for that.
pub(super) struct Caller<'a> {
    netns: &'a Netns,
    fate: Fate,
}

impl Netns {
    /// Calls from here, of which this will become.
    pub(super) fn expecting(&self, fate: Fate) -> Caller<'_> {
        Caller { netns: self, fate }
    }

    /// Opens a TCP connection from here, which will not be dropped.
    pub(super) fn tcp(&self, address: IpAddr, port: u16) -> Fate {
        self.expecting(Fate::Passed).tcp(address, port)
    }

    pub(super) fn connect(&self, address: IpAddr, port: u16) -> io::Result<TcpStream> {
        self.expecting(Fate::Passed).connect(address, port)
    }

    /// Sends a datagram from here, which will not be dropped, and waits for the echo.
    pub(super) fn udp(&self, address: IpAddr, port: u16) -> Fate {
        self.expecting(Fate::Passed).udp(address, port)
    }

    /// One echo request from here, answered or not.
    pub(super) fn ping(&self, address: IpAddr) -> Fate {
        let (family, protocol, request) = match address {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8),
            IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128),
        };
        let groups = "/proc/sys/net/ipv4/ping_group_range";
        self.run(|| {
            std::fs::write(groups, "0 0").expect("allow ping sockets");
            let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol);
            let socket = UdpSocket::from(socket.expect("a ping socket"));
            // Type, code; the kernel writes checksum and identifier.
            fate(exchange(
                &socket,
                SocketAddr::new(address, 0),
                &[request, 0, 0, 0, 0, 0, 0, 1],
                Fate::Passed,
            ))
        })
    }
}

impl Caller<'_> {
    /// Opens a TCP connection.
    pub(super) fn tcp(&self, address: IpAddr, port: u16) -> Fate {
        fate(self.connect(address, port))
    }

    fn connect(&self, address: IpAddr, port: u16) -> io::Result<TcpStream> {
        let target = SocketAddr::new(address, port);
        let patience = self.fate.patience();
        self.netns
            .run(|| TcpStream::connect_timeout(&target, patience))
    }

    /// Sends a datagram and waits for the echo.
    pub(super) fn udp(&self, address: IpAddr, port: u16) -> Fate {
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        self.netns.run(|| {
            let socket = UdpSocket::bind(any).expect("bind");
            fate(ask(&socket, SocketAddr::new(address, port), self.fate))
        })
    }
}

/// One datagram, of which this will become, and its echo.
pub(super) fn ask(socket: &UdpSocket, target: SocketAddr, fate: Fate) -> io::Result<usize> {
    exchange(socket, target, b"hello", fate)
}

fn exchange(
    socket: &UdpSocket,
    target: SocketAddr,
    question: &[u8],
    expected: Fate,
) -> io::Result<usize> {
    socket.set_read_timeout(Some(expected.patience()))?;
    socket.connect(target)?;
    socket.send(question)?;
    socket.recv(&mut [0; 64])
}

/// Whether a connection still carries something from one end to the other.
pub(super) fn carries(from: &mut TcpStream, to: &mut TcpStream) -> bool {
    to.set_read_timeout(Some(LATE)).expect("a time-out");
    from.write_all(b"x").is_ok() && to.read_exact(&mut [0]).is_ok()
}
