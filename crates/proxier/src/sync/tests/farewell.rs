//! The address of a Service that is gone stays for a while, and goes by the clock.

use std::time::Duration;

use kube_ipvs_core::Options;
use kube_ipvs_core::state::KernelState;
use tokio::time::sleep;

use super::clock::stage;
use super::objects::{gone, lists, web};
use super::{Host, Trigger};

const VIP: &str = "10.96.0.1";

fn host() -> Host {
    let options = Options {
        farewell: true,
        ..Options::default()
    };
    Host {
        options,
        ..Host::new()
    }
}

#[test]
fn it_goes_without_anybody_asking() {
    let host = host();
    stage(&host, |stage| async move {
        stage.tell(lists(web(&["10.1.0.1"]))).await;
        sleep(Duration::from_secs(5)).await;

        stage.tell(gone("web")).await;
        sleep(Duration::from_secs(8)).await;
        let state = stage.fake.state();
        assert!(state.virtual_servers.is_empty() && state.table.rows.is_empty());
        let left: Vec<String> = state.vips.iter().map(ToString::to_string).collect();
        assert_eq!(
            (left, &state.vips),
            (vec![VIP.to_owned()], &state.table.guarded)
        );

        sleep(Duration::from_secs(8)).await;
        assert_eq!(stage.fake.state(), KernelState::default());
        assert_eq!(stage.fake.kernel().dangers, [""; 0]);
    });
}

/// Neither to the audit nor to `plan`, and a start goes on from there.
#[test]
fn it_is_no_drift_and_outlives_the_program() {
    let host = host();
    let mut syncer = host.started(web(&["10.1.0.1"]));
    gone("web")
        .into_iter()
        .for_each(|event| syncer.event(event));
    syncer.sync(1_000).unwrap().unwrap();

    let round = syncer.audit(2_000, Trigger::Audit).unwrap();
    assert!(round.drift.is_empty() && round.plan.is_empty(), "{round:?}");
    let left = host.fake.state();
    assert_eq!(left.vips, [VIP.parse().unwrap()].into());

    let mut next = host.start();
    lists([]).into_iter().for_each(|event| next.event(event));
    assert_eq!(next.plan(0).unwrap().to_string(), "");
    let mut next = host.started([]);
    assert_eq!(host.fake.state(), left);
    let due = next.step_due().expect("it goes");
    next.sync(due).unwrap().unwrap();
    assert_eq!(host.fake.state(), KernelState::default());
}

/// What was deleted while no program ran is not kept: nobody knows whose it is.
#[test]
fn what_went_in_the_dark_goes_at_the_start() {
    let host = host();
    host.started(web(&["10.1.0.1"]));

    host.started([]);

    assert_eq!(host.fake.state(), KernelState::default());
}
