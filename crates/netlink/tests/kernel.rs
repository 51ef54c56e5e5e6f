//! Real sockets. What needs a network namespace needs root, and says so where
//! it cannot have one.

use std::net::Ipv4Addr;
use std::thread;

use netlink_exchange::{
    Connection, Content, Errno, Error, KernelSocket, Request, Transaction, Transport, Writer,
    attributes, nfnetlink, protocols,
};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr};
use nix::sched::{CloneFlags, unshare};

/// A message of rtnetlink.
struct Route(RouteNetlinkMessage, u16);

impl Request for Route {
    fn message_type(&self) -> u16 {
        netlink_packet_core::NetlinkSerializable::message_type(&self.0)
    }

    fn flags(&self) -> u16 {
        self.1
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.message(&self.0);
    }
}

fn links() -> Route {
    Route(RouteNetlinkMessage::GetLink(LinkMessage::default()), 0)
}

fn link(name: &str) -> Route {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(name.into())];
    Route(RouteNetlinkMessage::GetLink(message), 0)
}

/// An address on `lo`.
fn add_address(address: Ipv4Addr, prefix: u8) -> Route {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = 1;
    message.attributes = vec![AddressAttribute::Local(address.into())];
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    Route(RouteNetlinkMessage::NewAddress(message), flags)
}

fn addresses(connection: &mut Connection) -> Vec<Vec<u8>> {
    let request = Route(
        RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        0,
    );
    let local = |content: Content<'_>| {
        let found = attributes::find(content.after(8)?, 2)?;
        Ok(found.map(|attribute| attribute.value().to_vec()))
    };
    connection.list(request, 5, local).expect("whole")
}

/// The names of the links a connection sees.
fn names(connection: &mut Connection) -> Vec<String> {
    let name = |content: Content<'_>| {
        let found = attributes::find(content.after(16)?, 3)?;
        Ok(found.map(|name| attributes::name(name.value())))
    };
    connection.list(links(), 5, name).expect("whole")
}

fn route() -> Connection {
    Connection::open(protocols::NETLINK_ROUTE).expect("every Linux has rtnetlink")
}

/// Run in a network namespace of its own.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(|| match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => test(),
        Err(Errno::EPERM) => {
            eprintln!("not run: a network namespace of its own needs CAP_SYS_ADMIN (EPERM)");
        }
        Err(errno) => panic!("unshare the network namespace: {errno}"),
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_table_is_listed() {
    let mut connection = route();
    assert!(names(&mut connection).contains(&"lo".to_owned()));
    assert!(names(&mut connection).contains(&"lo".to_owned()));
}

#[test]
fn a_refusal_is_heard_and_the_next_question_answered() {
    let mut connection = route();
    let refused = connection
        .ask(link("no-such-link"), |_| Ok(()))
        .expect_err("there is none");
    assert_eq!(refused.errno(), Some(Errno::ENODEV), "{refused}");

    let mut found = 0;
    let asked = connection.ask(link("lo"), |_| {
        found += 1;
        Ok(())
    });
    asked.expect("there is lo");
    assert_eq!(found, 1);
}

/// Not even root may speak to it.
#[test]
fn a_stranger_does_not_get_through() {
    let mut ours = KernelSocket::open(protocols::NETLINK_ROUTE).expect("rtnetlink");
    let mut stranger = Socket::new(protocols::NETLINK_ROUTE).expect("rtnetlink");
    stranger.bind_auto().expect("a port");
    let sent = stranger.send_to(&[0; 16], &SocketAddr::new(ours.port(), 0), 0);
    assert!(sent.is_err(), "{sent:?}");
    let mut buffer = Vec::new();
    let heard = ours.receive_now(&mut buffer).expect_err("nothing is there");
    assert_eq!(heard.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_connection_keeps_the_namespace_it_was_opened_in() {
    in_namespace(|| {
        let mut inside = route();
        assert_eq!(names(&mut inside), ["lo"]);
        let elsewhere = thread::spawn(move || names(&mut inside));
        assert_eq!(elsewhere.join().expect("no panic"), ["lo"]);
    });
}

#[test]
fn a_batch_is_carried_out_but_for_what_is_refused() {
    in_namespace(|| {
        let mut connection = route();
        let address = |n: u32| Ipv4Addr::from(0x0a60_0000 + n);
        // Every tenth has no such prefix, and every address comes once more.
        let prefix = |n: u32| if n.is_multiple_of(10) { 33 } else { 32 };
        let requests = (1..=2000).map(|n| add_address(address(n), prefix(n)));
        let sends = connection.sends();

        let failed = connection.batch(requests).expect("heard");

        assert_eq!(failed.len(), 200);
        assert!(failed.iter().all(|(place, _)| (place + 1) % 10 == 0));
        let refused = failed[0].1.to_string();
        assert!(
            refused.starts_with("Invalid argument (EINVAL)"),
            "{refused}"
        );
        assert!(connection.sends() - sends < 10);
        assert_eq!(addresses(&mut connection).len(), 1800);

        let again = connection
            .batch([add_address(address(1), 32)])
            .expect("heard");
        assert_eq!(again[0].1.errno(), Some(Errno::EEXIST));
    });
}

const NFTABLES: u8 = 10;
const NFPROTO_IPV4: u8 = 2;

/// What this test does to nf_tables.
#[derive(Debug, Clone)]
enum Nft {
    AddTable(String),
    RemoveTable(String),
    /// A chain for which an attribute makes no sense.
    OddChain,
}

impl Request for Nft {
    fn message_type(&self) -> u16 {
        let message = match self {
            Self::AddTable(_) => 0,
            Self::RemoveTable(_) => 2,
            Self::OddChain => 3,
        };
        nfnetlink::message_type(NFTABLES, message)
    }

    fn flags(&self) -> u16 {
        match self {
            Self::AddTable(_) | Self::OddChain => NLM_F_CREATE,
            Self::RemoveTable(_) => 0,
        }
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.header(&nfnetlink::header(NFPROTO_IPV4, 0));
        match self {
            Self::AddTable(name) | Self::RemoveTable(name) => out.name(1, name),
            Self::OddChain => {
                out.name(1, "t");
                out.name(3, "c");
                out.name(5, "neither-drop-nor-accept");
            }
        }
    }
}

/// A question to nf_tables: its generation, or its tables.
struct Get(u8);

impl Request for Get {
    fn message_type(&self) -> u16 {
        nfnetlink::message_type(NFTABLES, self.0)
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.header(&nfnetlink::header(0, 0));
    }
}

fn generation(connection: &mut Connection) -> u32 {
    let mut generation = 0;
    let asked = connection.ask(Get(16), |content| {
        let id = attributes::find(content.after(nfnetlink::HEADER)?, 1)?;
        generation = attributes::be32(id.ok_or("no generation")?.value(), "generation")?;
        Ok(())
    });
    asked.expect("this kernel has nf_tables");
    generation
}

fn tables(connection: &mut Connection) -> Vec<String> {
    let name = |content: Content<'_>| {
        let found = attributes::find(content.after(nfnetlink::HEADER)?, 1)?;
        Ok(found.map(|name| attributes::name(name.value())))
    };
    connection.list(Get(1), 5, name).expect("whole")
}

fn add(name: impl Into<String>) -> Nft {
    Nft::AddTable(name.into())
}

fn nftables(test: impl FnOnce(&mut Connection) + Send + 'static) {
    in_namespace(|| {
        let mut connection = Connection::open(protocols::NETLINK_NETFILTER).expect("nfnetlink");
        test(&mut connection);
    });
}

#[test]
fn a_transaction_is_carried_out_whole_or_not_at_all() {
    nftables(|connection| {
        let done = connection.transaction(NFTABLES, None, [add("one"), add("two")]);
        assert!(matches!(done, Ok(Transaction::Committed)), "{done:?}");
        assert_eq!(tables(connection), ["one", "two"]);

        let missing = |name: &str| Nft::RemoveTable(name.into());
        let requests = [
            add("three"),
            missing("a"),
            missing("one"),
            missing("b"),
            add("four"),
        ];
        let done = connection.transaction(NFTABLES, None, requests);

        let Ok(Transaction::Refused(refused)) = done else {
            panic!("{done:?}");
        };
        let told: Vec<_> = refused
            .iter()
            .map(|(place, error)| format!("{place}: {error}"))
            .collect();
        assert_eq!(
            told,
            [
                "1: No such file or directory (ENOENT): attribute 1 at byte 20",
                "3: No such file or directory (ENOENT): attribute 1 at byte 20",
            ]
        );
        assert_eq!(tables(connection), ["one", "two"]);
    });
}

#[test]
fn the_attribute_that_the_kernel_objects_to_is_named() {
    nftables(|connection| {
        let done = connection.transaction(NFTABLES, None, [add("t"), Nft::OddChain]);
        let Ok(Transaction::Refused(refused)) = done else {
            panic!("{done:?}");
        };
        let [(1, Error::Refused(refusal))] = &refused[..] else {
            panic!("{refused:?}");
        };
        let attribute = refusal.at.and_then(|place| place.attribute);
        assert_eq!(attribute, Some(5), "{refusal}");
    });
}

#[test]
fn a_transaction_for_a_past_generation_is_not_carried_out() {
    nftables(|connection| {
        let before = generation(connection);
        let done = connection.transaction(NFTABLES, Some(before), [add("one")]);
        assert!(matches!(done, Ok(Transaction::Committed)), "{done:?}");
        assert_ne!(generation(connection), before);

        let done = connection.transaction(NFTABLES, Some(before), [add("two")]);

        let outdated = done.expect_err("it is past");
        assert!(matches!(outdated, Error::Outdated { .. }), "{outdated:?}");
        assert_eq!(tables(connection), ["one"]);
        let now = generation(connection);
        let done = connection.transaction(NFTABLES, Some(now), [add("two")]);
        assert!(matches!(done, Ok(Transaction::Committed)), "{done:?}");
    });
}

/// More bytes than a send buffer has, and more refusals than a receive buffer
/// holds.
#[test]
fn a_transaction_may_be_larger_than_the_buffers_of_the_socket() {
    nftables(|connection| {
        let many = (0..1500).map(|n| add(format!("{n}-{}", "x".repeat(200))));
        let done = connection.transaction(NFTABLES, None, many);
        assert!(matches!(done, Ok(Transaction::Committed)), "{done:?}");
        assert_eq!(tables(connection).len(), 1500);

        let missing = (0..4000).map(|n| Nft::RemoveTable(format!("no-{n}")));
        let done = connection.transaction(NFTABLES, None, missing);
        let Ok(Transaction::Refused(refused)) = done else {
            panic!("{done:?}");
        };
        // Some were lost, and it is known all the same what was done.
        assert!((1..4000).contains(&refused.len()), "{}", refused.len());
        assert_eq!(tables(connection).len(), 1500);
    });
}
