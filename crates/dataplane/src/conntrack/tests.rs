//! Tests of the decision and the codec.

use std::sync::{Arc, Mutex};

use netlink_exchange::fake::{Answer, Kernel, Sent, done, message, status};
use netlink_exchange::{Connection, Errno};
use netlink_packet_core::NLM_F_DUMP_INTR;
use proptest::prelude::*;

use super::*;

fn front(text: &str, protocol: Protocol) -> Front {
    let socket: std::net::SocketAddr = text.parse().expect("address and port");
    Front {
        address: socket.ip(),
        port: socket.port(),
        protocol,
    }
}

fn server(text: &str) -> RealServerKey {
    let socket: std::net::SocketAddr = text.parse().expect("address and port");
    RealServerKey {
        address: socket.ip(),
        port: socket.port(),
    }
}

/// A UDP connection from one client to a front, answered by a server.
fn entry(to: &str, answered_by: &str) -> Entry {
    let (to, by) = (front(to, Protocol::Udp), server(answered_by));
    let client: IpAddr = match to.address {
        IpAddr::V4(_) => "10.244.0.7".parse().expect("an address"),
        IpAddr::V6(_) => "fd00:244::7".parse().expect("an address"),
    };
    let tuple = |source, source_port, destination, destination_port| Tuple {
        source,
        source_port,
        destination,
        destination_port,
        protocol: 17,
    };
    Entry {
        original: tuple(client, 4000, to.address, to.port),
        reply: tuple(by.address, by.port, client, 4000),
    }
}

fn dns(servers: &[&str]) -> Queries {
    let servers = servers.iter().map(|text| server(text)).collect();
    Queries::from([(front("10.96.0.10:53", Protocol::Udp), servers)])
}

#[test]
fn an_entry_to_a_removed_real_server_is_stale() {
    let queries = dns(&["10.244.0.16:53"]);

    assert!(stale(&entry("10.96.0.10:53", "10.244.0.99:53"), &queries));
    assert!(!stale(&entry("10.96.0.10:53", "10.244.0.16:53"), &queries));
}

#[test]
fn an_entry_from_when_there_were_no_real_servers_is_stale() {
    let queries = dns(&["10.244.0.16:53"]);

    assert!(stale(&entry("10.96.0.10:53", "10.96.0.10:53"), &queries));
}

#[test]
fn without_real_servers_every_entry_of_the_front_is_stale() {
    assert!(stale(&entry("10.96.0.10:53", "10.244.0.16:53"), &dns(&[])));
}

#[test]
fn other_fronts_ports_and_hosts_are_left_alone() {
    let queries = dns(&[]);

    assert!(!stale(&entry("10.96.0.11:53", "10.244.0.99:53"), &queries));
    assert!(!stale(&entry("10.96.0.10:54", "10.244.0.99:53"), &queries));
    // A node port is a front on a node's address: the same port elsewhere is not.
    assert!(!stale(&entry("8.8.8.8:53", "8.8.8.8:53"), &queries));
}

#[test]
fn tcp_is_never_stale() {
    let front = front("10.96.0.10:53", Protocol::Tcp);
    let queries = Queries::from([(front, BTreeSet::new())]);
    let mut tcp = entry("10.96.0.10:53", "10.244.0.99:53");
    tcp.original.protocol = 6;

    assert!(!stale(&tcp, &queries));
    assert!(filters(&queries).is_empty());
}

#[test]
fn one_front_is_asked_for_alone_and_many_by_protocol() {
    let a = front("10.96.0.10:53", Protocol::Udp);
    let b = front("10.96.0.11:53", Protocol::Udp);
    let c = front("[fd00::a]:53", Protocol::Udp);
    let queries = [a, b, c].map(|front| (front, BTreeSet::new()));

    let filters = filters(&Queries::from(queries));

    let udp = |family, front| Filter {
        family,
        protocol: Protocol::Udp,
        front,
    };
    assert_eq!(filters, [udp(Family::V4, None), udp(Family::V6, Some(c))]);
}

/// An entry laid out as `ctnetlink` gives it, with fewer attributes: 10.244.0.7:4000 to
/// 10.96.0.10:53, answered by 10.244.0.16:1053.
const ENTRY: &[u8] = &[
    2, 0, 0, 0, // nfgenmsg
    52, 0, 1, 0x80, // CTA_TUPLE_ORIG
    20, 0, 1, 0x80, 8, 0, 1, 0, 10, 244, 0, 7, 8, 0, 2, 0, 10, 96, 0, 10, //
    28, 0, 2, 0x80, 5, 0, 1, 0, 17, 0, 0, 0, 6, 0, 2, 0, 0x0f, 0xa0, 0, 0, 6, 0, 3, 0, 0, 53, 0, 0,
    52, 0, 2, 0x80, // CTA_TUPLE_REPLY
    20, 0, 1, 0x80, 8, 0, 1, 0, 10, 244, 0, 16, 8, 0, 2, 0, 10, 244, 0, 7, //
    28, 0, 2, 0x80, 5, 0, 1, 0, 17, 0, 0, 0, 6, 0, 2, 0, 0x04, 0x1d, 0, 0, 6, 0, 3, 0, 0x0f, 0xa0,
    0, 0, //
    8, 0, 12, 0, 1, 2, 3, 4, // CTA_ID
    8, 0, 3, 0, 0, 0, 1, 0x8a, // CTA_STATUS
    6, 0, 18, 0, 0, 7, 0, 0, // CTA_ZONE
];

#[test]
fn an_entry_is_read_and_its_deletion_names_tuple_id_and_zone() {
    let (found, handle) = wire::parse(ENTRY).expect("an entry");

    assert_eq!(found, entry("10.96.0.10:53", "10.244.0.16:1053"));
    let body = wire::delete_body(Family::V4, &handle);
    let expected = [&ENTRY[..56], &ENTRY[108..116], &ENTRY[124..]].concat();
    assert_eq!(body, expected);
}

#[test]
fn an_entry_without_tuple_or_id_is_never_deleted() {
    // A deletion without a tuple would flush the table.
    assert_eq!(wire::parse(&ENTRY[..4]), None);
    assert_eq!(wire::parse(&ENTRY[..56]), None);
    assert_eq!(wire::parse(&ENTRY[..108]), None);
}

#[test]
fn the_filter_names_front_and_protocol() {
    let filter = Filter {
        family: Family::V4,
        protocol: Protocol::Udp,
        front: Some(front("10.96.0.10:53", Protocol::Udp)),
    };

    let expected: &[u8] = &[
        2, 0, 0, 0, //
        36, 0, 1, 0x80, // CTA_TUPLE_ORIG
        12, 0, 1, 0x80, 8, 0, 2, 0, 10, 96, 0, 10, //
        20, 0, 2, 0x80, 5, 0, 1, 0, 17, 0, 0, 0, 6, 0, 3, 0, 0, 53, 0, 0, //
        20, 0, 25, 0x80, // CTA_FILTER
        8, 0, 1, 0, 0b10_1010, 0, 0, 0, 8, 0, 2, 0, 0, 0, 0, 0,
    ];
    assert_eq!(wire::dump_body(&filter), expected);
}

#[test]
fn the_filter_of_an_ipv6_front_names_the_port_alone() {
    let filter = Filter {
        family: Family::V6,
        protocol: Protocol::Udp,
        front: Some(front("[fd00::a]:53", Protocol::Udp)),
    };

    let expected: &[u8] = &[
        10, 0, 0, 0, //
        24, 0, 1, 0x80, // CTA_TUPLE_ORIG
        20, 0, 2, 0x80, 5, 0, 1, 0, 17, 0, 0, 0, 6, 0, 3, 0, 0, 53, 0, 0, //
        20, 0, 25, 0x80, // CTA_FILTER
        8, 0, 1, 0, 0b10_1000, 0, 0, 0, 8, 0, 2, 0, 0, 0, 0, 0,
    ];
    assert_eq!(wire::dump_body(&filter), expected);
}

/// A table of connections that answers each send as said.
fn table(
    mut behaviour: impl FnMut(&[Sent]) -> Vec<Answer> + Send + 'static,
) -> (Conntrack, Arc<Mutex<Vec<Sent>>>) {
    let record = Arc::<Mutex<Vec<Sent>>>::default();
    let sent_so_far = record.clone();
    let kernel = Kernel::new(1 << 21, move |sent: &[Sent]| {
        let mut record = sent_so_far.lock().expect("no panic");
        record.extend_from_slice(sent);
        behaviour(sent)
    });
    let connection = Connection::over(Box::new(kernel)).expect("it has a time-out");
    let socket = ConntrackSocket::over(connection);
    (Conntrack { socket }, record)
}

/// The entry of this page, and whatever else a list has.
fn listed(sent: &[Sent], flags: u16) -> Vec<Answer> {
    let sequence = sent[0].sequence;
    vec![
        Ok(message(wire::CT_NEW, flags, sequence, ENTRY)),
        Ok(done(sequence, 0, 0)),
    ]
}

/// The front of the entry has no real server any more.
fn nowhere() -> Queries {
    Queries::from([(front("10.96.0.10:53", Protocol::Udp), BTreeSet::new())])
}

#[test]
fn a_table_that_changed_meanwhile_is_listed_again() {
    let mut lists = 0;
    let (mut conntrack, record) = table(move |sent| {
        if sent[0].message_type == wire::CT_DELETE {
            return vec![Ok(status(sent[0].sequence, 0))];
        }
        lists += 1;
        listed(sent, if lists < 3 { NLM_F_DUMP_INTR } else { 0 })
    });

    let deleted = conntrack.delete_stale(&nowhere()).expect("heard");

    assert_eq!(deleted.count, 1);
    let sent: Vec<_> = record
        .lock()
        .expect("no panic")
        .iter()
        .map(|sent| sent.message_type)
        .collect();
    assert_eq!(
        sent,
        [wire::CT_GET, wire::CT_GET, wire::CT_GET, wire::CT_DELETE]
    );
}

#[test]
fn a_kernel_that_refuses_the_filter_is_asked_without() {
    let (mut conntrack, record) = table(|sent| {
        let sequence = sent[0].sequence;
        match (sent[0].message_type, sent[0].payload.len()) {
            (wire::CT_DELETE, _) => vec![Ok(status(sequence, 0))],
            (_, 4) => listed(sent, 0),
            _ => vec![Ok(status(sequence, -(Errno::EOPNOTSUPP as i32)))],
        }
    });
    assert_eq!(conntrack.delete_stale(&nowhere()).expect("heard").count, 1);
    assert_eq!(record.lock().expect("no panic").len(), 3);
}

#[test]
fn what_is_gone_already_is_not_counted_and_what_is_refused_is_told() {
    let refusing = |errno: Errno| {
        let (mut conntrack, _) = table(move |sent| {
            if sent[0].message_type == wire::CT_DELETE {
                return vec![Ok(status(sent[0].sequence, -(errno as i32)))];
            }
            listed(sent, 0)
        });
        conntrack.delete_stale(&nowhere())
    };
    assert_eq!(refusing(Errno::ENOENT).expect("it is gone").count, 0);
    assert_eq!(
        refusing(Errno::EPERM).expect_err("refused").to_string(),
        "delete stale connections: Operation not permitted (EPERM); CAP_NET_ADMIN is needed"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = wire::parse(&bytes);
    }

    #[test]
    fn no_damaged_entry_makes_the_parser_panic(
        at in 0..ENTRY.len(), value: u8, length in 0..=ENTRY.len(),
    ) {
        let mut bytes = ENTRY.to_vec();
        bytes[at] = value;
        bytes.truncate(length);
        let _ = wire::parse(&bytes);
    }
}
