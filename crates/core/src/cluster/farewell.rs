//! Addresses of Services that are gone.
//!
//! Were one unbound at once, packets of connections that are open would go where
//! the node's routes lead, and their clients would wait for an answer for as long
//! as TCP tries. So it stays bound and guarded for a while: what comes is reset,
//! or answered by ICMP. Nobody but another proxier of Services has an address of a
//! ServiceCIDR; another one may be somebody's soon, and goes soon. It goes at once
//! when it is known to be.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::Cluster;
use crate::compile::Withheld;
use crate::diff::Touched;
use crate::services::FrontKind;
use crate::state::{KernelState, VirtualServerKey};

/// How long an address of a ServiceCIDR stays, in milliseconds.
const INSIDE_MS: u64 = 300_000;
/// And another one.
const OUTSIDE_MS: u64 = 10_000;
/// So many stay at most: of more, those that would go first.
const MOST: usize = 1024;

impl Cluster {
    /// Keeps those of the addresses that nobody wants any more.
    pub(super) fn bid_farewell(&mut self, vips: &BTreeSet<IpAddr>) {
        if !self.options.farewell {
            return;
        }
        for vip in vips {
            self.leaving.set(vip, None);
            if !self.placement.bound().has(*vip) {
                self.keep_bound(*vip);
            }
        }
    }

    /// Those with nothing behind them that a program before this one kept: they
    /// stay once more, since nobody knows since when.
    pub(super) fn resume_farewell(&mut self, kernel: &KernelState) {
        if !self.options.farewell {
            return;
        }
        let rows = kernel.table.rows.keys().copied();
        let servers = kernel.virtual_servers.keys();
        let fronts = rows.chain(servers.filter_map(VirtualServerKey::front));
        let used: BTreeSet<IpAddr> = fronts.map(|front| front.address).collect();
        for vip in kernel.vips.intersection(&kernel.table.guarded) {
            if !used.contains(vip) && !self.placement.bound().has(*vip) {
                self.keep_bound(*vip);
            }
        }
    }

    fn keep_bound(&mut self, vip: IpAddr) {
        if self.is_anybodys(vip) {
            return;
        }
        let inside = self.is_inside(vip);
        let stays = if inside { INSIDE_MS } else { OUTSIDE_MS };
        let until = self.climbs.clock.now + stays;
        self.leaving.set(&vip, Some(until));
        self.placement.set_bound(vip, true);
    }

    /// Lets those go that stayed long enough, or are somebody else's now.
    pub(super) fn let_go(&mut self, touched: &mut Touched) {
        let by_time: Vec<IpAddr> = self.leaving.at(u64::MAX).copied().collect();
        let due = self.leaving.at(self.climbs.clock.now).count();
        let going = due.max(by_time.len().saturating_sub(MOST));
        for (place, vip) in by_time.into_iter().enumerate() {
            if place < going || self.is_anybodys(vip) {
                self.leaving.set(&vip, None);
                self.placement.set_bound(vip, false);
                touched.vips.insert(vip);
                touched.guarded.insert(vip);
            }
        }
    }

    fn is_inside(&self, vip: IpAddr) -> bool {
        let mut networks = self.ground.service_networks().iter();
        networks.any(|net| net.contains(&vip))
    }

    /// Whether a Service would not have it bound here now.
    fn is_anybodys(&self, vip: IpAddr) -> bool {
        let missing = self.schedulers.missing();
        let vips = self.placement.bound();
        let around = self
            .ground
            .surroundings(&self.options, &self.territory, vips, missing);
        let kind = if self.is_inside(vip) {
            FrontKind::ClusterIp
        } else {
            FrontKind::ExternalIp
        };
        let nobody = Default::default();
        around.host.contains(&vip) || Withheld::of(vip, kind, &nobody, &around).is_some()
    }
}
