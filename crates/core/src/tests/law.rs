//! The law of the diff, over all pairs of many small states: applying it
//! reaches the desired state, nothing is refused, every state on the way is
//! safe, and then there is nothing left to do.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use ipnet::IpNet;

use crate::diff::{Owned, Terms, Touched, diff, diff_touched};
use crate::fixtures::*;
use crate::k8s::{Endpoint, Service};
use crate::model::Model;
use crate::options::{NodePortServers, Options};
use crate::plan::{Op, Plan};
use crate::row::{Row, Sources, Verdict};
use crate::state::{Front, KernelState, RealServerKey, VirtualServerKey};
use crate::table::{Edit, Untracked};

pub(super) const HEALTH: &str = "203.0.113.5:32000/TCP";

fn services() -> Vec<Option<Service>> {
    let ranges = |ranges: &[&str]| {
        let ranges: Vec<String> = ranges.iter().map(|r| (*r).to_owned()).collect();
        web()
            .load_balancer("203.0.113.5")
            .with(|s| s.spec.load_balancer_source_ranges = ranges)
    };
    let local = || {
        web()
            .node_port(30080)
            .load_balancer("203.0.113.5")
            .external_local()
    };
    let weighted = || {
        let wrr = web().annotation("ipvs.kube-ipvs.dev/scheduler", "wrr");
        wrr.annotation("ipvs.kube-ipvs.dev/weights", "node=10,other=3")
    };
    vec![
        None,
        Some(web()),
        Some(weighted()),
        Some(service("web", "10.96.0.9")),
        Some(bare("web", &["10.96.0.1"]).port("", "UDP", 80)),
        Some(web().internal_local()),
        Some(web().annotation("ipvs.kube-ipvs.dev/scheduler", "mh")),
        Some(web().with(|s| s.spec.session_affinity = Some("ClientIP".to_owned()))),
        Some(web().node_port(30080)),
        Some(local()),
        Some(local().annotation("ipvs.kube-ipvs.dev/masquerade", "always")),
        Some(
            web()
                .node_port(30080)
                .annotation("ipvs.kube-ipvs.dev/masquerade", "never"),
        ),
        Some(web().annotation("ipvs.kube-ipvs.dev/untracked", "true")),
        Some(local().with(|s| s.spec.health_check_node_port = Some(32000))),
        Some(ranges(&[])),
        Some(ranges(&["192.0.2.0/24"])),
        Some(ranges(&["192.0.0.0/16", "198.51.100.0/24"])),
    ]
}

fn endpoints() -> Vec<Vec<Endpoint>> {
    let (near, far) = (|| ep("10.244.1.7").here(), || ep("10.244.2.9"));
    vec![
        vec![],
        vec![near()],
        vec![far()],
        vec![near(), far()],
        vec![near().terminating(), far()],
        vec![near(), far().terminating()],
    ]
}

/// Services, and what a NodePort of theirs is.
fn worlds() -> Vec<(Option<Service>, NodePortServers)> {
    let has_node_port = |service: &Option<Service>| {
        let mut ports = service.iter().flat_map(|service| &service.spec.ports);
        ports.any(|port| port.node_port.is_some())
    };
    let by_mark: Vec<_> = services().into_iter().filter(has_node_port).collect();
    let by_address = services().into_iter();
    let by_address = by_address.map(|service| (service, NodePortServers::Address));
    let by_mark = by_mark.into_iter();
    let by_mark = by_mark.map(|service| (service, NodePortServers::Mark));
    by_address.chain(by_mark).collect()
}

pub(super) fn states() -> Vec<KernelState> {
    let mut states = Vec::new();
    for (service, node_port_servers) in worlds() {
        for endpoints in endpoints() {
            let mut cluster = cluster_with(Options {
                node_port_servers,
                untracked_by_annotation: true,
                ..options()
            });
            if let Some(service) = &service {
                let mut slice = slice(service, []);
                slice.endpoints = endpoints.clone();
                cluster.add(service.clone()).add(slice);
            }
            // Another Service on the same address, so that VIPs are shared.
            let other = bare("other", &["10.96.0.2"]).port("", "TCP", 443);
            let other = other.load_balancer("203.0.113.5");
            cluster
                .add(other.clone())
                .endpoints(&other, [ep("10.244.3.3")]);
            states.push(cluster.state());
        }
    }
    states.push(KernelState::default());
    states.dedup();
    states
}

#[test]
fn every_plan_reaches_its_goal_safely() {
    let states = states();
    let terms = Terms::default();
    for before in &states {
        for after in &states {
            let plan = diff(after, before, &terms);
            let reached = walk(before, after, &plan);
            assert_eq!(reached, *after, "after\n{plan}");
            assert_eq!(diff(after, &reached, &terms), Plan::default());
        }
    }
}

#[test]
fn a_table_that_was_lost_comes_back_without_refusing_anybody() {
    for after in &states() {
        let before = KernelState {
            table: Default::default(),
            ..after.clone()
        };
        let plan = diff(after, &before, &Terms::default());
        let Some(Op::Table(edit)) = plan.ops.first() else {
            assert_eq!(after.table, before.table);
            continue;
        };
        let Edit { rows, guarded, .. } = &**edit;
        assert_eq!(guarded.add, after.table.guarded);
        for (front, row) in &after.table.rows {
            let at_once = rows.get(front).and_then(|turn| turn.to.as_ref());
            let own = VirtualServerKey::Front(*front);
            let mut by_marks = row.by_marks(front);
            let served = after.virtual_servers.contains_key(&own)
                || by_marks.any(|key| after.virtual_servers.contains_key(&key));
            if served || row.verdict == Verdict::Refuse {
                assert_eq!(at_once, Some(row), "{front} of\n{plan}");
            } else {
                let open = at_once.is_some_and(|row| row.verdict.is_open());
                assert!(!open, "{front} of\n{plan}");
            }
        }
    }
}

#[test]
fn what_is_touched_is_enough_for_the_plan() {
    let states = states();
    let terms = Terms::default();
    for (before, after) in states.iter().zip(states.iter().skip(1)) {
        let touched = Touched::between(after, before);
        let plan = diff_touched(after, before, &touched, &terms);
        assert_eq!(plan, diff(after, before, &terms));
    }
}

/// Carries the plan out, looking around after each step.
fn walk(before: &KernelState, after: &KernelState, plan: &Plan) -> KernelState {
    let health = BTreeSet::from([HEALTH.parse::<Front>().unwrap()]);
    let (old, new) = (Model::new(before.clone()), Model::new(after.clone()));
    let mut model = old.clone();
    for op in &plan.ops {
        let refusal = model.step(op).err();
        assert_eq!(refusal, None, "at {:?} of\n{plan}", op.lines());
        let dangers = model.dangers(&health);
        assert!(
            dangers.is_empty(),
            "{dangers:?} after {:?} of\n{plan}",
            op.lines()
        );
        let servers = model.state().virtual_servers.keys();
        let fronts = servers.filter_map(|key| match key {
            VirtualServerKey::Front(front) => Some(front),
            VirtualServerKey::Mark { .. } => None,
        });
        for front in model.state().table.rows.keys().chain(fronts) {
            let after = || format!("{front} after {:?} of\n{plan}", op.lines());
            check_sources(front, &model, [&old, &new], after);
            check_untracked(front, &model, [&old, &new], after);
        }
    }
    model.state().clone()
}

/// Who is asked without an entry in conntrack answers without one: a real server
/// that its front has, and goes on to have or had untracked before.
fn check_untracked(front: &Front, now: &Model, sides: [&Model; 2], after: impl Fn() -> String) {
    let is_untracked = |side: &Model| {
        let front = Untracked::Front(*front);
        side.state().table.untracked.contains(&front)
    };
    if !is_untracked(now) {
        return;
    }
    let key = VirtualServerKey::Front(*front);
    let has = |side: &Model, real: &RealServerKey| {
        let server = side.state().virtual_servers.get(&key);
        server.is_some_and(|server| server.real_servers.contains_key(real))
    };
    let there = now.state().virtual_servers.get(&key);
    for real in there.iter().flat_map(|server| server.real_servers.keys()) {
        let endpoint = Untracked::Endpoint(Front {
            address: real.address,
            port: real.port,
            protocol: front.protocol,
        });
        let mut its = sides.iter().filter(|side| is_untracked(side));
        if its.any(|side| has(side, real)) {
            let all = &now.state().table.untracked;
            assert!(all.contains(&endpoint), "{real} is tracked: {}", after());
        }
    }
}

/// A front is open to those of before, to those of after, or to whom both let in;
/// and a real server gets only those that it may get before or after.
fn check_sources(front: &Front, now: &Model, sides: [&Model; 2], after: impl Fn() -> String) {
    let sources = now.sources(*front);
    let there = sides.into_iter().filter(|side| {
        let own = VirtualServerKey::Front(*front);
        side.state().virtual_servers.contains_key(&own) || side.state().row(front).is_some()
    });
    let there: Vec<_> = there.map(|side| side.sources(*front)).collect();
    let in_all = there.len() == 2 && there.iter().all(|side| is_within(sources, *side));
    assert!(
        there.contains(&sources) || in_all,
        "{sources:?}, not {there:?}: {}",
        after()
    );
    for real in takers(now, front) {
        let mut its = sides
            .iter()
            .filter(|side| takers(side, front).contains(&real));
        assert!(
            its.any(|side| is_within(sources, side.sources(*front))),
            "{real} gets {sources:?}: {}",
            after()
        );
    }
}

/// Whether nobody is in the first who is not in the other.
fn is_within(one: Option<&Sources>, other: Option<&Sources>) -> bool {
    let Some(other) = other else { return true };
    let within = |net: &IpNet| other.iter().any(|wide| wide.contains(net));
    one.is_some_and(|one| one.iter().all(within))
}

/// The real servers that new connections to a front are led to.
fn takers(model: &Model, front: &Front) -> BTreeSet<RealServerKey> {
    let state = model.state();
    let Some(row) = state.row(front).filter(|row| row.verdict.is_open()) else {
        return BTreeSet::new();
    };
    let keys = row.by_marks(front).chain([VirtualServerKey::Front(*front)]);
    let servers = keys.filter_map(|key| state.virtual_servers.get(&key));
    let reals = servers.flat_map(|server| &server.real_servers);
    let reals = reals.filter(|(_, at)| at.weight > 0);
    reals.map(|(real, _)| *real).collect()
}

#[test]
fn nothing_that_stays_is_removed_and_added_again() {
    let states = states();
    for before in &states {
        for after in &states {
            let plan = plan(before, after);
            for op in &plan.ops {
                let stays = match op {
                    Op::RemoveVirtualServer(key) => after.virtual_servers.contains_key(key),
                    Op::RemoveRealServer(key, real) => {
                        let server = after.virtual_servers.get(key);
                        server.is_some_and(|s| s.real_servers.contains_key(real))
                    }
                    Op::UnbindVips(vips) => !vips.is_disjoint(&after.vips),
                    _ => false,
                };
                assert!(!stays, "{:?} in\n{plan}", op.lines());
            }
        }
    }
}

#[test]
fn a_new_service_comes_in_the_safe_order() {
    let mut cluster = cluster();
    cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
    assert_lines(
        &plan(&KernelState::default(), &cluster.state()),
        "guard  add  10.96.0.1
         virtual server  add  10.96.0.1:80/TCP rr
         real server  add  10.96.0.1:80/TCP -> 10.244.1.7:8080 weight 1
         front  add  10.96.0.1:80/TCP serve
         vip  bind  10.96.0.1",
    );
    assert_lines(
        &plan(&cluster.state(), &KernelState::default()),
        "vip  unbind  10.96.0.1
         front  remove  10.96.0.1:80/TCP
         virtual server  remove  10.96.0.1:80/TCP
         guard  remove  10.96.0.1",
    );
}

#[test]
fn the_last_endpoint_leaves_a_refusal_and_the_first_takes_it_away() {
    let mut cluster = cluster();
    cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
    let served = cluster.state();
    cluster.endpoints(&web(), []);
    let refused = cluster.state();
    assert_lines(
        &plan(&served, &refused),
        "front  edit  10.96.0.1:80/TCP refuse
         virtual server  remove  10.96.0.1:80/TCP",
    );
    assert_lines(
        &plan(&refused, &served),
        "virtual server  add  10.96.0.1:80/TCP rr
         real server  add  10.96.0.1:80/TCP -> 10.244.1.7:8080 weight 1
         front  edit  10.96.0.1:80/TCP serve",
    );
}

#[test]
fn settings_change_in_place() {
    let mut cluster = cluster();
    cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
    let before = cluster.state();
    cluster.add(web().with(|s| {
        s.spec.session_affinity = Some("ClientIP".to_owned());
        s.spec.session_affinity_config.client_ip.timeout_seconds = Some(100);
    }));
    assert_lines(
        &plan(&before, &cluster.state()),
        "virtual server  edit  10.96.0.1:80/TCP rr persistent 100",
    );
}

#[test]
fn foreign_virtual_servers_are_left_alone_until_a_service_wants_the_same() {
    let mut cluster = cluster();
    cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
    let theirs = cluster.state();
    let terms = Terms {
        owned: Owned::These(BTreeSet::new()),
        ..Terms::default()
    };
    let foreign = KernelState {
        virtual_servers: theirs.virtual_servers.clone(),
        ..KernelState::default()
    };
    assert_eq!(
        diff(&KernelState::default(), &foreign, &terms),
        Plan::default()
    );

    cluster.endpoints(&web(), [ep("10.244.1.8")]);
    let plan = diff(&cluster.state(), &foreign, &terms);
    let servers = plan.lines().filter(|line| line.object.ends_with("server"));
    let servers: Vec<String> = servers.map(|line| line.to_string()).collect();
    assert_lines(
        &servers.join("\n"),
        "real server  add  10.96.0.1:80/TCP -> 10.244.1.8:8080 weight 1
         real server  remove  10.96.0.1:80/TCP -> 10.244.1.7:8080",
    );
}

/// The real servers of a Service in the order in which a node adds them.
fn order(service: &Service, node: &str) -> Vec<String> {
    let mut cluster = cluster();
    let all = ["10.244.1.1", "10.244.1.2", "10.244.1.3"].map(ep);
    cluster.add(service.clone()).endpoints(service, all);
    let terms = Terms {
        seed: crate::seed(node),
        ..Terms::default()
    };
    let plan = diff(&cluster.state(), &KernelState::default(), &terms);
    let added = plan.ops.into_iter().filter_map(|op| match op {
        Op::AddRealServer(_, real, _) => Some(real.to_string()),
        _ => None,
    });
    added.collect()
}

/// `mh` and `sh` go over the list: a client whose node dies keeps its endpoint.
#[test]
fn nodes_that_hash_clients_have_the_same_list() {
    for scheduler in ["mh", "sh", "dh"] {
        let service = web().annotation("ipvs.kube-ipvs.dev/scheduler", scheduler);
        let first = order(&service, "node-0");
        assert_eq!(first.len(), 3);
        for n in 1..50 {
            assert_eq!(order(&service, &format!("node-{n}")), first, "{scheduler}");
        }
    }
}

#[test]
fn nodes_begin_with_different_real_servers_and_keep_their_order() {
    let order = |node: &str| order(&web(), node);
    assert_eq!(order("node-1"), order("node-1"));
    let mut first = alloc::collections::BTreeMap::<String, u32>::new();
    for n in 0..600 {
        *first
            .entry(order(&format!("node-{n}"))[0].clone())
            .or_default() += 1;
    }
    assert_eq!(first.len(), 3);
    assert!(first.values().all(|n| (150..250).contains(n)), "{first:?}");
}

#[test]
fn a_bound_vip_without_a_guard_is_a_danger() {
    let mut model = Model::default();
    let vips = BTreeSet::from(["10.96.0.1".parse().unwrap()]);
    model.step(&Op::BindVips(vips)).unwrap();
    assert_eq!(
        model.dangers(&BTreeSet::new()),
        ["10.96.0.1 is bound without a guard"]
    );
}

#[test]
fn an_open_port_that_nobody_serves_is_a_danger() {
    let mut model = Model::default();
    let front = "10.96.0.1:80/TCP".parse().unwrap();
    let mut edit = Edit::default();
    edit.turn(front, &Row::default(), &Row::of(Verdict::Serve));
    model.step(&Op::Table(edit.into())).unwrap();
    assert_eq!(
        model.dangers(&BTreeSet::new()),
        ["10.96.0.1:80/TCP passes the guard and nobody serves it"]
    );
    let marked = Row {
        inside: Some(7),
        ..Row::of(Verdict::Refuse)
    };
    let mut edit = Edit::default();
    edit.turn(front, &Row::of(Verdict::Serve), &marked);
    model.step(&Op::Table(edit.into())).unwrap();
    assert_eq!(
        model.dangers(&BTreeSet::new()),
        ["10.96.0.1:80/TCP is led to FWM 7 and nobody serves that"]
    );
}

#[test]
fn the_model_refuses_what_the_kernel_refuses() {
    let mut cluster = cluster();
    cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
    let state = cluster.state();
    let plan_in = plan(&KernelState::default(), &state);
    for op in &plan_in.ops {
        let mut model = Model::new(state.clone());
        let refusal = model.step(op).unwrap_err().to_string();
        assert!(refusal.ends_with("exists (EEXIST)"), "{refusal}");
        assert_eq!(*model.state(), state, "a refused step changes nothing");
    }
    let plan_out = plan(&state, &KernelState::default());
    for op in &plan_out.ops {
        let refusal = Model::default().step(op).unwrap_err().to_string();
        assert!(refusal.contains("no such"), "{refusal}");
    }
}
