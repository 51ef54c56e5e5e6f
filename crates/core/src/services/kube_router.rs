//! Annotations that kube-router knows and that are no aliases of ours.
//!
//! `kube-router.io/service.hairpin` and `.hairpin.externalips` ask for what is
//! done for every Service.

use alloc::borrow::ToOwned;
use alloc::format;

use crate::k8s::Service;
use crate::read::Quoted;
use crate::warnings::Warnings;

/// `true` is the same as `externalTrafficPolicy: Local` and
/// `internalTrafficPolicy: Cluster`, whatever the Service says.
pub(super) const LOCAL: &str = "kube-router.io/service.local";
/// What operators call it.
pub(super) const LOCAL_WORD: &str = "local";

const NO_ROUTES: &str =
    "is not done: this proxy announces no routes, whoever does for this cluster reads it";

/// What is asked for and not done, with the reason.
const NOT_DONE: [(&str, &str); 5] = [
    (
        "kube-router.io/service.dsr",
        "is not done: answers pass the node, which translates them",
    ),
    ("kube-router.io/service.advertise.clusterip", NO_ROUTES),
    ("kube-router.io/service.advertise.externalip", NO_ROUTES),
    ("kube-router.io/service.advertise.loadbalancerip", NO_ROUTES),
    (
        "kube-router.io/service.skiplbips",
        "is not done: addresses of its load balancer are served, unless their ipMode is Proxy",
    ),
];

/// Takes in what is said by other names: the fields say it from now on.
pub(super) fn adopt(service: &mut Service) {
    let annotations = &service.metadata.annotations;
    if annotations.get(LOCAL).is_some_and(|value| value == "true") {
        let spec = &mut service.spec;
        spec.external_traffic_policy = Some("Local".to_owned());
        spec.internal_traffic_policy = Some("Cluster".to_owned());
    }
}

/// Tells of what is not done.
pub(super) fn tell(service: &Service, warnings: &mut Warnings) {
    for (name, why) in NOT_DONE {
        let value = service.metadata.annotations.get(name);
        if let Some(value) = value.filter(|value| value.trim() != "false") {
            warnings.add(format!("annotation {name}: {} {why}", Quoted(value)));
        }
    }
}
