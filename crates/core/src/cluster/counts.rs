//! How often something is there that several objects may name.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;

/// Counts by key.
pub(super) trait Counts<K> {
    /// One more; true when it is the first.
    fn more(&mut self, key: &K) -> bool;

    /// One less; true when it was the last.
    fn less(&mut self, key: &K) -> bool;
}

/// Counts some less and others more; what is among both is not even looked up.
/// Returns those that were not there before, or are not any more. Nearly always
/// they are the same, in one order.
pub(super) fn swap<K: Ord + Clone>(
    counts: &mut impl Counts<K>,
    before: impl Iterator<Item = K> + Clone,
    after: impl Iterator<Item = K> + Clone,
) -> BTreeSet<K> {
    if before.clone().eq(after.clone()) {
        return BTreeSet::new();
    }
    let mut before: Vec<K> = before.collect();
    let mut after: Vec<K> = after.collect();
    before.sort_unstable();
    after.sort_unstable();
    let mut changed = BTreeSet::new();
    let (mut gone, mut come) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let next = match (gone.peek(), come.peek()) {
            (Some(one), Some(other)) if one == other => {
                gone.next();
                come.next();
                continue;
            }
            (Some(one), Some(other)) if one > other => come.next().filter(|key| counts.more(key)),
            (None, Some(_)) => come.next().filter(|key| counts.more(key)),
            (Some(_), _) => gone.next().filter(|key| counts.less(key)),
            (None, None) => return changed,
        };
        changed.extend(next.cloned());
    }
}

impl<K: Ord + Clone> Counts<K> for BTreeMap<K, u32> {
    fn more(&mut self, key: &K) -> bool {
        // Looked up first: nearly all are there, and a key may be dear to clone.
        match self.get_mut(key) {
            Some(count) => *count += 1,
            None => {
                self.insert(key.clone(), 1);
                return true;
            }
        }
        false
    }

    fn less(&mut self, key: &K) -> bool {
        let Some(count) = self.get_mut(key) else {
            return false;
        };
        *count -= 1;
        let last = *count == 0;
        if last {
            self.remove(key);
        }
        last
    }
}

/// Addresses, as numbers: those are compared in a fraction of the time, and
/// take half of the room.
///
/// Mostly it is asked for one that is in none of the networks of those that are
/// there, as an endpoint among VIPs: the few networks are asked first.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    v4: BTreeMap<u32, u32>,
    v6: BTreeMap<u128, u32>,
    /// The upper halves of those, with how many there are of each.
    networks: [BTreeMap<u64, u32>; 2],
}

fn upper_v4(address: u32) -> u64 {
    (address >> 16).into()
}

fn upper_v6(address: u128) -> u64 {
    (address >> 64) as u64
}

impl Addresses {
    /// Whether it is there.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => {
                let number = v4.into();
                self.networks[0].contains_key(&upper_v4(number)) && self.v4.contains_key(&number)
            }
            IpAddr::V6(v6) => {
                let number = v6.into();
                self.networks[1].contains_key(&upper_v6(number)) && self.v6.contains_key(&number)
            }
        }
    }
}

impl Counts<IpAddr> for Addresses {
    fn more(&mut self, address: &IpAddr) -> bool {
        let (first, family, upper) = match *address {
            IpAddr::V4(v4) => (self.v4.more(&v4.into()), 0, upper_v4(v4.into())),
            IpAddr::V6(v6) => (self.v6.more(&v6.into()), 1, upper_v6(v6.into())),
        };
        if first {
            self.networks[family].more(&upper);
        }
        first
    }

    fn less(&mut self, address: &IpAddr) -> bool {
        let (last, family, upper) = match *address {
            IpAddr::V4(v4) => (self.v4.less(&v4.into()), 0, upper_v4(v4.into())),
            IpAddr::V6(v6) => (self.v6.less(&v6.into()), 1, upper_v6(v6.into())),
        };
        if last {
            self.networks[family].less(&upper);
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use core::iter::empty;

    use super::*;

    #[test]
    fn what_came_and_went_is_told_and_what_somebody_still_names_is_not() {
        let at = |last: u8| IpAddr::from([10, 0, 0, last]);
        let six: IpAddr = "fd00::1".parse().unwrap();
        let mut counts = Addresses::default();

        let came = swap(&mut counts, empty(), [at(2), six, at(1), at(1)].into_iter());
        assert_eq!(came, [at(1), at(2), six].into());

        let moved = swap(
            &mut counts,
            [at(1), at(2), six].into_iter(),
            [at(3), at(2)].into_iter(),
        );
        assert_eq!(moved, [at(3), six].into(), "10.0.0.1 was named twice");
        assert!(counts.has(at(1)) && counts.has(at(2)) && counts.has(at(3)));
        assert!(!counts.has(six) && !counts.has(at(4)));

        let gone = swap(&mut counts, [at(1)].into_iter(), empty());
        assert_eq!(gone, [at(1)].into());
        assert!(!counts.has(at(1)));
    }

    #[test]
    fn what_was_never_counted_is_not_gone() {
        let mut counts = BTreeMap::new();
        assert!(swap(&mut counts, ["a"].into_iter(), ["b"].into_iter()).eq(&["b"].into()));
        assert!(counts.eq(&[("b", 1)].into()));
    }
}
