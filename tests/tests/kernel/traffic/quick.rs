//! Clients that take a source port again get their connection at once.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use kube_ipvs_tests::{Client, Namespace, Protocol};
use socket2::{Domain, Socket, Type};

use super::WEB;
use super::site::Site;
use super::web::Web;

const PORT: u16 = 2348;
const CALLS: usize = 50;
/// So many that sockets of the whole range of ports are used again.
const LOAD: usize = 1000;
/// No connection waits for it: long enough for a SYN that is sent again.
const LATE: std::time::Duration = std::time::Duration::from_secs(15);

/// A server that closes first, as web servers do: its end waits, not the client's.
fn close_first(namespace: &Namespace, address: &str) {
    let listener = namespace.run(|| TcpListener::bind(address).expect("listen"));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // The client may be gone.
            let _ = (&stream).write_all(b"served\n");
        }
    });
}

/// One call from a port, which may have been used a moment ago.
fn call(client: &Namespace, from: u16, to: &str) {
    let socket = client.run(|| Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket"));
    socket.set_reuse_address(true).expect("a port again");
    let from: std::net::SocketAddr = ([0, 0, 0, 0], from).into();
    socket.bind(&from.into()).expect("a port");
    let to: std::net::SocketAddr = to.parse().expect("an address");
    socket
        .connect_timeout(&to.into(), LATE)
        .expect("it answers");
    socket.set_read_timeout(Some(LATE)).expect("a time-out");
    let mut answer = String::new();
    (&socket).read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "served\n");
}

/// SYNs that were sent again, which is what a connection waits a second for.
fn sent_again(client: &Namespace) -> usize {
    let text = client.sh("cat /proc/net/netstat");
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let mut words = || lines.next().expect("two lines").split_whitespace();
    let mut both = words().zip(words());
    let (_, count) = both
        .find(|(name, _)| *name == "TCPSynRetrans")
        .expect("the kernel counts them");
    count.parse().expect("a number")
}

/// The machine may stop for a second, but not at each of so many.
#[track_caller]
fn assert_few(sent_again: usize, calls: usize) {
    assert!(sent_again * 20 <= calls, "{sent_again} of {calls} waited");
}

#[test]
fn no_connection_waits_for_a_port_that_was_used_a_moment_ago() {
    let mut site = Site::new();
    for pod in &site.small.pods {
        close_first(&pod.namespace, &format!("{}:8080", pod.v4));
    }
    site.write(&Web::over(&site.small.pods));
    site.start(&[]);
    let client = &site.small.outside.namespace;

    for _ in 0..CALLS {
        call(client, PORT, WEB);
    }
    let again = sent_again(client);
    assert_few(again, CALLS);

    client.sysctl("net/ipv4/ip_local_port_range", "40001 40400");
    client.sysctl("net/ipv4/tcp_tw_reuse", "1");
    for n in 0..LOAD {
        let port = 40_001 + u16::try_from(n % 400).expect("small");
        call(client, port, WEB);
    }
    assert_few(sent_again(client) - again, LOAD);
    let who = Client::within(client).timeout(LATE);
    assert!(who.connect(Protocol::Tcp, WEB).is_ok());
}
