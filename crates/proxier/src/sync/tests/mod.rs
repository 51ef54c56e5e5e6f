//! The loop over a kernel of maps in which everything can fail.

mod answers;
mod audit;
mod clock;
mod fake;
mod farewell;
mod faults;
mod first_lists;
mod followed;
mod objects;
mod others;
mod refused;
mod schedulers;
mod shown;
mod slices;
mod slow_start;
mod start;
mod told;
mod unread;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube_ipvs_core::state::{KernelState, VirtualServerKey};
use kube_ipvs_core::{Cluster, Event, Kind, Options};
use kube_ipvs_dataplane::record::RecordFile;
use tempfile::TempDir;

use super::{Round, Syncer, Trigger};
use fake::Fake;
use objects::{dns, endpoints, gone, lists, service, web};

const WEB: &str = "10.96.0.1:80/TCP";
const DNS: &str = "10.96.0.2:80/UDP";
const FOREIGN: &str = "10.96.0.200:80/TCP";
const DRAIN_TIMEOUT: Duration = Duration::from_secs(900);

/// A kernel and the directory of the ownership record: what outlives a program.
struct Host {
    fake: Fake,
    state: TempDir,
    /// What the program is started with.
    options: Options,
}

impl Host {
    fn new() -> Self {
        Self {
            fake: Fake::new(),
            state: tempfile::tempdir().unwrap(),
            options: Options::default(),
        }
    }

    /// One with a foreign virtual server.
    fn with_foreign() -> Self {
        let host = Self::new();
        let server = kube_ipvs_core::state::VirtualServer {
            scheduler: "sh".into(),
            flags: Default::default(),
            persistence: None,
            real_servers: Default::default(),
        };
        host.fake.edit(|state| {
            state.virtual_servers.insert(key(FOREIGN), server.into());
        });
        host
    }

    /// The program starts anew.
    fn start(&self) -> Syncer<Fake> {
        syncer_with(self.fake.clone(), self.state.path(), self.options.clone())
    }

    /// The program has started and carried these out.
    fn started(&self, objects: impl IntoIterator<Item = Event>) -> Syncer<Fake> {
        let mut syncer = self.start();
        let round = tell(&mut syncer, lists(objects));
        assert!(round.unwrap().is_clean());
        syncer
    }
}

fn syncer_with(fake: Fake, state: &Path, options: Options) -> Syncer<Fake> {
    let options = Options {
        node_name: "node-1".to_owned(),
        ..options
    };
    let record = RecordFile::open(state).unwrap();
    Syncer::new(Cluster::new(options), fake, record, DRAIN_TIMEOUT)
}

/// Events and one sync.
fn tell(syncer: &mut Syncer<Fake>, events: impl IntoIterator<Item = Event>) -> Option<Round> {
    events.into_iter().for_each(|event| syncer.event(event));
    syncer.sync(0).unwrap()
}

/// The endpoints of `web` are these from now on, and one sync.
fn move_web(syncer: &mut Syncer<Fake>, addresses: &[&str]) {
    tell(syncer, [endpoints("web", "TCP", addresses)]);
}

/// Looks at what drains when the clock is asked for it; says when.
fn drain_when_due(syncer: &mut Syncer<Fake>) -> u64 {
    let now = syncer.drain_due().expect("something drains");
    syncer.drain(now).unwrap();
    now
}

fn key(text: &str) -> VirtualServerKey {
    text.parse().unwrap()
}

/// What the kernel holds without the foreign one.
fn ours(fake: &Fake) -> KernelState {
    let mut state = fake.state();
    state.virtual_servers.remove(&key(FOREIGN));
    state
}

#[test]
fn nothing_is_done_before_every_list_is_complete() {
    let host = Host::new();
    host.started(web(&["10.1.0.1"]).into_iter().chain(dns(&["10.1.0.2"])));
    let before = host.fake.state();

    let mut syncer = host.start();
    let events = lists(web(&["10.1.0.1"]));
    let (last, first) = events.split_last().unwrap();
    assert!(tell(&mut syncer, first.iter().cloned()).is_none());
    assert_eq!(host.fake.state(), before);

    let round = tell(&mut syncer, [last.clone()]).unwrap();
    assert!(round.is_clean());
    assert!(!host.fake.state().virtual_servers.contains_key(&key(DNS)));
}

#[test]
fn an_empty_list_removes_only_when_it_is_complete() {
    let host = Host::with_foreign();
    let mut syncer = host.started(web(&["10.1.0.1"]));
    let before = host.fake.state();

    // The watch broke and a list began: nothing was said of web yet.
    tell(&mut syncer, [Event::ListStarted(Kind::Service)]);
    syncer.audit(0, Trigger::Audit).unwrap();
    assert_eq!(host.fake.state(), before);

    tell(&mut syncer, [Event::ListCompleted(Kind::Service)]);
    assert_eq!(ours(&host.fake), KernelState::default());
    assert!(
        host.fake
            .state()
            .virtual_servers
            .contains_key(&key(FOREIGN))
    );
}

#[test]
fn a_kernel_that_cannot_be_read_is_left_alone() {
    let host = Host::new();
    host.started(web(&["10.1.0.1"]));
    let before = host.fake.state();
    let mut syncer = host.start();
    host.fake.kernel().observe_fails = Some(nix::errno::Errno::ENOBUFS);

    lists([]).into_iter().for_each(|event| syncer.event(event));
    let error = format!("{:#}", syncer.sync(0).unwrap_err());
    assert!(
        error.starts_with("read the kernel's state: ENOBUFS"),
        "{error}"
    );
    assert_eq!(host.fake.state(), before);

    host.fake.heal();
    assert!(syncer.sync(0).unwrap().unwrap().is_clean());
    assert_eq!(host.fake.state(), KernelState::default());
}

#[test]
fn a_restart_finds_nothing_to_do() {
    let host = Host::with_foreign();
    let objects = || {
        web(&["10.1.0.1", "-10.1.0.9"])
            .into_iter()
            .chain(dns(&["10.1.0.2"]))
    };
    host.fake.connect(WEB, "10.1.0.9:8080", 3, 0);
    host.started(objects());

    let mut syncer = host.start();
    let round = tell(&mut syncer, lists(objects())).unwrap();

    assert_eq!(round.plan.to_string(), "");
    assert_eq!(host.fake.kernel().dangers, [""; 0]);
}

#[test]
fn foreign_servers_survive_everything() {
    let host = Host::with_foreign();
    let foreign = host.fake.state().virtual_servers[&key(FOREIGN)].clone();
    for round in 0..100 {
        let mut syncer = host.started(web(&["10.1.0.1"]));
        if round % 3 == 0 {
            tell(&mut syncer, gone("web"));
        }
        syncer.audit(0, Trigger::Audit).unwrap();
        assert_eq!(host.fake.state().virtual_servers[&key(FOREIGN)], foreign);
    }
}

/// Whether a virtual server that was there before us is still there after a
/// Service at its front came, changed, and went, with a restart in between.
fn survives_a_service(exclude: &[&str]) -> bool {
    let host = Host::with_foreign();
    let options = Options {
        exclude: exclude.iter().map(|net| net.parse().unwrap()).collect(),
        ..Options::default()
    };
    let start = || syncer_with(host.fake.clone(), host.state.path(), options.clone());
    let web = |addresses: &[&str]| {
        let service = service("web", "10.96.0.200", "TCP");
        lists([service, endpoints("web", "TCP", addresses)])
    };
    let mut syncer = start();
    assert!(tell(&mut syncer, web(&["10.1.0.1"])).unwrap().is_clean());
    assert_eq!(host.fake.weight(FOREIGN, "10.1.0.1:8080"), Some(1));
    let mut syncer = start();
    tell(&mut syncer, web(&["10.1.0.2"]));
    assert_eq!(host.fake.weight(FOREIGN, "10.1.0.1:8080"), None);
    syncer.audit(0, Trigger::Audit).unwrap();

    tell(&mut syncer, gone("web"));
    syncer.audit(0, Trigger::Audit).unwrap();
    host.fake
        .state()
        .virtual_servers
        .contains_key(&key(FOREIGN))
}

#[test]
fn what_others_made_in_an_excluded_network_outlives_a_service_there() {
    assert!(survives_a_service(&["fd00::/8", "10.96.0.128/25"]));
    assert!(!survives_a_service(&["10.97.0.0/16"]));
}

#[test]
fn what_we_make_in_an_excluded_network_goes_with_its_service() {
    let host = Host::new();
    let options = Options {
        exclude: vec!["10.96.0.0/16".parse().unwrap()],
        ..Options::default()
    };
    let mut syncer = syncer_with(host.fake.clone(), host.state.path(), options);
    tell(&mut syncer, lists(web(&["10.1.0.1"])));
    assert!(host.fake.state().virtual_servers.contains_key(&key(WEB)));

    tell(&mut syncer, gone("web"));

    assert_eq!(host.fake.state(), KernelState::default());
}

#[test]
fn what_is_struck_out_of_the_record_is_nobodys() {
    let host = Host::new();
    let mut syncer = host.started(web(&["10.1.0.1"]));
    let made = host.fake.state().virtual_servers[&key(WEB)].clone();
    tell(&mut syncer, gone("web"));
    assert!(syncer.record().record().virtual_servers.is_empty());

    // Somebody else makes the same one, and it is theirs.
    host.fake.edit(|state| {
        state.virtual_servers.insert(key(WEB), made);
    });
    syncer.audit(0, Trigger::Audit).unwrap();
    assert!(host.fake.state().virtual_servers.contains_key(&key(WEB)));
}

#[test]
fn drift_is_healed_and_counted_and_our_own_work_is_not() {
    let host = Host::new();
    let mut syncer = host.started(web(&["10.1.0.1", "10.1.0.2"]));
    let wanted = host.fake.state();
    host.fake.edit(|state| {
        let server = state.virtual_servers.get_mut(&key(WEB)).unwrap();
        Arc::make_mut(server)
            .real_servers
            .remove(&"10.1.0.1:8080".parse().unwrap());
        state.vips.clear();
    });
    host.fake.kernel().sysctls_changed = 2;

    // A change of our own that has not been carried out yet.
    dns(&["10.1.0.3"])
        .into_iter()
        .for_each(|event| syncer.event(event));
    let round = syncer.audit(0, Trigger::Audit).unwrap();

    let drift: Vec<_> = round
        .drift
        .iter()
        .map(|(kind, n)| format!("{kind} {n}"))
        .collect();
    assert_eq!(drift, ["add-real-server 1", "bind-vip 1", "set-sysctl 2"]);
    tell(&mut syncer, gone("dns"));
    assert_eq!(host.fake.state(), wanted);
    assert!(syncer.audit(0, Trigger::Audit).unwrap().drift.is_empty());
}

#[test]
fn a_terminating_endpoint_drains_by_the_clock() {
    let host = Host::new();
    let mut syncer = host.started(web(&["10.1.0.1", "10.1.0.2"]));
    let weight = || host.fake.weight(WEB, "10.1.0.1:8080");
    host.fake.connect(WEB, "10.1.0.1:8080", 1, 0);

    move_web(&mut syncer, &["-10.1.0.1", "10.1.0.2"]);
    assert_eq!(weight(), Some(0), "at once");
    // Looked at as often as the clock is asked for it, it stays while it is used.
    let mut now = 0;
    while now < 60_000 {
        now = drain_when_due(&mut syncer);
        assert_eq!(weight(), Some(0));
    }
    // TIME_WAIT alone holds it for five seconds, not for minutes.
    host.fake.connect(WEB, "10.1.0.1:8080", 0, 1);
    let idle = now;
    while weight().is_some() {
        now = drain_when_due(&mut syncer);
    }
    assert!(now - idle <= 6_000, "held {} ms", now - idle);
    assert_eq!(syncer.drain_due(), None);
}

#[test]
fn an_audit_that_sees_first_that_one_has_drained_lets_it_go() {
    let host = Host::new();
    let mut syncer = host.started(web(&["10.1.0.1", "10.1.0.2"]));
    let weight = || host.fake.weight(WEB, "10.1.0.1:8080");
    host.fake.connect(WEB, "10.1.0.1:8080", 1, 0);
    move_web(&mut syncer, &["-10.1.0.1", "10.1.0.2"]);
    syncer.drain(1_000).unwrap();
    assert_eq!(weight(), Some(0), "it is in use");

    host.fake.connect(WEB, "10.1.0.1:8080", 0, 0);
    let round = syncer.audit(1_500, Trigger::Audit).unwrap();
    assert_eq!(weight(), None);
    assert!(round.drift.is_empty());
}

#[test]
fn draining_ends_at_the_deadline_or_with_the_endpoint() {
    let host = Host::new();
    let mut syncer = host.started(web(&["-10.1.0.1", "10.1.0.2"]));
    let weight = |real| host.fake.weight(WEB, real);
    host.fake.connect(WEB, "10.1.0.2:8080", 1, 0);
    move_web(&mut syncer, &["-10.1.0.2", "10.1.0.3"]);
    assert_eq!(weight("10.1.0.2:8080"), Some(0));
    let mut now = 0;
    while weight("10.1.0.2:8080").is_some() {
        now = drain_when_due(&mut syncer);
    }
    assert_eq!(now, 900_000);

    host.fake.connect(WEB, "10.1.0.3:8080", 1, 0);
    move_web(&mut syncer, &["-10.1.0.3", "10.1.0.4"]);
    assert_eq!(weight("10.1.0.3:8080"), Some(0));
    move_web(&mut syncer, &["10.1.0.4"]);
    assert_eq!(weight("10.1.0.3:8080"), None, "the endpoint is gone");
}

#[test]
fn an_endpoint_that_comes_back_is_never_removed() {
    let host = Host::new();
    let mut syncer = host.started(web(&["10.1.0.1", "10.1.0.2"]));
    host.fake.connect(WEB, "10.1.0.1:8080", 1, 0);
    move_web(&mut syncer, &["-10.1.0.1", "10.1.0.2"]);
    host.fake.kernel().done.clear();

    move_web(&mut syncer, &["10.1.0.1", "10.1.0.2"]);

    assert_eq!(host.fake.weight(WEB, "10.1.0.1:8080"), Some(1));
    assert_eq!(host.fake.kernel().done.len(), 1, "one edit");
}

#[test]
fn udp_leaves_at_once_with_its_flows() {
    let host = Host::new();
    let mut syncer = host.started(dns(&["10.1.0.1", "10.1.0.2"]));
    host.fake.connect(DNS, "10.1.0.1:8080", 0, 9);
    host.fake.kernel().forgotten.clear();
    host.fake.kernel().conntrack_fails = true;

    let leave = endpoints("dns", "UDP", &["-10.1.0.1", "10.1.0.2"]);
    let round = tell(&mut syncer, [leave]).unwrap();
    assert_eq!(host.fake.weight(DNS, "10.1.0.1:8080"), None);
    assert_eq!(round.report.refused[0].kind, "conntrack");

    host.fake.heal();
    assert!(syncer.sync(0).unwrap().unwrap().is_clean());
    assert!(host.fake.kernel().forgotten.is_empty(), "it waits");
    assert!(syncer.sync(1_000).unwrap().unwrap().is_clean());
    let forgotten = host.fake.kernel().forgotten.clone();
    assert_eq!(forgotten.len(), 1, "tried again, once");
    let (front, left) = forgotten[0].first_key_value().unwrap();
    assert_eq!(front.to_string(), DNS);
    assert!(left.iter().map(ToString::to_string).eq(["10.1.0.2:8080"]));
}

#[test]
fn an_unchanged_cluster_costs_nothing() {
    let host = Host::new();
    let mut syncer = host.started(web(&["10.1.0.1"]));
    let looks = host.fake.kernel().observed;

    tell(&mut syncer, [service("web", "10.96.0.1", "TCP")]);

    assert_eq!(host.fake.kernel().observed, looks);
    assert!(syncer.audit(0, Trigger::Audit).unwrap().plan.is_empty());
}
