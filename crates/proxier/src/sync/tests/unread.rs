//! A start beside a full kernel with a list that could not be read whole.

use super::*;

/// Both lists begin, hold these, and end without being whole.
fn unread(objects: impl IntoIterator<Item = Event>) -> Vec<Event> {
    let mut events = lists(objects);
    for event in &mut events {
        if let Event::ListCompleted(kind) = event {
            *event = Event::ListIncomplete(*kind);
        }
    }
    events
}

#[test]
fn what_could_not_be_read_stays_and_what_could_is_served() {
    let host = Host::with_foreign();
    host.started(web(&["10.1.0.1"]));
    let before = host.fake.state();

    let mut syncer = host.start();
    let round = tell(&mut syncer, unread(dns(&["10.1.0.2"]))).unwrap();
    assert!(round.is_clean());
    let served = host.fake.state();
    assert!(served.virtual_servers.contains_key(&key(DNS)));
    for (key, server) in &before.virtual_servers {
        assert_eq!(served.virtual_servers.get(key), Some(server), "{key}");
    }
    assert!(before.vips.is_subset(&served.vips));

    for _ in 0..10 {
        syncer.audit_step(0).unwrap();
    }
    syncer.drain(1_000_000_000).unwrap();
    syncer.audit(0, Trigger::Audit).unwrap();
    assert_eq!(host.fake.state(), served, "nothing more comes of waiting");
    tell(&mut syncer, [Event::ListStarted(Kind::Service)]);
    assert_eq!(host.fake.state(), served);
}

#[test]
fn what_is_not_there_goes_as_soon_as_all_could_be_read() {
    let host = Host::with_foreign();
    host.started(web(&["10.1.0.1"]).into_iter().chain(dns(&["10.1.0.2"])));
    let mut syncer = host.start();
    tell(&mut syncer, unread(dns(&["10.1.0.3"])));
    let real_servers = |syncer: &Syncer<Fake>| {
        let known = syncer.known().unwrap();
        known.virtual_servers[&key(DNS)].real_servers.len()
    };
    assert_eq!(real_servers(&syncer), 2, "a slice may not have been read");

    tell(&mut syncer, lists(dns(&["10.1.0.3"])));

    assert_eq!(real_servers(&syncer), 1);
    let left: Vec<_> = ours(&host.fake).virtual_servers.into_keys().collect();
    assert_eq!(left, [key(DNS)]);
    assert!(syncer.plan(0).unwrap().is_empty());
}

#[test]
fn a_plan_of_what_could_be_read_removes_nothing() {
    let host = Host::new();
    host.started(web(&["10.1.0.1"]));
    let mut syncer = host.start();
    for event in unread([]) {
        syncer.event(event);
    }
    assert!(syncer.plan(0).unwrap().is_empty());
}
