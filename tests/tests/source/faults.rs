//! A server that fails in every way it can on command; afterwards the copy
//! equals what a fresh list says.

use std::time::{Duration, Instant};

use kube_ipvs_core::event::Kind;
use kube_ipvs_source::kube::WatchSettings;
use rand::RngExt;
use rand::seq::IndexedRandom;

use kube_ipvs_tests::apiserver::{ApiServer, Fault, Options, endpoint_slice, service};

use crate::relay::Relay;
use kube_ipvs_tests::apiserver::replica::{Replica, hasty, paging_server, server, server_with};

fn web(number: usize) -> serde_json::Value {
    service(
        "default",
        &format!("web-{number}"),
        &format!("10.96.0.{}", 10 + number),
    )
}

/// The copy equals the server's objects in time, though the watch is dead.
async fn dead_watch_is_left_within_15_seconds(replica: &mut Replica, server: &ApiServer) {
    let died = Instant::now();
    replica.equals(server).await;
    let took = died.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!(
        replica.lists[&Kind::Service],
        1,
        "the new watch goes on where the dead one stopped"
    );
}

/// When Services were asked for.
fn times_asked(server: &ApiServer) -> Vec<Instant> {
    server
        .requests()
        .iter()
        .filter(|request| request.resource == "services")
        .map(|request| request.at)
        .collect()
}

#[tokio::test]
async fn storm_of_410_ends_in_the_server_s_state() {
    let server = server();
    let mut replica = Replica::synced_with(&server).await;

    for number in 0..5 {
        replica.watches(&server).await;
        let lists = replica.lists[&Kind::Service];
        server.upsert(web(number));
        server.fault_at("services", Fault::Gone);
        server.upsert(web(number + 10));
        replica.lists_services(lists + 1).await;
    }

    replica.equals(&server).await;
}

#[tokio::test]
async fn object_deleted_while_history_was_lost_is_gone() {
    let server = server();
    server.upsert(web(1));
    server.upsert(web(2));
    let mut replica = Replica::watching(&server).await;

    server.outage();
    server.delete("Service", "default", "web-1");
    server.fault(Fault::Gone);
    server.resume();

    replica
        .until("web-1 is gone", |replica| {
            replica.names_of(Kind::Service) == ["web-2"]
        })
        .await;
    replica.equals(&server).await;
}

#[tokio::test]
async fn http_410_is_a_410() {
    let server = server();
    let mut replica = Replica::watching(&server).await;

    server.fault_at("services", Fault::GoneStatus { times: 2 });
    server.fault_at("services", Fault::Reset);
    server.upsert(web(1));

    replica.equals(&server).await;
}

#[tokio::test]
async fn expired_page_starts_the_list_over() {
    let server = paging_server();
    server.upsert_all((0..20).map(web));
    server.fault_at("services", Fault::Slow(Duration::from_millis(50)));
    let mut replica = Replica::of(&server).await;
    replica
        .until("a page came", |_| server.count("list", "services") >= 2)
        .await;

    server.fault_at("services", Fault::GoneStatus { times: 1 });
    server.fault_at("services", Fault::None);
    replica.synced().await;

    replica.equals(&server).await;
}

#[tokio::test]
async fn resets_lose_nothing_and_list_nothing() {
    let server = server();
    let mut replica = Replica::synced_with(&server).await;

    for number in 0..5 {
        replica.watches(&server).await;
        server.fault(Fault::Reset);
        server.upsert(web(number));
        replica.equals(&server).await;
    }

    assert_eq!(replica.lists[&Kind::Service], 1);
}

#[tokio::test]
async fn half_open_watch_is_left_within_15_seconds() {
    let server = server();
    let mut replica = Replica::synced_with(&server).await;
    let services = |replica: &Replica| replica.status.kind(Kind::Service).heard;
    let heard = services(&replica);
    replica
        .until("a bookmark came", |replica| services(replica) > heard)
        .await;

    server.fault_at("services", Fault::Stall);
    server.upsert(web(1));

    dead_watch_is_left_within_15_seconds(&mut replica, &server).await;
}

/// The load balancer acknowledges, its backend is gone.
#[tokio::test]
async fn backend_lost_behind_a_load_balancer_is_left_within_15_seconds() {
    let server = server_with(Options {
        tls: true,
        ..Options::default()
    });
    let relay = Relay::to(server.address()).await;
    let kubeconfig = server
        .kubeconfig()
        .replace(&server.address().to_string(), &relay.address.to_string());
    // Bookmarks are no help in time: a real server sends one a minute.
    let patient = WatchSettings {
        progress_timeout: Duration::from_secs(150),
        ..hasty()
    };
    let mut replica = Replica::through(&kubeconfig, patient).await;
    replica.synced().await;
    replica.watches(&server).await;

    relay.freeze();
    server.upsert(web(1));

    dead_watch_is_left_within_15_seconds(&mut replica, &server).await;
}

#[tokio::test]
async fn repeated_events_change_nothing() {
    let server = server();
    server.fault(Fault::DuplicateEvents);
    let mut replica = Replica::watching(&server).await;
    let before = replica.changes;

    for number in 0..10 {
        server.upsert(web(number));
    }
    replica.equals(&server).await;

    replica
        .until("all repeats came", |replica| {
            replica.status.kind(Kind::Service).repeats == 10
        })
        .await;
    assert_eq!(replica.changes - before, 10);
}

#[tokio::test]
async fn events_out_of_order_end_in_the_server_s_state() {
    let server = server();
    let mut replica = Replica::watching(&server).await;
    server.fault(Fault::OutOfOrder);

    // All of this waits together, so it is told in reverse: the oldest state
    // of each object comes last.
    server.upsert_all((0..5).flat_map(|number| [web(number), web(number + 5), web(number)]));
    replica.equals(&server).await;
    server.heal();
    server.upsert(web(99));

    replica.equals(&server).await;
    assert!(
        replica.status.kind(Kind::Service).repeats > 0,
        "the order was wrong indeed"
    );
}

#[tokio::test]
async fn list_from_the_past_is_refused() {
    let server = paging_server();
    let past = server.version();
    server.upsert(web(1));
    let mut replica = Replica::watching(&server).await;

    // The place is lost, and the next two lists come from a server that lags.
    server.fault_at("services", Fault::status(410, 1));
    server.fault_at("services", Fault::StaleResourceVersion(past));
    server.fault_at("services", Fault::StaleResourceVersion(past));
    server.fault_at("services", Fault::Reset);

    let lists = replica.lists[&Kind::Service];
    replica.lists_services(lists + 1).await;
    assert_eq!(
        replica.names_of(Kind::Service),
        ["web-1"],
        "never empty in between"
    );
    let failures = replica.status.kind(Kind::Service).failures;
    assert!(
        failures >= 4,
        "reset, 410 and two lists from the past: {failures}"
    );
}

#[tokio::test]
async fn empty_list_counts_when_it_is_said_to_be_complete() {
    let server = server();
    server.upsert(web(1));
    let mut replica = Replica::watching(&server).await;

    server.fault_at("services", Fault::EmptyList);
    server.fault_at("services", Fault::Gone);

    replica.loses_its_services().await;
    assert_eq!(
        replica.lists[&Kind::Service],
        2,
        "it was a complete list that said so"
    );
}

#[tokio::test]
async fn list_that_breaks_off_removes_nothing() {
    let server = paging_server();
    server.upsert_all((0..9).map(web));
    let mut replica = Replica::watching(&server).await;
    server.forget_requests();

    // The new list gets its first page and then only errors.
    server.fault_at("services", Fault::Slow(Duration::from_millis(100)));
    server.fault_at("services", Fault::Gone);
    replica
        .until("the list begins", |_| server.count("list", "services") >= 1)
        .await;
    server.fault_at("services", Fault::status(500, 1000));
    replica.fails(4).await;

    assert_eq!(replica.names_of(Kind::Service).len(), 9);
    server.heal();
    replica.lists_services(2).await;
    replica.equals(&server).await;
}

#[tokio::test]
async fn server_that_is_gone_keeps_the_state_and_says_so() {
    let server = server();
    server.upsert(web(1));
    let mut replica = Replica::watching(&server).await;

    server.outage();
    replica.fails(5).await;
    let status = replica.status.kind(Kind::Service);
    assert!(status.listed && !status.watching, "{status:?}");
    assert!(
        status
            .failure
            .is_some_and(|failure| failure.contains("list and watch services"))
    );
    assert_eq!(replica.names_of(Kind::Service), ["web-1"]);

    server.upsert(web(2));
    server.resume();
    replica.equals(&server).await;
    assert_eq!(
        replica.lists[&Kind::Service],
        1,
        "it goes on where it stopped"
    );
    replica
        .until("all is well", |replica| {
            replica.status.kind(Kind::Service).failure.is_none()
        })
        .await;
}

/// An hour on a clock that runs as fast as the source can follow: all its
/// pauses and time-outs are the real ones.
#[tokio::test]
async fn server_that_is_gone_for_an_hour_is_asked_on_and_followed_again() {
    const HOUR: Duration = Duration::from_secs(3600);
    let server = server();
    server.upsert(web(1));
    let settings = WatchSettings {
        longest_pause: Duration::from_secs(10),
        ..WatchSettings::new("node-1")
    };
    let mut replica = Replica::with(&server, settings).await;
    replica.synced().await;
    replica.watches(&server).await;
    let now = || tokio::time::Instant::now().into_std();
    assert_eq!(replica.status.reason(now()), None);

    server.outage();
    replica.fails(1).await;
    tokio::time::pause();
    tokio::time::sleep(HOUR).await;

    let status = replica.status.kind(Kind::Service);
    // Services ask for all kinds, every 1.25 to 2.5 s.
    assert!((1440..=2900).contains(&status.failures), "{status:?}");
    let others = replica.status.kind(Kind::EndpointSlice);
    // A pause is 5 to 10 s once it has grown.
    assert!((360..=730).contains(&others.failures), "{others:?}");
    assert_eq!(replica.names_of(Kind::Service), ["web-1"]);
    let reason = replica
        .status
        .reason(now())
        .expect("an hour is worth a word");
    let seconds: u64 = reason
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .expect("it names the age");
    assert!((3600..3700).contains(&seconds), "{reason}");

    // The server has forgotten where we were.
    server.delete("Service", "default", "web-1");
    server.upsert(web(2));
    server.fault(Fault::Gone);
    tokio::time::resume();
    server.resume();
    replica.equals(&server).await;
    assert_eq!(replica.lists[&Kind::Service], 2);
    // The other kinds hear of it in their own time.
    replica
        .until("all kinds have word again", |replica| {
            replica.status.reason(now()).is_none()
        })
        .await;
}

#[tokio::test]
async fn server_that_is_down_at_first_is_waited_for() {
    let server = server();
    server.outage();
    let mut replica = Replica::of(&server).await;
    replica.fails(2).await;
    assert!(
        replica
            .status
            .reasons()
            .iter()
            .any(|reason| reason.starts_with("Service: not listed yet: "))
    );

    server.resume();

    replica.synced().await;
    assert!(replica.status.reasons().is_empty());
}

#[tokio::test]
async fn busy_server_is_not_asked_before_it_said() {
    let server = server();
    server.fault_at(
        "services",
        Fault::Status {
            code: 429,
            times: 1,
            retry_after: Some(2),
        },
    );

    let _replica = Replica::synced_with(&server).await;

    let times = times_asked(&server);
    assert_eq!(times.len(), 2);
    let waited = times[1] - times[0];
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
}

#[tokio::test]
async fn failing_server_is_asked_less_and_less() {
    let server = server();
    server.fault_at("services", Fault::status(500, 100_000));
    let settings = WatchSettings {
        first_pause: Duration::from_millis(100),
        longest_pause: Duration::from_secs(10),
        ..hasty()
    };
    let mut replica = Replica::with(&server, settings).await;

    replica
        .until("six attempts", |_| server.count("watch", "services") >= 6)
        .await;

    let times = times_asked(&server);
    // 100, 200, 400, 800, 1600 ms, of which at least half is certain.
    let waited = times[5] - times[0];
    assert!(waited >= Duration::from_millis(1550), "{waited:?}");
    server.heal();
    replica.synced().await;
}

#[tokio::test]
async fn slow_server_is_no_failing_server() {
    let server = server();
    server.fault(Fault::Slow(Duration::from_millis(300)));

    let replica = Replica::synced_with(&server).await;

    assert_eq!(replica.status.kind(Kind::Service).failures, 0);
}

/// Faults by chance, changes in between: the end counts.
#[tokio::test]
async fn many_faults_end_in_the_server_s_state() {
    let mut chance = kube_ipvs_tests::chance();
    let server = server();
    let mut replica = Replica::synced_with(&server).await;
    let faults = [
        Fault::Reset,
        Fault::DuplicateEvents,
        Fault::Gone,
        Fault::status(500, 2),
        Fault::OutOfOrder,
        Fault::Reset,
        Fault::GoneStatus { times: 1 },
        Fault::Slow(Duration::from_millis(30)),
        Fault::None,
    ];

    for round in 0..40_usize {
        let fault = faults.choose(&mut chance).expect("there are many");
        server.fault(fault.clone());
        server.upsert(web(chance.random_range(0..7)));
        server.upsert(endpoint_slice(
            "default",
            "web-1",
            &format!("slice-{}", round % 5),
            &[("10.244.1.7", "node-1")],
        ));
        if chance.random_ratio(1, 3) {
            let name = format!("web-{}", chance.random_range(0..5));
            server.delete("Service", "default", &name);
        }
        tokio::task::yield_now().await;
    }
    server.heal();

    replica.equals(&server).await;
}
