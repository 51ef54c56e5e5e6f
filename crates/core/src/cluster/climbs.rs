//! When the endpoints of which Service are to climb a step.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use jiff::Timestamp;

use super::Cluster;
use super::claims::Claimant;
use super::objects::{Entry, Slices};
use crate::climb::{Climb, Clock, STEPS};
use crate::compile::{Claim, Compiled, compile};
use crate::due::Due;
use crate::names::ServiceName;
use crate::state::{KernelState, VirtualServer, VirtualServerKey};

/// What a kernel held before this program started.
type Inherited = BTreeMap<VirtualServerKey, Arc<VirtualServer>>;

#[derive(Debug, Default)]
pub(super) struct Climbs {
    pub(super) clock: Clock,
    /// Services with endpoints on their way up.
    due: Due<ServiceName>,
    pub(super) inherited: Option<Inherited>,
}

impl Climbs {
    /// Lets endpoints go on from what the kernel holds of these claims; true when
    /// that says anything.
    pub(super) fn resume(&self, climb: &mut Climb, claims: &[Claim]) -> bool {
        let Some(inherited) = &self.inherited else {
            return false;
        };
        let mut found = false;
        for claim in claims {
            let there = inherited.get(&claim.key);
            let (Some(there), Some(wanted)) = (there, &claim.server) else {
                continue;
            };
            for (key, real) in &wanted.real_servers {
                let weight = there.real_servers.get(key).map_or(0, |real| real.weight);
                if weight == 0 || real.weight == 0 {
                    continue;
                }
                let step = u32::from(climb.step(key.address));
                let whole = real.weight / step * u32::from(STEPS);
                climb.resume(key.address, weight, whole);
                found = true;
            }
        }
        found
    }
}

/// Looks which endpoints are new, where they are to climb for so many
/// milliseconds; true when they were not looked at before.
fn look(
    climb: &mut Option<Box<Climb>>,
    slices: &Slices,
    clock: Clock,
    duration: Option<u64>,
) -> bool {
    let Some(duration) = duration else {
        *climb = None;
        return false;
    };
    let begins = climb.is_none();
    let climb = climb.get_or_insert_with(|| Box::new(Climb::new()));
    climb.look(clock, duration, slices.values(), begins);
    begins
}

impl Cluster {
    /// Compiles a Service with its slices; to nothing where only slices are known.
    /// `None` where there is not even that.
    pub(super) fn compile_objects(&mut self, name: &ServiceName) -> Option<(Claimant, Compiled)> {
        let entry = self.entries.get_mut(name)?;
        let claimant = entry.claimant(name);
        let Entry {
            service,
            slices,
            climb,
            ..
        } = &mut **entry;
        let Some(service) = service.as_deref() else {
            *climb = None;
            self.climbs.due.set(name, None);
            return Some((claimant, Compiled::default()));
        };
        let missing = self.schedulers.missing();
        let duration = service.tuning(missing).climb;
        let begins = look(climb, slices, self.climbs.clock, duration);
        let vips = self.placement.bound();
        let around = self
            .ground
            .surroundings(&self.options, &self.territory, vips, missing);
        let taken = |mark, family| {
            let mark = VirtualServerKey::Mark { mark, family };
            self.claims.is_taken(mark, &claimant)
        };
        let compile =
            |climb: Option<&Climb>| compile(name, service, slices.values(), climb, &around, &taken);
        let mut compiled = compile(climb.as_deref());
        if begins
            && let Some(climb) = climb
            && self.climbs.resume(climb, &compiled.claims)
        {
            compiled = compile(Some(climb));
        }
        let due = climb.as_ref().and_then(|climb| climb.due());
        self.climbs.due.set(name, due);
        Some((claimant, compiled))
    }

    /// It is so late: milliseconds on a clock that never goes back. Services
    /// whose endpoints climb a step are marked.
    pub fn tick(&mut self, now: u64) {
        self.climbs.clock.tick(now);
        self.dirty.extend(self.climbs.due.at(now).cloned());
    }

    /// As [`Self::tick`], and what everybody's clock shows, by which nodes agree
    /// how old an endpoint is.
    pub fn tell_time(&mut self, now: u64, wall: Timestamp) {
        self.tick(now);
        self.climbs.clock.tell(wall);
    }

    /// When something comes with time alone, on the clock of [`Self::tick`]:
    /// endpoints climb their next step, an address of a Service that is gone goes.
    pub fn step_due(&self) -> Option<u64> {
        let both = [self.climbs.due.first(), self.leaving.first()];
        both.into_iter().flatten().min()
    }

    /// Endpoints that the kernel holds with less than their whole weight go on
    /// from there, in what is compiled for the first time until
    /// [`Self::resumed`]. So do addresses of Services that were gone.
    pub fn resume(&mut self, kernel: &KernelState) {
        self.resume_farewell(kernel);
        self.climbs.inherited = Some(kernel.virtual_servers.clone());
    }

    /// What is new from now on was not there before the program started.
    pub fn resumed(&mut self) {
        self.climbs.inherited = None;
    }
}
