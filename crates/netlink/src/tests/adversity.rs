//! Kernels that refuse, forget, interrupt, and babble; and others that speak
//! in the kernel's place.

use std::io;
use std::time::Duration;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLMSG_NOOP};

use super::*;
use crate::fake::{done, explained, foreign, message, status};

const ESRCH: i32 = -3;

fn refuse_all(sent: &[Sent]) -> Vec<Answer> {
    let refuse = |sent: &Sent| Ok(status(sent.sequence, ESRCH));
    sent.iter().map(refuse).collect()
}

fn ask(connection: &mut Connection) -> Result<(), Error> {
    connection.ask(Number(1), |_| Ok(()))
}

fn list(connection: &mut Connection) -> Result<Vec<u32>, Error> {
    connection.list(Number(1), 3, read_number)
}

#[test]
fn a_batch_takes_one_acknowledgement_a_send() {
    let (mut connection, sends) = connection(BUFFER, acknowledge);

    assert!(connection.batch(numbers(2000)).expect("heard").is_empty());
    let nothing: [Number; 0] = [];
    assert!(connection.batch(nothing).expect("nothing").is_empty());

    let sends = sends.lock().expect("no panic");
    assert_eq!(sends.iter().map(Vec::len).sum::<usize>(), 2000);
    assert!(sends.len() <= 4, "{} sends", sends.len());
    for send in sends.iter() {
        let (last, others) = send.split_last().expect("no empty send");
        assert!(last.acknowledge() && !others.iter().any(Sent::acknowledge));
    }
    assert_eq!(connection.sends(), sends.len() as u64);
}

#[test]
fn refusals_of_a_whole_batch_fit_the_receive_buffer() {
    let receive_buffer = 212_992;
    let (mut connection, sends) = connection(receive_buffer, refuse_all);

    let failed = connection.batch(numbers(1000)).expect("heard");

    let places: Vec<_> = failed.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, (0..1000).collect::<Vec<_>>());
    assert_eq!(failed[999].1.errno(), Some(Errno::ESRCH));
    // sk_buff, its data and its tail take 1 KiB for 36 bytes at most.
    for sent in sends.lock().expect("no panic").iter() {
        assert!(sent.len() * 1024 <= receive_buffer, "{} a send", sent.len());
    }
}

#[test]
fn a_request_too_long_for_netlink_fails_alone_and_in_its_place() {
    let (mut connection, sends) = connection(BUFFER, refuse_all);
    let (one, endless) = (Number(1), Endless);
    let batch: [&dyn Request; 3] = [&one, &endless, &one];

    let failed = connection.batch(batch).expect("heard");

    let [(0, first), (1, second), (2, third)] = &failed[..] else {
        panic!("{failed:?}");
    };
    assert!(matches!(first, Error::Refused(_)));
    assert!(matches!(second, Error::TooLong));
    assert!(matches!(third, Error::Refused(_)));
    assert_eq!(sends.lock().expect("no panic")[0].len(), 2);
}

#[test]
fn silence_is_a_time_out_and_late_answers_are_not_mixed_up() {
    let mut asked = 0;
    let (mut connection, _) = connection(BUFFER, move |sent| {
        asked += 1;
        match asked {
            1 => vec![
                Err(io::ErrorKind::WouldBlock.into()),
                Ok(status(sent[0].sequence, ESRCH)),
            ],
            _ => acknowledge(sent),
        }
    });
    connection
        .set_timeout(Duration::from_secs(3))
        .expect("it has one");

    let first = ask(&mut connection).expect_err("silence");
    assert_eq!(first.to_string(), "no answer of the kernel within 3s");
    assert_eq!(first.errno(), Some(Errno::ETIMEDOUT));
    ask(&mut connection).expect("the late answer is not for this one");
}

/// An answer that comes even later, between request and answer.
#[test]
fn an_answer_to_an_earlier_request_is_passed_over() {
    let (mut connection, _) = connection(BUFFER, |sent| {
        let sequence = sent[0].sequence;
        vec![
            Ok(status(sequence.wrapping_sub(1), ESRCH)),
            Ok(entry(sequence.wrapping_sub(1), NLM_F_DUMP_INTR, 7)),
            Ok(entry(sequence, 0, 8)),
            Ok(status(sequence, 0)),
        ]
    });
    let mut heard = Vec::new();
    let asked = connection.ask(Number(1), |content| {
        heard.extend(read_number(content)?);
        Ok(())
    });
    asked.expect("answered");
    assert_eq!(heard, [8]);
}

#[test]
fn an_answer_to_what_was_never_asked_is_told() {
    let (mut connection, _) = connection(BUFFER, |sent| vec![Ok(status(sent[0].sequence + 5, 0))]);
    let answer = ask(&mut connection);
    assert!(
        matches!(answer, Err(Error::UnexpectedSequence { sequence: 6 })),
        "{answer:?}"
    );
}

#[test]
fn nobody_but_the_kernel_is_heard() {
    let (mut connection, _) = connection(BUFFER, |sent| {
        let sequence = sent[0].sequence;
        vec![
            Ok(foreign(&status(sequence, ESRCH))),
            Ok(foreign(&[1, 2, 3])),
            Ok(status(sequence, 0)),
        ]
    });
    ask(&mut connection).expect("the kernel said yes");
}

#[test]
fn lost_answers_are_told() {
    let lost = || Err(io::Error::from_raw_os_error(Errno::ENOBUFS as i32));
    let mut asked = 0;
    let (mut connection, _) = connection(BUFFER, move |sent| {
        asked += 1;
        match asked {
            1 => vec![lost(), Ok(status(sent[0].sequence, ESRCH)), lost()],
            _ => acknowledge(sent),
        }
    });
    let error = connection.batch(numbers(2)).expect_err("lost");
    assert!(matches!(error, Error::Overrun), "{error:?}");
    assert!(error.look_again());
    ask(&mut connection).expect("what was left is not for this one");
}

#[test]
fn a_closed_socket_is_told() {
    let (mut connection, _) = connection(BUFFER, |_| {
        vec![Err(io::Error::from_raw_os_error(Errno::EBADF as i32))]
    });
    let closed = ask(&mut connection).expect_err("closed");
    assert_eq!(
        closed.to_string(),
        "receive from the kernel: Bad file descriptor (os error 9)"
    );
}

#[test]
fn a_table_that_changes_is_read_again() {
    for (first, last) in [(NLM_F_DUMP_INTR, 0), (0, NLM_F_DUMP_INTR)] {
        let mut tries = 0;
        let (mut connection, sends) = connection(BUFFER, move |sent| {
            tries += 1;
            let changed = |flag| if tries < 3 { flag } else { 0 };
            let sequence = sent[0].sequence;
            vec![
                Ok(entry(sequence, NLM_F_MULTIPART | changed(first), tries)),
                Ok(done(sequence, changed(last), 0)),
            ]
        });
        assert_eq!(list(&mut connection).expect("whole"), [3]);
        let sends = sends.lock().expect("no panic");
        assert_eq!(sends[0][0].flags & NLM_F_DUMP, NLM_F_DUMP);
    }
}

#[test]
fn a_table_that_goes_on_changing_is_no_answer() {
    let (mut connection, sends) = connection(BUFFER, |sent| {
        let sequence = sent[0].sequence;
        vec![
            Ok(entry(sequence, NLM_F_DUMP_INTR, 1)),
            Ok(done(sequence, 0, 0)),
        ]
    });
    let answer = list(&mut connection);
    assert!(matches!(answer, Err(Error::Interrupted)), "{answer:?}");
    assert_eq!(sends.lock().expect("no panic").len(), 3);
}

#[test]
fn a_dump_that_ends_in_an_error_is_no_answer() {
    let ending = |errno: Errno| {
        let (mut connection, _) = connection(BUFFER, move |sent| {
            let sequence = sent[0].sequence;
            vec![
                Ok(entry(sequence, 0, 1)),
                Ok(done(sequence, 0, -(errno as i32))),
            ]
        });
        list(&mut connection).expect_err("no answer")
    };
    assert_eq!(ending(Errno::ENOMEM).errno(), Some(Errno::ENOMEM));
    assert!(matches!(ending(Errno::EINTR), Error::Interrupted));
}

#[test]
fn a_dump_that_never_ends_is_no_answer() {
    let (mut connection, _) = connection(BUFFER, |sent| vec![Ok(entry(sent[0].sequence, 0, 1))]);
    let answer = list(&mut connection);
    assert!(matches!(answer, Err(Error::TimedOut { .. })), "{answer:?}");
}

/// What is left of the dump is not taken for the next one's.
#[test]
fn a_dump_that_makes_no_sense_is_given_up_alone() {
    let mut asked = 0;
    let (mut connection, _) = connection(BUFFER, move |sent| {
        asked += 1;
        let sequence = sent[0].sequence;
        let odd = message(KIND, 0, sequence, &[1, 1, 0, 0]);
        match asked {
            1 => vec![Ok(odd), Ok(entry(sequence, 0, 1)), Ok(done(sequence, 0, 0))],
            _ => vec![Ok(entry(sequence, 0, 2)), Ok(done(sequence, 0, 0))],
        }
    });
    let answer = list(&mut connection).expect_err("no number");
    assert_eq!(answer.to_string(), "malformed answer: no number");
    assert_eq!(list(&mut connection).expect("whole"), [2]);
}

#[test]
fn several_messages_of_a_datagram_are_all_read() {
    let (mut connection, _) = connection(BUFFER, |sent| {
        let sequence = sent[0].sequence;
        let datagram = [
            entry(sequence, 0, 1),
            message(NLMSG_NOOP, 0, 0, &[]),
            entry(sequence, 0, 2),
        ];
        vec![Ok(datagram.concat()), Ok(done(sequence, 0, 0))]
    });
    assert_eq!(list(&mut connection).expect("whole"), [1, 2]);
}

/// The kernel pads each message of a datagram to four bytes.
#[test]
fn messages_of_odd_length_are_told_apart() {
    let (mut connection, _) = connection(BUFFER, |sent| {
        let sequence = sent[0].sequence;
        let number = entry(sequence, 0, 1);
        let odd = [&number[16..], &[5, 0, 9, 0, 7]].concat();
        let mut datagram = message(KIND, NLM_F_MULTIPART, sequence, &odd);
        datagram.extend([0; 3]);
        datagram.extend(entry(sequence, NLM_F_MULTIPART, 2));
        vec![Ok(datagram), Ok(done(sequence, 0, 0))]
    });
    assert_eq!(list(&mut connection).expect("whole"), [1, 2]);
}

/// `NLMSG_OVERRUN`, of which the kernel says that it is for lost data.
#[test]
fn a_message_that_says_so_tells_of_lost_answers() {
    const NLMSG_OVERRUN: u16 = 4;
    let (mut connection, _) = connection(BUFFER, |sent| {
        let sequence = sent[0].sequence;
        vec![
            Ok(message(NLMSG_OVERRUN, 0, sequence, &[])),
            Ok(status(sequence, 0)),
        ]
    });
    let answer = ask(&mut connection);
    assert!(matches!(answer, Err(Error::Overrun)), "{answer:?}");
}

#[test]
fn a_request_that_went_in_part_is_told() {
    struct Short;
    impl Transport for Short {
        fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len() - 1)
        }
        fn receive(&mut self, _: &mut Vec<u8>) -> io::Result<Received> {
            panic!("there is nothing to wait for")
        }
        fn receive_now(&mut self, _: &mut Vec<u8>) -> io::Result<Received> {
            Err(io::ErrorKind::WouldBlock.into())
        }
        fn set_timeout(&mut self, _: Duration) -> io::Result<()> {
            Ok(())
        }
        fn receive_buffer(&self) -> usize {
            BUFFER
        }
    }
    let mut connection = Connection::over(Box::new(Short)).expect("it has a time-out");
    let answer = ask(&mut connection).expect_err("a part");
    assert!(
        matches!(
            &answer,
            Error::Io {
                direction: Direction::Send,
                ..
            }
        ),
        "{answer:?}"
    );
}

#[test]
fn what_is_cut_off_is_told() {
    let told = |datagram: Vec<u8>| {
        let (mut connection, _) = connection(BUFFER, move |_| vec![Ok(datagram.clone())]);
        ask(&mut connection).expect_err("cut off").to_string()
    };
    let long = message(KIND, 0, 1, &[0; 1 << 17]);
    assert_eq!(
        told(long),
        "malformed answer: 65536 bytes of 131088 were read"
    );
    assert_eq!(told(Vec::new()), "malformed answer: empty datagram");
    for length in [3, 15, 20] {
        let told = told(status(1, 0)[..length].to_vec());
        assert!(told.starts_with("malformed answer: "), "{told}");
    }
}

#[test]
fn the_kernels_own_words_and_the_attribute_it_means_are_told() {
    let (mut connection, _) = connection(BUFFER, |sent| {
        vec![Ok(explained(&sent[0], -(Errno::EINVAL as i32), |out| {
            out.name(1, "no such luck");
            out.u32(2, 20);
        }))]
    });

    let Err(Error::Refused(refusal)) = ask(&mut connection) else {
        panic!("it is refused");
    };

    assert_eq!(
        refusal.to_string(),
        "Invalid argument (EINVAL): no such luck, attribute 1 at byte 20"
    );
    let at = Place {
        offset: 20,
        attribute: Some(1),
    };
    assert_eq!(refusal.at, Some(at));
}

#[test]
fn the_attribute_is_that_of_the_message_refused() {
    let (mut connection, _) = connection(BUFFER, |sent| {
        let refused = explained(&sent[1], -(Errno::EINVAL as i32), |out| out.u32(2, 28));
        let missing = explained(&sent[2], -(Errno::EINVAL as i32), |out| out.u32(5, 9));
        vec![Ok(refused), Ok(missing)]
    });
    struct Two(u16);
    impl Request for Two {
        fn message_type(&self) -> u16 {
            KIND
        }
        fn write(&self, out: &mut Writer<'_>) {
            out.header(&[0; 4]);
            out.u32(self.0, 1);
            out.nest(self.0 + 1, |out| out.u8(1, 1));
        }
    }

    let failed = connection
        .batch([Two(10), Two(20), Two(30)])
        .expect("heard");

    let told: Vec<_> = failed
        .iter()
        .map(|(place, error)| format!("{place}: {error}"))
        .collect();
    assert_eq!(
        told,
        [
            "1: Invalid argument (EINVAL): attribute 21 at byte 28",
            "2: Invalid argument (EINVAL): attribute 9 is missing",
        ]
    );
}

/// 28 is where the next message starts, and the last attribute starts at 20.
#[test]
fn a_place_outside_of_the_request_is_not_looked_up() {
    for offset in [0, 4, 20, 25, 28, u32::MAX] {
        let (mut connection, _) = connection(BUFFER, move |sent| {
            let refused = explained(&sent[0], -(Errno::EINVAL as i32), |out| out.u32(2, offset));
            vec![Ok(refused), Ok(status(sent[1].sequence, 0))]
        });
        let failed = connection.batch(numbers(2)).expect("heard");
        let [(0, Error::Refused(refusal))] = &failed[..] else {
            panic!("{failed:?}");
        };
        let place = refusal.at.expect("the kernel names one");
        assert_eq!(place.offset, offset);
        assert_eq!(place.attribute.is_some(), offset == 20, "{offset}");
    }
}

#[test]
fn sequence_numbers_go_round() {
    let (mut connection, sends) = connection(BUFFER, acknowledge);
    connection.set_sequence(u32::MAX - 1);

    assert!(connection.batch(numbers(4)).expect("heard").is_empty());
    ask(&mut connection).expect("heard");

    let sends = sends.lock().expect("no panic");
    let sequences: Vec<_> = sends.iter().flatten().map(|sent| sent.sequence).collect();
    assert_eq!(sequences, [u32::MAX, 0, 1, 2, 3]);
}
