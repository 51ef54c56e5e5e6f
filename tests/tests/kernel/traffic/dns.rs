//! Resolvers that never change their source port, while the servers
//! behind a VIP come and go.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kube_ipvs_tests::{Connection, Namespace, Pod, Protocol, Server, Verdict, wait_until};

use super::site::{PATIENCE, Site};
use super::web::{State, Web};

const FIRST_PORT: u16 = 41_001;
const RESOLVERS: usize = 12;
/// Between two questions of a resolver.
const PACE: Duration = Duration::from_millis(100);
/// A question that is not answered by then is lost.
const LATE: Duration = Duration::from_millis(800);

/// A question: when it was asked, and who answered.
#[derive(Debug, Clone)]
struct Question {
    at: Instant,
    who: Option<String>,
}

/// Resolvers on threads.
struct Resolvers {
    stop: Arc<AtomicBool>,
    asked: Vec<Arc<Mutex<Vec<Question>>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Resolvers {
    /// Every resolver asks one of `targets`, in turn.
    fn start(from: &Namespace, targets: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut resolvers = Self {
            stop,
            asked: Vec::new(),
            threads: Vec::new(),
        };
        for (port, to) in (FIRST_PORT..).zip(targets.iter().cycle()).take(RESOLVERS) {
            let asked = Arc::default();
            resolvers.asked.push(Arc::clone(&asked));
            let (to, stop) = (to.clone(), Arc::clone(&resolvers.stop));
            let thread = from.spawn(move || resolve(port, &to, &stop, &asked));
            resolvers.threads.push(thread);
        }
        resolvers
    }

    /// Waits until all have asked `count` more questions, and gives what came
    /// of all so far.
    fn after(&self, count: usize) -> Vec<Vec<Question>> {
        let lengths = || self.asked.iter().map(|q| q.lock().expect("no panic").len());
        let goals: Vec<usize> = lengths().map(|length| length + count).collect();
        wait_until("resolvers ask on", PATIENCE, || {
            lengths().zip(&goals).all(|(length, goal)| length >= *goal)
        });
        let all = self.asked.iter();
        all.map(|q| q.lock().expect("no panic").clone()).collect()
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("resolvers do not panic");
        }
    }
}

fn resolve(port: u16, to: &str, stop: &AtomicBool, asked: &Mutex<Vec<Question>>) {
    let any = if to.starts_with('[') {
        "[::]"
    } else {
        "0.0.0.0"
    };
    let socket = UdpSocket::bind(format!("{any}:{port}")).expect("bind a resolver");
    socket.connect(to).expect("connect a resolver");
    socket
        .set_read_timeout(Some(LATE))
        .expect("set its patience");
    while !stop.load(Ordering::Relaxed) {
        let at = Instant::now();
        let who = ask(&socket);
        asked.lock().expect("no panic").push(Question { at, who });
        thread::sleep(PACE.saturating_sub(at.elapsed()));
    }
}

/// Who answered; nobody when it was refused or took too long.
fn ask(socket: &UdpSocket) -> Option<String> {
    // A refusal of the question before shows up here.
    socket
        .send(b"?")
        .or_else(|_| socket.send(b"?"))
        .expect("send");
    let mut answer = [0; 512];
    let length = match socket.recv(&mut answer) {
        Ok(length) => length,
        Err(e) if e.kind() == ErrorKind::WouldBlock || e.kind() == ErrorKind::ConnectionRefused => {
            return None;
        }
        Err(error) => panic!("receive: {error}"),
    };
    let text = String::from_utf8_lossy(&answer[..length]);
    text.split_once(" saw ").map(|(who, _)| who.to_owned())
}

/// Addresses of a pod, and where it stands in its life.
type Member = ([IpAddr; 2], State);

fn dns(members: &[Member]) -> Web {
    let dns = Web::new("dns", &["10.96.0.10", "fd00:96::10"])
        .port(Protocol::Udp, 53, 8080)
        .node_ports(30_053);
    members.iter().fold(dns, |dns, (addresses, state)| {
        addresses
            .iter()
            .fold(dns, |dns, a| dns.endpoint_in(*a, *state))
    })
}

fn serve(pod: &Pod) -> [Server; 2] {
    let udp = Protocol::Udp;
    [pod.serve(udp, 8080), pod.serve_v6(udp, 8080)]
}

/// Since `changed` a resolver may lose one question, and none that it asked a
/// second after `done`; `gone` answers no more.
fn judge(what: &str, asked: &[Vec<Question>], changed: Instant, done: Instant, gone: &str) {
    for (resolver, questions) in asked.iter().enumerate() {
        let since = |moment| questions.iter().filter(move |q| q.at >= moment);
        let lost = since(changed).filter(|q| q.who.is_none()).count();
        let settled: Vec<_> = since(done + Duration::from_secs(1)).collect();
        let told = format!("{what}: resolver {resolver}: {questions:?}");
        assert!(lost <= 1, "{lost} questions lost; {told}");
        assert!(settled.iter().all(|q| q.who.is_some()), "lost late; {told}");
        assert!(
            since(done).all(|q| q.who.as_deref() != Some(gone)),
            "{gone} answered; {told}"
        );
        assert!(
            settled.len() >= 3,
            "too few questions to say anything; {told}"
        );
    }
}

#[test]
fn resolvers_with_fixed_ports_lose_at_most_one_question_a_change() {
    let mut site = Site::new();
    let p3 = site.small.node.pod("p3");
    let [p1, p2] = &site.small.pods;
    let [one, two, three] = [p1, p2, &p3].map(|pod| [IpAddr::from(pod.v4), pod.v6.into()]);
    let mut servers = [p1, p2, &p3].map(|pod| Some(serve(pod)));
    let gone = |site: &Site, member: [IpAddr; 2]| {
        site.wait_for_table(&format!("{member:?} is gone"), |table| {
            !member
                .iter()
                .any(|a| table.contains(&SocketAddr::new(*a, 8080).to_string()))
        });
        Instant::now()
    };
    use State::{Leaving, Ready};
    site.write(&dns(&[(one, Ready), (two, Ready)]));
    site.start(&[
        "--cluster-cidr=10.244.0.0/16,fd00:244::/32",
        "--ipvs-min-sync-period=100ms",
    ]);
    // The answers to these go back through conntrack's address translation.
    let node = &site.small.node;
    let targets = [
        "10.96.0.10:53".to_owned(),
        format!("{}:30053", node.v4()),
        "[fd00:96::10]:53".to_owned(),
        format!("[{}]:30053", node.v6()),
    ];
    let resolvers = Resolvers::start(&site.small.outside.namespace, &targets);
    let before = resolvers.after(5);
    assert!(
        before.iter().flatten().all(|q| q.who.is_some()),
        "{before:?}"
    );

    // Asked to end, and ended as soon as nobody is sent there any more.
    let changed = Instant::now();
    site.write(&dns(&[(one, Leaving), (two, Ready), (three, Ready)]));
    let done = gone(&site, one);
    servers[0] = None;
    judge("p1 leaves", &resolvers.after(14), changed, done, "p1");

    // Gone from one moment to the next.
    let changed = Instant::now();
    site.write(&dns(&[(three, Ready)]));
    let done = gone(&site, two);
    servers[1] = None;
    judge("p2 goes", &resolvers.after(14), changed, done, "p2");

    // Nobody for a while, then somebody new.
    site.write(&dns(&[]));
    gone(&site, three);
    servers[2] = None;
    let nobody = resolvers.after(5);
    assert!(
        nobody
            .iter()
            .all(|questions| questions[questions.len() - 2].who.is_none())
    );
    servers[0] = Some(serve(&site.small.pods[0]));
    site.write(&dns(&[(one, Ready)]));
    let there = one.map(|a| format!("-r {} -m -w 1", SocketAddr::new(a, 8080)));
    site.wait_for_table("p1 is back", |table| {
        // A ClusterIP, and a node port at two addresses, for each family.
        there
            .iter()
            .all(|server| table.matches(server.as_str()).count() == 3)
    });
    site.wait_for_vip("10.96.0.10");
    site.wait_for_vip("fd00:96::10");
    let done = Instant::now();
    judge("p1 is back", &resolvers.after(14), done, done, "p3");

    resolvers.stop();
}

/// The kernel remembers that flow without address translation, and the answers
/// of an endpoint elsewhere would go past this node.
#[test]
fn a_resolver_that_asked_before_there_was_a_service_is_answered() {
    let mut site = Site::new();
    let other = site.small.topology.node();
    let pod = other.pod("p3");
    let _servers = serve(&pod);
    site.start(&["--ipvs-min-sync-period=100ms"]);
    let node = [
        IpAddr::from(site.small.node.v4()),
        site.small.node.v6().into(),
    ];
    let mut flows = node.map(|address| {
        let to = SocketAddr::new(address, 30_053).to_string();
        let flow = site.outside().connect(Protocol::Udp, &to);
        flow.expect("UDP needs no answer")
    });
    let early = flows.each_mut().map(Connection::ask);
    assert_eq!(early, [Verdict::Refused, Verdict::Refused]);

    site.write(&dns(&[([pod.v4.into(), pod.v6.into()], State::Ready)]));
    site.wait_for_vip("10.96.0.10");
    site.wait_for_vip("fd00:96::10");

    let who = flows.each_mut().map(|flow| flow.ask().who().to_owned());
    assert_eq!(who, ["p3", "p3"]);
}
