//! Gives the syncer its clock and its channels: one task, one thread, one kernel.
//!
//! Level-triggered: events, timers and the kernel's own notices only say that
//! it is time to look; what to do comes from comparing states.

use std::time::Duration;

use futures::{Stream, StreamExt};
use kube_ipvs_core::Event;
use kube_ipvs_dataplane::Dataplane;
use kube_ipvs_vip::Change;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::hour::LastHour;
use super::reporter::Reporter;
use super::{Backoff, Round, Syncer, Trigger};
use crate::answers::{Ask, LastRound, LoopReport, Question, Questions, Reply, Told};

/// After a change, table sizes are counted anew: late enough to cost nothing.
const COUNT_DELAY: Duration = Duration::from_secs(5);
/// After a notice of the kernel, wait for more of them before looking.
const NOTICE_DELAY: Duration = Duration::from_millis(100);
/// Failures in a row that are each told; of those that follow, one in so long.
const TOLD: u32 = 6;
const TELL_AGAIN: Duration = Duration::from_secs(30);

/// The times a driver keeps.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Between the end of a round and the start of the next
    /// (`--ipvs-min-sync-period`).
    pub min_sync_period: Duration,
    /// Of one pass of the rolling audit (`--ipvs-sync-period`).
    pub sync_period: Duration,
}

/// What is done once, after the first round that did not fail and left no VIP
/// unbound.
type Settled<D> = Box<dyn FnOnce(&mut D)>;

/// Runs a syncer until it is told to stop.
pub struct Driver<D> {
    syncer: Syncer<D>,
    times: Times,
    reporter: Reporter,
    backoff: Backoff,
    /// When a failure was last told.
    told: Option<Instant>,
    /// A change waits for a round.
    pending: bool,
    /// No round before this.
    not_before: Instant,
    /// What failed as a whole is tried again then. Apart from `pending`: a change
    /// does not wait until something else works.
    retry: Option<Instant>,
    /// The next step of the rolling audit.
    next_step: Instant,
    /// When one was put forward last.
    hurried: Option<Instant>,
    /// Something happened that everything is looked at for.
    next_audit: Option<Instant>,
    /// When everything was last looked at.
    audited: Instant,
    /// This host's addresses are read again then, whatever is told of them.
    next_host: Instant,
    started: bool,
    /// When table sizes are counted anew.
    count: Option<Instant>,
    /// Waits for the first good round.
    settled: Option<Settled<D>>,
    /// The last round that did something, with its end.
    last: Option<(Instant, LastRound)>,
    /// What others changed.
    hour: LastHour,
    /// What tools of this node ask.
    questions: Option<Questions>,
    /// The zero of the syncer's clock.
    born: Instant,
}

impl<D: Dataplane> Driver<D> {
    /// A driver that has not started yet. To be made inside its runtime.
    pub fn new(syncer: Syncer<D>, times: Times, reporter: Reporter) -> Self {
        let now = Instant::now();
        Self {
            syncer,
            times,
            reporter,
            backoff: Backoff::default(),
            told: None,
            pending: false,
            not_before: now,
            retry: None,
            audited: now,
            next_step: now,
            hurried: None,
            next_audit: None,
            next_host: now,
            started: false,
            count: None,
            settled: None,
            last: None,
            hour: LastHour::default(),
            questions: None,
            born: now,
        }
    }

    /// Does this once the kernel is as it should be for the first time.
    pub fn once_settled(mut self, work: impl FnOnce(&mut D) + 'static) -> Self {
        self.settled = Some(Box::new(work));
        self
    }

    /// Answers questions too, when nothing else is due.
    pub fn answering(mut self, questions: Questions) -> Self {
        self.questions = Some(questions);
        self
    }

    /// Runs until `stop` changes or is dropped. What is in the kernel stays.
    pub async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut changes: impl Stream<Item = Change> + Unpin,
        mut stop: watch::Receiver<bool>,
    ) {
        self.look_at_host();
        let mut questions = self.questions.take();
        loop {
            let change = self.pending.then_some(self.not_before);
            let round = change
                .into_iter()
                .chain(self.retry)
                .chain(self.again())
                .min();
            let on_clock = |due| self.born + Duration::from_millis(due);
            let drain = self.syncer.drain_due().map(on_clock);
            let climb = self.syncer.step_due().map(on_clock);
            tokio::select! {
                biased;
                _ = stop.changed() => return,
                event = events.recv() => match event {
                    Some(event) => self.take(event, &mut events),
                    None => return,
                },
                Some(change) = changes.next() => self.notice(change),
                () = at(round) => {
                    self.round();
                    self.steps();
                }
                () = at(self.next_audit) => self.audit(),
                () = sleep_until(self.next_host) => self.look_at_host(),
                // What is pending comes first, so that a step tells of a whole state.
                () = sleep_until(self.next_step), if !self.pending => self.steps(),
                () = at(drain) => self.drain(),
                // A round that is due anyway takes the step along.
                () = at(climb), if !self.pending => self.request(),
                () = at(self.count) => self.count(),
                Some(Question { ask, reply }) = asked(&mut questions) => {
                    // Who gave up waiting hears nothing, and costs nothing.
                    if !reply.is_closed() {
                        _ = reply.send(self.answer(&ask));
                    }
                }
            }
        }
    }

    /// When one of the things that the kernel refuses is tried again. After a
    /// failure of everything that is tried first.
    fn again(&self) -> Option<Instant> {
        let due = self.syncer.retry_due().filter(|_| self.retry.is_none())?;
        Some(self.born + Duration::from_millis(due))
    }

    /// Milliseconds on the syncer's clock.
    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What is compiled is compiled for this moment.
    fn tell_time(&mut self) {
        self.syncer.tell_time(self.now(), jiff::Timestamp::now());
    }

    /// Takes in one event and all that wait behind it.
    fn take(&mut self, first: Event, events: &mut mpsc::Receiver<Event>) {
        let mut next = Some(first);
        while let Some(event) = next {
            self.reporter.event(&event);
            self.syncer.event(event);
            next = events.try_recv().ok();
        }
        self.reporter.taken();
        self.request();
    }

    /// Something changed that may need a round.
    fn request(&mut self) {
        if !std::mem::replace(&mut self.pending, true) {
            self.reporter.queued();
        }
    }

    /// The kernel told of a change that may not have been ours.
    fn notice(&mut self, change: Change) {
        tracing::debug!(?change, "the kernel tells of a change");
        let look = match change {
            Change::HostAddress(_) => {
                self.look_at_host();
                false
            }
            Change::VipGone(vip) => self.syncer.expects(vip),
            Change::Link => true,
            Change::Lost => {
                tracing::info!("notices of the kernel were lost: everything is looked at");
                self.look_at_host();
                true
            }
        };
        if look {
            // Somebody who takes away what we give, again and again, gets no
            // more than an audit a period out of us.
            let soon = Instant::now() + NOTICE_DELAY;
            let then = soon.max(self.audited + self.times.min_sync_period);
            self.next_audit = Some(self.next_audit.map_or(then, |next| next.min(then)));
        }
    }

    /// Tells the cluster of this host's addresses. When they cannot be read,
    /// the last ones stay in force.
    fn look_at_host(&mut self) {
        let begun = Instant::now();
        self.next_host = begun + self.times.sync_period;
        match self.syncer.look_at_host() {
            Ok(changed) => {
                self.reporter.reason("host-addresses", None);
                if changed {
                    self.request();
                }
                self.look_at_listeners(true);
                if self.reporter.try_ports(&mut self.syncer) {
                    self.request();
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the last known addresses stay in force"
                );
                self.reporter
                    .reason("host-addresses", Some(format!("{error:#}")));
                self.next_host = Instant::now() + self.backoff.failed_after(begun.elapsed());
            }
        }
    }

    /// Looks whether the host listens where Services are served.
    fn look_at_listeners(&mut self, due: bool) {
        if self.syncer.look_at_listeners(due) {
            self.request();
        }
    }

    fn round(&mut self) {
        self.pending = false;
        self.retry = None;
        self.tell_time();
        let begun = Instant::now();
        if self.syncer.cluster().synced() {
            // A long first round is no wait for the source.
            self.reporter.reason("source", None);
        }
        match self.syncer.sync(self.now()) {
            // The list that completes them all need not wait for a period.
            Ok(None) => return self.reporter.waiting(self.syncer.cluster()),
            Ok(Some(mut round)) => {
                if !std::mem::replace(&mut self.started, true) {
                    round.trigger = Trigger::Start;
                    self.next_step = begun + self.pause();
                }
                self.finished(&round, begun);
            }
            Err(error) => self.failed(&error, begun),
        }
        self.not_before = self
            .not_before
            .max(Instant::now() + self.times.min_sync_period);
        // What waited for others waits no longer than for events and the end.
        if self.syncer.is_behind() && self.retry.is_none() {
            self.pending = true;
            self.not_before = Instant::now();
        }
    }

    /// Looks at everything at once.
    fn audit(&mut self) {
        self.next_audit = None;
        if !self.started {
            return;
        }
        if self.pending {
            self.round();
        }
        self.look_at_host();
        self.tell_time();
        let begun = Instant::now();
        match self.syncer.audit(self.now(), Trigger::Audit) {
            Ok(round) => {
                self.pending = false;
                self.retry = None;
                self.finished(&round, begun);
            }
            Err(error) => self.failed(&error, begun),
        }
        self.audited = Instant::now();
        self.next_step = self.audited + self.pause();
    }

    /// Between two steps of the rolling audit. One to spare, so that what
    /// somebody edits right behind a step is seen again within the period.
    fn pause(&self) -> Duration {
        self.times.sync_period / (self.syncer.audit_steps() + 1)
    }

    /// The steps that are due; several, where rounds held them up.
    fn steps(&mut self) {
        for _ in 0..self.syncer.audit_steps() {
            if self.next_step <= Instant::now() {
                self.step();
            }
        }
    }

    fn step(&mut self) {
        let begun = Instant::now();
        let oldest = begun.checked_sub(self.times.sync_period);
        self.next_step = (self.next_step + self.pause()).max(oldest.unwrap_or(begun));
        // What failed is tried again in its own time, and looks at everything then.
        if !self.started || (self.retry.is_some() && self.syncer.known().is_none()) {
            return;
        }
        match self.syncer.audit_step(self.now()) {
            Ok(Some(round)) => self.finished(&round, begun),
            Ok(None) => {}
            Err(error) => self.failed(&error, begun),
        }
        // The kernel may have got what some Services had to do without.
        if self.syncer.cluster().is_dirty() {
            self.request();
        }
    }

    fn drain(&mut self) {
        let begun = Instant::now();
        match self.syncer.drain(self.now()) {
            Ok(Some(round)) => self.finished(&round, begun),
            Ok(None) => {}
            Err(error) => self.failed(&error, begun),
        }
    }

    fn answer(&self, ask: &Ask) -> Reply {
        if *ask == Ask::Node {
            return Reply::Loop(Box::new(LoopReport {
                last: self.last.clone().map(|(then, last)| LastRound {
                    seconds_ago: then.elapsed().as_secs(),
                    ..last
                }),
                drift: self.hour.sum(self.now()),
                ..self.syncer.loop_report()
            }));
        }
        Reply::Service(Box::new(Told {
            reasons: self.reporter.not_ready(),
            ..self.syncer.told(ask)
        }))
    }

    /// Keeps what is asked for later.
    fn remember(&mut self, round: &Round, took: Duration) {
        self.hour.add(self.now(), &round.drift);
        if round.plan.is_empty() && round.is_clean() && round.trigger != Trigger::Start {
            return;
        }
        let last = LastRound {
            trigger: round.trigger.to_string(),
            seconds_ago: 0,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            changes: round.summary(),
            complete: round.failures().next().is_none(),
        };
        self.last = Some((Instant::now(), last));
    }

    fn count(&mut self) {
        self.count = None;
        self.reporter.tables(&self.syncer);
    }

    fn finished(&mut self, round: &Round, begun: Instant) {
        let took = begun.elapsed();
        let failed = round.failures().next().is_some();
        if !failed || self.is_told() {
            round.log();
        }
        self.remember(round, took);
        if self.reporter.round(round, &mut self.syncer, took) {
            self.request();
        }
        self.look_at_listeners(false);
        if self.syncer.is_overtaken() {
            self.hurry();
        }
        if round.trigger == Trigger::Change && !round.plan.is_empty() {
            let soon = Instant::now() + COUNT_DELAY;
            self.count.get_or_insert(soon);
        }
        if failed || self.syncer.known().is_none() {
            let delay = self.backoff.failed_after(took);
            self.retry_in(delay);
            return;
        }
        self.backoff.reset();
        let unread = !self.syncer.cluster().unknown().is_nothing();
        if unread || self.syncer.refusals().vips() > 0 {
            return;
        }
        if let Some(work) = self.settled.take() {
            work(self.syncer.dataplane());
        }
    }

    /// Puts the next step of the audit forward. Somebody who empties our tables
    /// again and again gets no more than a step a period out of us.
    fn hurry(&mut self) {
        let now = Instant::now();
        let after = self.hurried.map(|last| last + self.times.min_sync_period);
        let then = after.map_or(now, |after| after.max(now));
        self.hurried = Some(then);
        self.next_step = self.next_step.min(then);
    }

    fn retry_in(&mut self, delay: Duration) {
        self.retry = Some(Instant::now() + delay);
        self.reporter.queued();
    }

    /// Whether one more failure in a row is told: the first ones are, and then
    /// one now and then.
    fn is_told(&mut self) -> bool {
        let now = Instant::now();
        let quiet = self.backoff.failures() >= TOLD
            && self.told.is_some_and(|last| now < last + TELL_AGAIN);
        if !quiet {
            self.told = Some(now);
        }
        !quiet
    }

    fn failed(&mut self, error: &anyhow::Error, begun: Instant) {
        let told = self.is_told();
        let delay = self.backoff.failed_after(begun.elapsed());
        if told {
            tracing::error!(
                error = format!("{error:#}"),
                retry_ms = delay.as_millis() as u64,
                "sync failed"
            );
        }
        self.reporter.failed(error);
        self.syncer.distrust();
        self.retry_in(delay);
    }
}

/// Waits until then, or for ever.
async fn at(then: Option<Instant>) {
    match then {
        Some(then) => sleep_until(then).await,
        None => std::future::pending().await,
    }
}

/// The next question; waits for ever where nobody can ask.
async fn asked(questions: &mut Option<Questions>) -> Option<Question> {
    match questions {
        Some(questions) => questions.recv().await,
        None => std::future::pending().await,
    }
}
