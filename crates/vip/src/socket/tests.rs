//! What is sent, and what is made of any answer.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use netlink_exchange::Errno;
use netlink_exchange::fake::{Answer, Kernel, Sent, done, explained, message as bytes, status};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST,
};
use proptest::prelude::*;

use super::*;
use crate::link::{self, Link};
use crate::message;

/// What was sent.
type Record = Arc<Mutex<Vec<Sent>>>;

/// A socket to a kernel that behaves as said.
fn socket(
    mut behaviour: impl FnMut(&[Sent]) -> Vec<Answer> + Send + 'static,
) -> (RouteSocket, Record) {
    let record = Record::default();
    let sent_so_far = record.clone();
    let kernel = Kernel::new(1 << 21, move |sent: &[Sent]| {
        sent_so_far
            .lock()
            .expect("no panic")
            .extend_from_slice(sent);
        behaviour(sent)
    });
    let connection = Connection::over(Box::new(kernel)).expect("it has a time-out");
    (RouteSocket(connection), record)
}

fn take_all(sent: &[Sent]) -> Vec<Answer> {
    let last = sent.last().expect("no empty send");
    vec![Ok(status(last.sequence, 0))]
}

fn addresses(count: u32) -> Vec<Request> {
    let vip = |n: u32| IpAddr::from((0x0a60_0001 + n).to_be_bytes());
    (0..count)
        .map(|n| message::add_address(7, vip(n)))
        .collect()
}

#[test]
fn only_the_last_of_a_batch_asks_for_an_answer() {
    let (mut socket, record) = socket(take_all);

    let refused = socket.batch("bind", &addresses(3)).expect("heard");

    assert!(refused.is_empty());
    let flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL;
    let sent = record.lock().expect("no panic");
    let sent: Vec<_> = sent
        .iter()
        .map(|sent| (sent.flags, sent.sequence))
        .collect();
    assert_eq!(sent, [(flags, 1), (flags, 2), (flags | NLM_F_ACK, 3)]);
    assert_eq!(socket.sends(), 1);
}

#[test]
fn an_address_goes_out_as_ip_would_send_it() {
    let (mut socket, record) = socket(take_all);
    let request = message::add_address(7, IpAddr::from([10, 96, 0, 10]));

    socket.batch("bind", &[request]).expect("heard");

    let sent = &record.lock().expect("no panic")[0];
    assert_eq!((sent.message_type, sent.flags), (20, 0x605));
    let expected = [
        2, 32, 0, 0, 7, 0, 0, 0, // AF_INET, /32, scope global, link 7
        8, 0, 2, 0, 10, 96, 0, 10, // IFA_LOCAL
        8, 0, 1, 0, 10, 96, 0, 10, // IFA_ADDRESS
    ];
    assert_eq!(sent.payload, expected);
}

#[test]
fn a_list_asks_for_all_and_a_question_for_one() {
    let (mut socket, record) = socket(|sent| {
        let sequence = sent[0].sequence;
        if sent[0].flags & NLM_F_DUMP == NLM_F_DUMP {
            vec![Ok(done(sequence, 0, 0))]
        } else {
            vec![Ok(status(sequence, -(Errno::ENODEV as i32)))]
        }
    });

    let found = socket.dump("list links", message::list_links(), |_| Ok(Some(())));
    assert_eq!(found.expect("whole"), []);
    assert_eq!(link::find(&mut socket, "kube-ipvs0").expect("heard"), None);

    let sent = record.lock().expect("no panic");
    assert_eq!(sent[0].flags, NLM_F_REQUEST | NLM_F_DUMP);
    assert_eq!(sent[1].flags, NLM_F_REQUEST | NLM_F_ACK);
}

#[test]
fn a_refusal_comes_with_its_place_and_the_kernels_words() {
    let (mut socket, _) = socket(|sent| {
        let refused = explained(&sent[1], -(Errno::EPERM as i32), |out| {
            out.name(1, "not you");
        });
        vec![Ok(refused), Ok(status(sent[2].sequence, 0))]
    });

    let refused = socket.batch("bind", &addresses(3)).expect("heard");

    let [refusal] = &refused[..] else {
        panic!("{refused:?}");
    };
    assert_eq!(refusal.index, 1);
    let error = Error::refused("bind 10.96.0.2/32".into(), &refusal.reason);
    assert_eq!(
        error.to_string(),
        "bind 10.96.0.2/32: Operation not permitted (EPERM): not you; CAP_NET_ADMIN is needed"
    );
}

#[test]
fn a_table_that_goes_on_changing_is_no_answer() {
    let (mut socket, record) = socket(|sent| vec![Ok(done(sent[0].sequence, NLM_F_DUMP_INTR, 0))]);
    let found = socket.dump("list links", message::list_links(), |_| Ok(Some(())));
    assert_eq!(
        found.expect_err("no answer").to_string(),
        "list links: the table changed during each of 5 tries to list it"
    );
    assert_eq!(record.lock().expect("no panic").len(), 5);
}

#[test]
fn what_goes_wrong_is_told_with_what_was_asked() {
    let told = |answer: fn(u32) -> Answer| {
        let (mut socket, _) = socket(move |sent| vec![answer(sent[0].sequence)]);
        let error = link::find(&mut socket, "kube-ipvs0").expect_err("no answer");
        error.to_string()
    };
    assert_eq!(
        told(|_| Err(io::ErrorKind::WouldBlock.into())),
        "look up link kube-ipvs0: no answer of the kernel within 10s"
    );
    assert_eq!(
        told(|_| Err(Errno::ENOBUFS.into())),
        "look up link kube-ipvs0: answers of the kernel were lost (ENOBUFS); look again"
    );
    assert_eq!(
        told(|sequence| Ok(bytes(16, 0, sequence, &[0; 8]))),
        "look up link kube-ipvs0: unexpected answer of the kernel: a short message"
    );
    assert_eq!(
        told(|_| Err(Errno::EBADF.into())),
        "look up link kube-ipvs0: receive from the kernel: Bad file descriptor (os error 9)"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_a_link_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Link::parse(&bytes);
    }
}
