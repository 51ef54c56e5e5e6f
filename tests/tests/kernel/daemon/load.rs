//! Clients that go on asking while a test does its worst.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kube_ipvs_tests::{Client, Connection, Namespace, Protocol, Verdict};

/// A loaded machine answers late; only what never comes counts as failed.
const LATE: Duration = Duration::from_secs(15);

/// What clients met.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Questions that were answered.
    pub(super) answered: usize,
    /// What went wrong, with the seconds since the beginning.
    pub(super) failed: Vec<String>,
}

impl Seen {
    fn note(&mut self, what: &str, begun: Instant, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Answered { .. } => {
                self.answered += 1;
                true
            }
            other => {
                let at = begun.elapsed().as_secs_f32();
                self.failed
                    .push(format!("{what} {other:?} after {at:.1} s"));
                false
            }
        }
    }
}

/// Clients on a thread, until they are told to stop.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Load {
    /// So many new connections a second at most, each with one question.
    pub(super) fn new_connections(from: &Namespace, to: &str, a_second: u32) -> Self {
        let to = to.to_owned();
        Self::spawn(from, move |stop| {
            let (begun, mut seen) = (Instant::now(), Seen::default());
            let mut next = begun;
            while !stop.load(Ordering::Relaxed) {
                let verdict = Client::here().timeout(LATE).call(Protocol::Tcp, &to);
                seen.note("a new connection", begun, verdict);
                next += Duration::from_secs(1) / a_second;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            seen
        })
    }

    /// New connections from these ports, one after the other, again and again.
    pub(super) fn from_ports(
        from: &Namespace,
        to: &str,
        ports: std::ops::Range<u16>,
        pause: Duration,
    ) -> Self {
        let to = to.to_owned();
        Self::spawn(from, move |stop| {
            let (begun, mut seen) = (Instant::now(), Seen::default());
            for port in ports.cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let client = Client::here().timeout(LATE).port(port);
                seen.note(
                    &format!("port {port}"),
                    begun,
                    client.call(Protocol::Tcp, &to),
                );
                thread::sleep(pause);
            }
            seen
        })
    }

    /// Connections that stay and ask about once a second each.
    pub(super) fn flows(from: &Namespace, to: &str, count: u32) -> Self {
        let to = to.to_owned();
        let open = move |_| {
            let client = Client::here().timeout(LATE);
            client.connect(Protocol::Tcp, &to).expect("a flow begins")
        };
        let mut flows: Vec<Connection> = from.run(|| (0..count).map(open).collect());
        Self::spawn(from, move |stop| {
            let (begun, mut seen) = (Instant::now(), Seen::default());
            let mut cut = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                for (number, flow) in flows.iter_mut().enumerate() {
                    if cut.contains(&number) {
                        continue;
                    }
                    if !seen.note(&format!("flow {number}"), begun, flow.ask()) {
                        cut.push(number);
                    }
                    thread::sleep(Duration::from_secs(1) / count);
                }
            }
            seen
        })
    }

    fn spawn(from: &Namespace, work: impl FnOnce(&AtomicBool) -> Seen + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        Self {
            stop,
            thread: from.spawn(move || work(&told)),
        }
    }

    /// Ends it; what it met.
    pub(super) fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("clients do not panic")
    }
}
