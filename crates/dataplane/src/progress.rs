//! How far a long round is: told by who carries it out, read by who is asked
//! meanwhile, when the loop cannot answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A round that makes fewer virtual servers is over before anybody asks.
pub const LONG: usize = 1000;
/// Lines in the log of a long round.
const LINES: usize = 10;

/// Virtual servers made in the round that runs. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// 0 is no long round.
    all: AtomicUsize,
    done: AtomicUsize,
}

/// So many of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Made {
    /// Virtual servers made so far.
    pub done: usize,
    /// Those that the round makes.
    pub all: usize,
}

impl Progress {
    /// A round begins that makes so many virtual servers.
    pub fn begin(&self, all: usize) {
        let all = if all < LONG { 0 } else { all };
        self.counts.done.store(0, Ordering::Relaxed);
        self.counts.all.store(all, Ordering::Relaxed);
    }

    /// So many more were asked of the kernel; of a long round every tenth part
    /// is a line in the log.
    pub fn advance(&self, n: usize) {
        let before = self.counts.done.fetch_add(n, Ordering::Relaxed);
        let Some(Made { done, all }) = self.made() else {
            return;
        };
        if before * LINES / all != done * LINES / all {
            tracing::info!(done, all, "making virtual servers");
        }
    }

    /// The round is over.
    pub fn end(&self) {
        self.counts.all.store(0, Ordering::Relaxed);
    }

    /// How far it is; none while no long round runs.
    pub fn made(&self) -> Option<Made> {
        let all = self.counts.all.load(Ordering::Relaxed);
        let done = self.counts.done.load(Ordering::Relaxed).min(all);
        (all > 0).then_some(Made { done, all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_round_is_told_of_and_only_while_it_runs() {
        let progress = Progress::default();
        let told = progress.clone();
        assert_eq!(told.made(), None);
        progress.begin(LONG - 1);
        progress.advance(5);
        assert_eq!(told.made(), None);

        progress.begin(4000);
        progress.advance(1024);
        progress.advance(1024);
        assert_eq!(
            told.made(),
            Some(Made {
                done: 2048,
                all: 4000
            })
        );
        // What is made twice is not more than all.
        progress.advance(4000);
        assert_eq!(
            told.made(),
            Some(Made {
                done: 4000,
                all: 4000
            })
        );

        progress.end();
        assert_eq!(told.made(), None);
    }
}
