//! Transactions: all or nothing, and which.

use std::io;

use super::*;
use crate::fake::{explained, foreign, status};

const NFTABLES: u8 = 10;
const EPERM: i32 = -1;
const ENOENT: i32 = -2;

fn transaction(
    generation: Option<u32>,
    requests: Vec<Number>,
    behaviour: impl FnMut(&[Sent]) -> Vec<Answer> + Send + 'static,
) -> (Result<Transaction, Error>, Connection, Sends) {
    let (mut connection, sends) = connection(BUFFER, behaviour);
    let result = connection.transaction(NFTABLES, generation, requests);
    (result, connection, sends)
}

fn refused(result: Result<Transaction, Error>) -> Vec<String> {
    match result {
        Ok(Transaction::Refused(refused)) => refused
            .iter()
            .map(|(place, error)| format!("{place}: {error}"))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_requests_go_in_one_send_between_begin_and_end() {
    let (result, _, sends) = transaction(Some(258), numbers(3000), acknowledge);

    assert!(matches!(result, Ok(Transaction::Committed)), "{result:?}");
    let sends = sends.lock().expect("no panic");
    let [sent] = &sends[..] else {
        panic!("{} sends", sends.len());
    };
    assert_eq!(sent.len(), 3002);
    // nfgenmsg with the subsystem, NFNL_BATCH_GENID with the generation.
    let begin = [0, 0, 0, 10, 8, 0, 1, 0, 0, 0, 1, 2];
    assert_eq!(
        (sent[0].message_type, &sent[0].payload[..]),
        (16, &begin[..])
    );
    assert_eq!(sent[3001].message_type, 17);
    assert_eq!(sent[3001].payload, [0, 0, 0, 10]);
    // Kernels before 6.10 acknowledge neither begin nor end.
    let acknowledged: Vec<_> = (0..sent.len()).filter(|n| sent[*n].acknowledge()).collect();
    assert_eq!(acknowledged, [3000]);
}

#[test]
fn nothing_to_do_is_done_without_the_kernel() {
    let (result, _, sends) = transaction(None, Vec::new(), acknowledge);
    assert!(matches!(result, Ok(Transaction::Committed)), "{result:?}");
    assert!(sends.lock().expect("no panic").is_empty());
}

#[test]
fn every_request_that_was_refused_is_named() {
    let (result, mut connection, _) = transaction(None, numbers(4), |sent| match sent.len() {
        1 => acknowledge(sent),
        _ => vec![
            Ok(status(sent[2].sequence, ENOENT)),
            Ok(explained(&sent[4], EPERM, |out| out.u32(2, 20))),
        ],
    });
    assert_eq!(
        refused(result),
        [
            "1: No such file or directory (ENOENT)",
            "3: Operation not permitted (EPERM): attribute 1 at byte 20",
        ]
    );
    connection.ask(Number(1), |_| Ok(())).expect("next");
}

/// The kernel says at the begin that it does not commit, and then what it had
/// noted for the requests: an acknowledgement that is none.
#[test]
fn a_refusal_of_the_whole_wins_over_acknowledgements() {
    let (result, mut connection, _) = transaction(None, numbers(2), |sent| match sent.len() {
        1 => acknowledge(sent),
        _ => vec![
            Ok(status(sent[0].sequence, EPERM)),
            Ok(status(sent[2].sequence, 0)),
        ],
    });
    assert!(matches!(&result, Err(Error::Refused(refusal)) if refusal.errno == Errno::EPERM));
    connection.ask(Number(1), |_| Ok(())).expect("next");
}

#[test]
fn a_generation_that_is_past_is_told() {
    let (result, ..) = transaction(Some(7), numbers(2), |sent| {
        vec![Ok(status(sent[0].sequence, -(Errno::ERESTART as i32)))]
    });
    let error = result.expect_err("outdated");
    assert!(
        matches!(error, Error::Outdated { generation: 7 }),
        "{error:?}"
    );
    assert!(error.look_again());
}

#[test]
fn what_is_too_long_keeps_all_from_being_sent() {
    let (mut connection, sends) = connection(BUFFER, acknowledge);
    let (one, endless) = (Number(1), Endless);
    let requests: [&dyn Request; 2] = [&one, &endless];

    let result = connection.transaction(NFTABLES, None, requests);

    assert_eq!(refused(result), ["1: too long for a netlink message"]);
    assert!(sends.lock().expect("no panic").is_empty());
}

/// So many refusals that they do not fit: those that were heard say enough.
#[test]
fn refusals_that_were_lost_do_not_make_it_unknown() {
    let lost = || Err(io::Error::from_raw_os_error(Errno::ENOBUFS as i32));
    let (result, ..) = transaction(None, numbers(3), move |sent| {
        vec![lost(), Ok(status(sent[2].sequence, ENOENT))]
    });
    assert_eq!(refused(result), ["1: No such file or directory (ENOENT)"]);

    let (result, ..) = transaction(None, numbers(3), move |_| vec![lost()]);
    assert!(matches!(result, Err(Error::Overrun)), "{result:?}");
}

/// What is heard after an overrun is judged as before it.
#[test]
fn after_lost_answers_too_only_whole_words_of_the_kernel_count() {
    let lost = || Err(io::Error::from_raw_os_error(Errno::ENOBUFS as i32));
    let (result, ..) = transaction(None, numbers(3), move |sent| {
        let refusal = status(sent[2].sequence, ENOENT);
        vec![lost(), Ok(foreign(&refusal))]
    });
    assert!(matches!(result, Err(Error::Overrun)), "{result:?}");

    let (result, ..) = transaction(None, numbers(3), move |sent| {
        let mut cut = status(sent[2].sequence, ENOENT);
        cut.resize(1 << 17, 0);
        vec![lost(), Ok(cut)]
    });
    assert!(matches!(result, Err(Error::Overrun)), "{result:?}");
}

#[test]
fn a_transaction_without_an_answer_is_unknown() {
    let (result, ..) = transaction(None, numbers(3), |_| Vec::new());
    let error = result.expect_err("silence");
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert!(error.look_again());
}
