//! Addresses of other Nodes and of the API server: listed when needed, never
//! watched.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kube_ipvs::source::kube::{KubeConfig, SourceStatus, connect};
use kube_ipvs::source::protected::{Inputs, ProtectedSource, Timing};
use kube_ipvs_core::event::Event;
use kube_ipvs_tests::apiserver::{ApiServer, Fault, api_server_slice, node};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use kube_ipvs_tests::apiserver::replica::SOON;

struct Watchman {
    server: ApiServer,
    claimed: watch::Sender<BTreeSet<IpAddr>>,
    fixed: watch::Sender<BTreeSet<IpAddr>>,
    events: mpsc::Receiver<Event>,
    source: ProtectedSource,
    _kubeconfig: tempfile::TempDir,
}

fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts
        .iter()
        .map(|text| text.parse().expect("an address"))
        .collect()
}

impl Watchman {
    async fn new(every: Duration) -> Self {
        let server = ApiServer::local();
        for number in 1..=3 {
            server.upsert(node(
                &format!("node-{number}"),
                &[&format!("192.0.2.{number}"), &format!("2001:db8::{number}")],
            ));
        }
        server.upsert(api_server_slice(&["198.51.100.1"], 6443));
        let kubeconfig = tempfile::tempdir().expect("a temporary directory");
        let path = kubeconfig.path().join("kubeconfig");
        server
            .write_kubeconfig(&path)
            .expect("write the kubeconfig");
        let config = KubeConfig {
            path: Some(path),
            server: None,
        };
        let client = connect(&config, &Arc::new(SourceStatus::default()))
            .await
            .expect("a client");
        let (claimed, claims) = watch::channel(BTreeSet::new());
        let (fixed, gateways) = watch::channel(addresses(&["192.0.2.254"]));
        let (sender, events) = mpsc::channel(64);
        let inputs = Inputs {
            node_name: "node-1".into(),
            claimed: claims,
            fixed: gateways,
        };
        let timing = Timing {
            every,
            jitter: Duration::from_millis(20),
            retry: Duration::from_millis(50),
        };
        let source = ProtectedSource::spawn(&client, inputs, timing, sender);
        Self {
            server,
            claimed,
            fixed,
            events,
            source,
            _kubeconfig: kubeconfig,
        }
    }

    async fn told(&mut self) -> BTreeSet<IpAddr> {
        match timeout(SOON, self.events.recv()).await {
            Ok(Some(Event::Protected(addresses))) => addresses,
            other => panic!("protected addresses were expected, not {other:?}"),
        }
    }

    async fn checked(&mut self, texts: &[&str]) {
        let wanted = addresses(texts);
        let waited = self
            .source
            .checked
            .wait_for(|checked| checked.addresses == wanted && checked.failure.is_none());
        timeout(SOON, waited)
            .await
            .expect("checked soon")
            .expect("the source lives");
    }

    fn lists(&self) -> (usize, usize) {
        (
            self.server.count("list", "nodes"),
            self.server.count("list", "endpointslices"),
        )
    }
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn nothing_is_listed_while_nothing_is_claimed() {
    let mut watchman = Watchman::new(Duration::from_millis(10)).await;

    assert_eq!(watchman.told().await, addresses(&["192.0.2.254"]));
    watchman.fixed.send_replace(addresses(&["192.0.2.253"]));
    assert_eq!(watchman.told().await, addresses(&["192.0.2.253"]));

    assert_eq!(watchman.server.requests().len(), 0);
}

#[tokio::test]
async fn claim_brings_the_addresses_of_others() {
    let mut watchman = Watchman::new(LONG).await;
    watchman.told().await;

    watchman.claimed.send_replace(addresses(&["203.0.113.80"]));

    let others = [
        "192.0.2.254",
        "192.0.2.2",
        "192.0.2.3",
        "2001:db8::2",
        "2001:db8::3",
        "198.51.100.1",
    ];
    assert_eq!(
        watchman.told().await,
        addresses(&others),
        "node-1 is this host"
    );
    watchman.checked(&["203.0.113.80"]).await;
    assert_eq!(watchman.lists(), (1, 1));
    let requests = watchman.server.requests();
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
async fn claims_are_listed_for_once_each() {
    let mut watchman = Watchman::new(LONG).await;
    watchman.claimed.send_replace(addresses(&["203.0.113.80"]));
    watchman.checked(&["203.0.113.80"]).await;

    watchman
        .claimed
        .send_replace(addresses(&["203.0.113.80", "203.0.113.81"]));
    watchman.checked(&["203.0.113.80", "203.0.113.81"]).await;
    watchman.claimed.send_replace(addresses(&["203.0.113.81"]));
    watchman.fixed.send_replace(addresses(&["192.0.2.253"]));
    while !watchman
        .told()
        .await
        .contains(&"192.0.2.253".parse().expect("an address"))
    {}

    assert_eq!(watchman.lists(), (2, 2), "a claim that goes needs no list");
}

#[tokio::test]
async fn new_node_is_found_by_the_next_list() {
    let mut watchman = Watchman::new(Duration::from_millis(100)).await;
    watchman.claimed.send_replace(addresses(&["203.0.113.80"]));
    watchman.checked(&["203.0.113.80"]).await;

    watchman.server.upsert(node("node-4", &["192.0.2.4"]));

    while !watchman
        .told()
        .await
        .contains(&"192.0.2.4".parse().expect("an address"))
    {}
}

#[tokio::test]
async fn all_nodes_are_listed_page_by_page() {
    let mut watchman = Watchman::new(LONG).await;
    watchman.server.upsert_all((10..1210).map(|number| {
        node(
            &format!("node-{number}"),
            &[&format!("10.0.{}.{}", number / 250, number % 250)],
        )
    }));
    watchman.told().await;

    watchman.claimed.send_replace(addresses(&["203.0.113.80"]));

    assert_eq!(watchman.told().await.len(), 1200 + 6);
    assert_eq!(watchman.lists().0, 3);
}

#[tokio::test]
async fn failure_leaves_a_claim_unchecked_and_is_tried_again() {
    let mut watchman = Watchman::new(LONG).await;
    watchman.server.fault_at(
        "nodes",
        Fault::Status {
            code: 403,
            times: 2,
            retry_after: None,
        },
    );

    watchman.claimed.send_replace(addresses(&["203.0.113.80"]));
    let failed = watchman
        .source
        .checked
        .wait_for(|checked| checked.failure.is_some());
    let checked = timeout(SOON, failed)
        .await
        .expect("it fails soon")
        .expect("the source lives")
        .clone();
    assert!(checked.addresses.is_empty());

    watchman.checked(&["203.0.113.80"]).await;
}
