//! Addresses of other Nodes and of the API server: listed when needed, never
//! watched, and known before a Service that could take one of them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use kube_ipvs_core::event::{Event, Kind, ObjectRef};
use kube_ipvs_core::k8s::{Object, Service};
use kube_ipvs_source::protected::{Guard, Timing, guard};
use kube_ipvs_source::tasks::Tasks;
use kube_ipvs_tests::apiserver::replica::SOON;
use kube_ipvs_tests::apiserver::{Access, ApiServer, Fault, Options, api_server_slice, node};
use tokio::sync::mpsc;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(3600);

/// A guard between a test that plays source and loop.
struct Post {
    server: ApiServer,
    source: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
    guard: Guard,
    _access: Access,
}

fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts
        .iter()
        .map(|text| text.parse().expect("an address"))
        .collect()
}

fn others(more: &[&str]) -> Event {
    let mut all = addresses(&[
        "192.0.2.2",
        "192.0.2.3",
        "2001:db8::2",
        "2001:db8::3",
        "198.51.100.1",
    ]);
    all.extend(addresses(more));
    Event::Protected(all)
}

fn service(name: &str, external: &[&str]) -> Event {
    let mut service = Service::default();
    service.metadata.name = name.to_owned();
    service.spec.external_ips = external.iter().map(|text| (*text).to_owned()).collect();
    Event::Upsert(Object::from(service))
}

fn patient() -> Timing {
    Timing {
        every: LONG,
        fresh: Duration::ZERO,
        jitter: Duration::from_millis(20),
        retry: Duration::from_millis(200),
    }
}

impl Post {
    async fn new(timing: Timing) -> Self {
        Self::at(ApiServer::local(), timing).await
    }

    async fn at(server: ApiServer, timing: Timing) -> Self {
        for number in 1..=3 {
            let addresses = [format!("192.0.2.{number}"), format!("2001:db8::{number}")];
            server.upsert(node(
                &format!("node-{number}"),
                &[&addresses[0], &addresses[1]],
            ));
        }
        server.upsert(api_server_slice(&["198.51.100.1"], 6443));
        let access = Access::to(&server).await;
        let (sender, events) = mpsc::channel(64);
        let (source, guard) = guard(
            &Tasks::unwatched(),
            &access.client,
            "node-1",
            BTreeSet::new(),
            timing,
            sender,
        );
        Self {
            server,
            source,
            events,
            guard,
            _access: access,
        }
    }

    async fn comes(&self, event: Event) {
        self.source.send(event).await.expect("the guard lives");
    }

    async fn passes(&mut self) -> Event {
        timeout(SOON, self.events.recv())
            .await
            .expect("an event passes soon")
            .expect("the guard lives")
    }

    fn lists(&self) -> (usize, usize) {
        (
            self.server.count("list", "nodes"),
            self.server.count("list", "endpointslices"),
        )
    }
}

#[tokio::test]
async fn a_node_that_nobody_can_read_is_protected_all_the_same() {
    let mut post = Post::new(patient()).await;
    let mut broken = node("node-4", &["192.0.2.4"]);
    broken["metadata"]["labels"] = serde_json::json!({"zone": ["no text"]});
    broken["status"]["addresses"]
        .as_array_mut()
        .expect("addresses")
        .extend([
            serde_json::json!({"address": 7}),
            serde_json::json!("nonsense"),
        ]);
    assert!(Object::decode(Kind::Node, broken.clone()).is_err());
    post.server.upsert(broken);

    post.comes(service("web", &["203.0.113.9"])).await;
    assert_eq!(post.passes().await, Event::Protected(BTreeSet::new()));
    assert_eq!(post.passes().await, others(&["192.0.2.4"]));
}

#[tokio::test]
async fn nothing_is_listed_while_nothing_is_claimed() {
    let mut post = Post::new(Timing {
        every: Duration::from_millis(10),
        ..patient()
    })
    .await;

    for event in [
        Event::ListStarted(Kind::Service),
        service("web", &[]),
        Event::ListCompleted(Kind::Service),
    ] {
        post.comes(event).await;
    }

    assert_eq!(post.passes().await, Event::ListStarted(Kind::Service));
    assert_eq!(post.passes().await, Event::Protected(BTreeSet::new()));
    assert_eq!(post.passes().await, service("web", &[]));
    assert_eq!(post.passes().await, Event::ListCompleted(Kind::Service));
    assert_eq!(post.server.requests().len(), 0);
}

#[tokio::test]
async fn addresses_of_others_go_before_the_claim() {
    let mut post = Post::new(patient()).await;

    post.comes(service("edge", &["192.0.2.2"])).await;

    assert_eq!(post.passes().await, Event::Protected(BTreeSet::new()));
    assert_eq!(post.passes().await, others(&[]), "node-1 is this host");
    assert_eq!(post.passes().await, service("edge", &["192.0.2.2"]));
    assert_eq!(post.lists(), (1, 1));
    let requests = post.server.requests();
    assert!(
        requests.iter().all(|request| request.verb == "list"),
        "never watched"
    );
    assert!(
        requests
            .iter()
            .all(|request| request.parameter("resourceVersion") == "0"),
        "out of the cache"
    );
}

#[tokio::test]
async fn list_is_complete_only_after_the_claims() {
    let mut post = Post::new(patient()).await;

    for event in [
        Event::ListStarted(Kind::Service),
        service("edge", &["203.0.113.80"]),
        service("web", &[]),
        Event::ListCompleted(Kind::Service),
    ] {
        post.comes(event).await;
    }

    let mut passed = Vec::new();
    while passed.last() != Some(&Event::ListCompleted(Kind::Service)) {
        passed.push(post.passes().await);
    }
    passed.retain(|event| !matches!(event, Event::Protected(_)));
    assert_eq!(
        passed,
        [
            Event::ListStarted(Kind::Service),
            service("web", &[]),
            service("edge", &["203.0.113.80"]),
            Event::ListCompleted(Kind::Service),
        ]
    );
}

#[tokio::test]
async fn known_claims_and_other_kinds_need_no_list() {
    let mut post = Post::new(patient()).await;
    post.comes(service("edge", &["203.0.113.80"])).await;
    while post.passes().await != service("edge", &["203.0.113.80"]) {}

    let deletion = Event::Delete(ObjectRef {
        kind: Kind::EndpointSlice,
        namespace: "default".into(),
        name: "edge".into(),
    });
    for event in [
        service("more", &["203.0.113.80"]),
        deletion,
        service("edge", &[]),
    ] {
        post.comes(event.clone()).await;
        assert_eq!(post.passes().await, event);
    }

    assert_eq!(post.lists(), (1, 1));
}

#[tokio::test]
async fn fresh_list_is_good_for_new_claims() {
    let mut post = Post::new(Timing {
        fresh: LONG,
        ..patient()
    })
    .await;

    for number in 1..=50 {
        let claim = format!("203.0.113.{number}");
        let edge = service(&format!("edge-{number}"), &[&claim]);
        post.comes(edge.clone()).await;
        while post.passes().await != edge {}
    }

    assert_eq!(post.lists(), (1, 1));
}

#[tokio::test]
async fn new_claim_asks_anew_when_the_list_is_old() {
    let mut post = Post::new(patient()).await;
    post.comes(service("edge", &["203.0.113.80"])).await;
    while post.passes().await != service("edge", &["203.0.113.80"]) {}

    post.server.upsert(node("node-4", &["192.0.2.4"]));
    post.comes(service("other", &["192.0.2.4"])).await;

    assert_eq!(post.passes().await, others(&["192.0.2.4"]));
    assert_eq!(post.passes().await, service("other", &["192.0.2.4"]));
    assert_eq!(post.lists(), (2, 2));
}

#[tokio::test]
async fn new_node_is_found_by_the_next_list() {
    let mut post = Post::new(Timing {
        every: Duration::from_millis(100),
        ..patient()
    })
    .await;
    post.comes(service("edge", &["203.0.113.80"])).await;
    while post.passes().await != service("edge", &["203.0.113.80"]) {}

    post.server.upsert(node("node-4", &["192.0.2.4"]));

    assert_eq!(post.passes().await, others(&["192.0.2.4"]));
}

#[tokio::test]
async fn all_nodes_are_listed_page_by_page() {
    // One with a cache sends them all at once.
    let server = ApiServer::local_with(Options {
        watch_cache: false,
        ..Options::default()
    });
    let mut post = Post::at(server, patient()).await;
    post.server.upsert_all((10..1210).map(|number| {
        node(
            &format!("node-{number}"),
            &[&format!("10.0.{}.{}", number / 250, number % 250)],
        )
    }));

    post.comes(service("edge", &["203.0.113.80"])).await;
    while post.passes().await != service("edge", &["203.0.113.80"]) {}

    assert_eq!(post.guard.checked.borrow().others.len(), 1200 + 5);
    assert_eq!(post.lists().0, 3);
}

#[tokio::test]
async fn claim_that_cannot_be_checked_is_said_to_be_so() {
    let mut post = Post::new(patient()).await;
    post.server.fault_at("nodes", Fault::status(403, 1));

    post.comes(service("edge", &["203.0.113.80"])).await;

    assert_eq!(post.passes().await, Event::Protected(BTreeSet::new()));
    assert_eq!(
        post.passes().await,
        Event::Unchecked(addresses(&["203.0.113.80"]))
    );
    assert_eq!(post.passes().await, service("edge", &["203.0.113.80"]));
    // Tried again, it works.
    assert_eq!(post.passes().await, others(&[]));
    assert_eq!(post.passes().await, Event::Unchecked(BTreeSet::new()));
    assert_eq!(post.guard.checked.borrow().failure, None);
}
