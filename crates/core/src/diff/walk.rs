//! Two sorted maps side by side.

use alloc::collections::{BTreeMap, btree_map};
use core::iter::Peekable;

use crate::state::{RealServer, RealServerKey};

/// Real servers, looked up in their order: both sides have nearly the same ones,
/// so that each is found where the last one was left.
pub(super) struct Walk<'a>(Peekable<btree_map::Iter<'a, RealServerKey, RealServer>>);

impl<'a> Walk<'a> {
    pub(super) fn of(all: &'a BTreeMap<RealServerKey, RealServer>) -> Self {
        Self(all.iter().peekable())
    }

    /// The one of this key, which is after those asked for before.
    pub(super) fn at(&mut self, key: &RealServerKey) -> Option<&'a RealServer> {
        while self.0.next_if(|(there, _)| *there < key).is_some() {}
        let found = self.0.next_if(|(there, _)| *there == key);
        found.map(|(_, real)| real)
    }
}
