//! What the source costs the API server.

use kube_ipvs_tests::apiserver::{Fault, service};

use kube_ipvs_tests::apiserver::replica::{Replica, server};

#[tokio::test]
async fn load_does_not_grow_with_changes() {
    let server = server();
    let mut replica = Replica::synced_with(&server).await;
    for round in 0..500 {
        server.upsert(service(
            "default",
            &format!("web-{}", round % 20),
            "10.96.0.10",
        ));
    }
    replica.equals(&server).await;

    assert_eq!(server.requests().len(), 4, "one watch a kind, nothing else");
}

#[tokio::test]
async fn storm_of_410_is_answered_slower_and_slower() {
    let server = server();
    let settings = kube_ipvs_source::kube::WatchSettings {
        first_pause: std::time::Duration::from_millis(100),
        longest_pause: std::time::Duration::from_secs(30),
        settled_after: std::time::Duration::from_secs(60),
        ..kube_ipvs_tests::apiserver::replica::hasty()
    };
    let mut replica = Replica::with(&server, settings).await;
    replica.synced().await;
    server.forget_requests();

    let begun = std::time::Instant::now();
    for number in 1..=5 {
        replica.watches(&server).await;
        server.fault_at("services", Fault::Gone);
        replica
            .until("it is asked anew", |_| {
                server.count("watch", "services") == number
            })
            .await;
    }

    // 100, 200, 400, 800, 1600 ms, of which at least half is certain.
    assert!(begun.elapsed().as_millis() >= 1550, "{:?}", begun.elapsed());
    assert_eq!(
        server.count("watch", "services"),
        5,
        "one list for each 410"
    );
}

#[tokio::test]
async fn requests_are_counted_by_verb_and_resource() {
    let server = server();
    server.fault_at("nodes", Fault::status(500, 1));
    let replica = Replica::synced_with(&server).await;

    let counted = replica.status.requests();

    assert_eq!(counted[&("watch", "services".to_owned(), 200)], 1);
    assert_eq!(counted[&("watch", "nodes".to_owned(), 500)], 1);
    assert_eq!(
        counted.values().sum::<u64>(),
        server.requests().len() as u64
    );
}
