//! Tests of the whole way from objects to plans, by subject.

mod annotations;
mod bad_input;
mod bounds;
mod clashes;
mod endpoints;
mod farewell;
mod health_checks;
mod host_ports;
mod kinds;
mod kube_router;
mod law;
mod localhost;
mod masquerade;
mod matrix;
mod properties;
mod ranges;
mod reading;
mod refusals;
mod slow_start;
mod unknown;
mod untracked;
mod weights;
mod whose;
mod withheld;
