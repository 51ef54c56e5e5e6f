//! New endpoints begin with a small share of connections and get more step by
//! step (`ipvs.kube-ipvs.dev/slow-start`).
//!
//! How old an endpoint is follows from the time at which its slice says that
//! something changed, so that all nodes climb together; where the slice is
//! silent, from when it was first seen here. What is ready when a Service begins
//! to climb is not new, unless its slice says so; and what the kernel holds from
//! before a start goes on from there.

use alloc::collections::BTreeMap;
use core::net::IpAddr;

use jiff::Timestamp;

use crate::slices::Slice;

/// Steps from nothing to the whole: a weight is so many times what was asked for.
pub(crate) const STEPS: u16 = 10;
/// Between them.
const GAPS: i64 = STEPS as i64 - 1;

/// What time it is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clock {
    /// Milliseconds on a clock that never goes back, the caller's.
    pub(crate) now: u64,
    /// When that clock was at 0, in milliseconds of Unix time, if it is known.
    zero: Option<i64>,
}

impl Clock {
    /// It is so late on the caller's clock.
    pub(crate) fn tick(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    /// And this on everybody's.
    pub(crate) fn tell(&mut self, wall: Timestamp) {
        self.zero = Some(wall.as_millisecond() - self.signed());
    }

    fn signed(&self) -> i64 {
        i64::try_from(self.now).unwrap_or(i64::MAX)
    }

    /// A time of everybody's clock on the caller's.
    fn place(&self, unix_ms: i64) -> Option<i64> {
        unix_ms.checked_sub(self.zero?)
    }
}

/// The endpoints of a Service on their way up.
#[derive(Debug)]
pub(crate) struct Climb {
    /// Milliseconds from the first step to the whole, never 0.
    duration: i64,
    now: i64,
    /// Since when each ready endpoint is, on the caller's clock.
    since: BTreeMap<IpAddr, i64>,
}

impl Climb {
    /// Nobody is known yet.
    pub(crate) fn new() -> Self {
        Self {
            duration: 1,
            now: 0,
            since: BTreeMap::new(),
        }
    }

    /// Looks who is ready now. `begins` says that nobody was looked at before.
    pub(crate) fn look<'s>(
        &mut self,
        clock: Clock,
        duration_ms: u64,
        slices: impl Iterator<Item = &'s Slice>,
        begins: bool,
    ) {
        self.now = clock.signed();
        self.duration = i64::try_from(duration_ms).unwrap_or(i64::MAX).max(1);
        let (oldest, newest) = (self.now.saturating_sub(self.duration), self.now);
        let unsaid = if begins { oldest } else { newest };
        let mut since = BTreeMap::new();
        for slice in slices {
            let said = slice.changed.and_then(|at| clock.place(at.get()));
            let at = said.map_or(unsaid, |at| at.clamp(oldest, newest));
            for endpoint in slice.endpoints.iter().filter(|e| e.ready) {
                let known = self.since.get(&endpoint.address);
                let at = known.copied().unwrap_or(at);
                // In two slices: as new as either says.
                let found = since.entry(endpoint.address).or_insert(at);
                *found = at.max(*found);
            }
        }
        self.since = since;
    }

    /// Goes on from where the kernel has it: `weight` of `whole`, neither is 0.
    pub(crate) fn resume(&mut self, address: IpAddr, weight: u32, whole: u32) {
        let steps = u64::from(STEPS);
        let reached = (u64::from(weight) * steps).div_ceil(u64::from(whole).max(1));
        let reached = i64::try_from(reached.clamp(1, steps) - 1).unwrap_or_default();
        let age = self.begin_of(reached);
        if let Some(since) = self.since.get_mut(&address) {
            *since = self.now.saturating_sub(age);
        }
    }

    /// The step of an endpoint: 1 to [`STEPS`]. One that is not ready, and stands
    /// in for lack of others, has the whole.
    pub(crate) fn step(&self, address: IpAddr) -> u16 {
        let Some(age) = self.age(address) else {
            return STEPS;
        };
        let passed = age.saturating_mul(GAPS) / self.duration;
        let step = passed.clamp(0, GAPS) + 1;
        u16::try_from(step).unwrap_or(STEPS)
    }

    /// When to look again, on the caller's clock; none when nobody climbs any
    /// more. Not sooner than half a step from now, however many climb.
    pub(crate) fn due(&self) -> Option<u64> {
        let next = self.since.iter().filter_map(|(address, since)| {
            let step = self.step(*address);
            let next = since.saturating_add(self.begin_of(i64::from(step)));
            (step < STEPS).then_some(next)
        });
        let pause = self.duration / i64::from(2 * STEPS);
        let next = next.min()?.max(self.now.saturating_add(pause.max(1)));
        u64::try_from(next).ok()
    }

    fn age(&self, address: IpAddr) -> Option<i64> {
        let since = self.since.get(&address)?;
        Some(self.now.saturating_sub(*since))
    }

    /// After how many milliseconds so many steps are passed; rounded up, so that
    /// the step is made then.
    fn begin_of(&self, steps: i64) -> i64 {
        self.duration.saturating_mul(steps).saturating_add(GAPS - 1) / GAPS
    }
}
