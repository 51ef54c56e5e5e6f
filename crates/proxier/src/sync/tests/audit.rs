//! The rolling audit: everything within a pass, and no step much of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube_ipvs_core::Event;
use kube_ipvs_core::row::Verdict;
use kube_ipvs_core::state::{KernelState, RealServer, RealServerKey, VirtualServer};
use kube_ipvs_dataplane::record::{ChangedTimeouts, RecordFile};
use nix::errno::Errno;

use super::fake::Fake;
use super::objects::{dns, endpoints, service, web};
use super::{DNS, FOREIGN, Host, WEB, key, lists, move_web, tell};
use crate::sync::walk::{CALM, CALM_PASSES, SHARE, SLICES, WARY_PASSES};
use crate::sync::{Round, Syncer, Trigger};

const WEIGHT_9: RealServer = RealServer {
    weight: 9,
    upper_threshold: 0,
    lower_threshold: 0,
};

/// Somebody edits the kernel.
type Edit = fn(&mut KernelState);

/// What somebody does, and what is done against it.
const EDITS: [(Edit, &str); 12] = [
    (|state| _ = reals(state).pop_first(), "add-real-server 1"),
    (
        |state| _ = reals(state).insert("10.9.9.9:80".parse().unwrap(), WEIGHT_9),
        "remove-real-server 1",
    ),
    (
        |state| reals(state).values_mut().for_each(|real| *real = WEIGHT_9),
        "edit-real-server 2",
    ),
    (
        |state| state.virtual_servers.retain(|at, _| *at != key(WEB)),
        "add-real-server 2, add-virtual-server 1",
    ),
    (
        |state| state.virtual_servers.clear(),
        "add-real-server 3, add-virtual-server 2",
    ),
    (
        |state| server(state).scheduler = "sh".into(),
        "edit-virtual-server 1",
    ),
    (
        |state| {
            server(state).scheduler = "sh".into();
            reals(state).clear();
        },
        "add-real-server 2, edit-virtual-server 1",
    ),
    (|state| _ = state.vips.pop_first(), "bind-vip 1"),
    (
        |state| _ = state.vips.insert("192.0.2.9".parse().unwrap()),
        "unbind-vip 1",
    ),
    (
        |state| {
            let guarded = &mut state.table.guarded;
            guarded.insert("192.0.2.9".parse().unwrap());
        },
        "remove-guard 1",
    ),
    (|state| _ = state.table.rows.pop_first(), "add-front 1"),
    (
        |state| {
            let row = state.table.rows.values_mut().next().unwrap();
            row.verdict = Verdict::Refuse;
        },
        "edit-front 1",
    ),
];

fn server(state: &mut KernelState) -> &mut VirtualServer {
    Arc::make_mut(state.virtual_servers.get_mut(&key(WEB)).unwrap())
}

fn reals(state: &mut KernelState) -> &mut BTreeMap<RealServerKey, RealServer> {
    &mut server(state).real_servers
}

fn both() -> impl Iterator<Item = Event> {
    web(&["10.1.0.1", "10.1.0.2"])
        .into_iter()
        .chain(dns(&["10.1.0.3"]))
}

/// As many steps as a pass has, wherever it stands.
fn pass(syncer: &mut Syncer<Fake>) -> Vec<Round> {
    let steps = syncer.audit_steps();
    let mut rounds = Vec::new();
    for _ in 0..steps {
        rounds.extend(syncer.audit_step(0).unwrap());
    }
    rounds
}

fn drift(rounds: &[Round]) -> String {
    let all = rounds.iter().flat_map(|round| &round.drift);
    let mut all: Vec<_> = all.map(|(kind, n)| format!("{kind} {n}")).collect();
    all.sort();
    all.join(", ")
}

/// Others' virtual servers went while ours were listed.
#[test]
fn what_a_listing_skips_is_no_drift_and_is_not_made_again() {
    let host = Host::new();
    let mut syncer = host.started(web(&["10.1.0.1"]).into_iter().chain(dns(&["10.1.0.2"])));
    let before = host.fake.state();
    host.fake.kernel().unlisted = [key(WEB), key(DNS)].into();
    host.fake.kernel().tried = 0;

    for round in pass(&mut syncer) {
        assert!(round.drift.is_empty(), "{:?}", round.drift);
    }
    let whole = syncer.audit(0, Trigger::Audit).unwrap();
    assert!(whole.drift.is_empty(), "{:?}", whole.drift);
    assert!(whole.is_clean());

    // One that is begun anew finds it too.
    drop(syncer);
    let objects = web(&["10.1.0.1"]).into_iter().chain(dns(&["10.1.0.2"]));
    let mut syncer = host.start();
    let round = tell(&mut syncer, lists(objects)).unwrap();
    assert!(round.is_clean());
    assert_eq!(host.fake.kernel().tried, 0);
    assert_eq!(host.fake.state(), before);
    assert_eq!(syncer.known(), Some(&before));

    // What is truly gone is made again.
    host.fake
        .edit(|state| _ = state.virtual_servers.remove(&key(WEB)));
    let drift: Vec<_> = pass(&mut syncer).into_iter().map(|r| r.drift).collect();
    assert!(drift[0].contains_key("add-virtual-server"), "{drift:?}");
}

/// Its connections are as unlisted as it is.
#[test]
fn what_a_listing_skips_goes_on_to_drain_while_it_is_in_use() {
    let host = Host::new();
    let mut syncer = host.started(web(&["10.1.0.1", "10.1.0.2"]));
    let weight = || host.fake.weight(WEB, "10.1.0.1:8080");
    host.fake.connect(WEB, "10.1.0.1:8080", 1, 0);
    move_web(&mut syncer, &["-10.1.0.1", "10.1.0.2"]);
    syncer.drain(1_000).unwrap();
    host.fake.kernel().unlisted = [key(WEB)].into();

    syncer.audit(1_500, Trigger::Audit).unwrap();
    assert_eq!(weight(), Some(0), "it is in use");

    host.fake.connect(WEB, "10.1.0.1:8080", 0, 0);
    syncer.audit(2_000, Trigger::Audit).unwrap();
    assert_eq!(weight(), None);
}

/// The most virtual servers whose real servers are read in one pass.
const AT_ONCE: usize = SLICES * SHARE;

/// So many Services with ten endpoints each.
pub(super) fn services(number: usize) -> impl Iterator<Item = Event> {
    let addresses: Vec<_> = (1..=10).map(|n| format!("10.1.0.{n}")).collect();
    (0..number).flat_map(move |n| {
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        let name = format!("web-{n}");
        let vip = format!("10.97.{}.{}", n / 256, n % 256);
        [
            service(&name, &vip, "TCP"),
            endpoints(&name, "TCP", &addresses),
        ]
    })
}

#[test]
fn a_pass_reads_everything_once_and_no_step_much() {
    let host = Host::new();
    let mut syncer = host.started(services(AT_ONCE));
    be_seen(&host, &mut syncer);
    let whole = host.fake.kernel().observed;
    let state = host.fake.state();
    let everything = state.table.len() + 2 * AT_ONCE + 10 * AT_ONCE;

    let steps = syncer.audit_steps() as usize;
    assert_eq!(steps, SLICES + 3);
    host.fake.kernel().tables_changed = true;
    let (mut asked, mut told, mut rounds) = (Vec::new(), Vec::new(), 0);
    for _ in 0..steps {
        host.fake.kernel().asked = 0;
        host.fake.kernel().told = 0;
        rounds += usize::from(syncer.audit_step(0).unwrap().is_some());
        asked.push(host.fake.kernel().asked);
        told.push(host.fake.kernel().told);
    }

    assert_eq!(rounds, 1, "only the end of the pass is worth telling");
    assert_eq!(told.iter().sum::<usize>(), everything);
    assert!(asked.iter().all(|n| *n <= SHARE), "{asked:?}");
    assert!(told[3..].iter().all(|n| *n <= 10 * SHARE), "{told:?}");
    assert_eq!(host.fake.kernel().observed, whole, "never in one");
}

/// Virtual servers whose real servers a pass reads; VIPs and the list of
/// virtual servers it asks for besides.
fn read_in_a_pass(host: &Host, syncer: &mut Syncer<Fake>) -> usize {
    host.fake.kernel().asked = 0;
    pass(syncer);
    host.fake.kernel().asked - 2
}

fn lose_the_last_real_server(host: &Host) {
    host.fake.edit(|state| {
        let server = state.virtual_servers.values_mut().next_back().unwrap();
        Arc::make_mut(server).real_servers.pop_last();
    });
}

/// Somebody else is seen to change something, and undone.
fn be_seen(host: &Host, syncer: &mut Syncer<Fake>) {
    host.fake.kernel().sysctls_changed = 1;
    assert_eq!(drift(&pass(syncer)), "set-sysctl 1");
}

#[test]
fn what_a_pass_costs_does_not_grow_with_the_cluster() {
    let host = Host::new();
    let total = 5 * AT_ONCE / 2;
    let mut syncer = host.started(services(total));
    be_seen(&host, &mut syncer);
    for _ in 0..2 {
        assert_eq!(read_in_a_pass(&host, &mut syncer), AT_ONCE);
    }
    assert_eq!(syncer.audit_passes(), 3);
    lose_the_last_real_server(&host);
    // The end, and then from the beginning.
    let rounds = pass(&mut syncer);
    assert_eq!(drift(&rounds), "add-real-server 1");

    // Whoever changed one may have changed others.
    assert_eq!(syncer.audit_passes(), 1);
    assert_eq!(read_in_a_pass(&host, &mut syncer), total);
    assert_eq!(read_in_a_pass(&host, &mut syncer), AT_ONCE);
}

#[test]
fn where_nobody_changes_anything_less_is_read_until_somebody_does() {
    let host = Host::new();
    let total = 2 * AT_ONCE;
    let mut syncer = host.started(services(total));
    assert_eq!((syncer.audit_passes(), total), (16, 16 * CALM));
    for _ in 0..15 {
        assert_eq!(read_in_a_pass(&host, &mut syncer), CALM);
    }
    lose_the_last_real_server(&host);
    assert_eq!(drift(&pass(&mut syncer)), "add-real-server 1");

    assert_eq!(read_in_a_pass(&host, &mut syncer), total, "who else?");
    for _ in 1..WARY_PASSES {
        assert_eq!(read_in_a_pass(&host, &mut syncer), AT_ONCE);
    }
    assert_eq!(syncer.audit_passes(), 2, "wary to the end");
    assert_eq!(read_in_a_pass(&host, &mut syncer), CALM, "believed again");
}

/// What a look at everything finds counts as well.
#[test]
fn what_was_found_in_one_makes_wary_too() {
    let host = Host::new();
    let mut syncer = host.started(services(2 * AT_ONCE));
    assert_eq!(read_in_a_pass(&host, &mut syncer), CALM);
    lose_the_last_real_server(&host);
    syncer.audit(0, Trigger::Audit).unwrap();
    assert_eq!(read_in_a_pass(&host, &mut syncer), AT_ONCE);
}

#[test]
fn a_calm_node_reads_all_in_thirty_passes() {
    for (total, each, passes) in [
        (CALM, CALM, 1),
        (CALM + 1, CALM, 2),
        (3 * CALM * CALM_PASSES / 2, 6 * SLICES, CALM_PASSES),
    ] {
        let host = Host::new();
        let mut syncer = host.started(services(total));
        assert_eq!(syncer.audit_passes() as usize, passes, "{total}");
        assert_eq!(read_in_a_pass(&host, &mut syncer), each, "{total}");
        lose_the_last_real_server(&host);
        let found = (0..passes).map(|_| drift(&pass(&mut syncer)));
        let found: String = found.collect();
        assert_eq!(found, "add-real-server 1", "{total}");
    }
}

#[test]
fn an_operator_says_how_many_passes_real_servers_take() {
    for (passes, total, each) in [
        (1, 2 * AT_ONCE, 2 * AT_ONCE),
        (4, 2 * AT_ONCE, AT_ONCE / 2),
        (32, AT_ONCE, SLICES),
        (u32::MAX, AT_ONCE, SLICES),
        (3, 1, 1),
    ] {
        let host = Host::new();
        let mut syncer = host.started(services(total)).real_servers_in_passes(passes);
        for _ in 0..3 {
            let read = read_in_a_pass(&host, &mut syncer);
            assert_eq!(read, each, "{passes} passes for {total}");
        }
    }
}

#[test]
fn tables_that_nobody_else_changed_are_not_read() {
    let host = Host::new();
    let mut syncer = host.started(both());
    let told_by_tables = |syncer: &mut Syncer<Fake>| {
        host.fake.kernel().told = 0;
        syncer.audit_step(0).unwrap();
        let told = host.fake.kernel().told;
        (1..syncer.audit_steps()).for_each(|_| drop(syncer.audit_step(0).unwrap()));
        told
    };

    assert_eq!(told_by_tables(&mut syncer), 0);
    host.fake.kernel().sysctls_changed = 1;
    assert_eq!(told_by_tables(&mut syncer), 0);
    assert_eq!(
        host.fake.kernel().sysctls_changed,
        0,
        "the rest is looked at"
    );
    host.fake.kernel().tables_changed = true;
    assert!(told_by_tables(&mut syncer) > 0);
    assert_eq!(told_by_tables(&mut syncer), 0);
}

#[test]
fn every_edit_at_every_step_is_healed_and_counted_within_a_pass() {
    for (edit, healed_by) in EDITS {
        for before in 0..4 {
            let host = Host::new();
            let mut syncer = host.started(both());
            assert_eq!(syncer.audit_steps(), 4);
            let (wanted, looks) = (host.fake.state(), host.fake.kernel().observed);
            for _ in 0..before {
                syncer.audit_step(0).unwrap();
            }

            host.fake.edit(edit);
            let rounds = pass(&mut syncer);

            assert_eq!(host.fake.state(), wanted, "{healed_by}, step {before}");
            assert_eq!(drift(&rounds), healed_by, "step {before}");
            assert!(rounds.iter().all(Round::is_clean));
            assert_eq!(drift(&pass(&mut syncer)), "", "counted once");
            assert_eq!(host.fake.kernel().observed, looks, "by pieces");
        }
    }
}

#[test]
fn sysctls_are_counted_too() {
    let host = Host::new();
    let mut syncer = host.started(both());
    host.fake.kernel().sysctls_changed = 2;
    assert_eq!(drift(&pass(&mut syncer)), "set-sysctl 2");
}

#[test]
fn what_time_outs_were_is_written_before_anything_else_is_done() {
    let host = Host::new();
    let mut syncer = host.started(both());
    let changed = ChangedTimeouts {
        old: [900, 120, 300],
        new: [7800, 120, 300],
    };
    host.fake.kernel().timeouts_changed = Some(changed);

    // Nothing else is to be done: no round writes the record.
    syncer.audit_step(0).unwrap();

    let record = RecordFile::open(host.state.path()).unwrap();
    assert_eq!(record.record().timeouts, Some(changed));
}

#[test]
fn a_vip_comes_back_only_behind_its_guard() {
    let host = Host::new();
    let mut syncer = host.started(both());
    let wanted = host.fake.state();
    // The tables were looked at a moment ago.
    syncer.audit_step(0).unwrap();
    host.fake.edit(|state| {
        state.table = Default::default();
        state.vips.clear();
    });

    let round = syncer.audit_step(0).unwrap().unwrap();

    assert!(round.is_clean());
    assert_eq!(host.fake.state(), wanted, "both in one step");
    assert_eq!(host.fake.kernel().dangers, [""; 0]);
}

#[test]
fn foreign_servers_that_come_change_and_go_are_left_alone() {
    let host = Host::new();
    let mut syncer = host.started(both());
    let add: Edit = |state| {
        let mut foreign = VirtualServer::clone(&state.virtual_servers[&key(WEB)]);
        foreign.scheduler = "sh".into();
        state.virtual_servers.insert(key(FOREIGN), foreign.into());
    };
    let change: Edit = |state| {
        let foreign = state.virtual_servers.get_mut(&key(FOREIGN)).unwrap();
        Arc::make_mut(foreign).real_servers.pop_first();
    };
    let remove: Edit = |state| _ = state.virtual_servers.remove(&key(FOREIGN));
    for edit in [add, change, remove, add, change] {
        host.fake.edit(edit);
        let theirs = host.fake.state();
        let rounds = pass(&mut syncer);
        assert_eq!(host.fake.state(), theirs);
        assert_eq!(drift(&rounds), "");
        assert!(rounds.iter().all(|round| round.plan.is_empty()));
        let known = syncer.known().unwrap();
        assert_eq!(*known, theirs, "and known as they are");
    }
    // A Service wants the very same front: it is taken over in place.
    host.fake.kernel().done.clear();
    let events = [
        service("other", "10.96.0.200", "TCP"),
        endpoints("other", "TCP", &["10.1.0.1", "10.1.0.2"]),
    ];
    assert!(tell(&mut syncer, events).unwrap().is_clean());
    let servers = host.fake.state().virtual_servers;
    assert_eq!(servers[&key(FOREIGN)], servers[&key(WEB)]);
}

#[test]
fn what_is_not_carried_out_yet_is_no_drift() {
    let host = Host::new();
    let mut syncer = host.started(web(&["10.1.0.1"]));
    let before = host.fake.state();
    dns(&["10.1.0.3"])
        .into_iter()
        .for_each(|event| syncer.event(event));

    assert_eq!(drift(&pass(&mut syncer)), "");
    assert_eq!(host.fake.state(), before);
    assert!(syncer.sync(0).unwrap().unwrap().is_clean());
    assert_eq!(host.fake.weight(DNS, "10.1.0.3:8080"), Some(1));
}

#[test]
fn a_read_that_fails_removes_nothing_and_the_next_is_a_whole_one() {
    for before in 0..4 {
        let host = Host::new();
        let mut syncer = host.started(both());
        let (wanted, looks) = (host.fake.state(), host.fake.kernel().observed);
        for _ in 0..before {
            syncer.audit_step(0).unwrap();
        }
        host.fake.kernel().observe_fails = Some(Errno::EINTR);
        host.fake.kernel().tables_changed = true;
        let error = format!("{:#}", syncer.audit_step(0).unwrap_err());
        assert!(
            error.starts_with("read the kernel's state: EINTR"),
            "{error}"
        );
        assert_eq!(host.fake.state(), wanted);

        host.fake.heal();
        host.fake.edit(|state| state.vips.clear());
        assert!(syncer.audit_step(0).unwrap().unwrap().is_clean());
        assert_eq!(host.fake.state(), wanted);
        assert_eq!(host.fake.kernel().observed, looks + 1);
    }
}

#[test]
fn a_pass_begins_anew_after_a_look_at_everything() {
    let host = Host::new();
    let mut syncer = host.started(both());
    syncer.audit_step(0).unwrap();
    syncer.audit_step(0).unwrap();
    syncer.audit(0, Trigger::Audit).unwrap();
    let steps: Vec<bool> = (0..4)
        .map(|_| syncer.audit_step(0).unwrap().is_some())
        .collect();
    assert_eq!(steps, [false, false, false, true]);
}
