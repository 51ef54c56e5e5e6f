//! How often a tool looks again: what is dear is done rarely.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// All looks take no more than this part of a processor.
const SHARE: u32 = 20;

/// The pace of this thread.
#[derive(Debug)]
pub(crate) struct Pace {
    asked: Duration,
    /// What the thread had used of a processor when it was asked last.
    used: Duration,
}

impl Pace {
    /// At least so long between two looks.
    pub(crate) fn of(asked: Duration) -> Self {
        Self {
            asked,
            used: processor_time(),
        }
    }

    /// Until the next look: longer than asked for where much was used since the last
    /// time.
    pub(crate) fn period(&mut self) -> Duration {
        let now = processor_time();
        let spent = now.saturating_sub(self.used);
        self.used = now;
        period(self.asked, spent)
    }
}

/// What this thread has used of a processor, the kernel's work for it included.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.map(Duration::from).unwrap_or_default()
}

fn period(asked: Duration, spent: Duration) -> Duration {
    asked.max(spent * SHARE)
}

/// Uses some of a processor, however little.
#[cfg(test)]
pub(crate) fn work() {
    let begun = processor_time();
    let mut worked = 0_u64;
    while processor_time() == begun {
        worked = std::hint::black_box(worked + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_are_dear_are_rare() {
        let asked = Duration::from_secs(2);
        assert_eq!(period(asked, Duration::from_millis(100)), asked);
        let dear = period(asked, Duration::from_millis(356));
        assert_eq!(dear, Duration::from_millis(7120), "a twentieth");
    }

    #[test]
    fn each_look_is_paid_once() {
        let mut pace = Pace::of(Duration::ZERO);
        let begun = pace.used;
        work();
        let paid = pace.period();
        assert!(paid > Duration::ZERO);
        assert_eq!(paid, (pace.used - begun) * SHARE, "since it began");
        let (before, next) = (pace.used, pace.period());
        assert_eq!(next, (pace.used - before) * SHARE, "and since then");
    }
}
