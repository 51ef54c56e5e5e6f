//! What is due when. Reads no clock: it is told how late it is.

use std::time::Duration;

use tokio::time::Instant;

use super::driver::Times;

/// After a change, table sizes are counted anew: late enough to cost nothing.
const COUNT_DELAY: Duration = Duration::from_secs(5);
/// After a notice of the kernel, wait for more of them before looking.
const NOTICE_DELAY: Duration = Duration::from_millis(100);

/// The times at which a driver does something by itself.
#[derive(Debug)]
pub(super) struct Agenda {
    times: Times,
    /// A change waits for a round.
    pending: bool,
    /// No round before this.
    not_before: Instant,
    /// What failed as a whole is tried again then. Apart from `pending`: a change
    /// does not wait until something else works.
    retry: Option<Instant>,
    /// The next step of the rolling audit.
    step: Instant,
    /// When one was put forward last.
    hurried: Option<Instant>,
    /// Something happened that everything is looked at for.
    audit: Option<Instant>,
    /// When everything was last looked at.
    audited: Instant,
    /// This host's addresses are looked at again then, whatever is told of them.
    host: Instant,
    /// When they were looked at last.
    host_begun: Option<Instant>,
    /// When table sizes are counted anew.
    count: Option<Instant>,
}

impl Agenda {
    /// Nothing has happened yet.
    pub(super) fn new(now: Instant, times: Times) -> Self {
        Self {
            times,
            pending: false,
            not_before: now,
            retry: None,
            step: now,
            hurried: None,
            audit: None,
            audited: now,
            host: now,
            host_begun: None,
            count: None,
        }
    }

    /// Of one pass of the rolling audit.
    pub(super) fn period(&self) -> Duration {
        self.times.sync_period
    }

    /// Whether a change waits for a round.
    pub(super) fn is_pending(&self) -> bool {
        self.pending
    }

    /// Whether something failed as a whole and waits to be tried again.
    pub(super) fn is_retrying(&self) -> bool {
        self.retry.is_some()
    }

    /// When a round is due for a change or after a failure. `again`: when one of
    /// the things that the kernel refuses is tried again; after a failure of
    /// everything, that is tried first.
    pub(super) fn round(&self, again: Option<Instant>) -> Option<Instant> {
        let change = self.pending.then_some(self.not_before);
        let again = again.filter(|_| self.retry.is_none());
        change.into_iter().chain(self.retry).chain(again).min()
    }

    /// When everything is to be looked at.
    pub(super) fn audit(&self) -> Option<Instant> {
        self.audit
    }

    /// When a step of the rolling audit is due.
    pub(super) fn step(&self) -> Instant {
        self.step
    }

    /// When this host's addresses are to be read.
    pub(super) fn host(&self) -> Instant {
        self.host
    }

    /// When table sizes are to be counted.
    pub(super) fn count(&self) -> Option<Instant> {
        self.count
    }

    /// Something changed that may need a round; true when it is the first since
    /// the last one.
    pub(super) fn request(&mut self) -> bool {
        !std::mem::replace(&mut self.pending, true)
    }

    /// What was pending is being done now.
    pub(super) fn round_begins(&mut self) {
        self.pending = false;
        self.retry = None;
    }

    /// The next round has a while to wait, unless this one left things `behind`:
    /// they wait no longer than for events and the end.
    pub(super) fn round_ended(&mut self, now: Instant, behind: bool) {
        self.not_before = self.not_before.max(now + self.times.min_sync_period);
        if behind && self.retry.is_none() {
            self.pending = true;
            self.not_before = now;
        }
    }

    /// What failed is tried again then.
    pub(super) fn retry(&mut self, then: Instant) {
        self.retry = Some(then);
    }

    /// Everything is looked at soon. Somebody who takes away what we give, again
    /// and again, gets no more than an audit a period out of us.
    pub(super) fn noticed(&mut self, now: Instant) {
        let then = (now + NOTICE_DELAY).max(self.audited + self.times.min_sync_period);
        self.audit = Some(self.audit.map_or(then, |next| next.min(then)));
    }

    /// Everything is being looked at.
    pub(super) fn audit_begins(&mut self) {
        self.audit = None;
    }

    /// Everything was looked at: the rolling audit goes on a `pause` later.
    pub(super) fn audit_ended(&mut self, now: Instant, pause: Duration) {
        self.audited = now;
        self.step = now + pause;
    }

    /// The rolling audit starts a `pause` after the first round began.
    pub(super) fn started(&mut self, begun: Instant, pause: Duration) {
        self.step = begun + pause;
    }

    /// A step is being done; the next is a `pause` after it was due. Of those
    /// that were held up, no more than a period's are made up for.
    pub(super) fn step_begins(&mut self, now: Instant, pause: Duration) {
        let oldest = now.checked_sub(self.times.sync_period).unwrap_or(now);
        self.step = (self.step + pause).max(oldest);
    }

    /// Puts the next step of the audit forward. Somebody who empties our tables
    /// again and again gets no more than a step a period out of us.
    pub(super) fn hurry(&mut self, now: Instant) {
        let after = self.hurried.map(|last| last + self.times.min_sync_period);
        let then = after.map_or(now, |after| after.max(now));
        self.hurried = Some(then);
        self.step = self.step.min(then);
    }

    /// This host's addresses are being read; they are again a period later.
    pub(super) fn host_begins(&mut self, now: Instant) {
        self.host = now + self.times.sync_period;
        self.host_begun = Some(now);
    }

    /// This host's addresses changed. Where pods come in rows, each with an address
    /// on the host's side, they are read no more than once a `min_sync_period`.
    pub(super) fn host_changed(&mut self, now: Instant) {
        let after = self
            .host_begun
            .map(|last| last + self.times.min_sync_period);
        let then = after.map_or(now, |after| after.max(now));
        self.host = self.host.min(then);
    }

    /// This host's addresses could not be read, and are again then.
    pub(super) fn host_failed(&mut self, then: Instant) {
        self.host = then;
    }

    /// The kernel's tables changed.
    pub(super) fn changed(&mut self, now: Instant) {
        self.count.get_or_insert(now + COUNT_DELAY);
    }

    /// Table sizes are being counted.
    pub(super) fn count_begins(&mut self) {
        self.count = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn agenda() -> (Agenda, Instant) {
        // Far enough from the clock's zero for all that looks back.
        let now = Instant::now() + 1000 * SECOND;
        let times = Times {
            min_sync_period: SECOND,
            sync_period: 30 * SECOND,
        };
        (Agenda::new(now, times), now)
    }

    #[test]
    fn a_change_is_done_at_once_and_the_next_a_period_after_its_end() {
        let (mut agenda, now) = agenda();
        assert_eq!(agenda.round(None), None);
        assert!(agenda.request());
        assert!(!agenda.request(), "it waits already");
        assert_eq!(agenda.round(None), Some(now));

        agenda.round_begins();
        assert_eq!(agenda.round(None), None);
        agenda.round_ended(now + SECOND, false);
        agenda.request();
        assert_eq!(agenda.round(None), Some(now + 2 * SECOND));
    }

    #[test]
    fn what_was_left_behind_waits_for_nothing_but_a_failure() {
        let (mut agenda, now) = agenda();
        agenda.round_ended(now, true);
        assert_eq!(agenda.round(None), Some(now));

        agenda.round_begins();
        agenda.retry(now + 5 * SECOND);
        agenda.round_ended(now, true);
        assert!(!agenda.is_pending() && agenda.is_retrying());
        assert_eq!(agenda.round(None), Some(now + 5 * SECOND));
    }

    #[test]
    fn a_change_does_not_wait_until_something_else_works() {
        let (mut agenda, now) = agenda();
        agenda.retry(now + 60 * SECOND);
        agenda.request();
        assert_eq!(agenda.round(Some(now + SECOND)), Some(now));
        agenda.round_begins();
        // What is refused is tried by itself, unless everything failed.
        assert_eq!(agenda.round(Some(now + SECOND)), Some(now + SECOND));
        agenda.retry(now + 60 * SECOND);
        assert_eq!(agenda.round(Some(now + SECOND)), Some(now + 60 * SECOND));
    }

    #[test]
    fn notices_without_end_get_one_audit_a_period() {
        let (mut agenda, now) = agenda();
        let later = now + 10 * SECOND;
        agenda.noticed(later);
        let first = later + NOTICE_DELAY;
        assert_eq!(agenda.audit(), Some(first));
        agenda.noticed(first - Duration::from_millis(1));
        assert_eq!(agenda.audit(), Some(first), "it is not put off");

        agenda.audit_begins();
        agenda.audit_ended(first, 3 * SECOND);
        assert_eq!((agenda.audit(), agenda.step()), (None, first + 3 * SECOND));
        agenda.noticed(first);
        assert_eq!(agenda.audit(), Some(first + SECOND));
    }

    #[test]
    fn steps_that_were_held_up_are_made_up_for_within_a_period() {
        let (mut agenda, now) = agenda();
        agenda.started(now, SECOND);
        agenda.step_begins(now + SECOND, SECOND);
        assert_eq!(agenda.step(), now + 2 * SECOND);
        agenda.step_begins(now + 10 * SECOND, SECOND);
        assert_eq!(agenda.step(), now + 3 * SECOND, "the next is due already");
        agenda.step_begins(now + 100 * SECOND, SECOND);
        assert_eq!(agenda.step(), now + 70 * SECOND);
    }

    #[test]
    fn a_step_is_put_forward_once_a_period() {
        let (mut agenda, now) = agenda();
        agenda.started(now, 20 * SECOND);
        agenda.hurry(now);
        assert_eq!(agenda.step(), now);
        agenda.step_begins(now, 20 * SECOND);
        agenda.hurry(now);
        assert_eq!(agenda.step(), now + SECOND);
        agenda.hurry(now + SECOND);
        assert_eq!(agenda.step(), now + SECOND, "it is not put off");
    }

    #[test]
    fn sizes_are_counted_once_for_many_changes() {
        let (mut agenda, now) = agenda();
        agenda.changed(now);
        agenda.changed(now + SECOND);
        assert_eq!(agenda.count(), Some(now + COUNT_DELAY));
        agenda.count_begins();
        assert_eq!(agenda.count(), None);
    }

    #[test]
    fn the_host_is_read_once_a_period_and_sooner_after_a_change_or_failure() {
        let (mut agenda, now) = agenda();
        agenda.host_begins(now);
        assert_eq!(agenda.host(), now + 30 * SECOND);
        agenda.host_failed(now + SECOND);
        assert_eq!(agenda.host(), now + SECOND);

        agenda.host_begins(now);
        let half = SECOND / 2;
        agenda.host_changed(now + half);
        assert_eq!(agenda.host(), now + SECOND, "not twice in one");
        agenda.host_changed(now + half / 2);
        assert_eq!(agenda.host(), now + SECOND);
        agenda.host_begins(now);
        agenda.host_changed(now + 5 * SECOND);
        assert_eq!(agenda.host(), now + 5 * SECOND, "at once");
    }
}
