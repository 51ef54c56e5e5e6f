//! First lists, changes, and what is not for us.

use kube_ipvs_core::event::Kind;
use kube_ipvs_tests::apiserver::{ApiServer, Fault, Options, endpoint_slice, node, service};
use serde_json::json;

use kube_ipvs_tests::apiserver::replica::{
    KINDS, Replica, hasty, paging_server, server, server_with,
};

fn ten_services(server: &ApiServer) {
    for number in 0..10 {
        let name = format!("web-{number}");
        server.upsert(service(
            "default",
            &name,
            &format!("10.96.0.{}", 10 + number),
        ));
        server.upsert(endpoint_slice(
            "default",
            &name,
            &name,
            &[("10.244.1.7", "node-1")],
        ));
    }
}

#[tokio::test]
async fn first_list_is_streamed() {
    let server = server();
    ten_services(&server);

    let mut replica = Replica::synced_with(&server).await;

    replica.equals(&server).await;
    assert!(replica.status.synced());
    for resource in ["services", "endpointslices", "servicecidrs", "nodes"] {
        assert_eq!(
            (
                server.count("list", resource),
                server.count("watch", resource)
            ),
            (0, 1),
            "{resource}"
        );
    }
}

#[tokio::test]
async fn first_list_is_paged_where_lists_are_not_streamed() {
    let server = paging_server();
    ten_services(&server);

    let mut replica = Replica::synced_with(&server).await;

    replica.equals(&server).await;
    // Ten objects, three a page.
    assert_eq!(server.count("list", "services"), 4);
    let first = server
        .requests()
        .into_iter()
        .find(|request| request.verb == "list")
        .expect("a list");
    assert_eq!(
        first.parameter("resourceVersion"),
        "0",
        "the first list may come from the cache"
    );
    // One refusal of streaming, then the watch itself.
    replica.watches(&server).await;
    assert_eq!(server.count("watch", "services"), 2);
}

#[tokio::test]
async fn changes_follow_the_list() {
    let server = server();
    server.upsert(service("default", "web", "10.96.0.10"));
    let mut replica = Replica::synced_with(&server).await;

    server.upsert(service("default", "late", "10.96.0.11"));
    let mut changed = service("default", "web", "10.96.0.10");
    changed["spec"]["ports"][0]["port"] = json!(81);
    server.upsert(changed);
    replica.equals(&server).await;
    server.delete("Service", "default", "web");
    replica.equals(&server).await;

    assert_eq!(replica.names_of(Kind::Service), ["late"]);
    assert_eq!(
        server.count("watch", "services"),
        1,
        "one watch told all of it"
    );
}

#[tokio::test]
async fn watch_that_times_out_goes_on_where_it_stopped() {
    let server = server();
    let settings = kube_ipvs_source::kube::WatchSettings {
        watch_timeout: std::time::Duration::from_secs(1),
        ..hasty()
    };
    let mut replica = Replica::with(&server, settings).await;
    replica.synced().await;

    replica
        .until("three watches", |_| server.count("watch", "services") >= 3)
        .await;
    server.upsert(service("default", "late", "10.96.0.11"));

    replica.equals(&server).await;
    assert_eq!(replica.lists[&Kind::Service], 1, "nothing is listed twice");
    assert_eq!(
        replica.status.kind(Kind::Service).failures,
        0,
        "an end in order is no failure"
    );
}

#[tokio::test]
async fn bookmark_moves_the_place_forward() {
    let server = server_with(Options {
        bookmark_every: std::time::Duration::from_millis(50),
        ..Options::default()
    });
    let settings = kube_ipvs_source::kube::WatchSettings {
        watch_timeout: std::time::Duration::from_secs(1),
        ..hasty()
    };
    let mut replica = Replica::with(&server, settings).await;
    replica.synced().await;
    // Changes elsewhere, which a watch on Services only hears of by bookmark.
    let version = server.upsert(endpoint_slice("default", "x", "x", &[]));

    let resumed = |request: &kube_ipvs_tests::apiserver::Request| {
        request.resource == "services"
            && request
                .parameter("resourceVersion")
                .parse()
                .is_ok_and(|at: u64| at >= version)
    };
    replica
        .until("a watch resumes after the bookmark", |_| {
            server.requests().iter().any(resumed)
        })
        .await;
}

#[tokio::test]
async fn what_is_not_for_this_proxier_is_not_asked_for() {
    let server = server();
    server.upsert(service("default", "headless", "None"));
    let mut foreign = service("default", "foreign", "10.96.0.20");
    foreign["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "other"});
    server.upsert(foreign);
    let mut slice = endpoint_slice("default", "headless", "headless", &[]);
    slice["metadata"]["labels"]["service.kubernetes.io/headless"] = json!("");
    server.upsert(slice);
    server.upsert(node("node-2", &["192.0.2.2"]));

    let replica = Replica::synced_with(&server).await;

    assert_eq!(
        replica.objects.len(),
        2,
        "node-1 and the ServiceCIDR: {:?}",
        replica.objects.keys()
    );
}

#[tokio::test]
async fn service_that_moves_to_another_proxier_is_deleted() {
    let server = server();
    server.upsert(service("default", "web", "10.96.0.10"));
    let mut replica = Replica::synced_with(&server).await;

    let mut moved = service("default", "web", "10.96.0.10");
    moved["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "other"});
    server.upsert(moved);

    replica.loses_its_services().await;
}

#[tokio::test]
async fn object_that_does_not_decode_is_skipped() {
    let server = server();
    let mut broken = service("default", "broken", "10.96.0.66");
    broken["spec"]["ports"] = json!("eighty");
    server.upsert(broken.clone());
    server.upsert(service("default", "web", "10.96.0.10"));
    let mut replica = Replica::synced_with(&server).await;
    assert_eq!(replica.names_of(Kind::Service), ["web"]);

    server.upsert(broken);
    server.upsert(service("default", "late", "10.96.0.11"));

    replica
        .until("the watch goes on", |replica| {
            replica.names_of(Kind::Service) == ["late", "web"]
        })
        .await;
    assert_eq!(replica.status.kind(Kind::Service).undecodable, 2);
    assert_eq!(
        server.count("watch", "services"),
        1,
        "the watch was not given up"
    );
}

/// What was good is not lost because its successor cannot be read: not when it
/// changes, not at the next full list. Only its deletion ends it.
async fn unreadable_successor_leaves_the_last_good_one(server: ApiServer) {
    server.upsert(service("default", "web", "10.96.0.10"));
    let mut replica = Replica::watching(&server).await;
    let good = replica.objects.clone();
    let mut broken = service("default", "web", "10.96.0.10");
    broken["spec"]["ports"] = json!("eighty");

    server.upsert(broken);
    server.fault_at("services", Fault::Gone);
    replica.lists_services(2).await;

    assert!(replica.status.kind(Kind::Service).undecodable > 0);
    assert_eq!(replica.objects, good);
    server.delete("Service", "default", "web");
    replica.loses_its_services().await;
}

#[tokio::test]
async fn unreadable_successor_in_a_streamed_list_loses_nothing() {
    unreadable_successor_leaves_the_last_good_one(server()).await;
}

#[tokio::test]
async fn unreadable_successor_in_a_list_of_pages_loses_nothing() {
    unreadable_successor_leaves_the_last_good_one(paging_server()).await;
}

#[tokio::test]
async fn list_of_pages_skips_what_does_not_decode() {
    let server = paging_server();
    ten_services(&server);
    let mut broken = service("default", "broken", "10.96.0.66");
    broken["metadata"]["labels"] = json!({"a": 5});
    server.upsert(broken);

    let replica = Replica::synced_with(&server).await;

    assert_eq!(replica.names_of(Kind::Service).len(), 10);
}

#[tokio::test]
async fn unknown_node_is_named_and_waited_for() {
    let server = ApiServer::local();
    let mut replica = Replica::synced_with(&server).await;
    assert_eq!(replica.status.missing_node().as_deref(), Some("node-1"));
    assert_eq!(
        replica.status.reasons(),
        ["Node node-1 is not known to the API server"]
    );

    server.upsert(node("node-1", &["192.0.2.1"]));

    replica
        .until("the node is known", |replica| {
            replica.status.missing_node().is_none()
        })
        .await;
    assert_eq!(replica.names_of(Kind::Node), ["node-1"]);
}

#[tokio::test]
async fn server_that_does_not_show_its_service_cidrs_is_enough() {
    let server = server();
    server.fault_at("servicecidrs", Fault::status(403, 1000));

    let replica = Replica::synced_with(&server).await;

    assert!(KINDS.iter().all(|kind| replica.status.kind(*kind).listed));
}

#[tokio::test]
async fn server_without_service_cidrs_is_enough() {
    let server = server();
    server.fault_at("servicecidrs", Fault::status(404, 1000));

    let replica = Replica::synced_with(&server).await;

    assert!(KINDS.iter().all(|kind| replica.status.kind(*kind).listed));
    assert!(
        server.count("watch", "servicecidrs") <= 2,
        "it is not asked for in a hurry"
    );
}
