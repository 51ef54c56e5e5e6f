//! The desired state, with what the kernel refuses in sight.

use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use core::net::IpAddr;

use ipnet::IpNet;

use super::{Change, Refused, touch_marked};
use crate::diff::Touched;
use crate::row::{Row, Verdict};
use crate::state::{Front, KernelState, VirtualServer, VirtualServerKey};
use crate::table::Untracked;

/// What the kernel should hold as long as it refuses what it refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal<'a> {
    pub(crate) desired: &'a KernelState,
    pub(crate) observed: &'a KernelState,
    pub(crate) refused: &'a Refused,
}

impl<'a> Goal<'a> {
    /// A virtual server, without the real servers that it cannot have. None of
    /// them left is no virtual server.
    pub(crate) fn server(&self, key: &VirtualServerKey) -> Option<Arc<VirtualServer>> {
        let want = self.desired.virtual_servers.get(key)?;
        if self.refused.all.is_empty() {
            return Some(want.clone());
        }
        let have = self.observed.virtual_servers.get(key);
        if have.is_none() && self.refused.contains(&Change::AddVirtualServer(*key)) {
            return None;
        }
        let Some(reals) = self.refused.real_servers.get(key) else {
            return Some(want.clone());
        };
        let mut left = VirtualServer::clone(want);
        left.real_servers.retain(|real, _| {
            let there = have.is_some_and(|have| have.real_servers.contains_key(real));
            there || !reals.contains(real)
        });
        let gone = left.real_servers.is_empty() && !want.real_servers.is_empty();
        (!gone).then(|| Arc::new(left))
    }

    /// Whether a virtual server takes new connections, or would not by anybody's fault.
    fn answers(&self, key: &VirtualServerKey) -> bool {
        if !self.refused.concerns(key) {
            return self.desired.virtual_servers.contains_key(key);
        }
        let takes = |server: &Arc<VirtualServer>| {
            let mut reals = server.real_servers.values();
            reals.any(|real| real.weight > 0)
        };
        let want = self.desired.virtual_servers.get(key);
        let left = self.server(key);
        left.is_some_and(|left| takes(&left) || !want.is_some_and(takes))
    }

    /// Whether a front that should be open is closed, since nobody would answer.
    fn is_closed(&self, front: &Front, want: &Row) -> bool {
        if !want.verdict.is_open() {
            return false;
        }
        if self.refused.contains(&Change::Front(*front)) {
            return true;
        }
        let own = VirtualServerKey::Front(*front);
        if self.desired.virtual_servers.contains_key(&own) {
            return !self.answers(&own);
        }
        let marked = want.marked_server(front);
        // Without any, it is a health-check port, which the host answers.
        let mark = marked.or_else(|| want.inside_server(front));
        mark.is_some_and(|mark| !self.answers(&mark))
    }

    /// The row of a front.
    pub(crate) fn row(&self, front: &Front) -> Option<Cow<'a, Row>> {
        let want = self.desired.row(front);
        if self.refused.all.is_empty() {
            return want.map(Cow::Borrowed);
        }
        let none = Row::default();
        let mut row = want.unwrap_or(&none).clone();
        if self.is_closed(front, &row) {
            row.verdict = Verdict::Refuse;
            (row.inside, row.mark) = (None, None);
        }
        let answered = |key: Option<VirtualServerKey>| key.is_some_and(|key| self.answers(&key));
        row.inside = row.inside.filter(|_| answered(row.inside_server(front)));
        row.mark = row.mark.filter(|_| answered(row.marked_server(front)));
        if self.refused.contains(&Change::Front(*front)) {
            // All of it stays as it is, but what closes it is tried all the same.
            let have = self.observed.row(front).unwrap_or(&none);
            row.masquerade = have.masquerade;
            row.sources = have.sources.clone();
        }
        row.said().map(Cow::Owned)
    }

    /// Whether a front is led to a real server that takes new connections now,
    /// and is to get none of its any more.
    pub(crate) fn loses_servers(&self, front: &Front, have: &Row, want: &Row) -> bool {
        let own = VirtualServerKey::Front(*front);
        let mut ways = have.by_marks(front).chain([own]);
        ways.any(|key| {
            let stays = key == own || want.by_marks(front).any(|other| other == key);
            let left = self.server(&key).filter(|_| stays);
            let takes = |real| {
                let at = left.as_ref().and_then(|left| left.real_servers.get(real));
                at.is_some_and(|at| at.weight > 0)
            };
            let there = self.observed.virtual_servers.get(&key).into_iter();
            let mut there = there.flat_map(|server| &server.real_servers);
            there.any(|(real, at)| at.weight > 0 && !takes(real))
        })
    }

    /// Whether a VIP should be bound.
    pub(crate) fn binds(&self, vip: IpAddr) -> bool {
        self.desired.vips.contains(&vip) && !self.refused.contains(&Change::Guard(vip))
    }

    /// Whether an address should be guarded.
    pub(crate) fn guards(&self, vip: &IpAddr) -> bool {
        if self.refused.contains(&Change::Guard(*vip)) {
            return self.observed.table.guarded.contains(vip);
        }
        // While a VIP that would not go is bound, its other ports stay out of reach.
        let stays =
            self.refused.contains(&Change::Unbind(*vip)) && self.observed.vips.contains(vip);
        stays || self.desired.table.guarded.contains(vip)
    }

    /// Whether what is said of an endpoint stays as it is.
    pub(crate) fn leaves_hairpin(&self, address: &IpAddr) -> bool {
        self.refused.contains(&Change::Hairpin(*address))
    }

    /// Whether it stays tracked or untracked, as it is.
    pub(crate) fn leaves_untracked(&self, one: &Untracked) -> bool {
        self.refused.contains(&Change::Untracked(*one))
    }

    /// Whether what is said of a network stays as it is.
    pub(crate) fn leaves_network(&self, net: &IpNet) -> bool {
        self.refused.contains(&Change::Network(*net))
    }

    /// Whether a virtual server stays as it is, there or not: the table would
    /// not take what is said of its front.
    pub(crate) fn leaves_server(&self, key: &VirtualServerKey) -> bool {
        let VirtualServerKey::Front(front) = key else {
            return false;
        };
        self.refused.contains(&Change::Front(*front))
    }

    /// Everything touched, and what depends on it by way of a refusal.
    pub(crate) fn touched<'t>(&self, touched: &'t Touched) -> Cow<'t, Touched> {
        if self.refused.all.is_empty() {
            return Cow::Borrowed(touched);
        }
        let keys = touched.virtual_servers.iter();
        let concerned: BTreeSet<_> = keys.filter(|key| self.refused.concerns(key)).collect();
        let mut all = touched.clone();
        let mut by_mark = false;
        for key in &concerned {
            match key {
                VirtualServerKey::Front(front) => _ = all.fronts.insert(*front),
                VirtualServerKey::Mark { .. } => by_mark = true,
            }
        }
        if by_mark {
            let states = [self.desired, self.observed];
            touch_marked(|key| concerned.contains(key), states, &mut all);
        }
        Cow::Owned(all)
    }
}
