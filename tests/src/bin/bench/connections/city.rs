//! One node with two pods, programmed as the program does it.

use std::net::Ipv4Addr;
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use kube_ipvs_nft::{Elements, Family, Nft};
use kube_ipvs_tests::{Node, Pod, Topology, command, kube_ipvs, output_of, run_with_input};
use serde_json::{Value, json};

use super::calls::{self, Costs, Fronts, TARGET_PORT};

/// What stands beside IPVS. The order is that of less and less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Ours,
    /// Connection tracking for IPVS, and a nat chain without a rule.
    Tracked,
    None,
}

/// How many connections the namespace's connection tracking knows.
const TRACKED: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
/// After so long without traffic IPVS and connection tracking have forgotten all
/// calls. An idle guest's clock jumps, so this is cheap.
const FORGOTTEN: Duration = Duration::from_secs(330);
/// The kernel takes namespaces down in its own time and says nothing at the end.
const GONE: Duration = Duration::from_secs(2);

/// A rule that asks for connection tracking is what starts it; no packet comes there.
const EMPTY_NAT: &str = "table ip empty {
    chain nat { type nat hook postrouting priority 100; }
    chain nowhere { ct state new accept; }
}
";

/// A client, a server, and the node between them.
pub(crate) struct City {
    services: usize,
    node: Node,
    client: Pod,
    server: Pod,
    _topology: Topology,
}

impl City {
    /// The first Service has TCP, the second UDP, and both only the server.
    pub(crate) fn build(services: usize, arguments: &[&str]) -> Result<Self> {
        let topology = Topology::new();
        let node = topology.node();
        let [client, server] = ["client", "server"].map(|name| node.pod(name));
        let directory = tempfile::tempdir()?;
        let objects = objects(services, server.v4).to_string();
        fs::write(directory.path().join("all.json"), objects)?;
        let manifests = directory.path().to_string_lossy().into_owned();
        let [pods, _] = node.pod_cidrs();
        let mut program = vec!["run", "--once", "--hostname-override", "node-1"];
        program.extend(["--manifests", &manifests, "--cluster-cidr", &pods]);
        program.extend(arguments);
        output_of(&mut kube_ipvs(&node.namespace, program));
        server.namespace.run(|| calls::serve(server.v4))?;
        Ok(Self {
            services,
            node,
            client,
            server,
            _topology: topology,
        })
    }

    /// What the program has put into its table.
    pub(crate) fn elements(&self) -> Result<Elements> {
        let node = &self.node.namespace;
        let table = node.run(|| Nft::open()?.read(Family::Ip))?;
        Ok(table.context("the program made no table")?.elements)
    }

    /// The node's namespace.
    pub(crate) fn node(&self) -> &kube_ipvs_tests::Namespace {
        &self.node.namespace
    }

    /// Leaves `table` and makes all calls.
    pub(super) fn measure(&self, table: Table) -> Result<Costs> {
        if table != Table::Ours {
            self.strip(table)?;
        }
        thread::sleep(FORGOTTEN);
        let before = self.tracked()?;
        let fronts = self.fronts();
        let costs = self.client.namespace.run(|| calls::costs(&fronts))?;
        let after = self.tracked()?;
        ensure!(
            (after > before) == (table != Table::None),
            "{table:?}: {before} connections were tracked, then {after}"
        );
        Ok(costs)
    }

    /// Makes the UDP question alone, beside our table, which has its Service untracked.
    pub(super) fn measure_untracked(&self) -> Result<f64> {
        thread::sleep(FORGOTTEN);
        let before = self.tracked()?;
        let fronts = self.fronts();
        let cost = self.client.namespace.run(|| calls::cost_of_udp(&fronts))?;
        let after = self.tracked()?;
        ensure!(
            after <= before,
            "{before} connections were tracked, then {after}, by a Service that is untracked"
        );
        Ok(cost)
    }

    /// Asks on an open connection for so long, and says what each question took.
    pub(crate) fn ask_for(&self, time: Duration) -> Result<Vec<Duration>> {
        let front = self.fronts().tcp;
        self.client.namespace.run(|| calls::ask_for(front, time))
    }

    fn fronts(&self) -> Fronts {
        Fronts {
            tcp: (vip(1), 80).into(),
            udp: (vip(2), 80).into(),
            server: self.server.v4,
        }
    }

    /// Leaves VIPs and the kernel's table, and nothing that filters.
    fn strip(&self, table: Table) -> Result<()> {
        let node = &self.node.namespace;
        node.run(|| command::run("nft", ["flush", "ruleset"]));
        let tracking = table == Table::Tracked;
        node.sysctl("net/ipv4/vs/conntrack", if tracking { "1" } else { "0" });
        if tracking {
            node.run(|| run_with_input("nft", ["-f", "-"], EMPTY_NAT));
        }
        let services = node.run(|| command::run("ipvsadm", ["-Sn"]));
        let services = services
            .lines()
            .filter(|line| line.starts_with("-A"))
            .count();
        ensure!(
            services == self.services,
            "{services} virtual servers are there"
        );
        Ok(())
    }

    fn tracked(&self) -> Result<u32> {
        let text = self.node.namespace.run(|| fs::read_to_string(TRACKED))?;
        Ok(text.trim().parse()?)
    }

    /// Virtual servers of all namespaces share the kernel's hash buckets.
    pub(crate) fn leave(self) {
        self.node.namespace.run(|| command::run("ipvsadm", ["-C"]));
        drop(self);
        thread::sleep(GONE);
    }
}

/// 10.96.0.1, 10.96.0.2 and so on.
fn vip(number: usize) -> Ipv4Addr {
    let number = u32::try_from(number).expect("a Service's number is small");
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) + number)
}

/// Services at port 80, each with the server and one more endpoint, but for the
/// two that are called.
fn objects(services: usize, server: Ipv4Addr) -> Value {
    let items: Vec<Value> = (1..=services)
        .flat_map(|number| service(number, server))
        .collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn service(number: usize, server: Ipv4Addr) -> [Value; 2] {
    let name = format!("service-{number}");
    let protocol = if number == 2 { "UDP" } else { "TCP" };
    let vip = vip(number);
    let other = format!("10.244.{}.{}", 2 + number / 250, 2 + number % 250);
    let mut endpoints = vec![endpoint(&server.to_string(), "node-1")];
    endpoints.extend((number > 2).then(|| endpoint(&other, "node-2")));
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "clusterIP": vip, "clusterIPs": [vip],
            "ports": [{"port": 80, "protocol": protocol}],
        },
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-1"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"port": TARGET_PORT, "protocol": protocol}],
        "endpoints": endpoints,
    });
    [service, slice]
}

fn endpoint(address: &str, node: &str) -> Value {
    json!({
        "addresses": [address], "nodeName": node,
        "conditions": {"ready": true, "serving": true, "terminating": false},
    })
}
