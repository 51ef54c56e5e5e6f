//! When to try again after a refusal: soon, then less often; and after a failure
//! of the whole, which everybody waits for, soon as long as trying is cheap.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
/// Whatever the node's size: who mended the cause waits no longer.
const SOON: Duration = Duration::from_secs(2);
/// Whatever an attempt costs.
const LAST: Duration = Duration::from_secs(30);
/// Of the time, attempts that fail take no more than a twentieth.
const SHARE: u32 = 20;

/// Doubling delays from half a second to thirty seconds.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Everything went well: the next failure is a first one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure and tells how long to wait.
    pub fn failed(&mut self) -> Duration {
        let delay = FIRST.saturating_mul(1 << self.failures.min(10)).min(LAST);
        self.failures = self.failures.saturating_add(1);
        delay
    }

    /// The same for a failure of the whole, after an attempt that took so long:
    /// two seconds at most, or twenty times what it took.
    pub fn failed_after(&mut self, took: Duration) -> Duration {
        let bound = took.saturating_mul(SHARE).clamp(SOON, LAST);
        self.failed().min(bound)
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(mut next: impl FnMut(&mut Backoff) -> Duration) -> Vec<f64> {
        let mut backoff = Backoff::default();
        let delays: Vec<f64> = (0..8).map(|_| next(&mut backoff).as_secs_f64()).collect();
        backoff.reset();
        assert_eq!(next(&mut backoff), FIRST);
        delays
    }

    #[test]
    fn delays_double_up_to_a_bound_and_start_again() {
        let expected = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0];
        assert_eq!(delays(Backoff::failed), expected);
    }

    #[test]
    fn the_whole_is_tried_every_two_seconds_or_as_seldom_as_trying_costs() {
        for (millis, expected) in [
            (0, [0.5, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]),
            (100, [0.5, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]),
            (500, [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]),
            (9000, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]),
        ] {
            let took = Duration::from_millis(millis);
            assert_eq!(delays(|backoff| backoff.failed_after(took)), expected);
        }
    }
}
