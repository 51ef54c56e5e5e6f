//! Events for the owners of Services.

use std::time::Duration;

use kube_ipvs::events::{Counts, Fact, Pace, Recorder};
use kube_ipvs_core::names::Warning;
use kube_ipvs_source::tasks::Tasks;
use kube_ipvs_tests::apiserver::{Access, ApiServer, Fault, service};
use tokio::time::{sleep, timeout};

use kube_ipvs_tests::apiserver::replica::SOON;

/// About default/web, whose uid is known.
fn fact(note: &str) -> Fact {
    let mut fact = warning(note);
    fact.about.uid = "1234".into();
    fact
}

/// What the compiler says of default/web: it knows no uid.
pub(crate) fn warning(message: &str) -> Fact {
    let warning = Warning {
        object: "Service default/web".into(),
        message: message.into(),
    };
    Fact::of_warning(&warning).expect("a Service has an owner")
}

fn hasty() -> Pace {
    Pace {
        burst: 100,
        interval: Duration::from_millis(10),
        spread: Duration::from_millis(5),
        pause: Duration::from_millis(10),
        ..Pace::default()
    }
}

async fn recorder(server: &ApiServer, node_name: &str, pace: Pace) -> Recorder {
    Recorder::spawn(
        &Tasks::unwatched(),
        &Access::to(server).await.client,
        node_name,
        pace,
    )
}

async fn until(recorder: &Recorder, what: &str, holds: impl Fn(Counts) -> bool) {
    let waited = timeout(SOON, async {
        while !holds(recorder.counts()) {
            sleep(Duration::from_millis(5)).await;
        }
    });
    waited
        .await
        .unwrap_or_else(|_| panic!("not within {SOON:?}: {what}; {:?}", recorder.counts()));
}

#[tokio::test]
async fn the_same_fact_from_many_nodes_is_one_event() {
    let server = ApiServer::local();
    let mut recorders = Vec::new();
    for number in 0..20 {
        recorders.push(recorder(&server, &format!("node-{number}"), hasty()).await);
    }

    for recorder in &recorders {
        recorder.record(fact("203.0.113.80:80/TCP belongs to default/older"));
    }
    for recorder in &recorders {
        until(recorder, "it is written or known", |counts| {
            counts.written + counts.known == 1
        })
        .await;
    }

    let written: u64 = recorders
        .iter()
        .map(|recorder| recorder.counts().written)
        .sum();
    assert_eq!((written, server.objects("Event").len()), (1, 1));
    let event = &server.objects("Event")[0];
    assert_eq!(event["regarding"]["uid"], "1234");
    assert_eq!(event["metadata"]["namespace"], "default");
}

#[tokio::test]
async fn fact_that_stays_is_asked_about_once() {
    let server = ApiServer::local();
    let recorder = recorder(&server, "node-1", hasty()).await;

    for _ in 0..50 {
        recorder.record(fact("the same"));
    }
    recorder.record(fact("another"));

    until(&recorder, "both are written", |counts| counts.written == 2).await;
    assert_eq!(server.count("create", "events"), 2);
}

#[tokio::test]
async fn flood_is_dropped_and_counted() {
    let server = ApiServer::local();
    let slow = Pace {
        burst: 3,
        interval: Duration::from_secs(3600),
        ..hasty()
    };
    let recorder = recorder(&server, "node-1", slow).await;

    for number in 0..1000 {
        recorder.record(fact(&format!("fact {number}")));
    }

    until(&recorder, "the burst is written", |counts| {
        counts.written == 3
    })
    .await;
    assert!(recorder.counts().dropped >= 700, "{:?}", recorder.counts());
    assert_eq!(server.count("create", "events"), 3);
}

#[tokio::test]
async fn failure_is_tried_again() {
    let server = ApiServer::local();
    server.fault(Fault::status(500, 2));
    let recorder = recorder(&server, "node-1", hasty()).await;

    recorder.record(fact("late but there"));

    until(&recorder, "it is written", |counts| counts.written == 1).await;
    assert_eq!(server.count("create", "events"), 3);
}

#[tokio::test]
async fn missing_permission_is_not_insisted_on() {
    let server = ApiServer::local();
    server.deny("create", "events");
    let recorder = recorder(&server, "node-1", hasty()).await;

    recorder.record(fact("unheard"));

    until(&recorder, "it is given up", |counts| counts.failed == 1).await;
    assert_eq!(server.count("create", "events"), 1);
}

#[tokio::test]
async fn warning_of_the_compiler_finds_its_service() {
    let server = ApiServer::local();
    server.upsert(service("default", "web", "10.96.0.10"));
    let recorder = recorder(&server, "node-1", hasty()).await;

    recorder.record(warning("203.0.113.80 is a Node's"));
    recorder.record(warning("203.0.113.80 is a Node's"));

    until(&recorder, "one is written, one known", |counts| {
        counts.written + counts.known == 2
    })
    .await;
    let uid = server
        .object("Service", "default", "web")
        .expect("it is there")["metadata"]["uid"]
        .clone();
    assert_eq!(server.objects("Event")[0]["regarding"]["uid"], uid);
    assert_eq!(
        (
            server.count("list", "services"),
            server.count("create", "events")
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn warning_about_a_service_that_has_gone_is_dropped() {
    let server = ApiServer::local();
    let recorder = recorder(&server, "node-1", hasty()).await;

    recorder.record(warning("late"));

    until(&recorder, "it is given up", |counts| counts.failed == 1).await;
    assert!(server.objects("Event").is_empty());
}

/// A real server refuses more than 1,024 bytes (422), and so does the fake.
#[tokio::test]
async fn note_that_is_too_long_is_cut_to_what_the_server_takes() {
    let server = ApiServer::local();
    let recorder = recorder(&server, "node-1", hasty()).await;

    recorder.record(fact(&"long ".repeat(1000)));

    until(&recorder, "it is written", |counts| counts.written == 1).await;
    let note = server.objects("Event")[0]["note"].clone();
    assert_eq!(note.as_str().map(str::len), Some(1024));
}
