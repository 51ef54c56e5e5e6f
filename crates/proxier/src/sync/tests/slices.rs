//! Who costs much waits for those who cost little.

use kube_ipvs_core::Event;

use super::*;

/// A Service with more endpoints than one should wait for.
fn heavy(name: &str, vip: &str) -> Vec<Event> {
    let addresses: Vec<String> = (0..3000)
        .map(|n| format!("10.250.{}.{}", n / 250, 1 + n % 250))
        .collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    vec![
        service(name, vip, "TCP"),
        endpoints(name, "TCP", &addresses),
    ]
}

fn servers(round: &Round) -> Vec<String> {
    let lines = round.plan.lines();
    let added = lines.filter(|line| line.object == "virtual server");
    added.map(|line| line.text).collect()
}

fn next(syncer: &mut Syncer<Fake>) -> Round {
    syncer.sync(0).unwrap().unwrap()
}

#[test]
fn a_light_service_does_not_wait_for_heavy_ones_of_the_same_moment() {
    let host = Host::new();
    let mut syncer = host.started([]);
    for event in [
        heavy("a-heavy", "10.96.1.1"),
        heavy("b-heavy", "10.96.1.2"),
        web(&["10.244.1.7"]).into(),
    ]
    .concat()
    {
        syncer.event(event);
    }

    let first = next(&mut syncer);

    assert_eq!(servers(&first), [format!("{WEB} rr")]);
    assert!(syncer.is_behind());
    // Who comes meanwhile goes before the second, but not for ever before the first.
    dns(&["10.244.1.8"])
        .into_iter()
        .for_each(|event| syncer.event(event));
    assert_eq!(servers(&next(&mut syncer)), ["10.96.1.1:80/TCP rr"]);
    assert_eq!(servers(&next(&mut syncer)), [format!("{DNS} rr")]);
    assert_eq!(servers(&next(&mut syncer)), ["10.96.1.2:80/TCP rr"]);
    assert!(!syncer.is_behind());
    assert_eq!(host.fake.state(), *syncer.cluster().desired());
}

#[test]
fn what_meets_at_an_address_is_carried_out_together() {
    let host = Host::new();
    let mut syncer = host.started([]);
    for event in heavy("heavy", "10.96.0.1") {
        syncer.event(event);
    }
    for event in web(&["10.244.1.7"]) {
        syncer.event(event);
    }
    next(&mut syncer);
    assert!(!syncer.is_behind());
    assert_eq!(host.fake.state(), *syncer.cluster().desired());
}

#[test]
fn a_whole_look_carries_out_what_waits() {
    let host = Host::new();
    let mut syncer = host.started([]);
    let events = [heavy("heavy", "10.96.1.1"), web(&["10.244.1.7"]).into()];
    events
        .concat()
        .into_iter()
        .for_each(|event| syncer.event(event));
    next(&mut syncer);

    syncer.audit(0, Trigger::Audit).unwrap();

    assert!(!syncer.is_behind());
    assert_eq!(host.fake.state(), *syncer.cluster().desired());
}
