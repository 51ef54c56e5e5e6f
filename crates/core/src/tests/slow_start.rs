//! New endpoints begin with little, told with a clock that moves when it is told to.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::fixtures::*;
use crate::k8s::{Endpoint, EndpointSlice, Service};
use crate::plan::Plan;
use crate::state::KernelState;
use crate::{Cluster, Event};

const SLOW_START: &str = "ipvs.kube-ipvs.dev/slow-start";
const SCHEDULER: &str = "ipvs.kube-ipvs.dev/scheduler";
/// Milliseconds between two steps of `slow`.
const STEP: u64 = 10_000;
/// What the wall clocks show when ours is at 0.
const MIDNIGHT: &str = "2026-01-01T00:00:00Z";

/// A Service whose endpoints climb for 90 s: ten weights, nine steps between them.
fn slow() -> Service {
    web()
        .annotation(SCHEDULER, "wrr")
        .annotation(SLOW_START, "90s")
}

impl EndpointSlice {
    fn changed(mut self, time: &str) -> Self {
        let name = "endpoints.kubernetes.io/last-change-trigger-time".to_owned();
        self.metadata.annotations.insert(name, time.to_owned());
        self
    }
}

/// A node with `slow`, whose endpoint 10.244.1.7 was there from the beginning.
struct Node {
    cluster: Cluster,
    kernel: KernelState,
}

impl Node {
    fn new() -> Self {
        let mut node = Self {
            cluster: cluster(),
            kernel: KernelState::default(),
        };
        node.cluster.tell_time(0, MIDNIGHT.parse().unwrap());
        node.cluster
            .add(slow())
            .endpoints(&slow(), [ep("10.244.1.7")]);
        node.round(0);
        node
    }

    /// One round of the loop: what is done.
    fn round(&mut self, now: u64) -> Plan {
        self.cluster.tick(now);
        let after = self.cluster.state();
        let plan = plan(&self.kernel, &after);
        self.kernel = after;
        plan
    }

    /// Goes from step to step, as it asks for; when, and how much is done.
    fn steps(&mut self) -> Vec<(u64, usize)> {
        let mut steps = Vec::new();
        while let Some(due) = self.cluster.step_due() {
            assert!(steps.len() < 100, "it never ends: {steps:?}");
            steps.push((due, self.round(due).ops.len()));
        }
        steps
    }

    fn weights(&self) -> Vec<u32> {
        weights(&self.kernel)
    }

    /// The program starts anew, on a clock of its own, beside a kernel that holds this.
    fn restart(self, slice: EndpointSlice, wall: &str) -> Self {
        let mut cluster = cluster();
        cluster.tell_time(0, wall.parse().unwrap());
        cluster.add(slow()).add(slice);
        cluster.resume(&self.kernel);
        let mut node = Self {
            cluster,
            kernel: self.kernel,
        };
        node.round(0);
        node.cluster.resumed();
        node
    }
}

fn weights(state: &KernelState) -> Vec<u32> {
    let server = &state.virtual_servers[&"10.96.0.1:80/TCP".parse().unwrap()];
    server.real_servers.values().map(|r| r.weight).collect()
}

fn messages(cluster: &Cluster) -> Vec<String> {
    cluster.warnings().into_iter().map(|w| w.message).collect()
}

fn both() -> [Endpoint; 2] {
    [ep("10.244.1.7"), ep("10.244.1.8")]
}

#[test]
fn a_new_endpoint_climbs_in_steps_of_one_message_each_and_then_it_ends() {
    let mut node = Node::new();
    assert_eq!(node.weights(), [10]);
    assert_eq!(node.cluster.step_due(), None, "nobody climbs");

    node.cluster.endpoints(&slow(), both());
    assert_lines(
        &node.round(1_000),
        "real server add 10.96.0.1:80/TCP -> 10.244.1.8:8080 weight 1",
    );
    assert_lines(&node.round(1_000 + STEP - 1), "");
    assert_lines(
        &node.round(1_000 + STEP),
        "real server edit 10.96.0.1:80/TCP -> 10.244.1.8:8080 weight 2",
    );

    let steps = node.steps();
    let wanted: Vec<(u64, usize)> = (2..=9).map(|n| (1_000 + n * STEP, 1)).collect();
    assert_eq!(steps, wanted);
    assert_eq!(node.weights(), [10, 10]);
}

#[test]
fn what_comes_late_to_a_step_is_where_the_time_is() {
    let mut node = Node::new();
    node.cluster.endpoints(&slow(), both());
    node.round(0);
    node.round(5 * STEP);
    assert_eq!(node.weights(), [10, 6]);
    node.round(500 * STEP);
    assert_eq!(node.weights(), [10, 10]);
    assert_eq!(node.cluster.step_due(), None);
}

#[test]
fn many_that_climb_are_looked_at_no_more_than_twice_a_step() {
    let mut node = Node::new();
    let mut all = vec![ep("10.244.1.7")];
    for n in 0..100 {
        all.push(ep(&format!("10.244.2.{n}")));
        let mut slice = slice(&slow(), []);
        slice.endpoints = all.clone();
        node.cluster.add(slice);
        node.round(n * STEP / 100);
    }
    let steps = node.steps();
    assert!(steps.len() <= 22, "{} looks", steps.len());
    assert!(node.weights().iter().all(|weight| *weight == 10));
}

#[test]
fn the_slices_time_is_the_clock_that_nodes_share() {
    for (time, weight) in [
        // A minute after it was ready the slice comes here: 60 of 90 s.
        ("2026-01-01T00:00:00Z", 7),
        // Longer than it climbs.
        ("2025-12-31T23:00:00Z", 10),
        // A clock that is ahead of ours, or no time.
        ("2026-01-01T00:05:00Z", 1),
        ("noon", 1),
    ] {
        let mut node = Node::new();
        node.cluster.add(slice(&slow(), both()).changed(time));
        node.round(60_000);
        assert_eq!(node.weights(), [10, weight], "{time}");
        node.round(60_000 + 9 * STEP);
        assert_eq!(node.weights(), [10, 10], "{time}: in no more than its time");
    }
}

#[test]
fn of_two_slices_with_one_endpoint_the_younger_says_how_old_it_is() {
    let old = || slice(&slow(), both()).changed("2025-12-31T23:00:00Z");
    let young = || slice(&slow(), both()).changed(MIDNIGHT);
    for (first, second) in [(old(), young()), (young(), old())] {
        let mut node = Node::new();
        node.cluster.add(first);
        node.cluster.add(second.named("web-2"));
        node.round(30_000);
        assert_eq!(node.weights(), [10, 4]);
    }
}

#[test]
fn a_slice_of_which_nothing_but_the_time_changed_is_the_same() {
    let mut node = Node::new();
    let told = |time| slice(&slow(), both()).changed(time);
    node.cluster.add(told("2026-01-01T00:00:00Z"));
    node.round(0);
    node.cluster.add(told("2026-01-01T00:00:30Z"));
    assert!(!node.cluster.is_dirty());
    node.round(3 * STEP);
    assert_eq!(node.weights(), [10, 4], "and it climbs on");
}

#[test]
fn who_was_not_ready_climbs_anew_and_who_drains_has_nothing() {
    let mut node = Node::new();
    node.cluster.endpoints(&slow(), both());
    node.round(0);
    node.round(9 * STEP);
    let [old, other] = both();
    let not = [old.clone(), other.clone().not_ready()];
    node.cluster.endpoints(&slow(), not);
    node.round(10 * STEP);
    assert_eq!(node.weights(), [10]);
    node.cluster.endpoints(&slow(), both());
    node.round(11 * STEP);
    assert_eq!(node.weights(), [10, 1]);

    let leaving = [old.clone(), other.clone().terminating()];
    node.cluster.endpoints(&slow(), leaving);
    node.round(12 * STEP);
    assert_eq!(node.weights(), [10, 0]);
    assert_eq!(node.cluster.step_due(), None, "who leaves does not climb");
    // When nobody else is left they stand in, whole.
    let all = [old, other].map(Endpoint::terminating);
    node.cluster.endpoints(&slow(), all);
    node.round(13 * STEP);
    assert_eq!(node.weights(), [10, 10]);
}

#[test]
fn weights_that_were_asked_for_climb_to_ten_times_their_number() {
    let mut node = Node::new();
    let service = slow().annotation("ipvs.kube-ipvs.dev/weights", "node=3,other=7000");
    node.cluster.add(service.clone());
    node.cluster
        .endpoints(&service, [ep("10.244.1.7").here(), ep("10.244.1.8")]);
    node.round(0);
    assert_eq!(node.weights(), [30, 6_553]);
    node.round(STEP);
    assert_eq!(node.weights(), [30, 13_106]);
    node.round(9 * STEP);
    assert_eq!(node.weights(), [30, 65_530]);
    let said =
        "weight 7000 of the Service times 10 for slow-start is above 65530, which is taken instead";
    assert_eq!(messages(&node.cluster), [said]);
}

#[test]
fn a_service_that_begins_to_ask_has_no_new_endpoints_and_one_that_ceases_none_that_climb() {
    let mut node = Node::new();
    let plain = web().annotation(SCHEDULER, "wrr");
    node.cluster.endpoints(&slow(), both());
    node.round(0);
    assert_eq!(node.weights(), [10, 1]);
    node.cluster.add(plain);
    node.round(1_000);
    assert_eq!(node.weights(), [1, 1]);
    assert_eq!(node.cluster.step_due(), None);
    node.cluster.add(slow());
    node.round(2_000);
    assert_eq!(node.weights(), [10, 10]);
    assert_eq!(node.cluster.step_due(), None);
}

#[test]
fn a_service_that_goes_takes_its_steps_along() {
    let mut node = Node::new();
    node.cluster.endpoints(&slow(), both());
    node.round(0);
    assert!(node.cluster.step_due().is_some());
    node.cluster.remove(slow());
    node.round(0);
    assert_eq!(node.cluster.step_due(), None);
    node.cluster.remove(slice(&slow(), []));
    node.round(0);
    assert_eq!(node.cluster.services().count(), 0);
}

#[test]
fn after_a_restart_each_goes_on_from_where_the_kernel_has_it() {
    let silent = || slice(&slow(), both());
    let mut node = Node::new();
    node.cluster.endpoints(&slow(), both());
    node.round(0);
    node.round(4 * STEP);
    assert_eq!(node.weights(), [10, 5]);

    let mut node = node.restart(silent(), "2026-01-01T01:00:00Z");
    assert_eq!(node.weights(), [10, 5]);
    let steps = node.steps();
    assert_eq!(steps.iter().map(|(at, _)| *at).max(), Some(5 * STEP));
    assert_eq!(node.weights(), [10, 10]);
}

#[test]
fn a_restart_drops_nobody_to_the_first_step_because_another_is_new() {
    // One became ready while nobody looked, a minute before the start.
    let node = Node::new();
    let slice = slice(&slow(), both()).changed("2026-01-01T00:59:00Z");
    let node = node.restart(slice, "2026-01-01T01:00:00Z");
    assert_eq!(node.weights(), [10, 7]);
}

#[test]
fn a_node_that_starts_gives_all_their_whole_unless_the_slice_is_young() {
    for (time, weight) in [("2025-12-31T00:00:00Z", 10), ("2026-01-01T00:00:00Z", 1)] {
        let mut cluster = cluster();
        cluster.tell_time(0, MIDNIGHT.parse().unwrap());
        cluster.resume(&KernelState::default());
        cluster
            .add(slow())
            .add(slice(&slow(), both()).changed(time));
        assert_eq!(weights(&cluster.state()), [weight, weight]);
    }
}

#[test]
fn what_drained_before_a_restart_does_not_go_on_from_nothing() {
    let mut node = Node::new();
    let [old, other] = both();
    node.cluster.endpoints(&slow(), [old, other.terminating()]);
    node.round(0);
    assert_eq!(node.weights(), [10, 0]);
    let node = node.restart(slice(&slow(), both()), "2026-01-01T01:00:00Z");
    assert_eq!(node.weights(), [10, 10]);
}

#[test]
fn schedulers_that_cannot_climb_say_so_and_give_all_the_same() {
    for scheduler in crate::options::SCHEDULERS {
        let climbs = ["wrr", "wlc", "sed", "nq", "lblc", "lblcr", "twos"].contains(&scheduler);
        let service = slow().annotation(SCHEDULER, scheduler);
        let mut cluster = cluster();
        cluster
            .add(service.clone())
            .endpoints(&service, [ep("10.244.1.7")]);
        cluster.compile();
        cluster.endpoints(&service, both());
        let found = weights(&cluster.state());
        let wanted = if climbs { [10, 1] } else { [1, 1] };
        assert_eq!(found, wanted, "{scheduler}");
        let said = format!("annotation {SLOW_START}: \"90s\" is not for scheduler {scheduler};");
        let told = messages(&cluster);
        assert_eq!(
            told.iter().any(|m| m.starts_with(&said)),
            !climbs,
            "{told:?}"
        );
        assert_eq!(cluster.step_due().is_some(), climbs);
    }
}

#[test]
fn a_time_that_makes_no_sense_is_as_good_as_none() {
    for (time, why) in [
        ("soon", "is no time such as 30s or 1m30s; it is ignored"),
        ("30", "is no time such as 30s or 1m30s; it is ignored"),
        ("0s", "is not from 1s to 1h; it is ignored"),
        ("2h", "is not from 1s to 1h; it is ignored"),
    ] {
        let mut node = Node::new();
        let service = slow().annotation(SLOW_START, time);
        node.cluster
            .add(service.clone())
            .endpoints(&service, both());
        node.round(0);
        assert_eq!(node.weights(), [1, 1]);
        let said = format!("annotation {SLOW_START}: \"{time}\" {why}");
        assert_eq!(messages(&node.cluster), [said]);
    }
}

#[test]
fn a_scheduler_that_the_kernel_lacks_ends_the_climb() {
    let mut node = Node::new();
    node.cluster.endpoints(&slow(), both());
    node.round(0);
    node.cluster
        .apply(Event::MissingSchedulers(["wrr".to_owned()].into()));
    node.round(0);
    assert_eq!(node.weights(), [1, 1]);
    assert_eq!(node.cluster.step_due(), None);
}
