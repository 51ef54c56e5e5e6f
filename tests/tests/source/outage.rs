//! The end of an outage: whoever waits hears of it at once.

use std::time::{Duration, Instant};

use kube_ipvs_core::event::Kind;
use kube_ipvs_source::kube::WatchSettings;
use kube_ipvs_tests::apiserver::replica::{Replica, server};
use kube_ipvs_tests::apiserver::{Fault, endpoint_slice, service};

/// Two minutes of pauses that double from half a second to half a minute, each
/// as short as chance makes it (half): 15.75 s for the first six, then 15 s
/// each, and the attempt before them.
const ATTEMPTS: u64 = 6 + 7 + 1;

/// Two minutes without a server, on a clock that runs as fast as the source
/// can follow; its pauses are the real ones.
async fn after_an_outage(forgotten: bool) {
    let server = server();
    server.upsert(service("default", "web", "10.96.0.10"));
    let mut replica = Replica::with(&server, WatchSettings::new("node-1")).await;
    replica.synced().await;
    replica.watches(&server).await;
    server.outage();
    replica.fails(1).await;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(120)).await;
    tokio::time::resume();
    for kind in [Kind::EndpointSlice, Kind::ServiceCidr, Kind::Node] {
        let failures = replica.status.kind(kind).failures;
        assert!(
            failures <= ATTEMPTS,
            "{kind} asked {failures} times in two minutes"
        );
    }

    if forgotten {
        server.fault(Fault::Gone);
    }
    server.upsert(endpoint_slice(
        "default",
        "web",
        "web-1",
        &[("10.244.1.7", "node-1")],
    ));
    let back = Instant::now();
    server.resume();
    replica.equals(&server).await;

    let took = back.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[tokio::test]
async fn a_change_after_an_outage_comes_within_seconds() {
    after_an_outage(false).await;
}

#[tokio::test]
async fn a_change_after_an_outage_in_which_history_was_lost_comes_within_seconds() {
    after_an_outage(true).await;
}

/// One that answered with nonsense and then works is like one that was away.
#[tokio::test]
async fn retry_after_of_a_hundred_years_is_a_minute() {
    let server = server();
    server.fault_at(
        "services",
        Fault::Status {
            code: 429,
            times: 1,
            retry_after: Some(u64::MAX),
        },
    );
    let mut replica = Replica::with(&server, WatchSettings::new("node-1")).await;
    replica.fails(1).await;

    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(61)).await;
    tokio::time::resume();

    replica.synced().await;
}

#[tokio::test]
async fn every_request_names_the_program() {
    let server = server();
    let _replica = Replica::synced_with(&server).await;

    for request in server.requests() {
        let agent = &request.user_agent;
        assert!(
            agent.starts_with("kube-ipvs/0.") && agent.contains(" (linux/"),
            "{request:?}"
        );
    }
}
