//! The way of the rolling audit: which piece comes next, and whose real servers
//! a pass reads.

use kube_ipvs_core::state::VirtualServerKey;

/// Steps of a pass that read real servers, at most.
pub(super) const SLICES: usize = 21;
/// Virtual servers of such a step: a small table is not worth many, and a big
/// one is read in several passes.
pub(super) const SHARE: usize = 32;
/// Virtual servers of a pass while nobody changes anything: what a look finds is
/// nothing then, and it is most of what an idle node does.
pub(super) const CALM: usize = 84;
/// Passes to read all in then, unless [`SLICES`] of [`SHARE`] take longer: more
/// are read in one where there are that many.
pub(super) const CALM_PASSES: usize = 30;
/// Passes without drift before that is believed again: an hour of 30 s.
pub(super) const WARY_PASSES: u32 = 120;

/// Where the audit stands: the piece that is read next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Piece {
    /// Sysctls, link and tables: they guard what follows.
    #[default]
    Tables,
    /// VIPs.
    Vips,
    /// Virtual servers without their real servers.
    Servers,
    /// Real servers, in so many steps.
    RealServers(usize),
}

impl Piece {
    pub(super) fn real_servers(slices: usize) -> Self {
        if slices == 0 {
            Self::default()
        } else {
            Self::RealServers(slices)
        }
    }
}

/// The way through the real servers of all virtual servers.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Those of the virtual servers after this one are read next.
    pub(super) after: Option<VirtualServerKey>,
    /// Virtual servers a step; none is an equal share of all that are left.
    pub(super) share: Option<usize>,
    /// Passes to read all in; none is as many as their number asks for.
    passes: Option<u32>,
    /// Something was other than we left it since the last pass began.
    pub(super) drifted: bool,
    /// Passes until nobody is thought to change anything.
    wary: u32,
}

impl Walk {
    /// In so many passes whatever their number.
    pub(super) fn in_passes(passes: u32) -> Self {
        Self {
            passes: Some(passes),
            ..Self::default()
        }
    }

    /// From the first one: all was looked at, and was as we left it or not.
    pub(super) fn start_over(&mut self, drifted: bool) {
        (self.after, self.drifted) = (None, false);
        if drifted {
            self.wary = WARY_PASSES;
        }
    }

    /// Whether somebody changed something not long ago.
    pub(super) fn is_wary(&self) -> bool {
        self.wary > 0 || self.drifted
    }

    /// A pass begins with so many virtual servers.
    pub(super) fn begin(&mut self, total: usize) {
        let drifted = std::mem::take(&mut self.drifted);
        self.wary = if drifted {
            WARY_PASSES
        } else {
            self.wary.saturating_sub(1)
        };
        let share = self.share_of(total);
        let all = drifted || share * slices(total) >= total;
        self.share = (!all).then_some(share);
        if all {
            self.after = None;
        }
    }

    /// Of so many virtual servers, those of one step.
    fn share_of(&self, total: usize) -> usize {
        let most = SLICES * SHARE;
        let of_a_pass = match self.passes {
            Some(passes) => total.div_ceil(passes.max(1) as usize),
            None if self.wary > 0 => most,
            None => CALM.max(total.div_ceil(CALM_PASSES)).min(most),
        };
        of_a_pass.div_ceil(slices(total).max(1)).max(1)
    }

    /// Passes until all of so many are read, from now on.
    pub(super) fn passes(&self, total: usize) -> u32 {
        let of_a_pass = self.share_of(total) * slices(total).max(1);
        let passes = if self.drifted {
            1
        } else {
            total.div_ceil(of_a_pass)
        };
        u32::try_from(passes.max(1)).unwrap_or(u32::MAX)
    }
}

/// Steps of a pass that read real servers of so many virtual servers.
pub(super) fn slices(total: usize) -> usize {
    total.div_ceil(SHARE).min(SLICES)
}
