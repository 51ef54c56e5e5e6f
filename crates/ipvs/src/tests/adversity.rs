//! Kernels that refuse, forget, interrupt, and babble.

use std::io;

use netlink_packet_core::{DefaultNla, NLM_F_DUMP_INTR};

use super::fake::{self, Sent, client, done, error, error_in_words, message, service};
use super::stories::{endpoint, web, web6};
use super::*;

const ESRCH: i32 = -3;

fn refuse_all(sent: &[Sent]) -> Vec<io::Result<Vec<u8>>> {
    sent.iter()
        .map(|sent| Ok(error(sent.sequence, ESRCH)))
        .collect()
}

fn take_all(sent: &[Sent]) -> Vec<io::Result<Vec<u8>>> {
    sent.iter()
        .filter(|sent| sent.acknowledge())
        .map(|sent| Ok(error(sent.sequence, 0)))
        .collect()
}

fn removals(count: u16) -> Vec<Request> {
    (0..count)
        .map(|port| Request::RemoveDestination(web(), endpoint(1, port)))
        .collect()
}

#[test]
fn refusals_of_a_whole_batch_fit_the_receive_buffer() {
    let receive_buffer = 212_992;
    let (mut client, sends) = client(receive_buffer, refuse_all);

    let failed = client.apply(&removals(1000)).expect("heard");

    let indices: Vec<_> = failed.iter().map(|(index, _)| *index).collect();
    assert_eq!(indices, (0..1000).collect::<Vec<_>>());
    let last = "remove real server 10.244.1.1:999 from 10.96.0.10:80/TCP: no such service (ESRCH)";
    assert_eq!(failed[999].1.to_string(), last);
    // sk_buff, its data and its tail take 1 KiB for 36 bytes at most.
    for sent in sends.lock().expect("no panic").iter() {
        assert!(sent * 1024 <= receive_buffer, "{sent} requests in a send");
    }
}

#[test]
fn a_batch_takes_one_acknowledgement_a_send() {
    let (mut client, sends) = client(1 << 21, |sent| {
        let asked: Vec<_> = sent.iter().map(|sent| sent.acknowledge()).collect();
        let (last, others) = asked.split_last().expect("no empty send");
        assert!(*last && !others.contains(&true));
        take_all(sent)
    });

    assert!(client.apply(&removals(2000)).expect("heard").is_empty());
    assert!(client.apply(&[]).expect("nothing to hear").is_empty());

    let sends = sends.lock().expect("no panic");
    assert_eq!(sends.iter().sum::<usize>(), 2000);
    assert!(sends.len() <= 6, "{} sends", sends.len());
}

#[test]
fn a_request_too_long_for_netlink_fails_alone() {
    let (mut client, sends) = client(1 << 21, take_all);
    let mut batch = removals(3);
    let mut service = Service::new(web(), Scheduler::RR);
    service.other.push(DefaultNla::new(99, vec![0; 65_535]));
    batch.insert(1, Request::AddService(service));

    let failed = client.apply(&batch).expect("heard");

    assert!(
        matches!(&failed[..], [(1, Error::TooLong { .. })]),
        "{failed:?}"
    );
    assert_eq!(*sends.lock().expect("no panic"), [3]);
}

#[test]
fn silence_is_a_time_out_and_late_answers_are_not_mixed_up() {
    let mut asked = 0;
    let (mut client, _) = client(1 << 21, move |sent| {
        asked += 1;
        match asked {
            1 => vec![
                Err(io::ErrorKind::WouldBlock.into()),
                Ok(error(sent[0].sequence, ESRCH)),
            ],
            _ => take_all(sent),
        }
    });

    let first = client.flush();
    assert!(matches!(first, Err(Error::TimedOut { .. })), "{first:?}");
    assert_eq!(first.expect_err("late").errno(), Some(Errno::ETIMEDOUT));
    client.flush().expect("the late answer is not for this one");
}

/// A kernel that stops a daemon without a word, and has these left.
fn stopped_in_silence(left: &'static [DaemonState]) -> Result<(), Error> {
    let (mut client, _) = client(1 << 21, |sent| {
        if sent[0].acknowledge() {
            return Vec::new();
        }
        let sequence = sent[0].sequence;
        let entries = left
            .iter()
            .map(|state| Ok(fake::daemon(sequence, &Daemon::new(*state, "lo", 7))));
        entries.chain([Ok(done(sequence, 0, 0))]).collect()
    });
    client.stop_daemon(DaemonState::Master)
}

#[test]
fn a_daemon_that_was_stopped_without_an_answer_is_stopped() {
    stopped_in_silence(&[]).expect("none runs");
    stopped_in_silence(&[DaemonState::Backup]).expect("the other one runs");
    let error = stopped_in_silence(&[DaemonState::Master]).expect_err("it runs");
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
}

#[test]
fn lost_replies_are_told() {
    let (mut client, _) = client(1 << 21, |_| {
        vec![Err(io::Error::from_raw_os_error(Errno::ENOBUFS as i32))]
    });
    let lost = client.apply(&removals(2)).expect_err("lost");
    assert!(matches!(lost, Error::Overrun), "{lost:?}");
    assert_eq!(lost.errno(), Some(Errno::ENOBUFS));
}

#[test]
fn a_closed_socket_is_told() {
    let (mut client, _) = client(1 << 21, |_| {
        vec![Err(io::Error::from_raw_os_error(Errno::EBADF as i32))]
    });
    let closed = client.services().expect_err("closed");
    assert_eq!(
        closed.to_string(),
        "receive from IPVS: Bad file descriptor (os error 9)"
    );
}

#[test]
fn an_interrupted_dump_is_no_answer() {
    for (first, last) in [(NLM_F_DUMP_INTR, 0), (0, NLM_F_DUMP_INTR)] {
        let (mut client, _) = client(1 << 21, move |sent| {
            let one = Service::new(web(), Scheduler::RR);
            let sequence = sent[0].sequence;
            vec![
                Ok(service(sequence, first, &one)),
                Ok(done(sequence, last, 0)),
            ]
        });
        let answer = client.services();
        assert!(
            matches!(answer, Err(Error::Interrupted { .. })),
            "{answer:?}"
        );
    }
}

/// What Linux 6.1 does when a service goes in another namespace meanwhile.
#[test]
fn a_dump_with_an_entry_twice_is_no_answer() {
    let (mut client, _) = client(1 << 21, |sent| {
        let sequence = sent[0].sequence;
        let one = service(sequence, 0, &Service::new(web(), Scheduler::RR));
        vec![Ok(one.clone()), Ok(one), Ok(done(sequence, 0, 0))]
    });
    let answer = client.services();
    assert!(
        matches!(answer, Err(Error::Interrupted { .. })),
        "{answer:?}"
    );
}

#[test]
fn a_kernel_without_ipvs_is_told_from_other_trouble() {
    let refusing = |errno: Errno| fake::refusing_family(-(errno as i32)).expect_err("refused");

    let missing = refusing(Errno::ENOENT);
    assert!(matches!(missing, Error::NoIpvs), "{missing:?}");
    assert_eq!(missing.errno_name().as_deref(), Some("ENOENT"));
    let forbidden = refusing(Errno::EPERM);
    assert_eq!(
        forbidden.to_string(),
        "find IPVS in the kernel: not permitted (EPERM)"
    );
}

#[test]
fn a_dump_that_ends_in_an_error_is_no_answer() {
    let (mut client, _) = client(1 << 21, |sent| {
        let sequence = sent[0].sequence;
        let one = Service::new(web(), Scheduler::RR);
        vec![
            Ok(service(sequence, 0, &one)),
            Ok(done(sequence, 0, -(Errno::ENOMEM as i32))),
        ]
    });
    let answer = client.services().expect_err("no answer");
    assert_eq!(answer.errno(), Some(Errno::ENOMEM));
}

#[test]
fn several_messages_of_a_datagram_are_all_read() {
    let (mut client, _) = client(1 << 21, |sent| {
        let sequence = sent[0].sequence;
        let mut datagram = service(sequence, 0, &Service::new(web(), Scheduler::RR));
        datagram.extend(service(
            sequence,
            0,
            &Service::new(web6(), "new-in-7.0".into()),
        ));
        vec![Ok(datagram), Ok(done(sequence, 0, 0))]
    });
    let services = client.services().expect("whole");
    assert_eq!(services.len(), 2);
    assert_eq!(services[1].scheduler.as_str(), "new-in-7.0");
}

#[test]
fn an_answer_to_something_else_is_told() {
    let (mut client, _) = client(1 << 21, |sent| vec![Ok(error(sent[0].sequence + 5, 0))]);
    let answer = client.flush();
    assert!(
        matches!(answer, Err(Error::UnexpectedSequence { .. })),
        "{answer:?}"
    );
}

#[test]
fn what_is_cut_off_is_told() {
    let (mut client, _) = client(1 << 21, |sent| {
        vec![Ok(message(0x20, 0, sent[0].sequence, &[0; 1 << 17]))]
    });
    let answer = client.services().expect_err("cut off");
    let expected = "list virtual servers: malformed answer: 65536 bytes of 131088 were read";
    assert_eq!(answer.to_string(), expected);

    let (mut client, _) = fake::client(1 << 21, |_| vec![Ok(vec![1, 2, 3])]);
    let answer = client.services();
    assert!(matches!(answer, Err(Error::Malformed { .. })), "{answer:?}");
}

#[test]
fn the_words_of_the_kernel_are_passed_on() {
    let (mut client, _) = client(1 << 21, |sent| {
        vec![Ok(error_in_words(
            &sent[0],
            -(Errno::EINVAL as i32),
            "no such luck",
        ))]
    });
    let refused = client.flush().expect_err("refused");
    assert!(refused.is_refusal());
    assert_eq!(
        refused.to_string(),
        "remove all virtual servers: Invalid argument (EINVAL): no such luck"
    );
}

#[test]
fn hints_name_the_remedy() {
    let hint = |request: Request, errno: Errno| {
        let (mut client, _) = client(1 << 21, move |sent| {
            vec![Ok(error(sent[0].sequence, -(errno as i32)))]
        });
        let error = client.request(&request).expect_err("refused");
        error.hint().expect("known")
    };
    let service = Request::AddService(Service::new(web(), Scheduler::MH));
    let destination = Request::AddDestination(web(), Destination::new(endpoint(1, 1)));

    assert!(hint(service, Errno::ENOENT).contains("ip_vs_mh"));
    assert!(hint(destination, Errno::EINVAL).contains("ip link set lo up"));
    assert!(hint(Request::Flush, Errno::EPERM).contains("CAP_NET_ADMIN"));
    assert!(
        Error::NoIpvs
            .hint()
            .expect("known")
            .contains("modprobe ip_vs")
    );
}
