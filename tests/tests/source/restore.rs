//! A server that was restored from a backup: its versions go back.

use std::time::{Duration, Instant};

use kube_ipvs_core::event::Kind;
use kube_ipvs_source::kube::WatchSettings;
use kube_ipvs_tests::apiserver::replica::{Replica, hasty, server};
use kube_ipvs_tests::apiserver::{Fault, service};

fn web(number: usize) -> serde_json::Value {
    let address = format!("10.96.0.{}", 10 + number);
    service("default", &format!("web-{number}"), &address)
}

/// As patient as on a node: no silence heals anything.
fn patient() -> WatchSettings {
    WatchSettings {
        progress_timeout: Duration::from_secs(150),
        watch_timeout: Duration::from_secs(300),
        ..hasty()
    }
}

#[tokio::test]
async fn services_that_a_restored_server_does_not_have_are_gone_soon() {
    for in_order in [true, false] {
        let server = server();
        server.upsert(web(1));
        let backup = server.backup();
        let mut replica = Replica::with(&server, patient()).await;
        replica.synced().await;
        replica.watches(&server).await;
        server.upsert_all((2..9).map(web));
        replica.equals(&server).await;

        let restored = Instant::now();
        server.restore(backup, in_order);

        replica.equals(&server).await;
        assert_eq!(
            replica.names_of(Kind::Service),
            ["web-1"],
            "in order: {in_order}"
        );
        let took = restored.elapsed();
        assert!(took < Duration::from_secs(15), "{took:?}");

        server.upsert(web(3));
        replica.equals(&server).await;
    }
}

#[tokio::test]
async fn a_watch_that_ends_early_on_the_same_server_lists_nothing_anew() {
    let server = server();
    server.upsert(web(1));
    let mut replica = Replica::with(&server, patient()).await;
    replica.synced().await;

    for number in 2..5 {
        replica.watches(&server).await;
        server.fault(Fault::Reset);
        server.upsert(web(number));
        replica.equals(&server).await;
    }

    assert_eq!(replica.lists[&Kind::Service], 1);
}
