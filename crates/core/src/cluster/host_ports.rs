//! The ports that Services take on this host's own addresses, so that somebody
//! can look whether the host listens there itself.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};

use super::counts::swap;
use crate::compile::Compiled;
use crate::state::{Protocol, VirtualServerKey};

/// A port of this host.
pub(super) type HostPort = (Protocol, u16);

/// How many Services take each.
#[derive(Debug, Default)]
pub(super) struct HostPorts {
    taken: BTreeMap<HostPort, u32>,
    /// One came that nobody has looked at.
    new: bool,
}

impl HostPorts {
    /// Replaces the ports of a Service. Those that are left to the host are
    /// looked at on, since they are the Service's when the host leaves them.
    pub(super) fn replace(&mut self, before: &mut Box<[HostPort]>, compiled: &Compiled) {
        let claims = compiled.claims.iter();
        let here = claims.filter(|claim| claim.bind.is_none());
        let left = compiled.left.iter();
        let after: BTreeSet<HostPort> = here
            .filter_map(|claim| match claim.key {
                // What we listen on ourselves there is nobody else's.
                VirtualServerKey::Front(front) if front.address.is_loopback() => None,
                VirtualServerKey::Front(front) => Some((front.protocol, front.port)),
                VirtualServerKey::Mark { .. } => None,
            })
            .chain(left.map(|front| (front.protocol, front.port)))
            .collect();
        if before.iter().eq(&after) {
            return;
        }
        let (gone, come) = (before.iter().copied(), after.iter().copied());
        let moved = swap(&mut self.taken, gone, come);
        self.new |= moved.iter().any(|port| self.taken.contains_key(port));
        *before = after.into_iter().collect();
    }

    pub(super) fn taken(&self) -> BTreeSet<HostPort> {
        self.taken.keys().copied().collect()
    }

    pub(super) fn take_new(&mut self) -> bool {
        core::mem::take(&mut self.new)
    }
}
