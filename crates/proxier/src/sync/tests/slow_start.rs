//! New endpoints climb, and a restart takes nobody down again.

use std::time::Duration;

use kube_ipvs_core::plan::Op;
use kube_ipvs_core::{Event, Kind};
use serde_json::json;
use tokio::time::sleep;

use super::clock::stage;
use super::objects::upsert;
use super::{Host, WEB, endpoints, lists, tell};

/// `web` whose endpoints climb for 90 s: ten weights, ten seconds each.
fn slow() -> Event {
    let object = json!({
        "metadata": {
            "name": "web", "namespace": "default",
            "annotations": {
                "ipvs.kube-ipvs.dev/scheduler": "wrr",
                "ipvs.kube-ipvs.dev/slow-start": "90s",
            },
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"],
            "ports": [{"name": "", "protocol": "TCP", "port": 80}],
        },
    });
    upsert(Kind::Service, object)
}

fn over(addresses: &[&str]) -> Event {
    endpoints("web", "TCP", addresses)
}

const OLD: &str = "10.1.0.1:8080";
const NEW: &str = "10.1.0.2:8080";

#[test]
fn each_step_is_one_operation_and_when_all_are_made_nothing_is_done_any_more() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage.tell(lists([slow(), over(&["10.1.0.1"])])).await;
        sleep(Duration::from_secs(5)).await;
        assert_eq!(stage.fake.weight(WEB, OLD), Some(10));

        stage.tell([over(&["10.1.0.1", "10.1.0.2"])]).await;
        sleep(Duration::from_secs(2)).await;
        assert_eq!(stage.fake.weight(WEB, NEW), Some(1));
        stage.fake.kernel().done.clear();
        for weight in 2..=10 {
            sleep(Duration::from_secs(10)).await;
            assert_eq!(stage.fake.weight(WEB, NEW), Some(weight));
        }

        sleep(Duration::from_secs(600)).await;
        let done = &stage.fake.kernel().done;
        assert_eq!(done.len(), 9, "{done:?}");
        assert!(done.iter().all(|op| matches!(op, Op::EditRealServer(..))));
    });
}

#[test]
fn a_restart_goes_on_from_the_weights_in_the_kernel_and_plan_has_nothing_to_do() {
    let host = Host::new();
    let mut syncer = host.started([slow(), over(&["10.1.0.1"])]);
    tell(&mut syncer, [over(&["10.1.0.1", "10.1.0.2"])]);
    syncer.sync(40_000).unwrap();
    assert_eq!(host.fake.weight(WEB, NEW), Some(5));
    let objects = || lists([slow(), over(&["10.1.0.1", "10.1.0.2"])]);

    let mut other = host.start();
    objects().into_iter().for_each(|event| other.event(event));
    assert!(other.plan(0).unwrap().is_empty());

    let mut syncer = host.start();
    host.fake.kernel().done.clear();
    tell(&mut syncer, objects());
    assert_eq!(host.fake.kernel().done, []);
    assert_eq!(host.fake.weight(WEB, NEW), Some(5));
    while let Some(due) = syncer.step_due() {
        assert!(due <= 50_000);
        syncer.sync(due).unwrap();
    }
    assert_eq!(host.fake.weight(WEB, NEW), Some(10));
    assert_eq!(host.fake.weight(WEB, OLD), Some(10));
}

#[test]
fn an_endpoint_that_comes_after_the_start_is_new_whatever_the_kernel_held_once() {
    let host = Host::new();
    host.started([slow(), over(&["10.1.0.1", "10.1.0.2"])]);

    let mut syncer = host.start();
    tell(&mut syncer, lists([slow(), over(&["10.1.0.1"])]));
    assert_eq!(host.fake.weight(WEB, NEW), None);
    tell(&mut syncer, [over(&["10.1.0.1", "10.1.0.2"])]);

    assert_eq!(host.fake.weight(WEB, NEW), Some(1));
    syncer.audit(5_000, crate::sync::Trigger::Audit).unwrap();
    assert_eq!(host.fake.weight(WEB, NEW), Some(1));
}
