//! A question and its answer, and those who ask wrongly.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use super::*;

fn question() -> Ask {
    Ask::Service {
        namespace: None,
        name: "web".into(),
    }
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
    std::fs::write(directory.path().join(FILE_NAME), "left over").expect("written");
    let (serving, mut questions) = serve(directory.path()).expect("a socket");
    let server = tokio::spawn(serving);
    let path = directory.path().to_owned();
    let asked = tokio::task::spawn_blocking(move || ask(&path, &question()));

    let Question { ask, reply } = questions.recv().await.expect("a question");
    assert_eq!(ask, question());
    reply.send(told("default/wed")).expect("it waits");

    let answer = asked.await.expect("no panic").expect("an answer");
    assert_eq!(answer, Some(told("default/wed")));
    server.abort();
}

#[tokio::test]
async fn who_asks_wrongly_gets_no_answer_and_the_next_one_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let (serving, mut questions) = serve(directory.path()).expect("a socket");
    let server = tokio::spawn(serving);
    let path = directory.path().to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        for wrong in ["{\"service\":".to_owned(), "x".repeat(10_000)] {
            let mut stream = UnixStream::connect(path.join(FILE_NAME)).expect("it listens");
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
    reply.send(told("a/b")).expect("it waits");

    let answer = asked.await.expect("no panic").expect("an answer");
    assert_eq!(answer, Some(told("a/b")));
    server.abort();
}

#[test]
fn where_nobody_listens_there_is_no_daemon() {
    let directory = tempfile::tempdir().expect("a directory");
    assert_eq!(ask(directory.path(), &question()).expect("no error"), None);
    let left = std::os::unix::net::UnixListener::bind(directory.path().join(FILE_NAME));
    drop(left.expect("a socket"));
    assert_eq!(ask(directory.path(), &question()).expect("no error"), None);
}

#[test]
fn names_that_are_near_are_found() {
    let services = ["default/web", "shop/wed", "shop/database", "default/webs"];
    let services = services.map(str::to_owned).into_iter();

    assert_eq!(
        near("web", services),
        ["default/web", "default/webs", "shop/wed"]
    );
}
