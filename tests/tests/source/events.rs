//! Events for the owners of Services.

use std::time::Duration;

use kube_ipvs::events::{Counts, Fact, Pace, Recorder};
use kube_ipvs_core::{Cluster, Event, Kind, Object, Options, Regarding, Uid, Warning};
use kube_ipvs_source::tasks::Tasks;
use kube_ipvs_tests::apiserver::{Access, ApiServer, Fault, service};
use tokio::time::{sleep, timeout};

use kube_ipvs_tests::apiserver::replica::SOON;

/// Of default/web.
const UID: &str = "5d1c2d9a-0000-4000-8000-000000004711";

/// What the compiler says of default/web.
pub(crate) fn fact(message: &str) -> Fact {
    let warning = Warning {
        object: Regarding::named(Kind::Service, "default", "web", Uid::read(UID)),
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
    assert_eq!(event["regarding"]["uid"], UID);
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

/// What the source read and the cluster warns of is all that an Event needs.
#[tokio::test]
async fn no_uid_is_asked_for() {
    let server = ApiServer::local();
    let mut bad = service("default", "web", "10.96.0.10");
    bad["spec"]["sessionAffinity"] = "None, please".into();
    server.upsert(bad);
    let stored = server
        .object("Service", "default", "web")
        .expect("it is there");
    let mut cluster = Cluster::new(Options::default());
    cluster.apply(Event::Upsert(
        Object::decode(Kind::Service, stored.clone()).expect("a Service"),
    ));
    cluster.compile();
    let warnings = cluster.warnings();
    let recorder = recorder(&server, "node-1", hasty()).await;

    recorder.record(Fact::of_warning(&warnings[0]).expect("a Service has an owner"));

    until(&recorder, "it is written", |counts| counts.written == 1).await;
    let uid = &stored["metadata"]["uid"];
    assert!(uid.is_string(), "{stored}");
    assert_eq!(&server.objects("Event")[0]["regarding"]["uid"], uid);
    assert_eq!(
        (
            server.count("list", "services"),
            server.count("get", "services"),
            server.count("create", "events")
        ),
        (0, 0, 1)
    );
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
