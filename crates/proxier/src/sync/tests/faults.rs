//! Every errno at every operation, a kill before every operation, and answers
//! that never come.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kube_ipvs_core::Event;
use kube_ipvs_core::plan::Op;
use kube_ipvs_core::state::KernelState;
use nix::errno::Errno;

use super::fake::Fate;
use super::{DNS, Host, WEB, dns, endpoints, gone, key, lists, ours, tell, web};

const ERRNOS: [Errno; 8] = [
    Errno::EPERM,
    Errno::ENOENT,
    Errno::ESRCH,
    Errno::ENOMEM,
    Errno::EBUSY,
    Errno::EEXIST,
    Errno::EINVAL,
    Errno::ENOBUFS,
];

/// When everything that was refused once is tried again, in milliseconds.
const LATER: u64 = 1_000;

/// Three acts: Services come, change, and go again.
fn acts() -> [Vec<Event>; 3] {
    let come = web(&["10.1.0.1", "10.1.0.2"]).into_iter();
    let come = come.chain(dns(&["10.1.0.3", "10.1.0.4"]));
    let change = [
        endpoints("web", "TCP", &["10.1.0.2", "10.1.0.5"]),
        endpoints("dns", "UDP", &["10.1.0.4"]),
    ];
    [come.collect(), change.into(), gone("web").into()]
}

/// The state after each act when nothing fails, and how many operations it takes.
fn smooth() -> Vec<(KernelState, usize)> {
    let host = Host::with_foreign();
    let mut syncer = host.start();
    lists([]).into_iter().for_each(|event| syncer.event(event));
    let acts = acts().into_iter();
    acts.map(|events| {
        host.fake.heal();
        assert!(tell(&mut syncer, events).unwrap().is_clean());
        let tried = host.fake.kernel().tried;
        (host.fake.state(), tried)
    })
    .collect()
}

#[test]
fn any_refusal_anywhere_opens_nothing_and_is_healed_by_the_next_round() {
    for (act, (wanted, count)) in smooth().into_iter().enumerate() {
        for number in 0..count {
            for errno in ERRNOS {
                let host = Host::with_foreign();
                let mut syncer = host.start();
                lists([]).into_iter().for_each(|event| syncer.event(event));
                let mut acts = acts().into_iter();
                for events in acts.by_ref().take(act) {
                    assert!(tell(&mut syncer, events).unwrap().is_clean());
                }
                host.fake.hook(move |at, _| {
                    if at == number {
                        Fate::Refused(errno)
                    } else {
                        Fate::Done
                    }
                });
                let at = format!("act {act}, operation {number}, {errno}");

                let round = tell(&mut syncer, acts.next().unwrap()).unwrap();
                // A transaction is tried in parts, which the fault spares.
                if !round.is_clean() {
                    assert!(round.report.refused[0].error.contains(errno.desc()), "{at}");
                    let again = syncer.sync(LATER).unwrap().unwrap();
                    assert!(again.is_clean(), "{at}: {:?}", again.report);
                }
                assert_eq!(host.fake.state(), wanted, "{at}");
                assert_eq!(host.fake.kernel().dangers, [""; 0], "{at}");
            }
        }
    }
}

#[test]
fn a_kill_before_any_operation_leaves_what_a_start_completes() {
    for (act, (wanted, count)) in smooth().into_iter().enumerate() {
        for number in 0..=count {
            let host = Host::with_foreign();
            let mut syncer = host.start();
            let mut told = lists([]);
            told.iter().for_each(|event| syncer.event(event.clone()));
            let mut acts = acts().into_iter();
            for events in acts.by_ref().take(act) {
                told.extend(events.clone());
                tell(&mut syncer, events);
            }
            let events = acts.next().unwrap();
            told.extend(events.clone());
            host.fake.hook(move |at, _| {
                if at == number {
                    Fate::Killed
                } else {
                    Fate::Done
                }
            });
            let killed = catch_unwind(AssertUnwindSafe(|| tell(&mut syncer, events)));
            assert_eq!(killed.is_err(), number < count);
            drop(syncer);
            host.fake.heal();

            let mut syncer = host.start();
            let round = tell(&mut syncer, told).unwrap();
            let at = format!("act {act}, killed before operation {number}");
            assert!(round.is_clean(), "{at}");
            assert_eq!(host.fake.state(), wanted, "{at}");

            // What was made before the kill is known to be ours.
            tell(&mut syncer, lists([]));
            assert_eq!(ours(&host.fake), KernelState::default(), "{at}");
        }
    }
}

#[test]
fn an_answer_that_never_comes_loses_nobody() {
    for (act, (wanted, count)) in smooth().into_iter().enumerate() {
        for number in 0..count {
            let host = Host::with_foreign();
            let mut syncer = host.start();
            lists([]).into_iter().for_each(|event| syncer.event(event));
            let mut acts = acts().into_iter();
            for events in acts.by_ref().take(act) {
                tell(&mut syncer, events);
            }
            host.fake
                .hook(move |at, _| if at == number { Fate::Lost } else { Fate::Done });
            tell(&mut syncer, acts.next().unwrap());
            drop(syncer);
            host.fake.heal();

            // Even when the program ends right after it.
            let mut syncer = host.start();
            let mut told = lists([]);
            told.extend(super::faults::acts().into_iter().take(act + 1).flatten());
            tell(&mut syncer, told);
            assert_eq!(host.fake.state(), wanted, "act {act}, operation {number}");
            tell(&mut syncer, lists([]));
            assert_eq!(ours(&host.fake), KernelState::default());
        }
    }
}

#[test]
fn one_that_is_always_refused_does_not_keep_others_from_service() {
    let host = Host::new();
    let mut syncer = host.start();
    host.fake.hook(|_, op| match op {
        Op::AddVirtualServer(of, _) if *of == key(WEB) => Fate::Refused(Errno::ENOENT),
        _ => Fate::Done,
    });

    let all = web(&["10.1.0.1"]).into_iter().chain(dns(&["10.1.0.3"]));
    let round = tell(&mut syncer, lists(all)).unwrap();
    assert!(!round.is_clean());
    assert_eq!(host.fake.weight(DNS, "10.1.0.3:8080"), Some(1));

    tell(&mut syncer, [endpoints("dns", "UDP", &["10.1.0.4"])]);
    assert_eq!(host.fake.weight(DNS, "10.1.0.4:8080"), Some(1));
    assert_eq!(host.fake.weight(DNS, "10.1.0.3:8080"), None);
}

#[test]
fn a_record_that_cannot_be_written_stops_new_virtual_servers_and_nothing_else() {
    let host = Host::new();
    let mut syncer = host.started(web(&["10.1.0.1"]));
    let state = host.state.path().to_owned();
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::write(&state, "in the way").unwrap();

    let all = dns(&["10.1.0.3"]).into_iter();
    let all = all.chain([endpoints("web", "TCP", &["10.1.0.2"])]);
    let round = tell(&mut syncer, all).unwrap();
    let failure = round.failures().next().unwrap();
    assert_eq!(failure.kind, "record");
    assert!(failure.error.starts_with("write "), "{failure}");
    assert!(failure.error.contains("owned."), "{failure}");
    assert!(!host.fake.state().virtual_servers.contains_key(&key(DNS)));
    assert_eq!(host.fake.kernel().dangers, [""; 0]);
    assert_eq!(host.fake.weight(WEB, "10.1.0.2:8080"), Some(1));
    assert_eq!(host.fake.weight(WEB, "10.1.0.1:8080"), None);

    std::fs::remove_file(&state).unwrap();
    assert!(syncer.sync(LATER).unwrap().unwrap().is_clean());
    assert_eq!(host.fake.weight(DNS, "10.1.0.3:8080"), Some(1));
    let mut syncer = host.start();
    tell(&mut syncer, lists([]));
    assert_eq!(host.fake.state(), KernelState::default(), "it was recorded");
}

#[test]
fn without_the_ground_nothing_is_built() {
    let host = Host::new();
    let mut syncer = host.start();
    host.fake.kernel().prepare_fails = true;

    lists(web(&["10.1.0.1"]))
        .into_iter()
        .for_each(|event| syncer.event(event));
    assert!(syncer.sync(0).is_err());
    assert_eq!(host.fake.state(), KernelState::default());

    host.fake.heal();
    assert!(syncer.sync(0).unwrap().unwrap().is_clean());
}
