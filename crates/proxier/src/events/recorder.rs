//! Writes Events, at its own pace.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::kube::Client;
use http::Request;
use jiff::Timestamp;
use kube_ipvs_source::kube::{Failure, LONGEST, answer};
use kube_ipvs_source::tasks::Tasks;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::body::Fact;
use super::limiter::Limiter;

/// Facts that wait.
const QUEUE: usize = 256;
/// Facts remembered as written.
const MEMORY: usize = 4096;

/// How fast to write.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Events at once.
    pub burst: u32,
    /// Then one in each interval.
    pub interval: Duration,
    /// Longest random wait before a fact is written, so that nodes that find
    /// it at once do not all write at once.
    pub spread: Duration,
    /// A fact that was written is not written again for this long; the API
    /// server forgets Events after an hour.
    pub memory: Duration,
    /// Attempts for one fact.
    pub attempts: u32,
    /// Pause before the next attempt; it doubles.
    pub pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            burst: 10,
            interval: Duration::from_secs(6),
            spread: Duration::from_secs(3),
            memory: Duration::from_secs(3600),
            attempts: 5,
            pause: Duration::from_secs(2),
        }
    }
}

/// What has become of the facts so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Written by this node.
    pub written: u64,
    /// Found written by another node, or by this one earlier.
    pub known: u64,
    /// Dropped because too many waited.
    pub dropped: u64,
    /// Given up after refusals or failures.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    written: AtomicU64,
    known: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// Takes facts and never blocks. The task behind it ends with the last clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    facts: mpsc::Sender<Fact>,
    counters: Arc<Counters>,
}

impl Recorder {
    /// Starts the task that writes.
    pub fn spawn(tasks: &Tasks, client: &Client, node_name: &str, pace: Pace) -> Self {
        let (facts, waiting) = mpsc::channel(QUEUE);
        let counters = Arc::new(Counters::default());
        let writer = Writer {
            client: client.clone(),
            node_name: node_name.to_owned(),
            pace,
            limiter: Limiter::new(pace.burst, pace.interval, Instant::now()),
            written: HashMap::new(),
            counters: counters.clone(),
        };
        tasks.spawn_job("Events", writer.run(waiting)).detach();
        Self { facts, counters }
    }

    /// A recorder for sources without an API server: everything is dropped,
    /// and counted.
    pub fn none() -> Self {
        Self {
            facts: mpsc::channel(1).0,
            counters: Arc::default(),
        }
    }

    /// Hands a fact over, or drops it if too many wait.
    pub fn record(&self, fact: Fact) {
        if self.facts.try_send(fact).is_err() {
            count(&self.counters.dropped);
        }
    }

    /// The numbers so far.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            written: read(&self.counters.written),
            known: read(&self.counters.known),
            dropped: read(&self.counters.dropped),
            failed: read(&self.counters.failed),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

struct Writer {
    client: Client,
    node_name: String,
    pace: Pace,
    limiter: Limiter,
    /// What has been said, by the name of its Event, with when that was found.
    written: HashMap<String, Instant>,
    counters: Arc<Counters>,
}

impl Writer {
    async fn run(mut self, mut facts: mpsc::Receiver<Fact>) {
        while let Some(fact) = facts.recv().await {
            let said = fact.event_name();
            if self.remembers(&said, Instant::now()) {
                count(&self.counters.known);
                continue;
            }
            sleep(self.pace.spread.mul_f64(rand::random())).await;
            while let Err(wait) = self.limiter.take(Instant::now()) {
                sleep(wait).await;
            }
            if self.write(&fact).await {
                self.remember(said, Instant::now());
            }
        }
    }

    /// Writes an Event; says whether it exists now.
    async fn write(&self, fact: &Fact) -> bool {
        let mut pause = self.pace.pause;
        for attempt in 1..=self.pace.attempts.max(1) {
            let failure = match self.create(fact).await {
                Ok(()) => {
                    count(&self.counters.written);
                    return true;
                }
                Err(failure) if failure.code() == Some(409) => {
                    count(&self.counters.known);
                    return true;
                }
                Err(failure) => failure,
            };
            if refused_for_good(&failure) || attempt >= self.pace.attempts {
                tracing::warn!(object = %fact.about.object, reason = fact.reason, "create Event: {failure}");
                break;
            }
            let asked = failure.retry_after().unwrap_or_default();
            let around = pause.mul_f64(0.5 + rand::random::<f64>() / 2.0);
            sleep(around.max(asked).min(LONGEST)).await;
            pause = pause.saturating_mul(2);
        }
        count(&self.counters.failed);
        false
    }

    async fn create(&self, fact: &Fact) -> Result<(), Failure> {
        let uri = format!(
            "/apis/events.k8s.io/v1/namespaces/{}/events",
            fact.event_namespace()
        );
        let body = fact
            .event(&self.node_name, Timestamp::now())
            .to_string()
            .into_bytes();
        let request = Request::post(uri)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| {
                Failure::Nonsense(format!("namespace {:?}: {error}", fact.event_namespace()))
            })?;
        answer(&self.client, request).await.map(drop)
    }

    fn remembers(&self, name: &str, now: Instant) -> bool {
        let fresh = |found: &Instant| now.saturating_duration_since(*found) < self.pace.memory;
        self.written.get(name).is_some_and(fresh)
    }

    fn remember(&mut self, name: String, now: Instant) {
        if self.written.len() >= MEMORY {
            let memory = self.pace.memory;
            self.written
                .retain(|_, found| now.saturating_duration_since(*found) < memory);
        }
        if self.written.len() >= MEMORY {
            // To ask the server again is dearer than to forget, but bounded.
            self.written.clear();
        }
        self.written.insert(name, now);
    }
}

/// Whether asking again is of no use.
fn refused_for_good(failure: &Failure) -> bool {
    failure
        .code()
        .is_some_and(|code| (400..500).contains(&code) && code != 429 && code != 408)
}
