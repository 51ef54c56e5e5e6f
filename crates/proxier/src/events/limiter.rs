//! A token bucket. Time is an argument.

use std::time::{Duration, Instant};

/// Lets a burst through, then one in each interval.
#[derive(Debug, Clone)]
pub struct Limiter {
    burst: u32,
    interval: Duration,
    tokens: u32,
    /// When the bucket last gained a token, or was full.
    since: Instant,
}

impl Limiter {
    /// A full bucket.
    pub fn new(burst: u32, interval: Duration, now: Instant) -> Self {
        Self {
            burst,
            interval,
            tokens: burst,
            since: now,
        }
    }

    /// Takes a token, or says how long until there is one.
    ///
    /// # Errors
    ///
    /// The time to wait, when the bucket is empty.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        if self.tokens == 0 {
            return Err(self
                .interval
                .saturating_sub(now.saturating_duration_since(self.since)));
        }
        self.tokens -= 1;
        Ok(())
    }

    fn refill(&mut self, now: Instant) {
        let nanos = self.interval.as_nanos().max(1);
        let gained = now.saturating_duration_since(self.since).as_nanos() / nanos;
        match u32::try_from(gained) {
            Ok(gained) if gained < self.burst - self.tokens => {
                self.tokens += gained;
                self.since += self.interval * gained;
            }
            // Full: time beyond that is not saved up.
            _ => (self.tokens, self.since) = (self.burst, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn burst_passes_then_one_in_each_interval() {
        let start = Instant::now();
        let mut limiter = Limiter::new(3, SECOND, start);

        for _ in 0..3 {
            assert_eq!(limiter.take(start), Ok(()));
        }
        assert_eq!(limiter.take(start + SECOND / 4), Err(SECOND * 3 / 4));
        assert_eq!(limiter.take(start + SECOND), Ok(()));
        assert_eq!(limiter.take(start + SECOND), Err(SECOND));
        assert_eq!(limiter.take(start + SECOND * 3 / 2), Err(SECOND / 2));
    }

    #[test]
    fn rest_saves_up_one_burst_and_no_more() {
        let start = Instant::now();
        let mut limiter = Limiter::new(2, SECOND, start);

        let later = start + SECOND * 3600;

        assert_eq!(limiter.take(later), Ok(()));
        assert_eq!(limiter.take(later), Ok(()));
        assert_eq!(limiter.take(later), Err(SECOND));
    }
}
