//! How long to wait after a failure.

use std::time::Duration;

/// No pause is longer, whoever asks for it.
pub const LONGEST: Duration = Duration::from_secs(60);

/// Pauses that double, with jitter: half of each is certain, half is chance.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
        }
    }

    /// The next pause; `chance` is between 0 and 1. A server that named a time
    /// is not asked sooner, but one that named a year is asked within a minute.
    pub(crate) fn pause(&mut self, retry_after: Option<Duration>, chance: f64) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        let pause = doubled.min(self.longest).mul_f64(0.5 + chance / 2.0);
        let pause = match retry_after {
            Some(named) => named.max(pause).saturating_add(self.first.mul_f64(chance)),
            None => pause,
        };
        pause.min(LONGEST)
    }

    /// Failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// All is well again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_secs(1), Duration::from_secs(30))
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = backoff();

        let pauses: Vec<u64> = (0..40)
            .map(|_| backoff.pause(None, 1.0).as_secs())
            .collect();

        assert_eq!(pauses[..7], [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pauses[39], 30);
    }

    #[test]
    fn half_of_a_pause_is_chance() {
        assert_eq!(backoff().pause(None, 0.0), Duration::from_millis(500));
    }

    #[test]
    fn named_time_is_kept_and_spread() {
        let pause = backoff().pause(Some(Duration::from_secs(7)), 0.5);

        assert_eq!(pause, Duration::from_millis(7500));
    }

    #[test]
    fn no_pause_is_longer_than_a_minute() {
        for named in [Duration::from_secs(61), Duration::MAX] {
            assert_eq!(backoff().pause(Some(named), 1.0), LONGEST);
        }
        let mut patient = Backoff::new(Duration::from_secs(1), Duration::MAX);

        let longest = (0..80).map(|_| patient.pause(None, 1.0)).max();

        assert_eq!(longest, Some(LONGEST));
    }

    #[test]
    fn success_starts_over() {
        let mut backoff = backoff();
        backoff.pause(None, 1.0);
        backoff.pause(None, 1.0);

        backoff.reset();

        assert_eq!(backoff.pause(None, 1.0), Duration::from_secs(1));
    }
}
