//! What the loop answers to tools of its node.

use std::time::Duration;

use kube_ipvs_core::event::{Kind, ObjectRef};
use kube_ipvs_core::{Event, Unserved};
use nix::errno::Errno;
use tokio::sync::{mpsc, oneshot};

use super::audit::services;
use super::clock::stage_with;
use super::fake::Fate;
use super::objects::{service, service_in};
use super::{Host, WEB, dns, key, lists, tell, web};
use crate::answers::{Ask, AuditPace, Held, Question, Reply, Told};
use crate::sync::walk::CALM;
use kube_ipvs_core::plan::Op;

fn named(namespace: Option<&str>, name: &str) -> Ask {
    Ask::Service {
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    }
}

fn service_of(told: &Told) -> Option<&str> {
    Some(&told.account.as_ref()?.service)
}

/// What the loop answers.
async fn asked(questions: &mpsc::Sender<Question>, ask: Ask) -> Reply {
    let (reply, told) = oneshot::channel();
    questions.send(Question { ask, reply }).await.unwrap();
    told.await.unwrap()
}

#[test]
fn a_service_is_found_by_name_by_its_only_namespace_and_by_front() {
    let host = Host::new();
    let more = [
        service_in("shop", "web", "10.96.0.8", "TCP"),
        service_in("shop", "cart", "10.96.0.9", "TCP"),
    ];
    let syncer = host.started(web(&["10.1.0.1"]).into_iter().chain(more));
    let told = |ask: &Ask| syncer.told(ask);

    let web = told(&named(None, "web"));
    assert_eq!(service_of(&web), Some("default/web"));
    assert_eq!(web.elsewhere, ["shop/web"]);
    assert_eq!(
        service_of(&told(&named(Some("shop"), "web"))),
        Some("shop/web")
    );
    assert_eq!(service_of(&told(&named(None, "cart"))), Some("shop/cart"));
    assert_eq!(
        service_of(&told(&Ask::Front(key(WEB)))),
        Some("default/web")
    );
    let wrong = told(&named(None, "wed"));
    assert_eq!(
        (service_of(&wrong), &wrong.near[..]),
        (None, &["default/web".to_owned(), "shop/web".to_owned()][..])
    );
    let elsewhere = told(&named(Some("default"), "cart"));
    assert_eq!(service_of(&elsewhere), None);
    assert_eq!(elsewhere.elsewhere, ["shop/cart"]);
}

#[test]
fn what_is_not_known_yet_is_no_no() {
    let host = Host::new();
    let mut syncer = host.start();

    assert_eq!(
        syncer.told(&named(None, "web")).awaited,
        ["Service", "EndpointSlice"]
    );
    tell(&mut syncer, lists([service("alone", "None", "TCP")]));

    let told = syncer.told(&named(None, "alone"));
    assert_eq!(told.awaited, Vec::<String>::new());
    let account = told.account.expect("a Service");
    assert_eq!(account.unserved, Some(Unserved::Headless));
}

#[test]
fn what_the_kernel_refuses_of_a_service_is_told_of_that_one() {
    let host = Host::new();
    host.fake.hook(|_, op| match op {
        Op::AddVirtualServer(of, _) if *of == key(WEB) => Fate::Refused(Errno::ENOENT),
        _ => Fate::Done,
    });
    let mut syncer = host.start();
    tell(
        &mut syncer,
        lists(web(&["10.1.0.1"]).into_iter().chain(dns(&["10.1.0.3"]))),
    );

    let refused = syncer.told(&named(None, "web")).refused;
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].key, Some(key(WEB)));
    assert!(syncer.told(&named(None, "dns")).refused.is_empty());
}

#[test]
fn the_loop_answers_while_it_runs() {
    let host = Host::new();
    let (ask, questions) = mpsc::channel(1);
    stage_with(
        &host,
        |reporter, _| reporter,
        |driver| driver.answering(questions),
        |stage| async move {
            stage.tell(lists(web(&["10.1.0.1"]))).await;
            let Reply::Service(told) = asked(&ask, named(None, "web")).await else {
                panic!("asked about a Service");
            };
            assert_eq!(service_of(&told), Some("default/web"));

            let Reply::Loop(of_loop) = asked(&ask, Ask::Node).await else {
                panic!("asked about the loop");
            };
            assert_eq!(of_loop.node, "node-1");
            assert_eq!((of_loop.services, of_loop.endpoint_slices), (1, 1));
            assert_eq!(of_loop.fronts, [("ClusterIP".to_owned(), 1)].into());
            let held = Held {
                virtual_servers: 1,
                real_servers: 1,
                draining: Some(0),
                vips: 1,
                rows: 1,
            };
            assert_eq!(of_loop.held, Some(held));
            let last = of_loop.last.expect("a round");
            assert_eq!((&last.trigger[..], last.complete), ("start", true));
            assert!(last.changes.contains("virtual server +1"), "{last:?}");
        },
    );
}

/// Two periods for the real servers of more than are read in one.
#[test]
fn the_loop_tells_within_what_time_it_finds_what_others_change() {
    let host = Host::new();
    let (ask, questions) = mpsc::channel(1);
    stage_with(
        &host,
        |reporter, _| reporter,
        |driver| driver.answering(questions),
        |stage| async move {
            stage.tell(lists(services(CALM + 1))).await;
            let Reply::Loop(of_loop) = asked(&ask, Ask::Node).await else {
                panic!("asked about the loop");
            };
            let pace = AuditPace {
                seconds: 30,
                real_servers_seconds: 60,
            };
            assert_eq!(of_loop.audit, Some(pace));
        },
    );
    let odd = AuditPace::of(Duration::from_millis(1500), 3);
    assert_eq!((odd.seconds, odd.real_servers_seconds), (2, 5), "not less");
    let long = AuditPace::of(Duration::MAX, 2);
    assert_eq!(long.real_servers_seconds, u64::MAX);
}

#[test]
fn an_address_that_is_refused_is_told_of_its_services_alone() {
    let host = Host::new();
    let at = key(WEB).front().expect("a front").address;
    host.fake.hook(move |_, op| match op {
        Op::BindVips(vips) if vips.contains(&at) => Fate::Refused(Errno::ENOBUFS),
        _ => Fate::Done,
    });
    let mut syncer = host.start();
    tell(&mut syncer, lists(dns(&["10.1.0.3"])));
    tell(&mut syncer, web(&["10.1.0.1"]));

    let refused = syncer.told(&named(None, "web")).refused;
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].what, format!("vip {at}"));
    assert_eq!(refused[0].address, Some(at));
    assert!(syncer.told(&named(None, "dns")).refused.is_empty());
}

#[test]
fn what_cannot_be_read_is_told_of_those_it_may_be_about() {
    let host = Host::new();
    let mut syncer = host.start();
    let unreadable = |kind, name: &str| {
        let object = ObjectRef {
            kind,
            namespace: "shop".into(),
            name: name.into(),
        };
        Event::Unreadable(object.into())
    };
    let mut events = lists(web(&["10.1.0.1"]));
    events.push(unreadable(Kind::Service, "cart"));
    tell(&mut syncer, events);

    let cart = syncer.told(&named(Some("shop"), "cart"));
    let unread = cart.unread.expect("told");
    assert_eq!(unread, "it is there and could not be read");
    assert_eq!(syncer.told(&named(None, "web")).unread, None);

    syncer.event(unreadable(Kind::EndpointSlice, "other-x"));
    let other = syncer.told(&named(Some("shop"), "other"));
    let unread = other.unread.expect("told");
    assert!(
        unread.contains("EndpointSlice of namespace shop"),
        "{unread}"
    );
    assert_eq!(syncer.told(&named(None, "web")).unread, None);
}
