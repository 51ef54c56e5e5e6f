//! What a Service has of the desired state.

use alloc::boxed::Box;
use core::net::IpAddr;

use super::claims::Stake;
use super::grant::Grant;
use super::health_ports::Wish;
use super::host_ports::HostPort;
use crate::compile::{Health, TrafficPolicy, Withheld};
use crate::event::Kind;
use crate::names::{ServiceName, Warning};
use crate::regarding::Regarding;
use crate::state::{Family, Front, VirtualServerKey};
use crate::table::Untracked;

/// What a Service asked for and was given, so that it can be taken back.
#[derive(Debug, Default)]
pub(super) struct Footprint {
    pub(super) stake: Stake,
    pub(super) hairpin: Box<[IpAddr]>,
    pub(super) untracked: Box<[Untracked]>,
    /// Fronts at which this host answers health checks.
    pub(super) passing: Box<[Front]>,
    pub(super) vips: Box<[IpAddr]>,
    /// Few have one, so it takes no room here; nor does the wish for it.
    pub(super) health: Option<Box<Health>>,
    /// Ports it takes on this host's own addresses.
    pub(super) host_ports: Box<[HostPort]>,
    /// The health-check node port it asks for, whoever answers there.
    pub(super) health_wish: Option<Box<Wish>>,
    pub(super) without_local: Box<[(TrafficPolicy, Family)]>,
    pub(super) withheld: Box<[Withheld]>,
    pub(super) warnings: Box<[Warning]>,
    /// Fronts and marks it holds.
    pub(super) held: Box<[VirtualServerKey]>,
}

impl Footprint {
    pub(super) fn is_empty(&self) -> bool {
        self.stake.claims.is_empty() && self.hairpin.is_empty() && self.passing.is_empty()
    }

    /// The fronts it holds.
    pub(super) fn fronts(&self) -> impl Iterator<Item = &Front> {
        self.held.iter().filter_map(|key| match key {
            VirtualServerKey::Front(front) => Some(front),
            VirtualServerKey::Mark { .. } => None,
        })
    }

    /// Whether there is something to tell or to listen on.
    pub(super) fn is_notable(&self) -> bool {
        self.health.is_some() || !self.warnings.is_empty()
    }

    /// What is held, before it is given away.
    pub(super) fn keep_held(&mut self, grant: &Grant) {
        keep(&mut self.held, grant.held.iter().map(|(key, _)| *key));
    }

    /// The rest of what a Service is given now.
    pub(super) fn keep(&mut self, name: &ServiceName, mut grant: Grant) {
        keep(&mut self.without_local, grant.without_local.iter().copied());
        keep(&mut self.hairpin, grant.hairpin.iter().copied());
        keep(&mut self.untracked, grant.untracked.iter().copied());
        keep(&mut self.passing, grant.passing.iter().copied());
        keep(&mut self.vips, grant.vips.iter().copied());
        self.health = grant.health.map(Box::new);
        let (namespace, uid) = (&name.namespace, grant.uid);
        let object = || Regarding::named(Kind::Service, namespace, &name.name, uid);
        let mut warnings = grant.warnings.finish(object);
        warnings.append(&mut grant.slice_warnings);
        self.warnings = warnings.into();
        self.withheld = grant.withheld.into();
    }
}

/// Makes them these; nearly always they are.
fn keep<T: PartialEq + Clone>(kept: &mut Box<[T]>, these: impl Iterator<Item = T> + Clone) {
    if !kept.iter().cloned().eq(these.clone()) {
        *kept = these.collect();
    }
}
