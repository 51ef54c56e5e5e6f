//! Which version of each object was passed on: tells repeats and late-comers
//! from news.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Removals remembered at most between two bookmarks.
const GRAVES: usize = 4096;

/// Versions by a hash of namespace and name: two numbers an object, whatever
/// its size.
#[derive(Debug, Default)]
pub(super) struct Seen {
    entries: HashMap<u64, Entry>,
    hasher: RandomState,
    list: u32,
    graves: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    version: u64,
    list: u32,
    gone: bool,
}

impl Seen {
    /// A full list begins.
    pub(super) fn list_started(&mut self) {
        self.list = self.list.wrapping_add(1);
    }

    /// It is complete: what was not in it is forgotten.
    pub(super) fn list_completed(&mut self) {
        let list = self.list;
        self.entries
            .retain(|_, entry| entry.list == list && !entry.gone);
        self.entries.shrink_to(self.entries.len() * 2);
        self.graves = 0;
    }

    /// An object of a list. It counts whatever its version.
    pub(super) fn listed(&mut self, namespace: &str, name: &str, version: u64) {
        self.put(namespace, name, version, false);
    }

    /// An object changed. False if that, or something later, is known already.
    pub(super) fn changed(&mut self, namespace: &str, name: &str, version: u64) -> bool {
        self.news(namespace, name, version, false)
    }

    /// An object was removed. False if that, or something later, is known already.
    pub(super) fn removed(&mut self, namespace: &str, name: &str, version: u64) -> bool {
        self.news(namespace, name, version, true)
    }

    /// Everything up to a version has been told: no late-comer can follow.
    pub(super) fn bookmark(&mut self, version: u64) {
        if self.graves > 0 {
            self.entries
                .retain(|_, entry| !entry.gone || entry.version > version);
            self.graves = self.entries.values().filter(|entry| entry.gone).count();
        }
    }

    fn news(&mut self, namespace: &str, name: &str, version: u64, gone: bool) -> bool {
        let key = self.hasher.hash_one((namespace, name));
        // Version 0 is one we cannot read: then everything is news.
        if version > 0
            && self
                .entries
                .get(&key)
                .is_some_and(|entry| entry.version >= version)
        {
            return false;
        }
        self.put(namespace, name, version, gone);
        if self.graves > GRAVES {
            self.bookmark(u64::MAX);
        }
        true
    }

    fn put(&mut self, namespace: &str, name: &str, version: u64, gone: bool) {
        let key = self.hasher.hash_one((namespace, name));
        let before = self.entries.insert(
            key,
            Entry {
                version,
                list: self.list,
                gone,
            },
        );
        self.graves += usize::from(gone);
        self.graves -= usize::from(before.is_some_and(|entry| entry.gone));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeat_is_no_news() {
        let mut seen = Seen::default();

        assert!(seen.changed("default", "web", 5));
        assert!(!seen.changed("default", "web", 5));
        assert!(!seen.changed("default", "web", 4));
        assert!(seen.changed("default", "other", 4));
    }

    #[test]
    fn late_change_does_not_bring_a_removed_object_back() {
        let mut seen = Seen::default();
        seen.changed("default", "web", 5);

        assert!(seen.removed("default", "web", 7));
        assert!(!seen.changed("default", "web", 6));
        assert!(seen.changed("default", "web", 8));
    }

    #[test]
    fn list_of_a_restored_server_counts_although_older() {
        let mut seen = Seen::default();
        seen.changed("default", "web", 500);

        seen.list_started();
        seen.listed("default", "web", 20);
        seen.list_completed();

        assert!(seen.changed("default", "web", 21));
    }

    #[test]
    fn memory_is_bounded_by_what_exists() {
        let mut seen = Seen::default();
        for version in 1..100_000 {
            let name = format!("pod-{version}");
            seen.changed("default", &name, version * 2);
            seen.removed("default", &name, version * 2 + 1);
        }

        assert!(
            seen.entries.len() <= GRAVES + 1,
            "{} entries",
            seen.entries.len()
        );
    }
}
