//! A question and its answer, and those who ask wrongly.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use kube_ipvs_dataplane::record::SOCKET;

use super::*;

fn question() -> Ask {
    Ask::Service {
        namespace: None,
        name: "web".into(),
    }
}

fn about() -> NodeReport {
    NodeReport::new(jiff::Timestamp::UNIX_EPOCH)
}

fn told(n: &str) -> Told {
    Told {
        version: VERSION,
        near: vec![n.into()],
        ..Told::default()
    }
}

#[tokio::test]
async fn a_question_is_answered_by_the_loop() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join(SOCKET), "left over").expect("written");
    let (serving, mut questions) = serve(directory.path(), about).expect("a socket");
    let server = tokio::spawn(serving);
    let path = directory.path().to_owned();
    let asked = tokio::task::spawn_blocking(move || ask(&path, &question()));

    let Question { ask, reply } = questions.recv().await.expect("a question");
    assert_eq!(ask, question());
    reply
        .send(Reply::Service(told("default/wed").into()))
        .expect("it waits");

    let answer = asked.await.expect("no panic").expect("an answer");
    assert_eq!(answer, Some(told("default/wed")));
    server.abort();
}

#[tokio::test]
async fn who_asks_wrongly_gets_no_answer_and_the_next_one_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let (serving, mut questions) = serve(directory.path(), about).expect("a socket");
    let server = tokio::spawn(serving);
    let path = directory.path().to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        for wrong in ["{\"service\":".to_owned(), "x".repeat(10_000)] {
            let mut stream = UnixStream::connect(path.join(SOCKET)).expect("it listens");
            let mut answer = Vec::new();
            // Cut off in the middle of too long a question.
            _ = stream.write_all(wrong.as_bytes());
            _ = stream.shutdown(Shutdown::Write);
            _ = stream.read_to_end(&mut answer);
            assert!(answer.is_empty());
        }
        ask(&path, &question())
    });

    let Question { reply, .. } = questions.recv().await.expect("the third");
    reply
        .send(Reply::Service(told("a/b").into()))
        .expect("it waits");

    let answer = asked.await.expect("no panic").expect("an answer");
    assert_eq!(answer, Some(told("a/b")));
    server.abort();
}

#[test]
fn where_nobody_listens_there_is_no_daemon() {
    let directory = tempfile::tempdir().expect("a directory");
    assert_eq!(ask(directory.path(), &question()).expect("no error"), None);
    let left = std::os::unix::net::UnixListener::bind(directory.path().join(SOCKET));
    drop(left.expect("a socket"));
    assert_eq!(ask(directory.path(), &question()).expect("no error"), None);
}

#[test]
fn names_that_are_near_are_found() {
    let services = ["default/web", "shop/wed", "shop/database", "default/webs"];
    let services = services.map(str::to_owned).into_iter();

    for name in ["web", "WEB"] {
        assert_eq!(
            near(name, services.clone()),
            ["default/web", "default/webs", "shop/wed"]
        );
    }
}

/// What the asking side says when somebody gives this answer.
fn said_of(answer: Vec<u8>) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let listener = std::os::unix::net::UnixListener::bind(directory.path().join(SOCKET));
    let listener = listener.expect("a socket");
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a question");
        stream.read_to_end(&mut Vec::new()).expect("read");
        stream.write_all(&answer).expect("written");
    });
    let error = ask(directory.path(), &question()).expect_err("no answer");
    other.join().expect("no panic");
    format!("{error:#}")
}

#[test]
fn an_answer_of_another_version_is_said_to_be_one() {
    let newer = said_of(br#"{"version": 99, "account": 7}"#.to_vec());
    assert!(newer.contains("it answers in form 99"), "{newer}");
    assert!(newer.contains("use the program that runs there"), "{newer}");
    let none = said_of(Vec::new());
    assert!(none.contains("it gave no answer"), "{none}");
}

#[test]
fn what_went_wrong_is_told_with_its_remedy() {
    let said = |kind: ErrorKind| client::told(kind.into()).to_string();
    assert!(said(ErrorKind::PermissionDenied).contains("run this as root"));
    for late in [ErrorKind::WouldBlock, ErrorKind::TimedOut] {
        assert!(
            said(late).starts_with("no answer within 10 s"),
            "{}",
            said(late)
        );
    }
}

#[tokio::test]
async fn a_daemon_tells_of_itself_also_when_its_loop_does_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let (serving, mut questions) = serve(directory.path(), about).expect("a socket");
    let server = tokio::spawn(serving);
    let asked = || {
        let path = directory.path().to_owned();
        tokio::task::spawn_blocking(move || ask_node(&path))
    };

    let with = asked();
    let Question { ask, reply } = questions.recv().await.expect("a question");
    assert_eq!(ask, Ask::Node);
    let of_loop = LoopReport {
        node: "node-1".into(),
        ..LoopReport::default()
    };
    reply
        .send(Reply::Loop(of_loop.clone().into()))
        .expect("it waits");
    let with = with.await.expect("no panic").expect("an answer");
    let expected = NodeReport {
        of_loop: Some(of_loop),
        ..about()
    };
    assert_eq!(with, Some(expected));

    // The loop is gone, or in a round: nobody answers in its place.
    drop(questions);
    let without = asked().await.expect("no panic").expect("an answer");
    assert_eq!(without, Some(about()));
    server.abort();
}
