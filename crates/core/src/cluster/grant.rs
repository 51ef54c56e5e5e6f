//! What a Service is given of what it claims.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::claims::{Claims, by_key};
use super::placement::Served;
use super::sources;
use crate::compile::{Claim, Compiled, Health, Ranges, TrafficPolicy, Withheld};
use crate::localhost::LocalhostPort;
use crate::names::{ServiceName, Warning};
use crate::read::Quoted;
use crate::regarding::Uid;
use crate::row::{Row, Sources, Verdict};
use crate::state::{Family, Front, VirtualServer, VirtualServerKey};
use crate::table::Untracked;
use crate::warnings::Warnings;

/// A claim that was won.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) served: Served,
    pub(super) server: Option<VirtualServer>,
    pub(super) row: Row,
    pub(super) localhost: Option<LocalhostPort>,
}

/// What a Service is given: its claims less those that others hold.
#[derive(Debug, Default)]
pub(super) struct Grant {
    /// By key, each once.
    pub(super) held: Vec<(VirtualServerKey, Held)>,
    pub(super) hairpin: BTreeSet<IpAddr>,
    pub(super) untracked: BTreeSet<Untracked>,
    pub(super) passing: BTreeSet<Front>,
    pub(super) vips: BTreeSet<IpAddr>,
    pub(super) health: Option<Health>,
    pub(super) warnings: Warnings,
    /// Of the Service.
    pub(super) uid: Option<Uid>,
    /// Fronts that only some may use.
    restricted: BTreeSet<Front>,
    pub(super) withheld: Vec<Withheld>,
    pub(super) without_local: BTreeSet<(TrafficPolicy, Family)>,
    pub(super) slice_warnings: Vec<Warning>,
}

impl Grant {
    pub(super) fn of(name: &ServiceName, compiled: Compiled, claims: &Claims) -> Self {
        let mut grant = Self {
            hairpin: compiled.hairpin,
            untracked: compiled.untracked,
            passing: compiled.passing,
            health: compiled.health,
            warnings: compiled.warnings,
            uid: compiled.uid,
            withheld: compiled.withheld,
            without_local: compiled.without_local,
            slice_warnings: compiled.slice_warnings,
            ..Self::default()
        };
        for claim in compiled.claims {
            match claims.owner(&claim.key) {
                Some(owner) if owner != name => grant.lose(&claim, owner),
                _ => grant.win(name, claim, claims),
            }
        }
        grant.held = by_key(core::mem::take(&mut grant.held));
        // What goes to another's front is his to decide.
        let mut untracked = core::mem::take(&mut grant.untracked);
        untracked.retain(|one| match one {
            Untracked::Front(front) => grant.place_of(&VirtualServerKey::Front(*front)).is_ok(),
            _ => true,
        });
        if untracked
            .iter()
            .any(|one| matches!(one, Untracked::Front(_)))
        {
            grant.untracked = untracked;
        }
        grant.restrict(&compiled.ranges, claims);
        grant
    }

    /// Where a front or mark stands among those that are held.
    pub(super) fn place_of(&self, key: &VirtualServerKey) -> Result<usize, usize> {
        self.held.binary_search_by_key(key, |(key, _)| *key)
    }

    fn win(&mut self, name: &ServiceName, claim: Claim, claims: &Claims) {
        self.vips.extend(claim.bind);
        self.restricted.extend(claim.restricted());
        let row = row(name, &claim, claims);
        let served = Served {
            service: name.clone(),
            port: claim.port,
            protocol: claim.protocol,
            kind: claim.kind,
        };
        let held = Held {
            served,
            server: claim.server,
            row,
            localhost: claim.localhost,
        };
        self.held.push((claim.key, held));
    }

    /// Beyond the bound nobody is let in: to open what somebody wanted closed,
    /// or to half of those it is for, would be worse.
    fn restrict(&mut self, ranges: &Ranges, claims: &Claims) {
        let found = sources::sources(&self.restricted, ranges, claims.restricting());
        if let Err(count) = &found {
            self.warnings.add(format!(
                "loadBalancerSourceRanges: {count} networks, counted for each run of ports at each \
                 address, are more than {}; nobody is let in at the load balancer's addresses",
                sources::MOST
            ));
        }
        let found = found.unwrap_or_default();
        let nobody = Sources::from([]);
        for front in &self.restricted {
            if let Ok(place) = self.place_of(&VirtualServerKey::Front(*front)) {
                let sources = found.get(&front.address).unwrap_or(&nobody);
                self.held[place].1.row.sources = Some(sources.clone());
            }
        }
    }

    fn lose(&mut self, claim: &Claim, owner: &ServiceName) {
        let what = match claim.key {
            VirtualServerKey::Front(front) => {
                format!("{} {front} is served for Service {owner}", claim.kind)
            }
            VirtualServerKey::Mark { mark, .. } => {
                format!("mark {mark:#010x} is that of Service {owner}")
            }
        };
        self.warnings.add(format!(
            "port {}: {what}, which goes before; not for this one",
            Quoted(&claim.port)
        ));
    }
}

/// The row of a front that was won. Without its mark there is nobody for
/// traffic from inside, or for any; if that was all there was, the front is
/// refused, since a port that passes the guard and has no virtual server
/// reaches the host.
fn row(name: &ServiceName, claim: &Claim, claims: &Claims) -> Row {
    let family = claim.key.family();
    let won = |mark: &u32| {
        let mark = VirtualServerKey::Mark {
            mark: *mark,
            family,
        };
        claims.owner(&mark) == Some(name)
    };
    let claimed = &claim.row;
    let most = claimed.mark.or(claimed.inside);
    let most = most.filter(|_| claim.server.is_none());
    if most.is_some_and(|mark| !won(&mark)) {
        return Row {
            masquerade: claimed.masquerade,
            ..Row::of(Verdict::Refuse)
        };
    }
    Row {
        inside: claimed.inside.filter(won),
        mark: claimed.mark.filter(won),
        ..claimed.clone()
    }
}
