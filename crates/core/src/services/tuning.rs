//! What the owner of a Service asks of the scheduler.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::annotations::{
    LOWER_THRESHOLD, ONE_PACKET, SCHEDULER, SCHEDULER_FLAGS, UPPER_THRESHOLD, WEIGHTS, value,
};
use super::slow_start::{self, SLOW_START};
use super::weights::{self, Weights};
use crate::k8s::{Service, ServicePort};
use crate::options::{Options, SCHEDULERS};
use crate::read::{MOST_WEIGHT, Quoted};
use crate::scheduler::Scheduler;
use crate::state::{Flags, Protocol};
use crate::warnings::few;

/// Settings of all virtual servers of a Service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tuning {
    pub(crate) scheduler: Scheduler,
    flags: Flags,
    pub(crate) upper_threshold: u32,
    pub(crate) lower_threshold: u32,
    /// None where the scheduler takes no notice of them.
    pub(crate) weights: Option<Weights>,
    /// For how many milliseconds new endpoints climb to their share.
    pub(crate) climb: Option<u64>,
    /// What of it makes no sense.
    pub(crate) warnings: Box<[String]>,
}

impl Tuning {
    /// The flags for a protocol: only UDP can be scheduled by the packet.
    pub(crate) fn flags(&self, protocol: Protocol) -> Flags {
        Flags {
            one_packet: self.flags.one_packet && protocol == Protocol::Udp,
            ..self.flags
        }
    }

    /// Reads the annotations for a scheduler; a bad value is as good as none.
    fn read(scheduler: Option<&str>, mut notes: Notes<'_>, options: &Options) -> Self {
        // A scheduler that is named means the same on every node: flags are named with it.
        let mut flags = match scheduler {
            Some(_) => Flags::default(),
            None => options.flags,
        };
        let scheduler = scheduler.unwrap_or(&options.scheduler);
        flags.fallback |= ["sh", "mh"].contains(&scheduler);
        notes.scheduler_flags(scheduler, &mut flags);
        flags.one_packet = notes.one_packet() || flags.one_packet;
        let (upper_threshold, lower_threshold) = notes.thresholds();
        Self {
            climb: notes.slow_start(scheduler),
            weights: notes.weights(scheduler),
            scheduler: scheduler.into(),
            flags,
            upper_threshold,
            lower_threshold,
            warnings: notes.warnings.into(),
        }
    }
}

/// What a Service asks for, with whatever scheduler can do it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tunings {
    /// The scheduler that it names, if it is one.
    pub(super) named: Option<&'static str>,
    /// With that one, or the default.
    asked: Tuning,
    /// With the default, where the kernel lacks the one that is named.
    instead: Option<Box<Tuning>>,
}

impl Tunings {
    pub(super) fn read(service: &Service, options: &Options) -> Self {
        let notes = || Notes {
            service,
            warnings: Vec::new(),
        };
        let mut asked = notes();
        let named = asked.scheduler(options);
        let instead = named.map(|_| {
            let mut instead = notes();
            instead.missing(options);
            Box::new(Tuning::read(None, instead, options))
        });
        Self {
            asked: Tuning::read(named, asked, options),
            named,
            instead,
        }
    }

    /// With a scheduler that is not among those the kernel lacks.
    pub(super) fn where_missing(&self, missing: &BTreeSet<String>) -> &Tuning {
        let lacks = self.named.is_some_and(|named| missing.contains(named));
        self.instead
            .as_deref()
            .filter(|_| lacks)
            .unwrap_or(&self.asked)
    }
}

struct Notes<'a> {
    service: &'a Service,
    warnings: Vec<String>,
}

impl<'a> Notes<'a> {
    fn value<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &'a str)> {
        value(self.service, names)
    }

    fn warn(&mut self, name: &str, value: &str, why: &str) {
        self.tell(name, &Quoted(value).to_string(), why);
    }

    fn tell(&mut self, name: &str, shown: &str, why: &str) {
        let text = format!("annotation {name}: {shown} {why}");
        self.warnings.push(text);
    }

    /// The scheduler that is named, if it is one.
    fn scheduler(&mut self, options: &Options) -> Option<&'static str> {
        let (name, value) = self.value(&SCHEDULER)?;
        let known = SCHEDULERS.into_iter().find(|known| *known == value);
        if known.is_none() {
            let (known, default) = (SCHEDULERS.join(", "), &options.scheduler);
            let why = format!("is no scheduler ({known}); the default, {default}, is used");
            self.warn(name, value, &why);
        }
        known
    }

    /// What to say where the kernel lacks the one that is named.
    fn missing(&mut self, options: &Options) {
        let Some((name, value)) = self.value(&SCHEDULER) else {
            return;
        };
        let default = &options.scheduler;
        let why = format!(
            "is not in this node's kernel (ip_vs_{value}); the default, {default}, is used"
        );
        self.warn(name, value, &why);
    }

    /// Words set a flag; with `no-` before them they clear it. Those that do
    /// neither are told of together: there may be as many as fit the object.
    fn scheduler_flags(&mut self, scheduler: &str, flags: &mut Flags) {
        let Some((name, value)) = self.value(&SCHEDULER_FLAGS) else {
            return;
        };
        let words = value
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty());
        let mut unknown = BTreeSet::new();
        for word in words {
            let (plain, on) = match word.strip_prefix("no-") {
                Some(plain) => (plain, false),
                None => (word, true),
            };
            let flag = match (scheduler, plain) {
                ("sh", "sh-fallback") | ("mh", "mh-fallback" | "flag-1") => &mut flags.fallback,
                ("sh", "sh-port") | ("mh", "mh-port" | "flag-2") => &mut flags.port,
                (_, "flag-1" | "flag-2" | "flag-3") => continue,
                _ => {
                    unknown.insert(word);
                    continue;
                }
            };
            *flag = on;
        }
        let why = match unknown.len() {
            0 => return,
            1 => format!("is no flag of scheduler {scheduler}; it is ignored"),
            _ => format!("are no flags of scheduler {scheduler}; they are ignored"),
        };
        self.tell(name, &few(unknown), &why);
    }

    fn one_packet(&mut self) -> bool {
        let Some((name, value)) = self.value(&[ONE_PACKET]) else {
            return false;
        };
        let on = match value {
            "true" => true,
            "false" => return false,
            _ => {
                self.warn(name, value, "is neither true nor false; it is ignored");
                return false;
            }
        };
        let udp = |port: &ServicePort| port.protocol.as_deref() == Some("UDP");
        if !self.service.spec.ports.iter().any(udp) {
            self.warn(name, value, "is for UDP, and no port is UDP; it is ignored");
        }
        on
    }

    /// Upper and lower. The kernel refuses a lower one above the upper one.
    fn thresholds(&mut self) -> (u32, u32) {
        let upper = self.threshold(UPPER_THRESHOLD);
        let lower = self.threshold(LOWER_THRESHOLD);
        if lower > upper {
            let why = "is above the upper threshold; it is ignored";
            self.warn(LOWER_THRESHOLD, &lower.to_string(), why);
            return (upper, 0);
        }
        (upper, lower)
    }

    /// For how many milliseconds new endpoints climb; none when that is not asked
    /// for, or the scheduler does not share by weight.
    fn slow_start(&mut self, scheduler: &str) -> Option<u64> {
        let (name, value) = self.value(&[SLOW_START])?;
        match slow_start::read(value) {
            Err(wrong) => self.warn(name, value, &wrong),
            Ok(climb) if slow_start::is_shared_by(scheduler) => return Some(climb),
            Ok(_) => self.warn(name, value, &slow_start::not_shared(scheduler)),
        }
        None
    }

    /// None where the scheduler takes no notice of any.
    fn weights(&mut self, scheduler: &str) -> Option<Weights> {
        let heeded = weights::is_heeded_by(scheduler);
        let even = heeded.then_some(Weights::EVEN);
        let Some((name, value)) = self.value(&[WEIGHTS]) else {
            return even;
        };
        if !heeded {
            self.warn(name, value, &weights::unheeded(scheduler));
            return None;
        }
        match Weights::read(value) {
            Ok(weights) => Some(weights),
            Err(wrong) => {
                let most = MOST_WEIGHT;
                let allowed = format!(
                    "is ignored: {wrong}; node=, zone= and other= go with a number from 1 to {most}, \
                     each once"
                );
                self.warn(name, value, &allowed);
                even
            }
        }
    }

    fn threshold(&mut self, name: &'static str) -> u32 {
        let Some((name, value)) = self.value(&[name]) else {
            return 0;
        };
        value.parse().unwrap_or_else(|_| {
            self.warn(name, value, "is no number of connections; it is ignored");
            0
        })
    }
}
