//! Full lists: what they named, and whether they have been whole once.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Kind, ObjectRef};

#[derive(Debug)]
pub(super) struct Lists {
    running: BTreeMap<Kind, BTreeSet<ObjectRef>>,
    /// Kinds whose first list is still awaited.
    awaited: BTreeSet<Kind>,
}

impl Lists {
    pub(super) fn new(wait_for_node: bool) -> Self {
        let mut awaited = BTreeSet::from([Kind::Service, Kind::EndpointSlice]);
        if wait_for_node {
            awaited.insert(Kind::Node);
        }
        Self {
            running: BTreeMap::new(),
            awaited,
        }
    }

    /// A list begins; one that did not end is forgotten.
    pub(super) fn started(&mut self, kind: Kind) {
        self.running.insert(kind, BTreeSet::new());
    }

    pub(super) fn seen(&mut self, kind: Kind, object: impl FnOnce() -> ObjectRef) {
        if let Some(seen) = self.running.get_mut(&kind) {
            seen.insert(object());
        }
    }

    pub(super) fn gone(&mut self, object: &ObjectRef) {
        if let Some(seen) = self.running.get_mut(&object.kind) {
            seen.remove(object);
        }
    }

    /// What the list named; `None` when none had begun, so that a stray end
    /// removes nothing.
    pub(super) fn completed(&mut self, kind: Kind) -> Option<BTreeSet<ObjectRef>> {
        let seen = self.running.remove(&kind)?;
        self.awaited.remove(&kind);
        Some(seen)
    }

    /// Kinds whose first list is not whole yet.
    pub(super) fn awaited(&self) -> impl Iterator<Item = Kind> {
        self.awaited.iter().copied()
    }
}
