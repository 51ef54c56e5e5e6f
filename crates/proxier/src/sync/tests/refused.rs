//! What the kernel refuses of one Service: closed in the same round, told once,
//! tried again by itself, and nobody else's matter.

use std::time::Duration;

use kube_ipvs_core::plan::Op;
use kube_ipvs_core::row::Verdict;
use kube_ipvs_core::state::KernelState;
use kube_ipvs_core::table::Edit;
use kube_ipvs_core::{Change, Event, Object, Options};
use kube_ipvs_dataplane::Nature;
use nix::errno::Errno;
use tokio::time::sleep;

use super::clock::stage;
use super::fake::{Fake, Fate};
use super::objects::{UID, service};
use super::{DNS, Host, WEB, dns, endpoints, key, lists, syncer_with, tell, web};
use crate::sync::refusals::Subject;
use crate::sync::{Syncer, Trigger};

const BAD: &str = "10.1.0.255:8080";

/// Refuses the virtual server of `web`.
fn no_server(op: &Op) -> Fate {
    match op {
        Op::AddVirtualServer(of, _) if *of == key(WEB) => Fate::Refused(Errno::ENOENT),
        _ => Fate::Done,
    }
}

/// Refuses one endpoint, as the kernel does the broadcast address of a network.
fn no_broadcast(op: &Op) -> Fate {
    match op {
        Op::AddRealServer(_, real, _) if real.to_string() == BAD => Fate::Refused(Errno::EINVAL),
        _ => Fate::Done,
    }
}

fn both() -> Vec<Event> {
    lists(web(&["10.1.0.1"]).into_iter().chain(dns(&["10.1.0.3"])))
}

fn verdict(state: &KernelState, front: &str) -> Option<Verdict> {
    state.row(&front.parse().unwrap()).map(|row| row.verdict)
}

#[track_caller]
fn assert_closed(fake: &Fake, front: &str) {
    let state = fake.state();
    assert_eq!(verdict(&state, front), Some(Verdict::Refuse));
}

#[track_caller]
fn assert_open(fake: &Fake, front: &str) {
    let state = fake.state();
    assert!(state.virtual_servers.contains_key(&key(front)));
    assert_eq!(verdict(&state, front), Some(Verdict::Serve));
}

fn refused(syncer: &Syncer<Fake>) -> Vec<Subject> {
    syncer
        .refusals()
        .iter()
        .map(|(subject, _)| *subject)
        .collect()
}

#[test]
fn a_front_whose_server_is_refused_is_closed_in_the_same_round() {
    let host = Host::new();
    let mut syncer = host.start();
    host.fake.hook(|_, op| no_server(op));

    let round = tell(&mut syncer, both()).unwrap();

    assert!(round.failures().next().is_none(), "it is one Service's");
    assert_closed(&host.fake, WEB);
    assert_open(&host.fake, DNS);
    assert_eq!(host.fake.kernel().dangers, [""; 0]);
    let server = Change::AddVirtualServer(key(WEB));
    assert_eq!(refused(&syncer), [Subject::Change(server)]);

    host.fake.heal();
    assert!(syncer.sync(1_000).unwrap().unwrap().is_clean());
    assert_open(&host.fake, WEB);
    assert_eq!(host.fake.kernel().dangers, [""; 0]);
    assert_eq!(refused(&syncer), []);
}

#[test]
fn a_front_whose_last_real_server_is_refused_is_closed_in_the_same_round() {
    let host = Host::new();
    let mut syncer = host.started(web(&["10.1.0.1"]));
    host.fake.hook(|_, op| no_broadcast(op));

    tell(
        &mut syncer,
        [endpoints("web", "TCP", &["10.1.0.1", "10.1.0.255"])],
    );
    assert_open(&host.fake, WEB);
    assert_eq!(host.fake.weight(WEB, "10.1.0.1:8080"), Some(1));

    tell(&mut syncer, [endpoints("web", "TCP", &["10.1.0.255"])]);
    assert_closed(&host.fake, WEB);

    tell(
        &mut syncer,
        [endpoints("web", "TCP", &["10.1.0.255", "10.1.0.2"])],
    );
    assert_open(&host.fake, WEB);
    assert_eq!(host.fake.weight(WEB, "10.1.0.2:8080"), Some(1));
    assert_eq!(host.fake.kernel().dangers, [""; 0]);
}

#[test]
fn settings_that_are_refused_leave_the_server_as_it_was() {
    let host = Host::new();
    let mut syncer = host.started(web(&["10.1.0.1"]));
    let before = host.fake.state();
    host.fake.hook(|_, op| match op {
        Op::EditVirtualServer(..) => Fate::Refused(Errno::ENOENT),
        _ => Fate::Done,
    });
    let Event::Upsert(Object::Service(mut sticky)) = service("web", "10.96.0.1", "TCP") else {
        panic!("a Service");
    };
    sticky.spec.session_affinity = Some("ClientIP".to_owned());

    let sticky = Event::Upsert(Object::Service(sticky));
    tell(&mut syncer, [sticky]);

    assert_eq!(host.fake.state(), before);
    let edit = Change::EditVirtualServer(key(WEB));
    assert_eq!(refused(&syncer), [Subject::Change(edit)]);
}

#[test]
fn a_server_that_somebody_took_and_that_cannot_be_made_again_closes_its_front() {
    let host = Host::new();
    let mut syncer = host.started(web(&["10.1.0.1"]));
    host.fake.hook(|_, op| no_server(op));
    for restart in [false, true] {
        host.fake
            .edit(|state| _ = state.virtual_servers.remove(&key(WEB)));
        if restart {
            syncer = host.start();
            tell(&mut syncer, lists(web(&["10.1.0.1"])));
        } else {
            syncer.audit(0, Trigger::Audit).unwrap();
        }
        assert_closed(&host.fake, WEB);
    }
}

#[test]
fn a_refusal_that_is_understood_costs_no_look_at_everything() {
    let host = Host::new();
    let mut syncer = host.start();
    host.fake.hook(|_, op| no_server(op));
    tell(&mut syncer, both());
    let looks = host.fake.kernel().observed;

    for minute in 1..20 {
        syncer.sync(minute * 60_000).unwrap();
        tell(
            &mut syncer,
            [endpoints("dns", "UDP", &[&format!("10.1.0.{minute}")])],
        );
    }

    assert_eq!(host.fake.kernel().observed, looks);
    assert_closed(&host.fake, WEB);
}

fn opens_web(edit: &Edit) -> bool {
    let turn = edit.rows.get(&WEB.parse().unwrap());
    let row = turn.and_then(|turn| turn.to.as_ref());
    row.is_some_and(|row| row.verdict.is_open())
}

#[test]
fn a_row_that_the_table_will_not_take_closes_its_front_alone() {
    let host = Host::new();
    let mut syncer = host.start();
    host.fake.hook(move |_, op| match op {
        Op::Table(edit) if opens_web(edit) => Fate::Refused(Errno::EINVAL),
        _ => Fate::Done,
    });

    let round = tell(&mut syncer, both()).unwrap();

    assert!(round.failures().next().is_none());
    assert_closed(&host.fake, WEB);
    assert_open(&host.fake, DNS);
    assert_eq!(host.fake.kernel().dangers, [""; 0]);
    let front = Change::Front(WEB.parse().unwrap());
    assert_eq!(refused(&syncer), [Subject::Change(front)]);

    host.fake.heal();
    assert!(syncer.sync(1_000).unwrap().unwrap().is_clean());
    assert_open(&host.fake, WEB);
}

#[test]
fn a_table_that_takes_nothing_is_a_failure_and_opens_nothing() {
    for errno in [Errno::EPERM, Errno::EINVAL] {
        let host = Host::new();
        let mut syncer = host.start();
        host.fake.hook(move |_, op| match op {
            Op::Table(_) => Fate::Refused(errno),
            _ => Fate::Done,
        });

        let round = tell(&mut syncer, both()).unwrap();

        assert_eq!(round.failures().next().unwrap().nature, Nature::Whole);
        assert_eq!(host.fake.state(), KernelState::default());
        host.fake.heal();
        assert!(syncer.sync(0).unwrap().unwrap().is_clean());
        assert_open(&host.fake, WEB);
    }
}

#[test]
fn after_an_answer_that_never_came_nothing_is_opened() {
    let host = Host::new();
    let mut syncer = host.start();
    host.fake.hook(|_, op| match op {
        Op::AddVirtualServer(..) => Fate::Lost,
        _ => Fate::Done,
    });

    let round = tell(&mut syncer, both()).unwrap();

    assert_eq!(round.failures().next().unwrap().nature, Nature::Unknown);
    assert!(host.fake.state().vips.is_empty());
    assert!(syncer.known().is_none(), "look again");
}

#[test]
fn a_refusal_is_told_once_and_the_node_stays_well() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage.fake.hook(|_, op| no_server(op));
        stage.tell(both()).await;
        sleep(Duration::from_secs(600)).await;
        assert_eq!(stage.not_ready(), Default::default());
        assert!(stage.health.report().healthy);
        let (lines, count) = stage.health.refused();
        assert_eq!((lines.len(), count), (1, 1));
        assert!(
            lines[0].starts_with("virtual server 10.96.0.1:80/TCP: "),
            "{lines:?}"
        );
        assert_eq!(stage.metric("kube_ipvs_refused{", "virtual_server"), 1.0);
        let tries = stage.metric("kube_ipvs_refusals_total", "virtual_server");
        assert!((20.0..40.0).contains(&tries), "{tries} in ten minutes");
        let told = stage.warnings();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("Service default/web: the kernel refuses"),
            "{told:?}"
        );
        let about = stage.warnings.lock().unwrap()[0].object.clone();
        let uid = about.reference().and_then(|about| about.uid);
        assert_eq!(uid.map(|uid| uid.to_string()).as_deref(), Some(UID));

        stage.fake.heal();
        sleep(Duration::from_secs(61)).await;
        assert_open(&stage.fake, WEB);
        assert_eq!(stage.metric("kube_ipvs_refused{", ""), 0.0);
        assert_eq!(stage.health.refused(), (Vec::new(), 0));
        assert_eq!(stage.warnings().len(), 1);
    });
}

#[test]
fn a_change_of_its_service_is_tried_at_once() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage.fake.hook(|_, op| no_broadcast(op));
        stage.tell(lists(web(&["10.1.0.255"]))).await;
        sleep(Duration::from_secs(600)).await;
        assert_closed(&stage.fake, WEB);

        stage.tell([endpoints("web", "TCP", &["10.1.0.254"])]).await;
        sleep(Duration::from_millis(10)).await;
        assert_open(&stage.fake, WEB);
        assert_eq!(stage.health.refused().1, 0);
    });
}

#[test]
fn a_load_balancer_hears_that_a_closed_service_has_no_endpoint_here() {
    let host = Host::new();
    let options = Options {
        node_name: "node-1".to_owned(),
        ..Options::default()
    };
    let mut syncer = syncer_with(host.fake.clone(), host.state.path(), options);
    host.fake.hook(|_, op| no_broadcast(op));
    let events = |name: &str, vip: &str, endpoint: &str| {
        let Event::Upsert(Object::Service(mut service)) = service(name, vip, "TCP") else {
            panic!("a Service");
        };
        service.spec.type_ = Some("LoadBalancer".to_owned());
        service.spec.external_traffic_policy = Some("Local".to_owned());
        service.spec.health_check_node_port = Some(32_000 + i64::from(name == "good"));
        let Event::Upsert(Object::EndpointSlice(mut slice)) = endpoints(name, "TCP", &[endpoint])
        else {
            panic!("a slice");
        };
        slice.endpoints[0].node_name = Some("node-1".to_owned());
        [
            Event::Upsert(Object::Service(service)),
            Event::Upsert(Object::EndpointSlice(slice)),
        ]
    };
    let bad = events("bad", "10.96.0.1", "10.1.0.255").into_iter();
    tell(
        &mut syncer,
        lists(bad.chain(events("good", "10.96.0.2", "10.1.0.1"))),
    );

    let local = |syncer: &Syncer<Fake>| -> Vec<usize> {
        let checks = syncer.health_checks();
        checks.iter().map(|check| check.local_endpoints).collect()
    };
    assert_eq!(local(&syncer), [0, 1]);
    host.fake.heal();
    syncer.sync(1_000).unwrap();
    assert_eq!(local(&syncer), [1, 1]);
}
