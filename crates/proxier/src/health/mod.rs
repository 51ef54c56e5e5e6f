//! What others may ask this node: is it healthy, is it ready, what does it count.
//!
//! [`Health`] is the handle that the loop writes to and the servers read from.
//! The decisions stand in [`state`], the answers in [`probes`] (the health
//! server), [`diagnostics`] (the metrics server) and [`node_ports`] (one small
//! server for each `healthCheckNodePort`); [`server`] binds them, and
//! [`connections`] bounds what they may cost.

pub mod connections;
pub mod diagnostics;
pub mod node_ports;
pub mod probes;
mod reply;
pub mod server;
pub mod state;
mod zpages;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube_ipvs_core::state::Family;
use kube_ipvs_dataplane::progress::{Made, Progress};

use crate::metrics::Metrics;
pub use state::{HealthState, Node, Report};

/// One moment on both clocks: what is measured, and what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The clock that never jumps.
    pub instant: Instant,
    /// The wall clock.
    pub wall: Timestamp,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self {
            instant: Instant::now(),
            wall: Timestamp::now(),
        }
    }

    /// The wall clock at an earlier instant, as this moment's clock has it.
    fn wall_at(&self, earlier: Instant) -> Timestamp {
        self.wall
            .saturating_sub(self.instant.saturating_duration_since(earlier))
            .unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Where the time comes from.
type Clock = Arc<dyn Fn() -> Moment + Send + Sync>;

/// Shared by the loop and the servers. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    state: Arc<Mutex<HealthState>>,
    metrics: Metrics,
    progress: Progress,
    clock: Clock,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Health {
    /// Of the families that are served; twice `sync_period` without a sync is unhealthy.
    pub fn new(
        families: impl IntoIterator<Item = Family>,
        sync_period: Duration,
        metrics: Metrics,
    ) -> Self {
        Self::with_clock(families, sync_period, metrics, Moment::now)
    }

    /// The same with a clock of the caller's.
    pub fn with_clock(
        families: impl IntoIterator<Item = Family>,
        sync_period: Duration,
        metrics: Metrics,
        clock: impl Fn() -> Moment + Send + Sync + 'static,
    ) -> Self {
        Self {
            state: Arc::new(Mutex::new(HealthState::new(families, sync_period))),
            metrics,
            progress: Progress::default(),
            clock: Arc::new(clock),
        }
    }

    /// A sync was asked for.
    pub fn queued_update(&self) {
        let now = self.now().instant;
        self.state().queued_update(now);
    }

    /// A sync of this family was complete: nothing failed.
    pub fn updated(&self, family: Family) {
        let now = self.now().instant;
        self.state().updated(family, now);
    }

    /// Sets a reason against readiness, or takes it back.
    ///
    /// The key is a short word (`source`, `nft`, `sync`), the reason a sentence
    /// that names the thing and the remedy.
    pub fn set_reason(&self, key: &str, reason: Option<String>) {
        self.state().set_reason(key, reason);
        let not_ready = self.not_ready();
        self.metrics.not_ready(not_ready.keys().map(String::as_str));
    }

    /// Sets a warning, or takes it back: `/readyz?verbose` shows it, and it is no
    /// reason against readiness. Key and text as with [`Self::set_reason`].
    pub fn set_warning(&self, key: &str, warning: Option<String>) {
        self.state().set_warning(key, warning);
    }

    /// The warnings, by key.
    pub fn warnings(&self) -> BTreeMap<String, String> {
        self.state().warnings().clone()
    }

    /// Says what the kernel refuses of single Services; `/readyz?verbose` lists it.
    pub fn set_refused(&self, refused: Vec<String>) {
        self.state().set_refused(refused);
    }

    /// What the kernel refuses: the first ones, and how many there are.
    pub fn refused(&self) -> (Vec<String>, usize) {
        let state = self.state();
        let (lines, count) = state.refused();
        (lines.to_vec(), count)
    }

    /// What the API says about this node.
    pub fn set_node(&self, node: Node) {
        self.state().set_node(node);
    }

    /// What `/healthz` and `/livez` say now.
    pub fn report(&self) -> Report {
        let now = self.now().instant;
        self.state().report(now)
    }

    /// Why this node is not ready now; empty is ready.
    pub fn not_ready(&self) -> BTreeMap<String, String> {
        let now = self.now().instant;
        let mut reasons = self.state().not_ready(now);
        if let (Some(first), Some(made)) = (reasons.get_mut("first-sync"), self.progress.made()) {
            let Made { done, all } = made;
            first.push_str(&format!(": {done} of {all} virtual servers are made"));
        }
        reasons
    }

    /// How far a long round is: told by who carries it out.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    fn now(&self) -> Moment {
        (self.clock)()
    }

    fn state(&self) -> MutexGuard<'_, HealthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod testing {
    //! A clock that is set by hand, and requests over real sockets.

    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Starts at 2026-01-02T03:04:05Z.
    #[derive(Clone)]
    pub(super) struct TestClock {
        start: Instant,
        seconds: Arc<AtomicU64>,
    }

    impl TestClock {
        pub(super) fn new() -> Self {
            Self {
                start: Instant::now(),
                seconds: Arc::default(),
            }
        }

        pub(super) fn advance(&self, seconds: u64) {
            self.seconds.fetch_add(seconds, Ordering::SeqCst);
        }

        pub(super) fn moment(&self) -> Moment {
            let passed = Duration::from_secs(self.seconds.load(Ordering::SeqCst));
            let start: Timestamp = "2026-01-02T03:04:05Z".parse().expect("a time");
            Moment {
                instant: self.start + passed,
                wall: start.saturating_add(passed).expect("in range"),
            }
        }
    }

    /// Dual-stack, sync period 30 s.
    pub(super) fn health(clock: &TestClock) -> Health {
        let clock = clock.clone();
        Health::with_clock(
            [Family::V4, Family::V6],
            Duration::from_secs(30),
            Metrics::new(),
            move || clock.moment(),
        )
    }

    pub(super) struct Answer {
        pub(super) code: u16,
        pub(super) headers: String,
        pub(super) body: String,
    }

    impl Answer {
        pub(super) fn header(&self, name: &str) -> Option<&str> {
            self.headers.lines().find_map(|line| {
                let (key, value) = line.split_once(": ")?;
                key.eq_ignore_ascii_case(name).then_some(value)
            })
        }
    }

    /// `method path` over a connection of its own.
    pub(super) async fn request(to: std::net::SocketAddr, method: &str, path: &str) -> Answer {
        let mut stream = tokio::net::TcpStream::connect(to).await.expect("connect");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("send");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("receive");
        let (headers, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        let code = headers.split(' ').nth(1).expect("a status line");
        Answer {
            code: code.parse().expect("a number"),
            headers: headers.replace("\r\n", "\n"),
            body: body.to_owned(),
        }
    }

    pub(super) async fn get(to: std::net::SocketAddr, path: &str) -> Answer {
        request(to, "GET", path).await
    }

    #[test]
    fn earlier_instants_are_printed_on_the_wall_clock() {
        let clock = TestClock::new();
        let earlier = clock.moment().instant;
        clock.advance(90);

        let printed = clock.moment().wall_at(earlier).to_string();

        assert_eq!(printed, "2026-01-02T03:04:05Z");
    }
}
