//! What `plan --watch` shows of a cluster and a kernel that change.

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;

use kube_ipvs_core::plan::Plan;
use nix::errno::Errno;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::run::plan::{Heard, Show, Shown};
use kube_ipvs_source::tasks::Tasks;

/// What was shown, as numbers of changes.
type Seen = Rc<RefCell<Vec<usize>>>;

fn shown(host: &Host, objects: Vec<Event>) -> (Shown<Fake, impl Show>, Seen) {
    let mut syncer = host.start();
    objects.into_iter().for_each(|event| syncer.event(event));
    let seen = Seen::default();
    let into = seen.clone();
    let show = move |plan: &Plan| {
        into.borrow_mut().push(plan.lines().count());
        Ok(true)
    };
    (Shown::new(syncer, show), seen)
}

#[test]
fn a_plan_is_shown_when_it_is_another_one() {
    let host = Host::new();
    host.started(web(&["10.1.0.1"]));
    let (mut shown, seen) = shown(&host, lists(web(&["10.1.0.1"])));

    shown.look().unwrap();
    assert_eq!(shown.code(), ExitCode::SUCCESS);
    shown.look_again(|_| Ok(()));
    assert_eq!(*seen.borrow(), [0], "nothing is shown once");

    shown.look_again(|syncer| {
        syncer.event(endpoints("web", "TCP", &["10.1.0.1", "10.1.0.2"]));
        Ok(())
    });
    assert_eq!(seen.borrow()[1..], [1]);
    assert_eq!(shown.code(), ExitCode::from(2));

    host.fake.edit(|state| state.virtual_servers.clear());
    shown.look_again(|_| Ok(()));
    assert_eq!(
        seen.borrow()[2..],
        [3],
        "a virtual server with two real servers"
    );
    assert!(
        host.fake.state().virtual_servers.is_empty(),
        "it only looks"
    );
}

#[test]
fn a_kernel_that_cannot_be_read_is_looked_at_again() {
    let host = Host::new();
    let (mut shown, seen) = shown(&host, lists(web(&["10.1.0.1"])));
    shown.look().unwrap();
    let first = seen.borrow().len();

    host.fake.kernel().observe_fails = Some(Errno::EIO);
    shown.look_again(|_| Ok(()));
    shown.look_again(|_| Ok(()));
    assert!(shown.look().is_err());
    assert_eq!(seen.borrow().len(), first);

    host.fake.kernel().observe_fails = None;
    host.started(web(&["10.1.0.1"]));
    shown.look_again(|syncer| {
        *syncer.record() = RecordFile::open(host.state.path())?;
        Ok(())
    });
    assert_eq!(seen.borrow()[first..], [0]);
}

/// Somebody who tells nothing is waited for, but not for ever.
#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_tell_everything_is_named() {
    let host = Host::new();
    let (mut shown, seen) = shown(&host, Vec::new());
    let (_tasks, endings) = Tasks::new(Handle::current());
    let (events, received) = mpsc::channel(16);
    let (_ask, asked) = watch::channel(false);
    let mut heard = Heard::new(received, endings, asked);
    let health = Health::new([], DRAIN_TIMEOUT, Metrics::new());

    events
        .send(Event::ListStarted(Kind::Service))
        .await
        .unwrap();
    events
        .send(Event::ListCompleted(Kind::Service))
        .await
        .unwrap();
    let silent = shown.wait_for_lists(&mut heard, &health).await;
    let why = silent.unwrap_err().to_string();
    assert!(why.contains("EndpointSlice"), "{why}");
    assert!(!why.contains("Service,"), "{why}");

    health.set_reason("api", Some("EndpointSlice: forbidden".to_owned()));
    let refused = shown.wait_for_lists(&mut heard, &health).await;
    let why = refused.unwrap_err().to_string();
    assert!(why.ends_with("in time: EndpointSlice: forbidden"), "{why}");

    for event in lists([]) {
        events.send(event).await.unwrap();
    }
    assert!(shown.wait_for_lists(&mut heard, &health).await.unwrap());
    assert!(seen.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_end_is_obeyed_in_every_wait() {
    let host = Host::new();
    let (mut shown, _seen) = shown(&host, Vec::new());
    let (_tasks, endings) = Tasks::new(Handle::current());
    let (_events, received) = mpsc::channel(16);
    let (ask, asked) = watch::channel(false);
    let mut heard = Heard::new(received, endings, asked);
    let health = Health::new([], DRAIN_TIMEOUT, Metrics::new());
    let mut changes = futures::stream::pending();

    assert!(shown.wait(&mut heard, &mut changes).await.unwrap());
    ask.send(true).unwrap();
    assert!(!shown.wait(&mut heard, &mut changes).await.unwrap());
    assert!(!shown.wait_for_lists(&mut heard, &health).await.unwrap());
}
