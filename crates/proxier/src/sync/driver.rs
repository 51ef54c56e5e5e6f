//! Gives the syncer its clock and its channels: one task, one thread, one kernel.
//!
//! Level-triggered: events, timers and the kernel's own notices only say that
//! it is time to look; what to do comes from comparing states.

mod notices;

use std::time::Duration;

use futures::Stream;
use kube_ipvs_core::Event;
use kube_ipvs_dataplane::Dataplane;
use kube_ipvs_vip::Notice;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use self::notices::noticed;
use super::agenda::Agenda;
use super::hour::LastHour;
use super::reporter::Reporter;
use super::{Backoff, Round, Syncer, Trigger};
use crate::answers::{Ask, AuditPace, LastRound, LoopReport, Question, Questions, Reply, Told};

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
    reporter: Reporter,
    backoff: Backoff,
    /// When a failure was last told.
    told: Option<Instant>,
    agenda: Agenda,
    started: bool,
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
            reporter,
            backoff: Backoff::default(),
            told: None,
            agenda: Agenda::new(now, times),
            started: false,
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
        changes: impl Stream<Item = Notice> + Unpin,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut changes = Some(changes);
        self.syncer.follow_notices(true);
        self.look_at_host();
        let mut questions = self.questions.take();
        loop {
            let on_clock = |due| self.born + Duration::from_millis(due);
            let drain = self.syncer.drain_due().map(on_clock);
            let climb = self.syncer.step_due().map(on_clock);
            let round = self.agenda.round(self.syncer.retry_due().map(on_clock));
            let is_pending = self.agenda.is_pending();
            tokio::select! {
                biased;
                _ = stop.changed() => return,
                event = events.recv() => match event {
                    Some(event) => self.take(event, &mut events),
                    None => return,
                },
                change = noticed(&mut changes) => match change {
                    Some(change) => self.notice(change),
                    None => {
                        changes = None;
                        self.hear_nothing();
                    }
                },
                () = at(round) => {
                    self.round();
                    self.steps();
                }
                () = at(self.agenda.audit()) => self.audit(),
                () = sleep_until(self.agenda.host()) => self.read_host(Syncer::pass_over_host),
                // What is pending comes first, so that a step tells of a whole state.
                () = sleep_until(self.agenda.step()), if !is_pending => self.steps(),
                () = at(drain) => self.drain(),
                // A round that is due anyway takes the step along.
                () = at(climb), if !is_pending => self.request(),
                () = at(self.agenda.count()) => self.count(),
                Some(Question { ask, reply }) = asked(&mut questions) => {
                    // Who gave up waiting hears nothing, and costs nothing.
                    if !reply.is_closed() {
                        _ = reply.send(self.answer(&ask));
                    }
                }
            }
        }
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
        if self.agenda.request() {
            self.reporter.queued();
        }
    }

    fn round(&mut self) {
        self.agenda.round_begins();
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
                    self.agenda.started(begun, self.pause());
                }
                self.finished(&round, begun);
            }
            Err(error) => self.failed(&error, begun),
        }
        let behind = self.syncer.is_behind();
        self.agenda.round_ended(Instant::now(), behind);
    }

    /// Looks at everything at once.
    fn audit(&mut self) {
        self.agenda.audit_begins();
        if !self.started {
            return;
        }
        if self.agenda.is_pending() {
            self.round();
        }
        self.look_at_host();
        self.tell_time();
        let begun = Instant::now();
        match self.syncer.audit(self.now(), Trigger::Audit) {
            Ok(round) => {
                self.agenda.round_begins();
                self.finished(&round, begun);
                self.agenda.changed(Instant::now());
            }
            Err(error) => self.failed(&error, begun),
        }
        let pause = self.pause();
        self.agenda.audit_ended(Instant::now(), pause);
    }

    /// Between two steps of the rolling audit. One to spare, so that what
    /// somebody edits right behind a step is seen again within the period.
    fn pause(&self) -> Duration {
        self.agenda.period() / (self.syncer.audit_steps() + 1)
    }

    /// The steps that are due; several, where rounds held them up.
    fn steps(&mut self) {
        for _ in 0..self.syncer.audit_steps() {
            if self.agenda.step() <= Instant::now() {
                self.step();
            }
        }
    }

    fn step(&mut self) {
        let begun = Instant::now();
        let pause = self.pause();
        self.agenda.step_begins(begun, pause);
        // What failed is tried again in its own time, and looks at everything then.
        if !self.started || (self.agenda.is_retrying() && self.syncer.known().is_none()) {
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
                audit: Some(AuditPace::of(
                    self.agenda.period(),
                    self.syncer.audit_passes(),
                )),
                ..self.syncer.loop_report()
            }));
        }
        Reply::Service(Box::new(Told {
            reasons: self.reporter.not_ready(),
            warnings: self.reporter.told_beside(),
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
        self.agenda.count_begins();
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
            self.agenda.hurry(Instant::now());
        }
        if round.trigger == Trigger::Change && !round.plan.is_empty() {
            self.agenda.changed(Instant::now());
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

    fn retry_in(&mut self, delay: Duration) {
        self.agenda.retry(Instant::now() + delay);
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
