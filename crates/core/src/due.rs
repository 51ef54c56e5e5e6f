//! What is looked at again, and when.

use alloc::collections::{BTreeMap, BTreeSet};

/// Keys by when they are looked at again: who is due is found without a look at
/// the others.
#[derive(Debug)]
pub(crate) struct Due<K> {
    at: BTreeMap<K, u64>,
    order: BTreeSet<(u64, K)>,
}

impl<K> Default for Due<K> {
    fn default() -> Self {
        Self {
            at: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Clone> Due<K> {
    /// When one is looked at from now on; none is never.
    pub(crate) fn set(&mut self, key: &K, at: Option<u64>) {
        let before = match at {
            Some(at) => self.at.insert(key.clone(), at),
            None => self.at.remove(key),
        };
        if before != at {
            before.map(|before| self.order.remove(&(before, key.clone())));
            self.order.extend(at.map(|at| (at, key.clone())));
        }
    }

    /// When the first one is due.
    pub(crate) fn first(&self) -> Option<u64> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Those that are due at a time.
    pub(crate) fn at(&self, time: u64) -> impl Iterator<Item = &K> {
        let due = self.order.iter().take_while(move |(at, _)| *at <= time);
        due.map(|(_, key)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_due_is_found_by_what_was_said_last() {
        let mut due = Due::default();
        assert_eq!(due.first(), None);
        due.set(&"a", Some(30));
        due.set(&"b", Some(20));
        due.set(&"c", Some(20));
        assert_eq!(due.first(), Some(20));
        assert_eq!(due.at(19).count(), 0);
        assert!(due.at(20).eq(&["b", "c"]));
        assert!(due.at(30).eq(&["b", "c", "a"]));

        due.set(&"b", Some(40));
        due.set(&"c", None);
        due.set(&"d", None);
        assert_eq!(due.first(), Some(30));
        assert!(due.at(40).eq(&["a", "b"]));
    }
}
