//! The driver on a clock that only moves when everybody waits.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use kube_ipvs_core::plan::Op;
use kube_ipvs_core::state::{Family, Protocol};
use kube_ipvs_core::{Event, HostAddress, Listener, Warning};
use kube_ipvs_vip::Notice;
use nix::errno::Errno;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::fake::{Fake, Fate};
use super::objects::node_port;
use super::{DNS, Host, WEB, dns, endpoints, gone, key, lists, web};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::sync::driver::{Driver, Times};
use crate::sync::reporter::Reporter;

pub(super) const TIMES: Times = Times {
    min_sync_period: Duration::from_secs(1),
    sync_period: Duration::from_secs(30),
};

/// What a test does while a driver runs.
pub(super) struct Stage {
    pub(super) fake: Fake,
    events: mpsc::Sender<Event>,
    pub(super) changes: futures::channel::mpsc::UnboundedSender<Notice>,
    pub(super) health: Health,
    metrics: Metrics,
    /// What owners of Services were told.
    pub(super) warnings: Arc<Mutex<Vec<Warning>>>,
}

impl Stage {
    /// What owners were told, in words.
    pub(super) fn warnings(&self) -> Vec<String> {
        let told = self.warnings.lock().unwrap();
        told.iter().map(ToString::to_string).collect()
    }

    pub(super) async fn tell(&self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.events.send(event).await.unwrap();
        }
    }

    pub(super) fn notice(&self, change: Notice) {
        self.changes.unbounded_send(change).unwrap();
    }

    pub(super) fn not_ready(&self) -> BTreeMap<String, String> {
        self.health.not_ready()
    }

    /// A counter, over all its labels that contain `label`.
    pub(super) fn metric(&self, name: &str, label: &str) -> f64 {
        let text = self.metrics.render(std::time::Instant::now());
        let lines = text
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(label));
        lines
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }
}

/// Runs a driver over `host` beside `play`, on a paused clock.
pub(super) fn stage<F: Future<Output = ()>>(host: &Host, play: impl FnOnce(Stage) -> F) {
    stage_with(host, |reporter, _| reporter, |driver| driver, play);
}

/// The same with a reporter and a driver that do more.
pub(super) fn stage_with<F: Future<Output = ()>>(
    host: &Host,
    reporter: impl FnOnce(Reporter, &Health) -> Reporter,
    driver: impl FnOnce(Driver<Fake>) -> Driver<Fake>,
    play: impl FnOnce(Stage) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let (events, received) = mpsc::channel(1024);
        let (changes, noticed) = futures::channel::mpsc::unbounded();
        let (_stop, stopped) = watch::channel(false);
        let metrics = Metrics::new();
        let families = vec![Family::V4, Family::V6];
        let health = Health::new(families.clone(), TIMES.sync_period, metrics.clone());
        let warnings = Arc::new(Mutex::new(Vec::new()));
        let told = warnings.clone();
        let plain = Reporter::new(families, metrics.clone(), health.clone()).with_sink(Some(
            Box::new(move |w| told.lock().unwrap().push(w.clone())),
        ));
        let driver = driver(Driver::new(host.start(), TIMES, reporter(plain, &health)));
        let stage = Stage {
            fake: host.fake.clone(),
            events,
            changes,
            health,
            metrics,
            warnings,
        };
        tokio::select! {
            () = driver.run(received, noticed.boxed(), stopped) => panic!("the driver ended"),
            () = play(stage) => {}
        }
    });
}

#[test]
fn it_waits_for_complete_lists_and_says_so() {
    let host = Host::new();
    stage(&host, |stage| async move {
        let mut events = lists(web(&["10.1.0.1"]));
        let last = events.pop().unwrap();
        stage.tell(events).await;
        sleep(Duration::from_secs(600)).await;
        assert_eq!(stage.fake.kernel().tried, 0);
        assert_eq!(
            stage.not_ready()["source"],
            "waiting for the first full list of: EndpointSlice"
        );

        stage.tell([last]).await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(stage.fake.weight(WEB, "10.1.0.1:8080"), Some(1));
        assert_eq!(stage.not_ready(), BTreeMap::new());
    });
}

#[test]
fn the_list_that_completes_them_all_waits_for_no_period() {
    let host = Host::new();
    stage(&host, |stage| async move {
        let mut events = lists(web(&["10.1.0.1"]));
        let last = events.pop().unwrap();
        stage.tell(events).await;
        sleep(Duration::from_millis(1)).await;
        assert!(stage.not_ready().contains_key("source"));

        stage.tell([last]).await;
        sleep(Duration::from_millis(1)).await;
        assert_eq!(stage.fake.weight(WEB, "10.1.0.1:8080"), Some(1));
    });
}

#[test]
fn many_changes_share_a_round() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage.tell(lists(web(&["10.1.0.1"]))).await;
        sleep(Duration::from_secs(5)).await;
        stage.fake.kernel().done.clear();
        for n in 0..100 {
            let address = format!("10.1.1.{n}");
            stage
                .tell([endpoints("web", "TCP", &["10.1.0.1", &address])])
                .await;
            sleep(Duration::from_millis(100)).await;
        }
        sleep(Duration::from_secs(2)).await;
        let added = |op: &&Op| matches!(op, Op::AddRealServer(..));
        let rounds = stage.fake.kernel().done.iter().filter(added).count();
        assert!((9..=12).contains(&rounds), "{rounds} rounds in ten seconds");
        assert_eq!(stage.fake.weight(WEB, "10.1.1.99:8080"), Some(1));
    });
}

#[test]
fn a_failure_of_the_whole_is_over_soon_after_its_cause() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage.fake.kernel().observe_fails = Some(Errno::ENOBUFS);
        stage.tell(lists(web(&["10.1.0.1"]))).await;
        sleep(Duration::from_secs(300)).await;
        // Every two seconds, or more seldom where a busy machine makes tries long;
        // at most every 30 s there would be eleven.
        let tries = stage.fake.kernel().observed;
        assert!((25..=160).contains(&tries), "{tries} tries");
        assert!(stage.not_ready()["sync"].contains("ENOBUFS"));

        stage.fake.heal();
        let begun = Instant::now();
        while stage.not_ready() != BTreeMap::new() {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{:?}",
                stage.not_ready()
            );
            sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(stage.fake.weight(WEB, "10.1.0.1:8080"), Some(1));
    });
}

#[test]
fn a_change_does_not_wait_behind_a_refusal() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage.fake.hook(|_, op| match op {
            Op::AddVirtualServer(of, _) if *of == key(WEB) => Fate::Refused(Errno::ENOENT),
            _ => Fate::Done,
        });
        let all = web(&["10.1.0.1"]).into_iter().chain(dns(&["10.1.0.3"]));
        stage.tell(lists(all)).await;
        // Long enough for the back-off to be at its longest.
        sleep(Duration::from_secs(301)).await;
        assert!(stage.health.refused().0[0].contains("ENOENT"));

        stage.tell([endpoints("dns", "UDP", &["10.1.0.4"])]).await;
        sleep(Duration::from_millis(1100)).await;
        assert_eq!(stage.fake.weight(DNS, "10.1.0.4:8080"), Some(1));

        stage.fake.heal();
        sleep(Duration::from_secs(31)).await;
        assert_eq!(stage.fake.weight(WEB, "10.1.0.1:8080"), Some(1));
        assert_eq!(stage.health.refused(), (Vec::new(), 0));
        assert_eq!(
            stage.metric("kube_ipvs_drift_total", ""),
            0.0,
            "all this was ours"
        );
    });
}

#[test]
fn what_somebody_flushes_comes_back_within_the_period() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage.tell(lists(web(&["10.1.0.1"]))).await;
        sleep(Duration::from_secs(100)).await;
        let wanted = stage.fake.state();

        stage.fake.edit(|state| *state = Default::default());
        sleep(TIMES.sync_period).await;

        assert_eq!(stage.fake.state(), wanted);
        let drift = |kind| stage.metric("kube_ipvs_drift_total", kind);
        assert_eq!(drift("add-virtual-server"), 1.0);
        assert_eq!(drift("add-real-server"), 1.0);
        assert_eq!(drift("bind-vip"), 1.0);
        assert!(drift("add-front") + drift("add-guard") >= 2.0);
    });
}

#[test]
fn an_edit_at_any_time_is_healed_within_the_period_and_never_by_a_whole_look() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage.tell(lists(web(&["10.1.0.1"]))).await;
        sleep(Duration::from_secs(5)).await;
        let wanted = stage.fake.state();
        let looks = stage.fake.kernel().observed;
        for _ in 0..40 {
            sleep(Duration::from_millis(1700)).await;
            stage.fake.edit(|state| {
                let server = state.virtual_servers.get_mut(&key(WEB)).unwrap();
                Arc::make_mut(server).real_servers.clear();
                state.vips.clear();
            });
            sleep(TIMES.sync_period).await;
            assert_eq!(stage.fake.state(), wanted);
        }
        assert_eq!(stage.metric("kube_ipvs_drift_total", ""), 80.0);
        assert_eq!(stage.fake.kernel().observed, looks);
    });
}

#[test]
fn changes_without_end_do_not_hold_up_the_audit() {
    let host = Host::new();
    stage(&host, |stage| async move {
        let all = web(&["10.1.0.1"]).into_iter().chain(dns(&["10.1.0.3"]));
        stage.tell(lists(all)).await;
        sleep(Duration::from_secs(5)).await;
        stage
            .fake
            .edit(|state| _ = state.virtual_servers.remove(&key(WEB)));
        for n in 0..300 {
            let address = format!("10.1.{}.{}", n / 250, n % 250);
            stage.tell([endpoints("dns", "UDP", &[&address])]).await;
            sleep(TIMES.sync_period / 300).await;
        }
        assert_eq!(stage.fake.weight(WEB, "10.1.0.1:8080"), Some(1));
    });
}

#[test]
fn a_vip_that_goes_is_back_at_once_and_our_own_unbinding_is_no_news() {
    let host = Host::new();
    stage(&host, |stage| async move {
        let all = web(&["10.1.0.1"]).into_iter().chain(dns(&["10.1.0.3"]));
        stage.tell(lists(all)).await;
        sleep(Duration::from_secs(5)).await;
        let (web_vip, dns_vip) = ("10.96.0.1".parse().unwrap(), "10.96.0.2".parse().unwrap());

        stage
            .fake
            .edit(|state| state.vips.retain(|vip| *vip != web_vip));
        stage.notice(Notice::VipGone(web_vip));
        sleep(Duration::from_millis(1100)).await;
        assert!(stage.fake.state().vips.contains(&web_vip));

        stage.tell(gone("dns")).await;
        sleep(Duration::from_secs(2)).await;
        assert!(!stage.fake.state().vips.contains(&dns_vip));
        let looks = stage.fake.kernel().observed;
        stage.notice(Notice::VipGone(dns_vip));
        sleep(Duration::from_secs(5)).await;
        assert_eq!(stage.fake.kernel().observed, looks);
    });
}

#[test]
fn a_fight_over_a_vip_is_bounded() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage.tell(lists(web(&["10.1.0.1"]))).await;
        sleep(Duration::from_secs(5)).await;
        let looks = stage.fake.kernel().observed;
        for _ in 0..1000 {
            stage.fake.edit(|state| state.vips.clear());
            stage.notice(Notice::VipGone("10.96.0.1".parse().unwrap()));
            sleep(Duration::from_millis(10)).await;
        }
        let looks = stage.fake.kernel().observed - looks;
        assert!((5..=12).contains(&looks), "{looks} in ten seconds");
    });
}

#[test]
fn what_somebody_flushed_before_a_change_is_back_right_after_it() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage.tell(lists(web(&["10.1.0.1"]))).await;
        sleep(Duration::from_secs(5)).await;
        let guarded = stage.fake.state().table.guarded;
        let mut flushed = false;
        stage.fake.hook(move |_, op| {
            let first = matches!(op, Op::Table(_)) && !std::mem::replace(&mut flushed, true);
            if first { Fate::Flushed } else { Fate::Done }
        });

        stage.tell(dns(&["10.1.0.2"])).await;
        sleep(Duration::from_millis(1)).await;

        let table = stage.fake.state().table;
        assert!(guarded.is_subset(&table.guarded), "{:?}", table.guarded);
        assert!(table.rows.contains_key(&WEB.parse().unwrap()));
        assert!(stage.metric("kube_ipvs_drift_total", "add-guard") >= 1.0);
    });
}

#[test]
fn a_fight_over_the_tables_is_bounded() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage.tell(lists(web(&["10.1.0.1"]))).await;
        sleep(Duration::from_secs(5)).await;
        stage.fake.hook(|_, op| match op {
            Op::Table(_) => Fate::Flushed,
            _ => Fate::Done,
        });
        let asked = stage.fake.kernel().asked;
        stage.tell(dns(&["10.1.0.2"])).await;
        sleep(Duration::from_secs(10)).await;
        let asked = stage.fake.kernel().asked - asked;
        assert!((8..=20).contains(&asked), "{asked} in ten seconds");
    });
}

#[test]
fn the_link_that_goes_is_looked_for_at_once() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage.tell(lists(web(&["10.1.0.1"]))).await;
        sleep(Duration::from_secs(5)).await;
        for change in [Notice::Link, Notice::Lost] {
            stage.fake.edit(|state| state.vips.clear());
            stage.notice(change);
            sleep(Duration::from_millis(1100)).await;
            assert_eq!(stage.fake.state().vips.len(), 1, "{change:?}");
        }
    });
}

#[test]
fn draining_goes_on_by_itself() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage.tell(lists(web(&["10.1.0.1", "10.1.0.2"]))).await;
        sleep(Duration::from_secs(5)).await;
        stage.fake.connect(WEB, "10.1.0.1:8080", 1, 0);
        stage
            .tell([endpoints("web", "TCP", &["-10.1.0.1", "10.1.0.2"])])
            .await;
        sleep(Duration::from_secs(120)).await;
        assert_eq!(stage.fake.weight(WEB, "10.1.0.1:8080"), Some(0));

        stage.fake.connect(WEB, "10.1.0.1:8080", 0, 40);
        sleep(Duration::from_secs(7)).await;
        assert_eq!(stage.fake.weight(WEB, "10.1.0.1:8080"), None);
        assert_eq!(stage.metric("kube_ipvs_drift_total", ""), 0.0);
    });
}

#[test]
fn a_host_address_takes_a_vip_off_the_link() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage.tell(lists(web(&["10.1.0.1"]))).await;
        sleep(Duration::from_secs(5)).await;
        let vip = "10.96.0.1".parse().unwrap();
        assert!(stage.fake.state().vips.contains(&vip));

        stage.fake.kernel().host = vec![kube_ipvs_core::HostAddress {
            address: vip,
            prefix: 24,
            link: "eth0".to_owned(),
        }];
        stage.notice(Notice::HostAddress(vip));
        sleep(Duration::from_millis(1100)).await;

        assert!(!stage.fake.state().vips.contains(&vip), "it is the host's");
        assert_eq!(
            stage.fake.weight(WEB, "10.1.0.1:8080"),
            Some(1),
            "still served"
        );
    });
}

#[test]
fn sizes_are_ours_and_follow_a_change_soon() {
    let host = Host::with_foreign();
    stage(&host, |stage| async move {
        stage.tell(lists(web(&["10.1.0.1"]))).await;
        sleep(Duration::from_secs(1)).await;
        let real = || stage.metric("kube_ipvs_real_servers", "IPv4");
        assert_eq!(stage.metric("kube_ipvs_virtual_servers", "IPv4"), 1.0);
        assert_eq!(real(), 1.0);

        let addresses = ["10.1.0.1", "10.1.0.2", "10.1.0.3"];
        stage.tell([endpoints("web", "TCP", &addresses)]).await;
        sleep(Duration::from_secs(7)).await;
        assert_eq!(real(), 3.0, "long before the next audit");
    });
}

#[test]
fn changes_wait_until_a_round_has_taken_them_in() {
    let host = Host::new();
    stage(&host, |stage| async move {
        let waiting = |kind| {
            let name = format!("kubeproxy_sync_proxy_rules_{kind}_changes_pending");
            stage.metric(&name, "")
        };
        let mut events = lists(web(&["10.1.0.1"]));
        let last = events.pop().unwrap();
        stage.tell(events).await;
        sleep(Duration::from_secs(10)).await;
        assert_eq!((waiting("service"), waiting("endpoint")), (1.0, 1.0));

        stage.tell([last]).await;
        sleep(Duration::from_secs(2)).await;
        assert_eq!((waiting("service"), waiting("endpoint")), (0.0, 0.0));
    });
}

#[test]
fn what_nft_refuses_and_conntrack_forgets_is_counted() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage.tell(lists(dns(&["10.1.0.1", "10.1.0.2"]))).await;
        sleep(Duration::from_secs(5)).await;
        let deleted = "kubeproxy_conntrack_reconciler_deleted_entries_total";
        let before = stage.metric(deleted, "IPv4");
        stage.tell([endpoints("dns", "UDP", &["10.1.0.2"])]).await;
        sleep(Duration::from_secs(2)).await;
        assert_eq!(stage.metric(deleted, "IPv4") - before, 1.0);

        stage.fake.hook(|_, op| match op {
            Op::Table(_) => Fate::Refused(Errno::EPERM),
            _ => Fate::Done,
        });
        stage.tell(web(&["10.1.0.3"])).await;
        sleep(Duration::from_secs(2)).await;
        let failed = "kubeproxy_sync_proxy_rules_nftables_sync_failures_total";
        assert!(stage.metric(failed, "IPv4") >= 1.0);
    });
}

#[test]
fn a_port_on_which_the_host_listens_is_warned_of_soon_and_not_looked_at_for_every_change() {
    let host = Host::new();
    host.fake.kernel().host = vec![HostAddress {
        address: [192, 0, 2, 1].into(),
        prefix: 24,
        link: "eth0".to_owned(),
    }];
    stage(&host, |stage| async move {
        let listens = |port| Listener {
            protocol: Protocol::Tcp,
            address: [0, 0, 0, 0].into(),
            port,
        };
        stage.fake.kernel().listeners = BTreeSet::from([listens(22), listens(443)]);
        let warned = || stage.metric("kube_ipvs_object_warnings", "");
        stage.tell(lists([node_port("ssh", "10.96.0.3", 22)])).await;
        sleep(Duration::from_secs(4)).await;
        assert_eq!(warned(), 1.0);

        let looks = stage.fake.kernel().listened;
        for n in 0..10 {
            let pods = [&*format!("10.1.0.{n}")];
            stage.tell([endpoints("ssh", "TCP", &pods)]).await;
            sleep(Duration::from_secs(2)).await;
        }
        assert!(
            stage.fake.kernel().listened <= looks + 1,
            "one pass of the audit"
        );

        stage.tell([node_port("web", "10.96.0.4", 443)]).await;
        sleep(Duration::from_secs(4)).await;
        assert_eq!(warned(), 2.0);
        stage.fake.kernel().listeners.clear();
        sleep(TIMES.sync_period + Duration::from_secs(4)).await;
        assert_eq!(warned(), 0.0);
    });
}
