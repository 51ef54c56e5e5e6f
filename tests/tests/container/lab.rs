//! A node with two pods that serve, a pod that asks, a machine outside, and an
//! API server, for which the node's kubelet has an account.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use kube_ipvs_tests::apiserver::{ApiServer, Options, endpoint_slice, node, service};
use kube_ipvs_tests::{
    Client, Connection, Namespace, Pod, Protocol, Server, Small, Topology, Verdict,
};
use serde_json::json;

use crate::kubelet::{Kubelet, TOKEN};

/// The Service's address.
pub(crate) const WEB: &str = "10.96.0.10:80";

/// The place of a test.
pub(crate) struct Lab {
    pub(crate) kubelet: Kubelet,
    pub(crate) api: ApiServer,
    pub(crate) small: Small,
    client: Pod,
    _servers: [Server; 2],
}

impl Lab {
    pub(crate) fn new() -> Self {
        let small = Topology::small();
        let servers = [0, 1].map(|pod: usize| small.pods[pod].serve(Protocol::Tcp, 8080));
        let options = Options {
            tls: true,
            bearer_token: Some(TOKEN.to_owned()),
            ..Options::default()
        };
        let address = SocketAddr::from((small.node.v4(), 6443));
        let inside = &small.node.namespace;
        let api = inside.run(|| ApiServer::start_with(address, options));
        api.upsert(node("node-1", &[&small.node.v4().to_string()]));
        let mut web = service("default", "web", "10.96.0.10");
        web["spec"]["type"] = json!("NodePort");
        web["spec"]["ports"][0]["nodePort"] = json!(30080);
        api.upsert(web);
        let [p1, p2] = small.pods.each_ref().map(|pod| pod.v4.to_string());
        let endpoints = [(&*p1, "node-1"), (&*p2, "node-1")];
        api.upsert(endpoint_slice("default", "web", "web-1", &endpoints));
        Self {
            kubelet: Kubelet::of(&small.node, &api),
            client: small.node.pod("client"),
            api,
            small,
            _servers: servers,
        }
    }

    /// The node's network.
    pub(crate) fn node(&self) -> &Namespace {
        &self.small.node.namespace
    }

    /// Who asks, and for what: a pod, the node and a machine outside for the
    /// VIP, and that machine for the NodePort too.
    fn ways(&self) -> [(&'static str, &Namespace, String); 4] {
        let outside = &self.small.outside.namespace;
        let node_port = format!("{}:30080", self.small.node.v4());
        [
            ("pod", &self.client.namespace, WEB.to_owned()),
            ("node", self.node(), WEB.to_owned()),
            ("outside", outside, WEB.to_owned()),
            ("outside", outside, node_port),
        ]
    }

    /// Both pods answer on every way.
    #[track_caller]
    pub(crate) fn must_be_served(&self) {
        for (from, namespace, front) in self.ways() {
            let client = Client::within(namespace).timeout(Duration::from_secs(10));
            let mut who = client.callees(Protocol::Tcp, &front, 2);
            who.sort();
            assert_eq!(who, ["p1", "p2"], "{from} to {front}");
        }
    }

    /// An open connection on every way.
    #[track_caller]
    pub(crate) fn connections(&self) -> Vec<(String, Connection)> {
        let open = |(from, namespace, front): (&str, &Namespace, String)| {
            let client = Client::within(namespace).timeout(Duration::from_secs(20));
            let connection = client.connect(Protocol::Tcp, &front);
            let name = format!("{from} to {front}");
            let connection = connection.unwrap_or_else(|verdict| panic!("{name}: {verdict:?}"));
            (name, connection)
        };
        self.ways().into_iter().map(open).collect()
    }

    /// Calls from outside, until they are finished.
    pub(crate) fn calls(&self) -> Calls {
        Calls::start(&self.small.outside.namespace)
    }
}

/// Every connection still answers.
#[track_caller]
pub(crate) fn all_answer(connections: &mut [(String, Connection)]) {
    for (name, connection) in connections {
        let verdict = connection.ask();
        assert!(
            matches!(verdict, Verdict::Answered { .. }),
            "{name}: {verdict:?}"
        );
    }
}

/// New connections, one after the other, until they are finished.
pub(crate) struct Calls {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Vec<Verdict>)>,
}

impl Calls {
    fn start(from: &Namespace) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = from.spawn(move || {
            let client = Client::here().timeout(Duration::from_secs(20));
            let (mut good, mut bad) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                match client.call(Protocol::Tcp, WEB) {
                    Verdict::Answered { .. } => good += 1,
                    verdict => bad.push(verdict),
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            (good, bad)
        });
        Self { stop, thread }
    }

    /// None of them failed.
    #[track_caller]
    pub(crate) fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (good, bad) = self.thread.join().expect("calls do not panic");
        assert_eq!(bad, [], "{good} calls were answered");
        assert!(good > 0, "nobody called");
    }
}
