//! A kernel whose answers are lost, come twice, or come too late, now and then.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use kube_ipvs::sync::{Syncer, Trigger};
use kube_ipvs_core::{Cluster, Options};
use kube_ipvs_dataplane::linux::Linux;
use kube_ipvs_dataplane::record::RecordFile;
use kube_ipvs_source::manifests::Manifests as Source;
use kube_ipvs_tests::apiserver::{endpoint_slice, service};
use kube_ipvs_tests::{Namespace, chance, run};
use netlink_exchange::{Connection, KernelSocket, Received, Transport, protocols};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

const CHANGES: u64 = 120;
const SERVICES: usize = 6;
/// Of a hundred datagrams, so many are lost and so many come twice.
const LOST: u32 = 5;
const TWICE: u32 = 5;

/// What the sockets of a test share.
#[derive(Debug, Default)]
struct Weather {
    bad: AtomicBool,
    spoiled: AtomicU32,
}

/// The kernel's socket, in such weather.
struct Lossy {
    socket: KernelSocket,
    weather: Arc<Weather>,
    dice: StdRng,
    /// It comes once more.
    again: Option<(Vec<u8>, Received)>,
}

impl Lossy {
    fn spoil(&mut self, into: &mut [u8], got: Received) -> io::Result<Received> {
        if !self.weather.bad.load(Ordering::Relaxed) {
            return Ok(got);
        }
        let throw = self.dice.random_range(0..100);
        if throw >= LOST + TWICE {
            return Ok(got);
        }
        self.weather.spoiled.fetch_add(1, Ordering::Relaxed);
        if throw < LOST {
            // As if it had been waited for long enough.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.again = Some((into.to_owned(), got));
        Ok(got)
    }

    fn take_again(&mut self, into: &mut Vec<u8>) -> Option<Received> {
        let (bytes, got) = self.again.take()?;
        into.clear();
        into.extend(bytes);
        Some(got)
    }
}

impl Transport for Lossy {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.send(bytes)
    }

    fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<Received> {
        if let Some(again) = self.take_again(into) {
            return Ok(again);
        }
        let got = self.socket.receive(into)?;
        self.spoil(into, got)
    }

    fn receive_now(&mut self, into: &mut Vec<u8>) -> io::Result<Received> {
        if let Some(again) = self.take_again(into) {
            return Ok(again);
        }
        let got = self.socket.receive_now(into)?;
        self.spoil(into, got)
    }

    fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.socket.set_timeout(timeout)
    }

    fn receive_buffer(&self) -> usize {
        self.socket.receive_buffer()
    }

    fn make_room(&mut self, length: usize) -> io::Result<()> {
        self.socket.make_room(length)
    }
}

/// Services with some of twelve endpoints each.
fn objects(dice: &mut StdRng) -> Vec<Value> {
    let mut all = Vec::new();
    for n in 0..SERVICES {
        if dice.random_range(0..10) == 0 {
            continue;
        }
        let name = format!("web-{n}");
        all.push(service("default", &name, &format!("10.96.0.{}", n + 10)));
        let chosen = (2..14).filter(|_| dice.random_range(0..2) == 0);
        let addresses: Vec<String> = chosen.map(|n| format!("10.244.1.{n}")).collect();
        let endpoints: Vec<_> = addresses.iter().map(|a| (a.as_str(), "node-1")).collect();
        all.push(endpoint_slice("default", &name, &name, &endpoints));
    }
    all
}

#[test]
fn answers_that_are_lost_or_come_twice_end_in_what_was_asked_for() {
    let _namespace = Namespace::enter();
    let mut dice = chance();
    let weather = Arc::new(Weather::default());
    let [ipvs, nft] = [protocols::NETLINK_GENERIC, protocols::NETLINK_NETFILTER].map(|protocol| {
        let lossy = Lossy {
            socket: KernelSocket::open(protocol).expect("a socket"),
            weather: weather.clone(),
            dice: StdRng::seed_from_u64(dice.random()),
            again: None,
        };
        Connection::over(Box::new(lossy)).expect("it has a time-out")
    });
    let client = ipvs_netlink::Client::over(ipvs).expect("the kernel has IPVS");
    let nft = kube_ipvs_nft::Nft::over(nft);
    let linux = Linux::over(super::model::setup(), client, nft).expect("open the dataplane");
    let state = tempfile::tempdir().expect("a directory");
    let record = RecordFile::open(state.path()).expect("a record");
    let cluster = Cluster::new(Options {
        node_name: "node-1".to_owned(),
        wait_for_node: false,
        wait_for_service_cidrs: false,
        ..Options::default()
    });
    let mut syncer = Syncer::new(cluster, linux, record, Duration::from_secs(900));
    syncer.look_at_host().expect("read the host's addresses");
    let file = state.path().join("all.json");
    let mut source = Source::at(&file);
    let mut failures = 0;

    weather.bad.store(true, Ordering::Relaxed);
    for now in 0..CHANGES {
        let list = json!({"kind": "List", "apiVersion": "v1", "items": objects(&mut dice)});
        std::fs::write(&file, list.to_string()).expect("write manifests");
        let reading = source.read().expect("read them");
        reading
            .events
            .into_iter()
            .for_each(|event| syncer.event(event));
        // What goes wrong is tried again by the next round.
        let went = syncer
            .sync(now * 1000)
            .map(|round| round.is_some_and(|r| r.is_clean()));
        if !went.unwrap_or(false) {
            failures += 1;
            syncer.distrust();
        }
    }
    weather.bad.store(false, Ordering::Relaxed);
    let last = syncer
        .audit(CHANGES * 1000, Trigger::Audit)
        .expect("it is read whole");

    assert!(last.is_clean(), "{:?}", last.report.refused);
    let spoiled = weather.spoiled.load(Ordering::Relaxed);
    eprintln!("{spoiled} answers spoiled, {failures} of {CHANGES} rounds failed");
    assert!(
        spoiled > 20 && failures > 5,
        "{spoiled}, {failures}: no weather"
    );
    assert_eq!(table(), wanted(&syncer));
}

/// Front and real server, a pair a line of `ipvsadm -Sn`.
fn table() -> BTreeSet<String> {
    let text = run("ipvsadm", ["-Sn"]);
    let real = text.lines().filter(|line| line.starts_with("-a "));
    let pair = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        format!("{} {}", words[2], words[4])
    };
    real.map(pair).collect()
}

fn wanted(syncer: &Syncer<Linux>) -> BTreeSet<String> {
    let servers = syncer.cluster().desired().virtual_servers.iter();
    let pairs = servers.flat_map(|(key, server)| {
        let front = key.front().expect("no marks");
        let to = std::net::SocketAddr::new(front.address, front.port);
        let reals = server.real_servers.keys();
        reals.map(move |real| {
            let real = std::net::SocketAddr::new(real.address, real.port);
            format!("{to} {real}")
        })
    });
    pairs.collect()
}
