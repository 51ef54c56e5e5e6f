//! When to try again after a refusal: soon, then less often.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LAST: Duration = Duration::from_secs(30);

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

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_bound_and_start_again() {
        let mut backoff = Backoff::default();
        let seconds: Vec<f64> = (0..8).map(|_| backoff.failed().as_secs_f64()).collect();
        assert_eq!(seconds, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        backoff.reset();
        assert_eq!(backoff.failed(), FIRST);
    }
}
