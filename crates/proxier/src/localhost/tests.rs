use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use kube_ipvs_core::{ServiceName, ServicePortName, Uid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;

use super::*;

const UID: &str = "5d1c2d9a-0000-4000-8000-000000004711";

const PLENTY: Bounds = Bounds {
    connections: 64,
    ports: 64,
};

fn ports(bounds: Bounds) -> LocalhostNodePorts {
    LocalhostNodePorts::within(bounds, Tasks::unwatched(), Metrics::new())
}

/// What is wanted, with the endpoints of each port.
fn wanted<const N: usize>(all: [(SocketAddr, &[SocketAddr]); N]) -> Arc<LocalhostPorts> {
    wanted_by("web", all)
}

/// What a Service wants.
fn wanted_by<const N: usize>(
    name: &str,
    all: [(SocketAddr, &[SocketAddr]); N],
) -> Arc<LocalhostPorts> {
    let ports = all.map(|(at, endpoints)| {
        let service = ServicePortName {
            service: ServiceName::new("default", name),
            port: "".into(),
        };
        let port = LocalhostPort {
            service,
            uid: Uid::read(UID),
            endpoints: endpoints.into(),
            affinity: None,
        };
        (at, Arc::new(port))
    });
    Arc::new(ports.into())
}

/// A program that has a port of a loopback address, and what it is then.
async fn taken(ip: &str) -> (TcpListener, SocketAddr) {
    let any = format!("{ip}:0");
    let program = TcpListener::bind(any).await.expect("bind");
    let at = program.local_addr().expect("an address");
    (program, at)
}

/// A loopback address that no other test has, in this process or another.
fn own_ip() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., a, b] = std::process::id().to_be_bytes();
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("127.{}.{b}.{n}", a | 1)
}

/// A port of an address that nobody has now.
async fn free(ip: &str) -> SocketAddr {
    taken(ip).await.1
}

/// Listens on some port of an address with these endpoints.
async fn opened(ports: &mut LocalhostNodePorts, ip: &str, endpoints: &[SocketAddr]) -> SocketAddr {
    loop {
        let at = free(ip).await;
        if ports.sync(&wanted([(at, endpoints)])).is_empty() {
            return at;
        }
    }
}

/// An endpoint that sends back what it gets until the client ends, with its name
/// before.
async fn endpoint(ip: &str, name: &'static str) -> SocketAddr {
    let (listener, at) = taken(ip).await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                to.write_all(name.as_bytes()).await?;
                tokio::io::copy(&mut from, &mut to).await?;
                to.shutdown().await
            });
        }
    });
    at
}

/// What comes back for these bytes.
async fn call(to: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to).await?;
    let (mut from, mut into) = stream.split();
    let mut answer = Vec::new();
    let send = async {
        into.write_all(bytes).await?;
        into.shutdown().await
    };
    let (sent, read) = tokio::join!(send, from.read_to_end(&mut answer));
    sent.and(read)?;
    Ok(answer)
}

/// A connection that is through: its endpoint's name has come.
async fn through(to: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.expect("connect");
    let mut name = [0; 1];
    stream.read_exact(&mut name).await.expect("an endpoint");
    stream
}

/// Both ends of a connection: the client's, and the one of an endpoint that is
/// played by the test.
async fn ends(ports: &mut LocalhostNodePorts) -> [TcpStream; 2] {
    let (listener, behind) = taken("127.0.0.1").await;
    let at = opened(ports, "127.0.0.1", &[behind]).await;
    let client = TcpStream::connect(at).await.expect("connect");
    let (server, _) = listener.accept().await.expect("a connection");
    [client, server]
}

/// How a stream ends for its reader; none for an orderly end.
async fn end(stream: &mut TcpStream) -> Option<io::ErrorKind> {
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest).await;
    read.err().map(|error| error.kind())
}

fn metric(ports: &LocalhostNodePorts, line: &str) -> Option<String> {
    let text = ports.common.metrics.render(Instant::now());
    let mut values = text.lines().filter_map(|have| have.strip_prefix(line));
    values.next().map(|value| value.trim().to_owned())
}

fn counted(ports: &LocalhostNodePorts, result: &str) -> Option<String> {
    let name = "kube_ipvs_localhost_connections_accepted_total";
    metric(
        ports,
        &format!("{name}{{ip_family=\"IPv4\",result=\"{result}\"}}"),
    )
}

#[tokio::test]
async fn both_families_reach_their_endpoint_and_every_byte_comes_back() {
    for ip in ["127.0.0.1", "[::1]"] {
        let mut ports = ports(PLENTY);
        let behind = endpoint(ip, "a").await;
        let at = opened(&mut ports, ip, &[behind]).await;

        // More than sockets and pipes hold: both directions wait for each other.
        let bytes: Vec<u8> = (0..8 << 20).map(|n| (n % 251) as u8).collect();
        let answer = call(at, &bytes).await.expect("an answer");

        assert_eq!(answer.len(), bytes.len() + 1, "{ip}");
        assert!(answer[1..] == bytes[..], "{ip}: not the same bytes");
    }
}

#[tokio::test]
async fn connections_are_spread_over_the_endpoints() {
    let mut ports = ports(PLENTY);
    let (one, other) = (
        endpoint("127.0.0.1", "a").await,
        endpoint("127.0.0.1", "b").await,
    );
    let mut endpoints = [one, other];
    endpoints.sort();
    let at = opened(&mut ports, "127.0.0.1", &endpoints).await;

    // That one of them gets all has a chance of one in 2^99.
    let mut by_a = 0;
    for _ in 0..100 {
        by_a += usize::from(call(at, b"").await.expect("an answer") == b"a");
    }

    assert!((1..100).contains(&by_a), "{by_a} of 100");
}

#[tokio::test]
async fn an_endpoint_that_goes_keeps_its_connections_and_gets_no_more() {
    let mut ports = ports(PLENTY);
    let (old, new) = (
        endpoint("127.0.0.1", "a").await,
        endpoint("127.0.0.1", "b").await,
    );
    let at = opened(&mut ports, "127.0.0.1", &[old]).await;
    let mut kept = through(at).await;

    ports.sync(&wanted([(at, &[new])]));

    assert_eq!(call(at, b"").await.expect("an answer"), b"b");
    kept.write_all(b"still").await.expect("send");
    let mut echo = [0; 5];
    kept.read_exact(&mut echo).await.expect("an echo");
    assert_eq!(&echo, b"still");
}

#[tokio::test]
async fn a_port_that_goes_is_free_and_its_connections_end() {
    let mut ports = ports(PLENTY);
    let behind = endpoint("127.0.0.1", "a").await;
    let at = opened(&mut ports, &own_ip(), &[behind]).await;
    let mut open = through(at).await;
    assert_eq!(ports.open().collect::<Vec<_>>(), [at]);

    ports.sync(&wanted([]));

    assert_eq!(ports.open().count(), 0);
    let again = std::net::TcpListener::bind(at);
    assert!(again.is_ok(), "the port is free: {again:?}");
    let told = end(&mut open).await;
    assert_eq!(told, Some(io::ErrorKind::ConnectionReset), "no orderly end");
}

#[tokio::test]
async fn a_port_that_another_service_gets_takes_no_connection_along() {
    let mut ports = ports(PLENTY);
    let (mine, theirs) = (
        endpoint("127.0.0.1", "a").await,
        endpoint("127.0.0.1", "b").await,
    );
    let at = opened(&mut ports, &own_ip(), &[mine]).await;
    let mut open = through(at).await;

    assert_eq!(ports.sync(&wanted_by("other", [(at, &[theirs])])), []);

    let told = end(&mut open).await;
    assert_eq!(told, Some(io::ErrorKind::ConnectionReset));
    assert_eq!(call(at, b"").await.expect("an answer"), b"b");
}

#[tokio::test]
async fn a_port_of_a_program_of_the_host_is_left_to_it_told_once_and_tried_again() {
    let mut ports = ports(PLENTY);
    let (program, at) = taken(&own_ip()).await;
    let behind = endpoint("127.0.0.1", "a").await;
    let want = || wanted([(at, &[behind][..])]);

    let told = ports.sync(&want());
    assert_eq!(told.len(), 1);
    let about = told[0].object.reference().expect("a Service");
    assert_eq!(about.object.to_string(), "Service default/web");
    assert_eq!(about.uid, Uid::read(UID));
    let message = &told[0].message;
    assert!(message.contains("(os error 98)"), "{message}");
    assert!(message.contains("choose another nodePort"), "{message}");
    assert_eq!(ports.sync(&want()), [], "said already");
    assert_eq!(ports.retry(), [], "said already");
    let failures = "kubeproxy_nftables_localhost_nodeport_listener_creation_failures_total";
    let failures = format!("{failures}{{ip_family=\"IPv4\"}}");
    assert_eq!(metric(&ports, &failures).as_deref(), Some("3"));

    let calling = tokio::spawn(TcpStream::connect(at));
    let (client, _) = program.accept().await.expect("its own clients reach it");
    drop((client, program, calling.await));

    assert_eq!(ports.retry(), []);
    assert_eq!(call(at, b"").await.expect("an answer"), b"a");
    let listeners = "kubeproxy_nftables_localhost_nodeport_listeners{ip_family=\"IPv4\"}";
    assert_eq!(metric(&ports, listeners).as_deref(), Some("1"));
}

#[tokio::test]
async fn a_port_that_is_wanted_again_is_told_again() {
    let mut ports = ports(PLENTY);
    let (_program, at) = taken(&own_ip()).await;
    let want = || wanted([(at, &[at][..])]);

    assert_eq!(ports.sync(&want()).len(), 1);
    assert_eq!(ports.sync(&wanted([])), []);
    assert_eq!(ports.sync(&want()).len(), 1);
}

#[tokio::test]
async fn an_endpoint_that_refuses_breaks_the_connection_off() {
    let mut ports = ports(PLENTY);
    // Has a port and does not listen.
    let silent = TcpSocket::new_v4().expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    silent.bind(any).expect("bind");
    let nobody = silent.local_addr().expect("an address");
    let at = opened(&mut ports, "127.0.0.1", &[nobody]).await;

    let mut stream = TcpStream::connect(at).await.expect("connect");

    assert_eq!(end(&mut stream).await, Some(io::ErrorKind::ConnectionReset));
    assert_eq!(counted(&ports, "unanswered").as_deref(), Some("1"));
}

#[tokio::test]
async fn a_connection_that_its_endpoint_breaks_off_is_broken_off_for_the_client() {
    let mut ports = ports(PLENTY);
    let [mut client, server] = ends(&mut ports).await;

    server.set_zero_linger().expect("linger");
    drop(server);

    assert_eq!(end(&mut client).await, Some(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn one_port_has_half_of_the_places_and_the_others_have_theirs() {
    let bounds = Bounds {
        connections: 4,
        ports: 4,
    };
    let mut ports = ports(bounds);
    let (busy, quiet) = (free(&own_ip()).await, free(&own_ip()).await);
    let behind = endpoint("127.0.0.1", "a").await;
    ports.sync(&wanted([(busy, &[behind]), (quiet, &[behind])]));
    let held = [through(busy).await, through(busy).await];

    let mut more = TcpStream::connect(busy).await.expect("connect");
    assert_eq!(end(&mut more).await, Some(io::ErrorKind::ConnectionReset));
    assert_eq!(counted(&ports, "full").as_deref(), Some("1"));
    let open = "kube_ipvs_localhost_connections{ip_family=\"IPv4\"}";
    assert_eq!(metric(&ports, open).as_deref(), Some("2"));
    let others = [through(quiet).await, through(quiet).await];

    let mut more = TcpStream::connect(quiet).await.expect("connect");
    assert_eq!(end(&mut more).await, Some(io::ErrorKind::ConnectionReset));

    // Who ends gives his place back.
    drop((held, others));
    while ports.common.places.available_permits() < 4 {
        tokio::task::yield_now().await;
    }
    assert_eq!(metric(&ports, open).as_deref(), Some("0"));
    through(busy).await;
}

#[tokio::test]
async fn more_ports_than_there_is_room_for_are_told() {
    let bounds = Bounds {
        connections: 4,
        ports: 1,
    };
    let mut ports = ports(bounds);
    let (one, other) = (free(&own_ip()).await, free(&own_ip()).await);
    let behind = endpoint("127.0.0.1", "a").await;

    let told = ports.sync(&wanted([(one, &[behind]), (other, &[behind])]));

    assert_eq!(ports.open().count(), 1);
    assert_eq!(told.len(), 1);
    assert!(told[0].message.contains("limit of open files"), "{told:?}");

    // Room came.
    let left = ports.open().next().expect("one is open");
    let gone = if left == one { other } else { one };
    ports.sync(&wanted([(gone, &[behind])]));
    assert_eq!(ports.open().collect::<Vec<_>>(), [gone]);
}

#[tokio::test]
async fn a_half_closed_connection_goes_on_the_other_way() {
    let mut ports = ports(PLENTY);
    let [mut client, mut server] = ends(&mut ports).await;

    client.shutdown().await.expect("half-close");
    let (heard, hear) = oneshot::channel();
    tokio::spawn(async move {
        let mut all = Vec::new();
        server.read_to_end(&mut all).await.expect("the end");
        server.write_all(b"later").await.expect("send");
        heard.send(all).expect("somebody waits");
    });

    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("an answer");
    assert_eq!(answer, b"later");
    assert_eq!(hear.await.expect("it heard"), b"");
}

#[test]
fn an_eighth_of_the_descriptors_is_enough() {
    for descriptors in [256, 1024, 65_536, 1 << 20] {
        let Bounds { connections, ports } = Bounds::of(descriptors);
        let taken = connections * 6 + ports;
        assert!(taken as u64 <= descriptors / 8, "{descriptors}: {taken}");
    }
    assert_eq!(Bounds::of(1 << 20).connections, 1024);
    assert_eq!(Bounds::of(0).connections, 4);
}
