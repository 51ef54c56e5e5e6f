//! Full lists: what they named, whether they have been whole once, and what
//! nobody could read.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;

use crate::event::{Kind, ObjectRef};
use crate::options::Options;
use crate::regarding::{Reference, Uid};
use crate::unknown::Unknown;

#[derive(Debug)]
pub(super) struct Lists {
    running: BTreeMap<Kind, BTreeSet<ObjectRef>>,
    /// Kinds whose first list is still awaited.
    awaited: BTreeSet<Kind>,
    /// Kinds that were whole once: what is known of them since is all there is.
    whole: BTreeSet<Kind>,
    /// Kinds whose lists ended with something missing, and none was whole yet.
    incomplete: BTreeSet<Kind>,
    /// Objects that are there and were never readable.
    unreadable: BTreeSet<ObjectRef>,
    /// Objects that cannot be read any more: what they were stays in force.
    outdated: BTreeMap<ObjectRef, Option<Uid>>,
    node: String,
    unknown: Unknown,
}

impl Lists {
    pub(super) fn new(options: &Options) -> Self {
        let mut awaited = BTreeSet::from([Kind::Service, Kind::EndpointSlice]);
        if options.wait_for_node {
            awaited.insert(Kind::Node);
        }
        if options.wait_for_service_cidrs {
            awaited.insert(Kind::ServiceCidr);
        }
        Self {
            running: BTreeMap::new(),
            awaited,
            whole: BTreeSet::new(),
            incomplete: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            outdated: BTreeMap::new(),
            node: options.node_name.clone(),
            unknown: Unknown::default(),
        }
    }

    /// A list begins; one that did not end is forgotten.
    pub(super) fn started(&mut self, kind: Kind) {
        self.running.insert(kind, BTreeSet::new());
    }

    /// An object is there and was read.
    pub(super) fn read(&mut self, kind: Kind, object: impl Fn() -> ObjectRef) {
        if let Some(seen) = self.running.get_mut(&kind) {
            seen.insert(object());
        }
        if !self.outdated.is_empty() {
            self.outdated.remove(&object());
        }
        if !self.unreadable.is_empty() && self.unreadable.remove(&object()) {
            self.settle();
        }
    }

    /// An object is there and cannot be read. `known`: it could be once.
    pub(super) fn unreadable(&mut self, Reference { object, uid }: Reference, known: bool) {
        if let Some(seen) = self.running.get_mut(&object.kind) {
            seen.insert(object.clone());
        }
        if known {
            self.outdated.insert(object, uid);
        } else if self.unreadable.insert(object) {
            self.settle();
        }
    }

    /// What is in force as it was when it could be read last.
    pub(super) fn outdated(&self) -> impl Iterator<Item = (&ObjectRef, &Option<Uid>)> {
        self.outdated.iter()
    }

    pub(super) fn gone(&mut self, object: &ObjectRef) {
        if let Some(seen) = self.running.get_mut(&object.kind) {
            seen.remove(object);
        }
        self.outdated.remove(object);
        if self.unreadable.remove(object) {
            self.settle();
        }
    }

    /// What the list named; `None` when none had begun, so that a stray end
    /// removes nothing.
    pub(super) fn completed(&mut self, kind: Kind) -> Option<BTreeSet<ObjectRef>> {
        let seen = self.running.remove(&kind)?;
        self.awaited.remove(&kind);
        self.whole.insert(kind);
        self.incomplete.remove(&kind);
        let is_there = |object: &ObjectRef| object.kind != kind || seen.contains(object);
        self.outdated.retain(|object, _| is_there(object));
        self.unreadable.retain(is_there);
        self.settle();
        Some(seen)
    }

    /// A list ended, but not all of it could be read: nothing is gone.
    pub(super) fn incomplete(&mut self, kind: Kind) {
        if self.running.remove(&kind).is_none() {
            return;
        }
        self.awaited.remove(&kind);
        if !self.whole.contains(&kind) {
            self.incomplete.insert(kind);
        }
        self.settle();
    }

    /// Kinds whose first list has not ended yet.
    pub(super) fn awaited(&self) -> impl Iterator<Item = Kind> {
        self.awaited.iter().copied()
    }

    /// What there may be besides what is known.
    pub(super) fn unknown(&self) -> &Unknown {
        &self.unknown
    }

    fn settle(&mut self) {
        self.unknown = if self.incomplete.is_empty() {
            Unknown::of(&self.unreadable, &self.node)
        } else {
            Unknown::Everything
        };
    }
}
