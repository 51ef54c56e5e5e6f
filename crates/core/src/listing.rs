//! A list of the kernel's virtual servers, held against those that are known.
//!
//! The audit takes each as it comes: of thousands that are as they were left
//! nothing is made.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::state::{VirtualServer, VirtualServerKey};

/// A list that is being read.
#[derive(Debug)]
pub struct Listing<'a> {
    known: &'a BTreeMap<VirtualServerKey, Arc<VirtualServer>>,
    seen: Vec<VirtualServerKey>,
    other: Vec<(VirtualServerKey, VirtualServer)>,
}

/// What a list has other than is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Compared {
    /// Those that are not known, or have other settings; without real servers.
    pub other: Vec<(VirtualServerKey, VirtualServer)>,
    /// Those that are known and not in the list, in order.
    pub unlisted: Vec<VirtualServerKey>,
}

impl<'a> Listing<'a> {
    /// Nothing of it was read yet.
    pub fn new(known: &'a BTreeMap<VirtualServerKey, Arc<VirtualServer>>) -> Self {
        Self {
            known,
            seen: Vec::with_capacity(known.len()),
            other: Vec::new(),
        }
    }

    /// The next one, without its real servers.
    pub fn take(&mut self, key: VirtualServerKey, server: VirtualServer) {
        let known = self.known.get(&key);
        if !known.is_some_and(|known| known.has_settings_of(&server)) {
            self.other.push((key, server));
        }
        self.seen.push(key);
    }

    /// What there was to find. None where one came twice: such a list was counted
    /// wrong, and may lack others.
    pub fn compared(mut self) -> Option<Compared> {
        self.seen.sort_unstable();
        if self.seen.windows(2).any(|pair| pair[0] == pair[1]) {
            return None;
        }
        let mut seen = self.seen.iter().peekable();
        let is_unlisted = |key: &&VirtualServerKey| {
            while seen.next_if(|other| other < key).is_some() {}
            seen.next_if_eq(key).is_none()
        };
        let unlisted = self.known.keys().filter(is_unlisted).copied().collect();
        Some(Compared {
            other: self.other,
            unlisted,
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::state::Family;

    fn key(mark: u32) -> VirtualServerKey {
        VirtualServerKey::Mark {
            mark,
            family: Family::V4,
        }
    }

    fn server(scheduler: &str) -> VirtualServer {
        VirtualServer {
            scheduler: scheduler.into(),
            flags: Default::default(),
            persistence: None,
            real_servers: BTreeMap::new(),
        }
    }

    /// Three that are known, and these in the list.
    fn compared(list: &[(u32, &str)]) -> Option<Compared> {
        let known = [1, 3, 5].map(|mark| (key(mark), Arc::new(server("rr"))));
        let known = known.into();
        let mut listing = Listing::new(&known);
        for (mark, scheduler) in list {
            listing.take(key(*mark), server(scheduler));
        }
        listing.compared()
    }

    #[test]
    fn a_list_of_what_is_known_in_any_order_says_nothing() {
        let list = [(5, "rr"), (1, "rr"), (3, "rr")];
        assert_eq!(compared(&list), Some(Compared::default()));
    }

    #[test]
    fn what_is_missing_what_is_new_and_what_is_otherwise_is_told() {
        let found = compared(&[(4, "rr"), (3, "sh"), (0, "wlc")]).unwrap();
        assert_eq!(found.unlisted, [key(1), key(5)]);
        let other = [(4, "rr"), (3, "sh"), (0, "wlc")];
        assert_eq!(found.other, other.map(|(at, name)| (key(at), server(name))));
        let all = compared(&[]).unwrap().unlisted;
        assert_eq!(all, vec![key(1), key(3), key(5)]);
    }

    #[test]
    fn a_list_with_one_twice_is_none() {
        assert_eq!(
            compared(&[(1, "rr"), (3, "rr"), (5, "rr"), (3, "rr")]),
            None
        );
        assert_eq!(compared(&[(9, "rr"), (9, "rr")]), None);
    }
}
