//! Services that name a scheduler which the kernel lacks.

use std::time::Duration;

use kube_ipvs_core::plan::Op;
use kube_ipvs_core::{Event, Kind, Scheduler};
use serde_json::json;
use tokio::time::sleep;

use super::clock::{TIMES, stage};
use super::fake::Fake;
use super::objects::upsert;
use super::{Host, WEB, endpoints, key, lists, tell, web};

/// `web` with this scheduler.
pub(super) fn named(scheduler: &str) -> Event {
    let object = json!({
        "metadata": {
            "name": "web", "namespace": "default",
            "annotations": {"ipvs.kube-ipvs.dev/scheduler": scheduler},
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"],
            "ports": [{"name": "", "protocol": "TCP", "port": 80}],
        },
    });
    upsert(Kind::Service, object)
}

fn scheduler(fake: &Fake) -> Scheduler {
    fake.state().virtual_servers[&key(WEB)].scheduler.clone()
}

#[test]
fn one_that_the_kernel_lacks_is_not_tried_and_the_service_is_served() {
    let host = Host::new();
    host.fake.kernel().lacks = ["twos"].into();

    let mut syncer = host.started([named("twos"), endpoints("web", "TCP", &["10.1.0.1"])]);

    assert_eq!(scheduler(&host.fake), "rr");
    assert_eq!(host.fake.weight(WEB, "10.1.0.1:8080"), Some(1));
    assert_eq!(syncer.cluster().warnings().len(), 1);
    // A change asks no more for what is known.
    tell(&mut syncer, [endpoints("web", "TCP", &["10.1.0.2"])]);
    assert_eq!(host.fake.kernel().asked_for, ["twos"]);
}

#[test]
fn a_live_service_that_asks_for_one_keeps_what_it_has() {
    let host = Host::new();
    host.fake.kernel().lacks = ["twos"].into();
    let mut syncer = host.started(web(&["10.1.0.1"]));
    host.fake.kernel().done.clear();

    let round = tell(&mut syncer, [named("twos")]).unwrap();
    assert!(round.is_clean());
    assert_eq!(host.fake.kernel().done, []);

    tell(&mut syncer, [named("lc")]);
    assert_eq!(scheduler(&host.fake), "lc");
    let done = host.fake.kernel().done.clone();
    assert!(matches!(done[..], [Op::EditVirtualServer(..)]), "{done:?}");
}

#[test]
fn one_that_comes_with_a_module_is_used_within_the_period() {
    let host = Host::new();
    host.fake.kernel().lacks = ["twos"].into();
    stage(&host, |stage| async move {
        let objects = [named("twos"), endpoints("web", "TCP", &["10.1.0.1"])];
        stage.tell(lists(objects)).await;
        sleep(10 * TIMES.sync_period).await;
        let asked = stage.fake.kernel().asked_for.len();
        // A pass of a small table is a bit shorter than the period.
        assert!((10..=15).contains(&asked), "{asked} in ten periods");
        assert_eq!(scheduler(&stage.fake), "rr");

        stage.fake.kernel().done.clear();
        stage.fake.kernel().lacks.clear();
        sleep(TIMES.sync_period + Duration::from_secs(1)).await;
        assert_eq!(scheduler(&stage.fake), "twos");
        let done = stage.fake.kernel().done.clone();
        assert!(matches!(done[..], [Op::EditVirtualServer(..)]), "{done:?}");
        // Nobody is asked for what is there.
        let asked = stage.fake.kernel().asked_for.len();
        sleep(10 * TIMES.sync_period).await;
        assert_eq!(stage.fake.kernel().asked_for.len(), asked);
        // Once, however often it was asked for.
        let told = stage.warnings();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("Service default/web: annotation"),
            "{told:?}"
        );
    });
}
