//! What the kernel tells the changes of is not read to be known.

use std::time::Duration;

use kube_ipvs_vip::Notice;
use tokio::time::sleep;

use super::clock::{Stage, TIMES, stage};
use super::fake::Fake;
use super::objects::web;
use super::{Host, lists};
use crate::sync::followed::PASSES;

const VIP: &str = "10.96.0.1";
const STRANGER: &str = "192.0.2.9";

/// How often VIPs and this host's addresses were read.
fn read(fake: &Fake) -> (usize, usize) {
    let kernel = fake.kernel();
    (kernel.vips_read, kernel.host_read)
}

/// Begun, which reads everything.
async fn calm(stage: &Stage) {
    stage.tell(lists(web(&["10.1.0.1"]))).await;
    sleep(2 * TIMES.sync_period).await;
}

fn is_bound(stage: &Stage, vip: &str) -> bool {
    stage.fake.state().vips.contains(&vip.parse().unwrap())
}

fn add_stranger(stage: &Stage) {
    stage
        .fake
        .edit(|state| _ = state.vips.insert(STRANGER.parse().unwrap()));
}

#[test]
fn addresses_are_read_once_in_many_periods() {
    let host = Host::new();
    stage(&host, |stage| async move {
        calm(&stage).await;
        let (vips, host) = read(&stage.fake);
        // A pass takes somewhat less than a period.
        sleep((PASSES - 10) * TIMES.sync_period).await;
        assert_eq!(read(&stage.fake), (vips, host));
        sleep(10 * TIMES.sync_period).await;
        assert_eq!(read(&stage.fake), (vips + 1, host + 1));
    });
}

#[test]
fn a_vip_of_nobody_is_gone_within_a_period_and_one_of_ours_is_no_news() {
    let host = Host::new();
    stage(&host, |stage| async move {
        calm(&stage).await;
        let before = read(&stage.fake);
        stage.notice(Notice::VipCome(VIP.parse().unwrap()));
        sleep(2 * TIMES.sync_period).await;
        assert_eq!(read(&stage.fake), before);

        add_stranger(&stage);
        stage.notice(Notice::VipCome(STRANGER.parse().unwrap()));
        sleep(TIMES.sync_period).await;
        assert!(!is_bound(&stage, STRANGER));
    });
}

#[test]
fn what_may_have_taken_vips_along_lets_them_be_read() {
    let host = Host::new();
    stage(&host, |stage| async move {
        calm(&stage).await;
        let (vips, _) = read(&stage.fake);
        stage.notice(Notice::HostAddress("192.0.2.7".parse().unwrap()));
        sleep(2 * TIMES.sync_period).await;
        assert_eq!(read(&stage.fake).0, vips, "that takes none along");

        stage.fake.edit(|state| state.vips.clear());
        stage.notice(Notice::Stray);
        sleep(TIMES.sync_period).await;
        assert!(is_bound(&stage, VIP));
    });
}

#[test]
fn a_row_of_pods_with_addresses_costs_a_look_a_second() {
    let host = Host::new();
    stage(&host, |stage| async move {
        calm(&stage).await;
        let (_, before) = read(&stage.fake);
        for n in 0..1000u16 {
            stage.notice(Notice::HostAddress([0xfe80, 0, 0, 0, 0, 0, 0, n].into()));
            sleep(Duration::from_millis(10)).await;
        }
        let looks = read(&stage.fake).1 - before;
        assert!((9..=11).contains(&looks), "{looks} in ten seconds");
    });
}

#[test]
fn where_the_kernel_tells_nothing_any_more_all_is_read_in_each_period() {
    let host = Host::new();
    stage(&host, |stage| async move {
        calm(&stage).await;
        stage.changes.close_channel();
        // What went unheard, and then one thing after the other.
        for _ in 0..3 {
            let (_, looks) = read(&stage.fake);
            stage.fake.edit(|state| state.vips.clear());
            sleep(TIMES.sync_period + Duration::from_secs(2)).await;
            assert!(is_bound(&stage, VIP));
            assert!(read(&stage.fake).1 > looks);
        }
    });
}

#[test]
fn who_was_seen_to_change_something_is_not_relied_upon_to_be_heard() {
    let host = Host::new();
    stage(&host, |stage| async move {
        calm(&stage).await;
        stage.fake.kernel().sysctls_changed = 1;
        sleep(TIMES.sync_period).await;
        let (vips, _) = read(&stage.fake);
        sleep(3 * TIMES.sync_period).await;
        assert!(read(&stage.fake).0 >= vips + 3);
    });
}
