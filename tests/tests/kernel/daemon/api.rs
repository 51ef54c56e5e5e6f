//! The real program on a fake API server.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kube_ipvs_tests::apiserver::{ApiServer, Options, endpoint_slice, node, role, service};
use kube_ipvs_tests::{Client, Daemon, Namespace, Node, Protocol, Topology, run, wait_until};
use tempfile::TempDir;

use super::{QUICK, WEB};
use crate::traffic::site::PATIENCE;

/// An API server on the first node, and its kubeconfig.
pub(crate) struct Api {
    pub(crate) server: ApiServer,
    directory: TempDir,
}

impl Api {
    pub(super) fn on(node: &Node) -> Self {
        let options = Options {
            tls: true,
            ..Options::default()
        };
        Self::with(node, options)
    }

    /// One that behaves as the options say.
    pub(super) fn with(node: &Node, options: Options) -> Self {
        let address = SocketAddr::from((node.v4(), 6443));
        let server = node
            .namespace
            .run(|| ApiServer::start_with(address, options));
        let directory = tempfile::tempdir().expect("make a directory");
        let file = directory.path().join("kubeconfig");
        server.write_kubeconfig(&file).expect("write a kubeconfig");
        Self { server, directory }
    }

    /// One that knows `node` alone, as `node-1`, and `default/web` over one endpoint
    /// there.
    pub(crate) fn of_one(node: &Node, endpoint: &str) -> Self {
        let api = Self::on(node);
        api.register("node-1", node);
        api.web(&[(endpoint, "node-1")]);
        api
    }

    /// A Node, as a kubelet registers it.
    pub(crate) fn register(&self, name: &str, of: &Node) {
        self.server.upsert(node(name, &[&of.v4().to_string()]));
    }

    /// `default/web` at 10.96.0.10 with these endpoints.
    pub(super) fn web(&self, endpoints: &[(&str, &str)]) {
        self.server.upsert(service("default", "web", "10.96.0.10"));
        self.server
            .upsert(endpoint_slice("default", "web", "web-1", endpoints));
    }

    /// Starts the program for a node.
    pub(crate) fn start(&self, name: &str, of: &Node) -> Daemon {
        self.start_with(name, of, &[])
    }

    /// The flag by which a command finds it.
    pub(super) fn kubeconfig(&self) -> String {
        let kubeconfig = self.directory.path().join("kubeconfig");
        format!("--kubeconfig={}", kubeconfig.display())
    }

    /// The same with more flags.
    pub(super) fn start_with(&self, name: &str, of: &Node, flags: &[&str]) -> Daemon {
        self.start_as(name, of, &[&QUICK[..], flags].concat())
    }

    /// With these flags alone, and the periods of every day.
    pub(super) fn start_as(&self, name: &str, of: &Node, flags: &[&str]) -> Daemon {
        let mut arguments = vec![
            "run".to_owned(),
            self.kubeconfig(),
            format!("--hostname-override={name}"),
        ];
        arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
        Daemon::start(&of.namespace, arguments)
    }
}

pub(super) fn table(of: &Namespace) -> String {
    of.run(|| run("ipvsadm", ["-Sn"]))
}

/// Waits until the VIP is bound, which is the last step of a change.
pub(crate) fn wait_for_vip(of: &Node, daemon: &mut Daemon) {
    wait_for(of, daemon, "10.96.0.10");
}

/// Waits until a VIP is bound.
pub(super) fn wait_for(of: &Node, daemon: &mut Daemon, vip: &str) {
    let shown = ["-o", "addr", "show", "to", vip];
    wait_until(&format!("{vip} is bound"), PATIENCE, || {
        assert!(daemon.is_running(), "kube-ipvs ended:\n{}", daemon.log());
        !of.namespace.run(|| run("ip", shown)).is_empty()
    });
}

#[test]
fn three_nodes_hold_the_same() {
    let topology = Topology::new();
    let nodes = [topology.node(), topology.node(), topology.node()];
    let pods = [nodes[0].pod("p1"), nodes[1].pod("p2")];
    let _servers = [0, 1].map(|n| pods[n].serve(Protocol::Tcp, 8080));
    let api = Api::on(&nodes[0]);
    let names = ["node-1", "node-2", "node-3"];
    names
        .iter()
        .zip(&nodes)
        .for_each(|(name, node)| api.register(name, node));
    let (p1, p2) = (pods[0].v4.to_string(), pods[1].v4.to_string());
    api.web(&[(&p1, "node-1"), (&p2, "node-2")]);
    let mut daemons: Vec<_> = names
        .iter()
        .zip(&nodes)
        .map(|(name, node)| api.start(name, node))
        .collect();
    for (node, daemon) in nodes.iter().zip(&mut daemons) {
        wait_for_vip(node, daemon);
    }

    let sorted = |node: &Node| {
        let mut lines: Vec<_> = table(&node.namespace).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&nodes[0]), sorted(&nodes[1]));
    assert_eq!(sorted(&nodes[0]), sorted(&nodes[2]));
    for node in &nodes {
        let mut who = Client::within(&node.namespace).callees(Protocol::Tcp, WEB, 2);
        who.sort();
        assert_eq!(who, ["p1", "p2"]);
    }

    let changed = Instant::now();
    api.web(&[(&p2, "node-2")]);
    for node in &nodes {
        wait_until("p1 is gone", PATIENCE, || {
            !table(&node.namespace).contains(&p1)
        });
        let who = Client::within(&node.namespace).callees(Protocol::Tcp, WEB, 2);
        assert_eq!(who, ["p2"; 2]);
    }
    eprintln!("three nodes follow within {:?}", changed.elapsed());
    let called = role::calls(&api.server.requests());
    let refused: Vec<_> = called.difference(&role::allowed()).cloned().collect();
    assert_eq!(refused, [], "not in the role of deploy/base");
}

#[test]
fn an_api_server_that_says_nothing_takes_nothing_away() {
    let topology = Topology::new();
    let node = topology.node();
    let pod = node.pod("p1");
    let _server = pod.serve(Protocol::Tcp, 8080);
    let api = Api::of_one(&node, &pod.v4.to_string());
    let mut daemon = api.start("node-1", &node);
    wait_for_vip(&node, &mut daemon);
    let full = table(&node.namespace);
    daemon.kill();

    // RBAC was removed, and the objects with it: nobody may say so.
    for resource in ["services", "endpointslices"] {
        api.server.deny("list", resource);
        api.server.deny("watch", resource);
    }
    api.server.delete("EndpointSlice", "default", "web-1");
    api.server.delete("Service", "default", "web");
    let mut daemon = api.start("node-1", &node);
    daemon.wait_for_log("forbidden", PATIENCE);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(table(&node.namespace), full);
    let who = Client::within(&node.namespace).callees(Protocol::Tcp, WEB, 1);
    assert_eq!(who, ["p1"]);

    // Now it may, and the list is truly empty.
    api.server.heal();
    wait_until("the table is empty", PATIENCE, || {
        table(&node.namespace).is_empty()
    });
}

#[test]
fn an_api_server_that_goes_for_a_while_is_followed_again() {
    let topology = Topology::new();
    let node = topology.node();
    let pods = [node.pod("p1"), node.pod("p2")];
    let _servers = [0, 1].map(|n| pods[n].serve(Protocol::Tcp, 8080));
    let api = Api::of_one(&node, &pods[0].v4.to_string());
    let mut daemon = api.start("node-1", &node);
    wait_for_vip(&node, &mut daemon);

    api.server.outage();
    std::thread::sleep(Duration::from_secs(3));
    let client = Client::within(&node.namespace);
    assert_eq!(client.callees(Protocol::Tcp, WEB, 1), ["p1"]);
    api.web(&[(&pods[1].v4.to_string(), "node-1")]);
    api.server.resume();

    wait_until("p2 has taken over", PATIENCE, || {
        let table = table(&node.namespace);
        table.contains("10.244.1.3") && !table.contains("10.244.1.2")
    });
    assert_eq!(client.callees(Protocol::Tcp, WEB, 1), ["p2"]);
}
