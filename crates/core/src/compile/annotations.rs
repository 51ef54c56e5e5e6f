//! What the owner of a Service asks of the scheduler.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};

use super::kube_router;
use super::slow_start::{self, SLOW_START};
use super::weights::{self, Weights};
use super::{Surroundings, Warnings};
use crate::event::Kind;
use crate::k8s::{Service, ServicePort, WEIGHT_ANNOTATION};
use crate::options::{NOT_HONOURED, Options, SCHEDULERS};
use crate::read::{MOST_WEIGHT, Quoted};
use crate::row::Masquerade;
use crate::state::{Flags, Protocol};
use crate::warnings::few;

const SCHEDULER: [&str; 2] = [
    "ipvs.kube-ipvs.dev/scheduler",
    "kube-router.io/service.scheduler",
];
const SCHEDULER_FLAGS: [&str; 2] = [
    "ipvs.kube-ipvs.dev/scheduler-flags",
    "kube-router.io/service.schedflags",
];
const ONE_PACKET: &str = "ipvs.kube-ipvs.dev/one-packet";
const UPPER_THRESHOLD: &str = "ipvs.kube-ipvs.dev/upper-threshold";
const LOWER_THRESHOLD: &str = "ipvs.kube-ipvs.dev/lower-threshold";
const MASQUERADE: &str = "ipvs.kube-ipvs.dev/masquerade";
const IP_MODE: &str = "ipvs.kube-ipvs.dev/ip-mode";
const WEIGHTS: &str = "ipvs.kube-ipvs.dev/weights";

/// Those of a Service, by their own names.
const OF_SERVICES: [&str; 9] = [
    SCHEDULER[0],
    SCHEDULER_FLAGS[0],
    ONE_PACKET,
    UPPER_THRESHOLD,
    LOWER_THRESHOLD,
    WEIGHTS,
    SLOW_START,
    MASQUERADE,
    IP_MODE,
];

/// What they begin with.
const PREFIX: &str = "ipvs.kube-ipvs.dev/";

/// Whether an annotation of a Service is one that is looked at.
pub(crate) fn is_read(name: &str) -> bool {
    word_of(name).is_some() || kube_router::is_read(name)
}

/// The annotations with our prefix that an object of a kind may have: whoever
/// checks manifests takes another one for misspelt.
pub fn annotations_of(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Service => &OF_SERVICES,
        Kind::EndpointSlice => &[WEIGHT_ANNOTATION],
        Kind::ServiceCidr | Kind::Node => &[],
    }
}

/// What operators call annotations: what follows our prefix, and `local` for
/// `kube-router.io/service.local`. Other aliases go with what they stand for.
pub fn annotation_words() -> impl Iterator<Item = &'static str> {
    let kinds = [Kind::Service, Kind::EndpointSlice].into_iter();
    let ours = kinds.flat_map(annotations_of);
    ours.filter_map(|name| name.strip_prefix(PREFIX))
        .chain([kube_router::LOCAL_WORD])
}

/// The word for an annotation of a Service.
fn word_of(name: &str) -> Option<&'static str> {
    let ours = OF_SERVICES.into_iter().find(|known| *known == name);
    let word = ours.and_then(|name| name.strip_prefix(PREFIX));
    word.or_else(|| match name {
        _ if name == SCHEDULER[1] => Some("scheduler"),
        _ if name == SCHEDULER_FLAGS[1] => Some("scheduler-flags"),
        kube_router::LOCAL => Some(kube_router::LOCAL_WORD),
        _ => None,
    })
}

/// Takes out what the operator does not honour, before anything reads it.
pub(crate) fn withhold(service: &mut Service, options: &Options) {
    let is_off = |name: &str| word_of(name).is_some_and(|word| !options.honours(word));
    let annotations = &mut service.metadata.annotations;
    let withheld = annotations.keys().filter(|name| is_off(name)).cloned();
    service.withheld_annotations = withheld.collect();
    annotations.retain(|name, _| !is_off(name));
}

/// Tells of what was taken out.
pub(super) fn tell_withheld(service: &Service, warnings: &mut Warnings) {
    for name in &service.withheld_annotations {
        warnings.add(format!("annotation {name}: {NOT_HONOURED}"));
    }
}

/// The scheduler that a Service names, if it is one.
pub(crate) fn scheduler_of(service: &Service) -> Option<&'static str> {
    let (_, value) = value(service, &SCHEDULER)?;
    SCHEDULERS.into_iter().find(|known| *known == value)
}

/// Whether endpoints are to see this node instead of the client; none where the
/// node decides.
pub(super) fn masquerade(
    service: &Service,
    external_local: bool,
    warnings: &mut Warnings,
) -> Option<Masquerade> {
    let (name, value) = value(service, &[MASQUERADE])?;
    let mut tell = |why| warnings.add(format!("annotation {name}: {} {why}", Quoted(value)));
    match value {
        "auto" => None,
        "never" => Some(Masquerade::Never),
        "always" => {
            if external_local {
                tell("hides the clients that externalTrafficPolicy: Local would show");
            }
            Some(Masquerade::Always)
        }
        _ => {
            tell("is none of auto, always and never; auto is used");
            None
        }
    }
}

/// Whether addresses of a load balancer whose status does not say so are left to
/// it, as with `ipMode: Proxy`.
pub(super) fn is_proxied(service: &Service, warnings: &mut Warnings) -> bool {
    let Some((name, value)) = value(service, &[IP_MODE]) else {
        return false;
    };
    match value {
        "Proxy" => true,
        "VIP" => false,
        _ => {
            warnings.add(format!(
                "annotation {name}: {} is neither VIP nor Proxy; it is ignored",
                Quoted(value)
            ));
            false
        }
    }
}

/// The first of several names that is there, with its value.
fn value<'n, 's>(service: &'s Service, names: &[&'n str]) -> Option<(&'n str, &'s str)> {
    let all = &service.metadata.annotations;
    let found = names.iter().find_map(|name| Some((*name, all.get(*name)?)));
    found.map(|(name, value)| (name, value.trim()))
}

/// Settings of all virtual servers of a Service.
#[derive(Debug)]
pub(super) struct Tuning {
    pub(super) scheduler: String,
    flags: Flags,
    pub(super) upper_threshold: u32,
    pub(super) lower_threshold: u32,
    /// None where the scheduler takes no notice of them.
    pub(super) weights: Option<Weights>,
}

impl Tuning {
    /// The flags for a protocol: only UDP can be scheduled by the packet.
    pub(super) fn flags(&self, protocol: Protocol) -> Flags {
        Flags {
            one_packet: self.flags.one_packet && protocol == Protocol::Udp,
            ..self.flags
        }
    }
}

/// Reads the annotations; a bad value is as good as none.
pub(super) fn read(
    service: &Service,
    around: &Surroundings<'_>,
    warnings: &mut Warnings,
) -> Tuning {
    let options = around.options;
    let notes = Notes {
        service,
        warnings: core::cell::RefCell::new(warnings),
    };
    let scheduler = notes.scheduler(around);
    // A scheduler that is named means the same on every node: flags are named with it.
    let mut flags = match &scheduler {
        Some(_) => Flags::default(),
        None => options.flags,
    };
    let scheduler = scheduler.unwrap_or_else(|| options.scheduler.clone());
    let hashes = ["sh", "mh"].contains(&scheduler.as_str());
    flags.fallback |= hashes;
    notes.scheduler_flags(&scheduler, &mut flags);
    flags.one_packet = notes.one_packet() || flags.one_packet;
    let (upper_threshold, lower_threshold) = notes.thresholds();
    notes.slow_start(&scheduler);
    Tuning {
        weights: notes.weights(&scheduler),
        scheduler,
        flags,
        upper_threshold,
        lower_threshold,
    }
}

struct Notes<'a> {
    service: &'a Service,
    warnings: core::cell::RefCell<&'a mut Warnings>,
}

impl Notes<'_> {
    fn value<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &str)> {
        value(self.service, names)
    }

    fn warn(&self, name: &str, value: &str, why: &str) {
        self.tell(name, &Quoted(value).to_string(), why);
    }

    fn tell(&self, name: &str, shown: &str, why: &str) {
        let text = format!("annotation {name}: {shown} {why}");
        self.warnings.borrow_mut().add(text);
    }

    fn scheduler(&self, around: &Surroundings<'_>) -> Option<String> {
        let (name, value) = self.value(&SCHEDULER)?;
        let default = &around.options.scheduler;
        let why = if !SCHEDULERS.contains(&value) {
            let known = SCHEDULERS.join(", ");
            format!("is no scheduler ({known}); the default, {default}, is used")
        } else if around.missing_schedulers.contains(value) {
            format!("is not in this node's kernel (ip_vs_{value}); the default, {default}, is used")
        } else {
            return Some(value.to_owned());
        };
        self.warn(name, value, &why);
        None
    }

    /// Words set a flag; with `no-` before them they clear it. Those that do
    /// neither are told of together: there may be as many as fit the object.
    fn scheduler_flags(&self, scheduler: &str, flags: &mut Flags) {
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

    fn one_packet(&self) -> bool {
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
    fn thresholds(&self) -> (u32, u32) {
        let upper = self.threshold(UPPER_THRESHOLD);
        let lower = self.threshold(LOWER_THRESHOLD);
        if lower > upper {
            let why = "is above the upper threshold; it is ignored";
            self.warn(LOWER_THRESHOLD, &lower.to_string(), why);
            return (upper, 0);
        }
        (upper, lower)
    }

    /// Tells of what does not come of it; how long it is asks
    /// [`climb_of`](slow_start::climb_of).
    fn slow_start(&self, scheduler: &str) {
        let Some((name, value)) = self.value(&[SLOW_START]) else {
            return;
        };
        match slow_start::read(value) {
            Err(wrong) => self.warn(name, value, &wrong),
            Ok(_) if slow_start::is_shared_by(scheduler) => {}
            Ok(_) => self.warn(name, value, &slow_start::not_shared(scheduler)),
        }
    }

    /// None where the scheduler takes no notice of any.
    fn weights(&self, scheduler: &str) -> Option<Weights> {
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

    fn threshold(&self, name: &'static str) -> u32 {
        let Some((name, value)) = self.value(&[name]) else {
            return 0;
        };
        value.parse().unwrap_or_else(|_| {
            self.warn(name, value, "is no number of connections; it is ignored");
            0
        })
    }
}
