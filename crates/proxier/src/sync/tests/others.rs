//! Another Service proxy that begins beside us: told to those in charge of the
//! Node, and looked for only when there is a reason to.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube_ipvs_core::{Kind, Options};
use kube_ipvs_vip::Notice;
use serde_json::json;
use tokio::time::sleep;

use super::clock::{Stage, TIMES, stage, stage_with};
use super::objects::{upsert, web};
use super::{Host, WEB, key, lists, syncer_with, tell};
use crate::health::Health;
use crate::sync::Trigger;
use crate::sync::driver::Driver;
use crate::sync::others::SERVERS;
use crate::sync::reporter::Reporter;

const TABLE: &str = "nft table ip kube-proxy";
const CHAINS: &str = "chains KUBE-* in nft table ip nat";

/// What the Node's Events say.
type Notes = Arc<Mutex<Vec<String>>>;

/// Runs `play` with what those in charge are told.
fn told<F: Future<Output = ()>>(host: &Host, play: impl FnOnce(Stage, Notes) -> F) {
    let notes = Notes::default();
    let told = notes.clone();
    let telling = |reporter: Reporter, _: &Health| {
        reporter.with_node_sink(Some(Box::new(move |_, note| {
            told.lock().unwrap().push(note.to_owned());
        })))
    };
    stage_with(
        host,
        telling,
        |driver: Driver<_>| driver,
        |stage| play(stage, notes),
    );
}

fn appears(stage: &Stage, sign: &str) {
    let mut kernel = stage.fake.kernel();
    kernel.signs.insert(sign.to_owned());
    kernel.tables_changed = true;
}

fn warning(stage: &Stage) -> String {
    let mut warnings = stage.health.warnings();
    warnings.remove("other-proxy").unwrap_or_default()
}

#[test]
fn a_proxy_that_begins_beside_us_is_told_once_and_the_node_stays_ready() {
    let host = Host::new();
    told(&host, |stage, notes| async move {
        stage.tell(lists(web(&["10.1.0.1"]))).await;
        sleep(5 * TIMES.sync_period).await;
        assert_eq!(warning(&stage), "");

        appears(&stage, TABLE);
        sleep(5 * TIMES.sync_period).await;

        let said = notes.lock().unwrap().clone();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains(TABLE), "{said:?}");
        assert!(said[0].contains("node selector"), "{said:?}");
        assert_eq!(warning(&stage), said[0]);
        assert!(stage.not_ready().is_empty());

        // Another one is news, and its end too.
        appears(&stage, CHAINS);
        sleep(2 * TIMES.sync_period).await;
        assert_eq!(notes.lock().unwrap().len(), 2);
        stage.fake.kernel().signs.clear();
        stage.fake.kernel().tables_changed = true;
        sleep(2 * TIMES.sync_period).await;
        assert_eq!(notes.lock().unwrap().len(), 2);
        assert_eq!(warning(&stage), "");
    });
}

#[test]
fn what_was_there_before_us_is_shown_and_is_no_event_until_it_comes_back() {
    let host = Host::new();
    host.fake.kernel().signs.insert(CHAINS.to_owned());
    told(&host, |stage, notes| async move {
        stage.tell(lists(web(&["10.1.0.1"]))).await;
        sleep(2 * TIMES.sync_period).await;
        assert!(warning(&stage).contains("--adopt-kube-proxy"));
        assert_eq!(*notes.lock().unwrap(), Vec::<String>::new());

        for there in [false, true] {
            {
                let mut kernel = stage.fake.kernel();
                kernel.signs.clear();
                kernel.signs.extend(there.then(|| CHAINS.to_owned()));
                kernel.tables_changed = true;
            }
            sleep(2 * TIMES.sync_period).await;
        }

        assert_eq!(notes.lock().unwrap().len(), 1);
    });
}

#[test]
fn who_wipes_ours_is_told_of_and_looked_for_in_the_pass_after() {
    let host = Host::new();
    told(&host, |stage, notes| async move {
        stage.tell(lists(web(&["10.1.0.1"]))).await;
        sleep(2 * TIMES.sync_period).await;

        stage.fake.edit(|state| {
            state.vips.clear();
            state.virtual_servers.clear();
        });
        stage.notice(Notice::Link);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(stage.fake.weight(WEB, "10.1.0.1:8080"), Some(1));
        let said = notes.lock().unwrap().clone();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("kube-proxy --cleanup"), "{said:?}");

        // Its own comes a moment later, and nobody tells of that.
        stage.fake.kernel().signs.insert(CHAINS.to_owned());
        sleep(TIMES.sync_period).await;
        assert_eq!(notes.lock().unwrap().len(), 2);
    });
}

#[test]
fn a_single_edit_is_no_wipe() {
    let host = Host::new();
    told(&host, |stage, notes| async move {
        stage.tell(lists(web(&["10.1.0.1", "10.1.0.2"]))).await;
        sleep(2 * TIMES.sync_period).await;
        stage.fake.edit(|state| {
            let server = state.virtual_servers.get_mut(&key(WEB)).unwrap();
            let server = Arc::make_mut(server);
            _ = server.real_servers.pop_first();
        });
        sleep(2 * TIMES.sync_period).await;
        assert_eq!(stage.fake.weight(WEB, "10.1.0.1:8080"), Some(1));
        assert_eq!(*notes.lock().unwrap(), Vec::<String>::new());
    });
}

/// Whether another proxy is seen where somebody has a virtual server at an
/// address that a Service might have.
fn is_seen(exclude: &[&str]) -> bool {
    let host = Host::with_foreign();
    let options = Options {
        close_service_cidrs: true,
        exclude: exclude.iter().map(|net| net.parse().unwrap()).collect(),
        ..Options::default()
    };
    let mut syncer = syncer_with(host.fake.clone(), host.state.path(), options);
    let networks = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}});
    let networks = upsert(Kind::ServiceCidr, networks);
    tell(
        &mut syncer,
        lists(web(&["10.1.0.1"]).into_iter().chain([networks])),
    );
    syncer.audit(0, Trigger::Audit).unwrap();
    syncer.look_for_others();
    syncer.others().left().contains(SERVERS)
}

#[test]
fn what_the_operator_excluded_is_of_no_proxy() {
    assert!(is_seen(&["10.97.0.0/16"]));
    assert!(!is_seen(&["10.96.0.128/25"]));
}

#[test]
fn as_long_as_nobody_does_anything_nobody_is_looked_for() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage.tell(lists(web(&["10.1.0.1"]))).await;
        sleep(2 * TIMES.sync_period).await;
        let looked = stage.fake.kernel().looked;
        assert!(looked > 0);

        sleep(20 * TIMES.sync_period).await;
        stage.tell(web(&["10.1.0.2"])).await;
        sleep(2 * TIMES.sync_period).await;

        assert_eq!(stage.fake.kernel().looked, looked);
    });
}
