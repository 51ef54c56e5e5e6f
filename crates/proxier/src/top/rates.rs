//! Counters, and how fast they grow.

use std::time::Duration;

use ipvs_netlink::Stats;
use serde::Serialize;

/// The five numbers that IPVS keeps of everything, in one unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Numbers<T> {
    /// Connections scheduled.
    pub connections: T,
    /// Packets from clients.
    pub in_packets: T,
    /// Packets to clients.
    pub out_packets: T,
    /// Bytes from clients.
    pub in_bytes: T,
    /// Bytes to clients.
    pub out_bytes: T,
}

/// Since it was made, or zeroed.
pub type Counts = Numbers<u64>;
/// A second.
pub(super) type Rates = Numbers<f64>;

impl<T: Copy> Numbers<T> {
    /// Each number together with its like.
    fn with<U>(self, other: Self, each: impl Fn(T, T) -> U) -> Numbers<U> {
        Numbers {
            connections: each(self.connections, other.connections),
            in_packets: each(self.in_packets, other.in_packets),
            out_packets: each(self.out_packets, other.out_packets),
            in_bytes: each(self.in_bytes, other.in_bytes),
            out_bytes: each(self.out_bytes, other.out_bytes),
        }
    }

    fn all(self) -> [T; 5] {
        [
            self.connections,
            self.in_packets,
            self.out_packets,
            self.in_bytes,
            self.out_bytes,
        ]
    }
}

impl Rates {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }

    /// To thousandths, as programs are told.
    #[must_use]
    pub fn rounded(self) -> Self {
        self.with(self, |a, _| (a * 1e3).round() / 1e3)
    }
}

impl Counts {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.with(other, u64::wrapping_add)
    }
}

impl From<&Stats> for Counts {
    fn from(stats: &Stats) -> Self {
        Self {
            connections: stats.connections,
            in_packets: stats.in_packets,
            out_packets: stats.out_packets,
            in_bytes: stats.in_bytes,
            out_bytes: stats.out_bytes,
        }
    }
}

/// Counts at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Reading {
    at: Duration,
    counts: Counts,
}

/// Makes rates of counters, over the last two times between readings: the kernel
/// sums its counters up every two seconds, so that what is read as often shows
/// nothing one time and twice as much the next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Meter {
    before: Reading,
    last: Reading,
    rates: Rates,
}

impl Meter {
    /// One that has seen these counts `at` a time, and knows no rate.
    pub fn new(at: Duration, counts: Counts) -> Self {
        let reading = Reading { at, counts };
        Self {
            before: reading,
            last: reading,
            rates: Rates::default(),
        }
    }

    /// Takes in what is counted `at` a later time. Counts that went down were
    /// zeroed, or are those of another: that is a new beginning.
    pub fn read(&mut self, at: Duration, counts: Counts) {
        let seconds = at.saturating_sub(self.before.at).as_secs_f64();
        let fell = self.last.counts.with(counts, |old, new| new < old);
        if seconds <= 0.0 || fell.all().contains(&true) {
            *self = Self::new(at, counts);
            return;
        }
        let grown = |old: u64, new: u64| new.saturating_sub(old) as f64 / seconds;
        self.rates = self.before.counts.with(counts, grown);
        self.before = self.last;
        self.last = Reading { at, counts };
    }

    /// What was counted last.
    pub fn counts(&self) -> Counts {
        self.last.counts
    }

    /// How fast it grows.
    pub fn rates(&self) -> Rates {
        self.rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(connections: u64) -> Counts {
        Counts {
            connections,
            ..Counts::default()
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn rates(readings: &[(u64, u64)]) -> Vec<f64> {
        let mut meter = Meter::new(seconds(readings[0].0), counted(readings[0].1));
        let each = readings[1..].iter().map(|(at, connections)| {
            meter.read(seconds(*at), counted(*connections));
            meter.rates().connections
        });
        each.collect()
    }

    #[test]
    fn a_rate_is_growth_over_two_times_between_readings() {
        // The kernel's sum came late once.
        assert_eq!(
            rates(&[(0, 100), (2, 120), (4, 120), (6, 160)]),
            [10.0, 5.0, 10.0]
        );
        assert_eq!(rates(&[(0, 7), (2, 7), (60, 7)]), [0.0, 0.0]);
    }

    #[test]
    fn counts_that_fell_are_a_new_beginning() {
        assert_eq!(rates(&[(0, 100), (2, 0), (4, 8)]), [0.0, 4.0]);
        assert_eq!(rates(&[(0, 100), (0, 200)]), [0.0], "no time has passed");
    }
}
