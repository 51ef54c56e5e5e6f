//! What a new connection through a VIP costs, client and server included: with
//! our table, and on IPVS alone.
//!
//! Guest time follows the instructions, all of them run on one processor, and
//! each step of a connection is the answer to the one before, so nobody waits:
//! the time of many connections is what their instructions took.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use kube_ipvs_tests::{Namespace, Topology, command, kube_ipvs, output_of};
use serde_json::{Value, json};

/// Services in the table, and in the kernel's, in all measurements.
const SERVICES: usize = 1000;
/// Connections whose mean is one figure; the median of the figures counts.
const CONNECTIONS: u32 = 200;
const ROUNDS: usize = 5;
/// Guest time of one instruction (`-icount shift=1`).
const NANOSECONDS: f64 = 2.0;
/// Ours against IPVS alone.
const WORST: f64 = 1.5;

/// How many connections the namespace's connection tracking knows.
const TRACKED: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

const TCP: &str = "10.96.0.1:80";
const UDP: &str = "10.96.0.2:80";
const TARGET_PORT: u16 = 8080;
const PATIENCE: Duration = Duration::from_secs(5);

/// What stands beside IPVS.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Table {
    Ours,
    None,
}

/// Instructions of one connection.
#[derive(Clone, Copy)]
struct Cost {
    tcp: f64,
    udp: f64,
}

pub(crate) fn run() -> Result<bool> {
    let bare = measure(&[], Table::None)?;
    let ours = measure(&[], Table::Ours)?;
    let masqueraded = measure(&["--masquerade-all"], Table::Ours)?;
    let line = |of: fn(&Cost) -> f64| {
        let [bare, ours, masqueraded] = [&bare, &ours, &masqueraded].map(of);
        format!(
            "bare {bare:.0} instructions, ours {ours:.0}, ratio {:.2}, masqueraded {masqueraded:.0}",
            ours / bare
        )
    };
    println!(
        "connections: TCP {}; UDP {}",
        line(|cost| cost.tcp),
        line(|cost| cost.udp)
    );
    Ok(ours.tcp / bare.tcp <= WORST && ours.udp / bare.udp <= WORST)
}

/// Programs a node as the program does, and connects from one of its pods to
/// the other.
fn measure(arguments: &[&str], table: Table) -> Result<Cost> {
    let topology = Topology::new();
    let node = topology.node();
    let [client, server] = ["client", "server"].map(|name| node.pod(name));
    let directory = tempfile::tempdir()?;
    fs::write(
        directory.path().join("all.json"),
        objects(server.v4).to_string(),
    )?;
    let manifests = directory.path().to_string_lossy().into_owned();
    let [pods, _] = node.pod_cidrs();
    let mut program = vec!["run", "--once", "--hostname-override", "node-1"];
    program.extend(["--manifests", &manifests, "--cluster-cidr", &pods]);
    program.extend(arguments);
    output_of(&mut kube_ipvs(&node.namespace, program));
    if table == Table::None {
        strip(&node.namespace)?;
    }

    server.namespace.run(|| serve(server.v4))?;
    let cost = client.namespace.run(|| -> Result<Cost> {
        Ok(Cost {
            tcp: instructions(ask_tcp).context("TCP")?,
            udp: instructions(ask_udp).context("UDP")?,
        })
    })?;
    let tracked = node.namespace.run(|| fs::read_to_string(TRACKED))?;
    ensure!(
        (tracked.trim() == "0") == (table == Table::None),
        "{} connections were tracked",
        tracked.trim()
    );
    node.namespace.run(|| command::run("ipvsadm", ["-C"]));
    drop(topology);
    // The kernel takes namespaces down in its own time and says nothing at the
    // end. An idle guest's clock jumps, so this is cheap.
    thread::sleep(Duration::from_secs(2));
    Ok(cost)
}

/// Leaves VIPs and the kernel's table, and nothing that filters or tracks.
fn strip(node: &Namespace) -> Result<()> {
    node.run(|| command::run("nft", ["flush", "ruleset"]));
    node.sysctl("net/ipv4/vs/conntrack", "0");
    let left = node.run(|| command::run("nft", ["list", "ruleset"]));
    ensure!(left.is_empty(), "nftables is not empty:\n{left}");
    let services = node.run(|| command::run("ipvsadm", ["-Sn"]));
    let services = services
        .lines()
        .filter(|line| line.starts_with("-A"))
        .count();
    ensure!(services == SERVICES, "{services} virtual servers are there");
    Ok(())
}

/// Services at 10.96.x.y:80, each with the server and one more endpoint; the
/// first has TCP, the second UDP, and both only the server.
fn objects(server: Ipv4Addr) -> Value {
    let items: Vec<Value> = (1..=SERVICES)
        .flat_map(|number| service(number, server))
        .collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn service(number: usize, server: Ipv4Addr) -> [Value; 2] {
    let name = format!("service-{number}");
    let protocol = if number == 2 { "UDP" } else { "TCP" };
    let vip = format!("10.96.{}.{}", number / 256, number % 256);
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

/// Answers in this thread's namespace from now on.
fn serve(address: Ipv4Addr) -> Result<()> {
    let at = SocketAddr::from((address, TARGET_PORT));
    let listener = TcpListener::bind(at).context("listen")?;
    let socket = UdpSocket::bind(at).context("bind")?;
    thread::spawn(move || {
        let mut question = [0; 64];
        for mut stream in listener.incoming().map_while(Result::ok) {
            let length = stream.read(&mut question).unwrap_or_default();
            let _ = stream.write_all(&question[..length]);
        }
    });
    thread::spawn(move || {
        let mut question = [0; 64];
        while let Ok((length, peer)) = socket.recv_from(&mut question) {
            let _ = socket.send_to(&question[..length], peer);
        }
    });
    Ok(())
}

/// Of one `ask`, after a round that does not count.
fn instructions(ask: fn() -> Result<()>) -> Result<f64> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for round in 0..=ROUNDS {
        let started = Instant::now();
        for _ in 0..CONNECTIONS {
            ask()?;
        }
        let took = started.elapsed();
        if round > 0 {
            rounds.push(took.as_nanos() as f64 / NANOSECONDS / f64::from(CONNECTIONS));
        }
    }
    rounds.sort_by(f64::total_cmp);
    Ok(rounds[ROUNDS / 2])
}

/// Connects, asks, reads the answer to the end that the server makes, closes.
fn ask_tcp() -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&TCP.parse()?, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"how are you?")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer == b"how are you?", "another answer");
    Ok(())
}

/// Asks from a new port.
fn ask_udp() -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(UDP)?;
    socket.send(b"how are you?")?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer)?;
    ensure!(&answer[..length] == b"how are you?", "another answer");
    Ok(())
}
