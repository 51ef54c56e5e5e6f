//! Nothing but Service ports behind a VIP, at no moment, each open to whom it
//! should be only, and no noise about Services without endpoints.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use kube_ipvs_core::Event;
use kube_ipvs_tests::{
    Client, Namespace, Node, Protocol, Server, Small, Topology, Verdict, run, wait_until,
};
use kube_ipvs_vip::Binding;
use serde_json::{Value, json};

use crate::matrix::proxy::{Proxy, decode, sync};

const CYCLES: usize = 200;
const OPEN: &str = "10.96.0.10";
const RESTRICTED: &str = "10.96.0.11";

/// A Service and its slice: open at one VIP, at the other for nobody we know.
pub(crate) fn web(endpoint: Option<&str>) -> [Value; 2] {
    let metadata = json!({"name": "web", "namespace": "default",
        "labels": {"kubernetes.io/service-name": "web"}});
    let service = json!({"kind": "Service", "metadata": metadata,
        "spec": {
            "type": "LoadBalancer", "clusterIP": OPEN,
            "loadBalancerSourceRanges": ["192.0.2.0/24"],
            "ports": [{"port": 80}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": RESTRICTED}]}}});
    let endpoints: Vec<_> = endpoint.iter().map(|a| json!({"addresses": [a]})).collect();
    let slice = json!({"kind": "EndpointSlice", "metadata": metadata, "addressType": "IPv4",
        "endpoints": endpoints, "ports": [{"port": 8080}]});
    [service, slice]
}

/// A server of the node itself.
pub(crate) fn host(node: &Node, port: u16) -> Server {
    let address = format!("0.0.0.0:{port}");
    Server::start(&node.namespace, "host", Protocol::Tcp, &address)
}

/// What the callers count.
#[derive(Default)]
struct Count {
    stop: AtomicBool,
    calls: AtomicUsize,
    /// Times the pod answered at a target, and what else did.
    pod: [AtomicUsize; 4],
    others: Mutex<Vec<String>>,
}

impl Count {
    /// Calls until told to stop.
    fn probe(&self, from: &Namespace, target: usize, to: &str) {
        from.run(|| {
            let client = Client::here().timeout(Duration::from_millis(200));
            while !self.stop.load(Ordering::Relaxed) {
                self.calls.fetch_add(1, Ordering::Relaxed);
                if let Verdict::Answered { who, .. } = client.call(Protocol::Tcp, to) {
                    self.answered(target, &format!("{to}: {who}"));
                }
            }
        });
    }

    fn answered(&self, target: usize, answer: &str) {
        if answer.ends_with("p1") {
            self.pod[target].fetch_add(1, Ordering::Relaxed);
        } else {
            let mut others = self.others.lock().expect("no caller fails with it");
            others.push(answer.to_owned());
        }
    }

    fn served(&self) -> usize {
        self.pod[0].load(Ordering::Relaxed)
    }
}

#[test]
fn traffic_is_guarded_at_every_moment_while_a_service_comes_and_goes() {
    let Small {
        node,
        pods,
        outside,
        ..
    } = &Topology::small();
    let _server = pods[0].serve(Protocol::Tcp, 8080);
    // What must not be seen behind a VIP.
    let _host = [22, 80].map(|port| host(node, port));
    let endpoint = pods[0].v4.to_string();
    let count = Count::default();
    let to = [(OPEN, 80), (OPEN, 22), (RESTRICTED, 80), (RESTRICTED, 22)];
    let targets = to.map(|(vip, port)| format!("{vip}:{port}"));

    thread::scope(|scope| {
        for (index, target) in targets.iter().enumerate() {
            let count = &count;
            scope.spawn(move || count.probe(&outside.namespace, index, target));
        }
        let done = catch_unwind(AssertUnwindSafe(|| {
            node.namespace.run(|| come_and_go(node, &endpoint, &count));
        }));
        count.stop.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|panic| resume_unwind(panic));
    });

    let others = count.others.into_inner().expect("no caller failed");
    assert!(
        others.is_empty(),
        "others than the pod answered: {others:?}"
    );
    let pod = count.pod.map(AtomicUsize::into_inner);
    assert_eq!(
        pod[1..],
        [0, 0, 0],
        "the pod answered at {targets:?}: {pod:?}"
    );
    assert!(
        count.calls.into_inner() > 10 * CYCLES,
        "too few calls to say anything"
    );
}

/// In some of the rounds the Service stays until it has answered somebody. There
/// are as many rounds as it takes for enough calls, within reason.
fn come_and_go(node: &Node, endpoint: &str, count: &Count) {
    let proxy = Proxy::new(node, "node-1", Binding::Address);
    let mut syncer = proxy.syncer(&[]);
    let objects = web(Some(endpoint)).map(|object| decode(&object));
    let enough = || count.calls.load(Ordering::Relaxed) > 10 * CYCLES;
    for cycle in 0..50 * CYCLES {
        if cycle >= CYCLES && enough() {
            break;
        }
        let before = count.served();
        for object in &objects {
            syncer.event(Event::Upsert(object.clone()));
        }
        sync(&mut syncer);
        if cycle % 20 == 0 {
            let answered = || count.served() > before;
            wait_until("the Service answers", Duration::from_secs(10), answered);
        }
        for object in &objects {
            syncer.event(Event::Delete(object.reference()));
        }
        sync(&mut syncer);
    }
}

#[test]
fn traffic_to_a_service_without_endpoints_is_refused_without_a_word_in_the_kernel_log() {
    let Small { node, outside, .. } = &Topology::small();
    let complaints = || {
        run("dmesg", [""; 0])
            .matches("no destination available")
            .count()
    };
    let before = complaints();
    node.namespace
        .run(|| sync(&mut Proxy::new(node, "node-1", Binding::Address).syncer(&web(None))));

    let refused = outside.namespace.run(|| {
        let client = Client::here();
        let call = |_: &i32| client.call(Protocol::Tcp, "10.96.0.10:80") == Verdict::Refused;
        (0..500).filter(call).count()
    });

    assert_eq!(refused, 500);
    assert_eq!(complaints(), before);
}
