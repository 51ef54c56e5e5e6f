//! Annotations of Services: their names, and the short ones.

use alloc::format;

use super::kube_router;
use super::slow_start::SLOW_START;
use super::untracked::UNTRACKED;
use crate::event::Kind;
use crate::k8s::{Service, WEIGHT_ANNOTATION};
use crate::options::{NOT_HONOURED, Options};
use crate::read::Quoted;
use crate::row::Masquerade;
use crate::warnings::Warnings;

pub(super) const SCHEDULER: [&str; 2] = [
    "ipvs.kube-ipvs.dev/scheduler",
    "kube-router.io/service.scheduler",
];
pub(super) const SCHEDULER_FLAGS: [&str; 2] = [
    "ipvs.kube-ipvs.dev/scheduler-flags",
    "kube-router.io/service.schedflags",
];
pub(super) const ONE_PACKET: &str = "ipvs.kube-ipvs.dev/one-packet";
pub(super) const UPPER_THRESHOLD: &str = "ipvs.kube-ipvs.dev/upper-threshold";
pub(super) const LOWER_THRESHOLD: &str = "ipvs.kube-ipvs.dev/lower-threshold";
const MASQUERADE: &str = "ipvs.kube-ipvs.dev/masquerade";
const IP_MODE: &str = "ipvs.kube-ipvs.dev/ip-mode";
pub(super) const WEIGHTS: &str = "ipvs.kube-ipvs.dev/weights";

/// Those of a Service, by their own names.
const OF_SERVICES: [&str; 10] = [
    SCHEDULER[0],
    SCHEDULER_FLAGS[0],
    ONE_PACKET,
    UPPER_THRESHOLD,
    LOWER_THRESHOLD,
    WEIGHTS,
    SLOW_START,
    MASQUERADE,
    IP_MODE,
    UNTRACKED,
];

/// What they begin with.
const PREFIX: &str = "ipvs.kube-ipvs.dev/";

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

/// Takes out what the operator does not honour, before anything reads it, and
/// tells of it.
pub(super) fn withhold(service: &mut Service, options: &Options, warnings: &mut Warnings) {
    service.metadata.annotations.retain(|name, _| {
        let is_off = word_of(name).is_some_and(|word| !options.honours(word));
        if is_off {
            warnings.add(format!("annotation {name}: {NOT_HONOURED}"));
        }
        !is_off
    });
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
pub(super) fn value<'n, 's>(service: &'s Service, names: &[&'n str]) -> Option<(&'n str, &'s str)> {
    let all = &service.metadata.annotations;
    let found = names.iter().find_map(|name| Some((*name, all.get(*name)?)));
    found.map(|(name, value)| (name, value.trim()))
}
