//! Connection tracking entries: exactly the stale ones go, as `conntrack`
//! sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use kube_ipvs_core::state::{Front, Protocol, RealServerKey};
use kube_ipvs_dataplane::conntrack::Conntrack;
use kube_ipvs_tests::{Namespace, run};

fn front(text: &str) -> Front {
    let socket: SocketAddr = text.parse().expect("address and port");
    Front {
        address: socket.ip(),
        port: socket.port(),
        protocol: Protocol::Udp,
    }
}

fn servers(texts: &[&str]) -> BTreeSet<RealServerKey> {
    let server = |text: &&str| {
        let socket: SocketAddr = text.parse().expect("address and port");
        RealServerKey {
            address: socket.ip(),
            port: socket.port(),
        }
    };
    texts.iter().map(server).collect()
}

/// Makes an entry: a client's port, the front, and who answers.
fn connection(client_port: u16, to: &str, answered_by: &str) {
    connection_of("udp", client_port, to, answered_by);
}

fn connection_of(protocol: &str, client_port: u16, to: &str, answered_by: &str) {
    let to: SocketAddr = to.parse().expect("address and port");
    let by: SocketAddr = answered_by.parse().expect("address and port");
    let client = match to {
        SocketAddr::V4(_) => "10.244.0.7",
        SocketAddr::V6(_) => "fd00:244::7",
    };
    let state = if protocol == "tcp" {
        " --state ESTABLISHED"
    } else {
        ""
    };
    let arguments = format!(
        "-I -p {protocol} -t 300 -s {client} -d {} --sport {client_port} --dport {} \
         -r {} -q {client} --reply-port-src {} --reply-port-dst {client_port}{state}",
        to.ip(),
        to.port(),
        by.ip(),
        by.port(),
    );
    run("conntrack", arguments.split(' '));
}

/// The client ports of the entries that are there.
fn client_ports(family: &str) -> BTreeSet<u16> {
    let text = run("conntrack", ["-L", "-f", family]);
    let port = |line: &str| {
        let field = line
            .split_whitespace()
            .find_map(|field| field.strip_prefix("sport="));
        field.and_then(|port| port.parse().ok())
    };
    text.lines().filter_map(port).collect()
}

#[test]
fn only_stale_entries_of_the_front_asked_about_are_deleted() {
    let _namespace = Namespace::enter();
    connection(4001, "10.96.0.10:53", "10.244.0.16:53");
    connection(4002, "10.96.0.10:53", "10.244.0.99:53");
    connection(4003, "10.96.0.10:53", "10.96.0.10:53");
    connection(4004, "10.96.0.10:54", "10.244.0.99:53");
    connection(4005, "10.96.0.11:53", "10.244.0.99:53");
    connection_of("tcp", 4006, "10.96.0.10:53", "10.244.0.99:53");
    let queries = BTreeMap::from([(front("10.96.0.10:53"), servers(&["10.244.0.16:53"]))]);
    let mut conntrack = Conntrack::open().expect("a socket");

    let deleted = conntrack.delete_stale(&queries).expect("an answer");

    assert_eq!(deleted.count, 2);
    assert_eq!(client_ports("ipv4"), [4001, 4004, 4005, 4006].into());
    assert_eq!(
        conntrack.delete_stale(&queries).expect("an answer").count,
        0
    );
}

#[test]
fn several_fronts_of_both_families_are_cleaned_at_once() {
    let _namespace = Namespace::enter();
    connection(4001, "10.96.0.10:53", "10.244.0.99:53");
    connection(4002, "10.96.0.11:53", "10.244.0.99:53");
    connection(4003, "10.96.0.12:53", "10.244.0.99:53");
    connection(4004, "[fd00:96::a]:53", "[fd00:244::99]:53");
    connection(4005, "[fd00:96::a]:53", "[fd00:244::16]:53");
    let queries = BTreeMap::from([
        (front("10.96.0.10:53"), servers(&[])),
        (front("10.96.0.11:53"), servers(&["10.244.0.16:53"])),
        (front("[fd00:96::a]:53"), servers(&["[fd00:244::16]:53"])),
    ]);

    let deleted = Conntrack::open()
        .expect("a socket")
        .delete_stale(&queries)
        .expect("an answer");

    assert_eq!(deleted.count, 3);
    assert_eq!(client_ports("ipv4"), [4003].into());
    assert_eq!(client_ports("ipv6"), [4005].into());
}

#[test]
fn a_thousand_stale_entries_go_in_batches() {
    let _namespace = Namespace::enter();
    let line = |port| {
        format!(
            "-I -p udp -t 300 -s 10.244.0.7 -d 10.96.0.10 --sport {port} --dport 53 \
             -r 10.244.0.99 -q 10.244.0.7 --reply-port-src 53 --reply-port-dst {port}\n"
        )
    };
    let lines: String = (2000..3000).map(line).collect();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, lines).expect("write a file");
    run("conntrack", ["-R".as_ref(), file.path().as_os_str()]);
    assert_eq!(client_ports("ipv4").len(), 1000);
    let queries = BTreeMap::from([(front("10.96.0.10:53"), servers(&[]))]);

    let deleted = Conntrack::open()
        .expect("a socket")
        .delete_stale(&queries)
        .expect("an answer");

    assert_eq!(deleted.count, 1000);
    assert!(client_ports("ipv4").is_empty());
}
