//! The role in `deploy/base` and the calls to the API server are the same.

use std::collections::BTreeSet;
use std::time::Duration;

use kube_ipvs::config::{self, RunArgs};
use kube_ipvs::events::{Pace, Recorder};
use kube_ipvs::run::own_node;
use kube_ipvs_core::event::{Event, Kind, ObjectRef};
use kube_ipvs_source::kube::spawn;
use kube_ipvs_source::protected::{Timing, guard};
use kube_ipvs_source::tasks::Tasks;
use kube_ipvs_tests::apiserver::replica::{SOON, hasty, server_with};
use kube_ipvs_tests::apiserver::{Access, Fault, Options, role, service};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::events::fact;

/// Everything the program asks of a server in its life: its own Node, lists and
/// watches, lists again when the server has forgotten, addresses of others for
/// a Service from outside, and Events.
async fn life(streaming_lists: bool) -> BTreeSet<role::Call> {
    let server = server_with(Options {
        streaming_lists,
        ..Options::default()
    });
    let mut claimant = service("default", "web", "10.96.0.10");
    claimant["spec"]["externalIPs"] = json!(["203.0.113.80"]);
    server.upsert(claimant);
    let access = Access::to(&server).await;

    let args = RunArgs {
        kubeconfig: Some(access.kubeconfig()),
        ..RunArgs::default()
    };
    let node = tokio::task::spawn_blocking(move || {
        let settings = config::settings(&args, None).expect("good flags");
        own_node(&settings, "node-1").expect("an answer")
    });
    assert!(node.await.expect("no panic").is_some(), "node-1 is known");

    let timing = Timing {
        jitter: Duration::from_millis(5),
        ..Timing::default()
    };
    let (sender, mut events) = mpsc::channel(1024);
    let (incoming, _guard) = guard(
        &Tasks::unwatched(),
        &access.client,
        "node-1",
        BTreeSet::new(),
        timing,
        sender,
    );
    let _tasks = spawn(
        &Tasks::unwatched(),
        &access.client,
        &hasty(),
        &incoming,
        &access.status,
    );
    until("the claim is checked", || {
        let service = ObjectRef {
            kind: Kind::Service,
            namespace: "default".into(),
            name: "web".into(),
        };
        let mut passed = false;
        while let Ok(event) = events.try_recv() {
            passed |= matches!(event, Event::Upsert(object) if object.reference() == service);
        }
        passed
    })
    .await;
    until("everything is watched", || {
        ["services", "endpointslices", "servicecidrs", "nodes"]
            .iter()
            .all(|resource| server.watches(resource) > 0)
    })
    .await;
    let lists = |verb| server.count(verb, "services");
    let before = lists("list") + lists("watch");
    server.fault(Fault::Gone);
    until("it is listed again", || {
        while events.try_recv().is_ok() {}
        lists("list") + lists("watch") > before && server.watches("services") > 0
    })
    .await;

    let recorder = Recorder::spawn(
        &Tasks::unwatched(),
        &access.client,
        "node-1",
        Pace::default(),
    );
    recorder.record(fact("203.0.113.80 is a Node's"));
    until("an Event is written", || recorder.counts().written == 1).await;
    role::calls(&server.requests())
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = timeout(SOON, async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    waited
        .await
        .unwrap_or_else(|_| panic!("not within {SOON:?}: {what}"));
}

#[tokio::test]
async fn the_role_allows_what_is_called_and_no_more() {
    let mut called = life(true).await;
    called.extend(life(false).await);

    let allowed = role::allowed();
    let refused: Vec<_> = called.difference(&allowed).collect();
    let idle: Vec<_> = allowed.difference(&called).collect();
    assert!(
        refused.is_empty() && idle.is_empty(),
        "called and not allowed: {refused:?}; allowed and not called: {idle:?}"
    );
}
