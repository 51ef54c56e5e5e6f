//! Lists of which the kernel tells every change: they need not be read to be known.

use std::net::IpAddr;

use kube_ipvs_dataplane::Dataplane;

use super::Syncer;

/// Passes of the audit after which a list is read though nothing was told of it:
/// a quarter of an hour of 30 s.
pub(super) const PASSES: u32 = 30;

/// Whether a list is to be read again.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// The kernel's notices are read. Where they are not, the list is, in each
    /// pass.
    notices: bool,
    /// A notice told of something else than is known.
    doubted: bool,
    /// Passes since it was read.
    passes: u32,
}

impl Followed {
    /// The kernel's notices are read from now on, or cannot be any more.
    pub(super) fn follow(&mut self, notices: bool) {
        *self = Self {
            notices,
            doubted: true,
            passes: 0,
        };
    }

    /// It may have changed.
    pub(super) fn doubt(&mut self) {
        self.doubted = true;
    }

    /// It was read.
    pub(super) fn read(&mut self) {
        (self.doubted, self.passes) = (false, 0);
    }

    /// A pass of the audit: whether to read it now.
    pub(super) fn pass(&mut self) -> bool {
        self.passes = self.passes.saturating_add(1);
        self.doubted || !self.notices || self.passes >= PASSES
    }
}

impl<D: Dataplane> Syncer<D> {
    /// The kernel's notices are read from now on, or cannot be any more: only where
    /// they are not, the audit reads in each pass what they tell of.
    pub fn follow_notices(&mut self, notices: bool) {
        self.vips.follow(notices);
        self.host.followed.follow(notices);
    }

    /// VIPs may have come or gone: they are read in the audit's next pass.
    pub fn doubt_vips(&mut self) {
        self.vips.doubt();
    }

    /// This host's addresses changed: they are read with the next
    /// [`Self::pass_over_host`].
    pub fn doubt_host(&mut self) {
        self.host.followed.doubt();
    }

    /// Whether an address should be bound to our link.
    pub fn expects(&self, vip: IpAddr) -> bool {
        self.known().is_none_or(|state| state.vips.contains(&vip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes_until_it_is_read(list: &mut Followed) -> u32 {
        (1..).find(|_| list.pass()).expect("at last")
    }

    #[test]
    fn a_list_that_is_told_of_is_read_when_in_doubt_and_now_and_then() {
        let mut list = Followed::default();
        list.read();
        assert_eq!(passes_until_it_is_read(&mut list), 1, "nobody tells");

        list.follow(true);
        assert!(list.pass(), "what changed before is not told");
        assert!(list.pass(), "it was not read");
        list.read();
        assert_eq!(passes_until_it_is_read(&mut list), PASSES);

        list.read();
        list.doubt();
        assert!(list.pass());
        list.read();
        assert!(!list.pass());

        list.follow(false);
        list.read();
        assert!(list.pass(), "nobody tells any more");
    }
}
