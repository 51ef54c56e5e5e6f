//! What somebody else changed within the last hour.

use std::collections::VecDeque;

use super::Drift;

const MINUTE: u64 = 60_000;
const MINUTES: u64 = 60;

/// Drift by the minute, so that a node on which somebody fights us keeps no more
/// than sixty of them.
#[derive(Debug, Default)]
pub(super) struct LastHour {
    minutes: VecDeque<(u64, Drift)>,
}

impl LastHour {
    /// Takes in what an audit found. `now` is in milliseconds, on a clock that
    /// never goes back.
    pub(super) fn add(&mut self, now: u64, drift: &Drift) {
        if drift.is_empty() {
            return;
        }
        let minute = now / MINUTE;
        match self.minutes.back_mut() {
            Some((last, all)) if *last == minute => merge(all, drift),
            _ => self.minutes.push_back((minute, drift.clone())),
        }
        while self.minutes.len() as u64 > MINUTES {
            self.minutes.pop_front();
        }
    }

    /// All of it.
    pub(super) fn sum(&self, now: u64) -> Drift {
        let minute = now / MINUTE;
        let mut sum = Drift::new();
        let recent = self.minutes.iter();
        let recent = recent.filter(|(then, _)| minute < then + MINUTES);
        recent.for_each(|(_, drift)| merge(&mut sum, drift));
        sum
    }
}

fn merge(into: &mut Drift, more: &Drift) {
    for (kind, n) in more {
        *into.entry(kind.clone()).or_default() += n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drift(n: u64) -> Drift {
        [("add-vip".to_owned(), n)].into()
    }

    #[test]
    fn an_hour_is_summed_and_forgotten_after_it() {
        let mut hour = LastHour::default();
        hour.add(0, &drift(1));
        hour.add(30_000, &drift(2));
        hour.add(50 * MINUTE, &drift(4));
        hour.add(51 * MINUTE, &Drift::new());

        assert_eq!(hour.sum(51 * MINUTE), drift(7));
        assert_eq!(hour.sum(60 * MINUTE), drift(4));
        assert_eq!(hour.sum(110 * MINUTE), Drift::new());
        assert_eq!(hour.minutes.len(), 2);
    }

    #[test]
    fn a_fight_that_lasts_costs_no_more_than_an_hour() {
        let mut hour = LastHour::default();
        (0..1000).for_each(|minute| hour.add(minute * MINUTE, &drift(1)));
        assert_eq!(hour.minutes.len(), 60);
        assert_eq!(hour.sum(999 * MINUTE), drift(60));
    }
}
