//! Draining, told with a clock that only moves when it is told to.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;

use super::*;
use crate::diff::{Terms, diff_touched};
use crate::fixtures::*;
use crate::plan::Plan;

const MINUTE: u64 = 60_000;

/// A node with one Service, whose endpoint 10.244.1.7 terminates while .8 is ready.
struct Node {
    cluster: Cluster,
    drain: Drain,
    kernel: KernelState,
    load: Option<Load>,
}

impl Node {
    fn new(service: crate::k8s::Service) -> Self {
        let mut cluster = cluster();
        cluster.add(service.clone());
        cluster.endpoints(&service, [ep("10.244.1.7"), ep("10.244.1.8")]);
        let kernel = cluster.state();
        cluster.endpoints(&service, [ep("10.244.1.7").terminating(), ep("10.244.1.8")]);
        Self {
            cluster,
            drain: Drain::new(15 * MINUTE),
            kernel,
            load: None,
        }
    }

    fn connections(&mut self, active: u32, inactive: u32) -> &mut Self {
        self.load = Some(Load {
            weight: 0,
            active,
            inactive,
        });
        self
    }

    /// One round of the loop. Returns what is done and when the next is due.
    fn round(&mut self, now: u64) -> (Plan, Option<u64>) {
        let mut touched = self.cluster.compile();
        let kernel = self.kernel.clone();
        let of = |key: &Key| kernel.virtual_servers.get(&key.0)?.real_servers.get(&key.1);
        let step = self
            .drain
            .step(now, &self.cluster, &kernel, &touched, |key| {
                let load = self.load.unwrap_or_default();
                of(key).map(|real| Load {
                    weight: real.weight,
                    ..load
                })
            });
        touched.extend(step.touched);
        let terms = Terms {
            drained: self.drain.drained().clone(),
            kept: self.drain.kept().clone(),
            ..Terms::default()
        };
        let plan = diff_touched(self.cluster.desired(), &self.kernel, &touched, &terms);
        let mut model = crate::model::Model::new(self.kernel.clone());
        model.apply(&plan).unwrap();
        self.kernel = model.state().clone();
        (plan, step.next)
    }
}

const WEIGHT_0: &str = "real server  edit  10.96.0.1:80/TCP -> 10.244.1.7:8080 weight 0";
const GONE: &str = "real server  remove  10.96.0.1:80/TCP -> 10.244.1.7:8080";

#[test]
fn drain_waits_for_active_connections() {
    let mut node = Node::new(web());
    assert_lines(&node.connections(3, 0).round(0).0, WEIGHT_0);
    assert_lines(&node.round(MINUTE).0, "");
    assert_lines(&node.connections(0, 0).round(2 * MINUTE).0, GONE);
    assert_lines(&node.round(3 * MINUTE).0, "");
}

#[test]
fn drain_ends_at_the_deadline() {
    let mut node = Node::new(web());
    node.connections(3, 0).round(0);
    let (plan, next) = node.round(15 * MINUTE - 1);
    assert_lines(&plan, "");
    assert_eq!(next, Some(15 * MINUTE));
    assert_lines(&node.round(15 * MINUTE).0, GONE);
}

#[test]
fn remains_of_connections_hold_for_five_seconds_only() {
    let mut node = Node::new(web());
    node.connections(1, 9).round(0);
    node.round(10_000);
    assert_lines(&node.connections(0, 9).round(14_999).0, "");
    assert_lines(&node.round(15_000).0, GONE);
}

#[test]
fn an_endpoint_that_is_gone_goes_at_once() {
    let mut node = Node::new(web());
    node.connections(3, 0).round(0);
    node.cluster.endpoints(&web(), [ep("10.244.1.8")]);
    assert_lines(&node.round(1_000).0, GONE);
}

#[test]
fn an_endpoint_that_comes_back_gets_its_weight_back() {
    let mut node = Node::new(web());
    node.connections(3, 0).round(0);
    node.cluster
        .endpoints(&web(), [ep("10.244.1.7"), ep("10.244.1.8")]);
    assert_lines(
        &node.round(1_000).0,
        "real server  edit  10.96.0.1:80/TCP -> 10.244.1.7:8080 weight 1",
    );
    assert_eq!(node.drain.waiting(Family::V4), 0);
}

#[test]
fn a_restart_carries_on_from_what_the_kernel_holds() {
    let mut node = Node::new(web());
    node.connections(3, 0).round(0);
    node.drain = Drain::new(15 * MINUTE);
    assert_lines(&node.round(1_000).0, "");
    assert_lines(&node.connections(0, 0).round(2_000).0, GONE);
}

#[test]
fn what_was_never_there_is_not_added_to_drain() {
    let mut node = Node::new(web());
    node.kernel = KernelState::default();
    let (plan, next) = node.round(0);
    assert!(!plan.to_string().contains("10.244.1.7"), "{plan}");
    assert_eq!(next, None);
}

#[test]
fn udp_goes_at_once() {
    let mut node = Node::new(bare("web", &["10.96.0.1"]).port("", "UDP", 80));
    assert_lines(
        &node.connections(3, 3).round(0).0,
        "real server  remove  10.96.0.1:80/UDP -> 10.244.1.7:8080",
    );
}

#[test]
fn an_endpoint_that_is_not_ready_for_a_moment_keeps_its_connections() {
    let mut node = Node::new(web());
    node.cluster
        .endpoints(&web(), [ep("10.244.1.7").not_ready(), ep("10.244.1.8")]);
    assert_lines(&node.connections(3, 0).round(0).0, WEIGHT_0);
    node.cluster
        .endpoints(&web(), [ep("10.244.1.7"), ep("10.244.1.8")]);
    assert_lines(
        &node.round(1_000).0,
        "real server  edit  10.96.0.1:80/TCP -> 10.244.1.7:8080 weight 1",
    );
}

#[test]
fn an_endpoint_that_is_not_ready_goes_when_its_connections_are_gone() {
    let mut node = Node::new(web());
    node.cluster
        .endpoints(&web(), [ep("10.244.1.7").not_ready(), ep("10.244.1.8")]);
    node.connections(3, 0).round(0);
    assert_eq!(node.drain.waiting(Family::V4), 1);
    assert_lines(&node.connections(0, 0).round(2_000).0, GONE);
    assert_eq!(node.drain.waiting(Family::V4), 0);
    assert_eq!(node.round(3_000).1, None);
}

#[test]
fn an_endpoint_that_keeps_its_connections_and_is_gone_goes_at_once() {
    let mut node = Node::new(web());
    node.cluster
        .endpoints(&web(), [ep("10.244.1.7").not_ready(), ep("10.244.1.8")]);
    node.connections(3, 0).round(0);
    node.cluster.endpoints(&web(), [ep("10.244.1.8")]);
    assert_lines(&node.round(100).0, GONE);
    assert_eq!(node.drain.waiting(Family::V4), 0);
}

#[test]
fn an_endpoint_that_is_not_ready_and_idle_goes_at_once() {
    let mut node = Node::new(web());
    node.cluster
        .endpoints(&web(), [ep("10.244.1.7").not_ready(), ep("10.244.1.8")]);
    assert_lines(&node.connections(0, 0).round(0).0, GONE);
}

#[test]
fn maglev_slots_stay_while_the_endpoint_is_there() {
    let mh = web().annotation("ipvs.kube-ipvs.dev/scheduler", "mh");
    let mut node = Node::new(mh.clone());
    node.connections(0, 0).round(0);
    let (plan, next) = node.round(MINUTE);
    assert_lines(&plan, "");
    assert_eq!(next, Some(15 * MINUTE));
    node.cluster.endpoints(&mh, [ep("10.244.1.8")]);
    assert_lines(&node.round(2 * MINUTE).0, GONE);
}

#[test]
fn a_node_port_that_goes_by_mark_keeps_its_connections() {
    let mut node = Node::new(web().node_port(30080));
    node.connections(0, 0).round(0);
    node.round(15 * MINUTE);
    let many: Vec<String> = (1..=9).map(|n| format!("192.0.2.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    node.cluster.host(&many);

    let plan = node.connections(3, 0).round(20 * MINUTE).0.to_string();
    let weight_0 = "real server  edit  192.0.2.1:30080/TCP -> 10.244.1.8:8080 weight 0";
    assert!(plan.contains(weight_0), "{plan}");
    assert!(plan.contains("virtual server  add  FWM"), "{plan}");
    assert!(!plan.contains("remove"), "{plan}");
    assert_lines(&node.round(21 * MINUTE).0, "");
    assert_lines(
        &node.connections(0, 0).round(22 * MINUTE).0,
        "virtual server  remove  192.0.2.1:30080/TCP",
    );
    assert_lines(&node.round(23 * MINUTE).0, "");
}

#[test]
fn a_datagram_node_port_goes_by_mark_at_once() {
    let service = bare("web", &["10.96.0.1"]).port("", "UDP", 80);
    let mut node = Node::new(service.node_port(30080));
    let many: Vec<String> = (1..=9).map(|n| format!("192.0.2.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    node.cluster.host(&many);
    let plan = node.connections(3, 3).round(0).0.to_string();
    assert!(
        plan.contains("virtual server  remove  192.0.2.1:30080/UDP"),
        "{plan}"
    );
}

/// As many Services as are rolled out, each with a busy endpoint that drains.
fn rollout(services: usize) -> (Cluster, KernelState) {
    let mut cluster = cluster();
    for number in 0..services {
        let service = service(&format!("s{number}"), &format!("10.96.0.{}", number + 1));
        let leaving = ep(&format!("10.244.1.{}", number + 1)).terminating();
        cluster.add(service.clone());
        cluster.endpoints(&service, [leaving, ep("10.244.2.8")]);
    }
    let kernel = cluster.state();
    (cluster, kernel)
}

/// A round in which `touched` changed; says whose connections were counted.
fn counted(
    drain: &mut Drain,
    now: u64,
    (cluster, kernel): &(Cluster, KernelState),
    touched: &Touched,
) -> (Vec<Key>, Option<u64>) {
    let mut counted = Vec::new();
    let step = drain.step(now, cluster, kernel, touched, |key| {
        counted.push(*key);
        Some(Load {
            weight: 0,
            active: 1,
            inactive: 0,
        })
    });
    (counted, step.next)
}

#[test]
fn who_drains_is_counted_when_it_is_due_and_not_for_the_changes_of_others() {
    let all = rollout(20);
    let mut drain = Drain::new(15 * MINUTE);
    let nothing = Touched::default();
    let mut round = |now, touched: &Touched| counted(&mut drain, now, &all, touched);

    let (first, next) = round(0, &nothing);
    assert_eq!((first.len(), next), (20, Some(POLL_MS)));
    assert_eq!(round(POLL_MS - 1, &nothing), (vec![], Some(POLL_MS)));

    let one = first[7];
    let touched = Touched {
        virtual_servers: BTreeSet::from([one.0]),
        ..Touched::default()
    };
    let (counted, next) = round(700, &touched);
    assert_eq!((counted, next), (vec![one], Some(POLL_MS)));
    // The one that would be due 700 ms later waits for its time.
    assert_eq!(round(POLL_MS, &nothing).0.len(), 19);
}

#[test]
fn who_would_be_due_soon_is_counted_along_with_who_is() {
    let all = rollout(20);
    let mut drain = Drain::new(15 * MINUTE);
    let mut round = |now, touched: &Touched| counted(&mut drain, now, &all, touched);
    let (first, _) = round(0, &Touched::default());
    let touched = Touched {
        virtual_servers: BTreeSet::from([first[7].0]),
        ..Touched::default()
    };
    round(ALONG_MS, &touched);

    let (counted, next) = round(POLL_MS, &Touched::default());
    assert_eq!((counted.len(), next), (20, Some(2 * POLL_MS)));
}
