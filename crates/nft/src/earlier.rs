//! What tables of earlier versions say of fronts: a set for each thing that can
//! be said. They are read so that a table can take the place of one of them
//! without a moment in which nothing is said.

use std::collections::{BTreeMap, BTreeSet};

use crate::class::{Class, Fate, Masquerading};
use crate::element::Front;
use crate::packed::read_front;
use crate::wire::Item;
use crate::{Elements, Family};

/// The classes of fronts, as far as their sets were read.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    fronts: BTreeMap<Front, Class>,
    /// There was such a set.
    pub(crate) found: bool,
}

impl Earlier {
    /// Whether a set of this name was one of theirs.
    pub(crate) fn has(name: &str) -> bool {
        said(name).is_some()
    }

    /// Takes in the elements of such a set.
    pub(crate) fn take(&mut self, name: &str, family: Family, items: &[Item]) {
        let Some(said) = said(name) else { return };
        self.found = true;
        for front in items.iter().filter_map(|item| read_front(family, item)) {
            let class = self.fronts.entry(front).or_default();
            class.fate = class.fate.max(said.fate);
            class.masquerading = class.masquerading.max(said.masquerading);
            class.restricted |= said.restricted;
        }
    }

    /// The elements that say the same today.
    pub(crate) fn put(&self, marked: &BTreeSet<Front>, into: &mut Elements) {
        for (front, class) in &self.fronts {
            let element = class.element(&front.to_string(), marked.contains(front));
            if let Some((set, text)) = element {
                into.entry(set).or_default().insert(text);
            }
        }
    }
}

/// What a set said of its fronts.
fn said(name: &str) -> Option<Class> {
    let fate = |fate| Class {
        fate,
        ..Class::default()
    };
    let masquerading = |masquerading| Class {
        masquerading,
        ..Class::default()
    };
    Some(match name {
        "service-ports" => fate(Fate::Served),
        "drop-outside" => fate(Fate::Outside),
        "rejected" => fate(Fate::Refused),
        "masqueraded" => masquerading(Masquerading::Always),
        "masquerade-off-cluster" => masquerading(Masquerading::OffCluster),
        "restricted" => Class {
            restricted: true,
            ..Class::default()
        },
        _ => return None,
    })
}
