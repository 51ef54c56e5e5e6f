//! A transaction in parts, and put together again.

use alloc::vec::Vec;

use ipnet::IpNet;

use super::Change;
use crate::plan::Op;
use crate::table::{Edit, Moved};

/// The parts of a transaction that can be told apart, each as it would be by
/// itself: what is said of one front, one address, or one network.
pub fn parts(edit: &Edit) -> Vec<(Change, Edit)> {
    let mut parts = Vec::new();
    split(&edit.guarded, &mut parts, Change::Guard, |part| {
        &mut part.guarded
    });
    split(&edit.hairpin, &mut parts, Change::Hairpin, |part| {
        &mut part.hairpin
    });
    split(&edit.untracked, &mut parts, Change::Untracked, |part| {
        &mut part.untracked
    });
    parts.extend(networks(&edit.networks));
    parts.extend(edit.rows.iter().map(|(front, turn)| {
        let mut part = Edit::default();
        part.rows.insert(*front, turn.clone());
        (Change::Front(*front), part)
    }));
    parts
}

fn split<K: Ord + Copy>(
    moved: &Moved<K>,
    parts: &mut Vec<(Change, Edit)>,
    change: fn(K) -> Change,
    place: fn(&mut Edit) -> &mut Moved<K>,
) {
    for one in &moved.add | &moved.remove {
        let mut part = Edit::default();
        let of = place(&mut part);
        of.add.extend(moved.add.get(&one));
        of.remove.extend(moved.remove.get(&one));
        parts.push((change(one), part));
    }
}

/// Networks by themselves, but for those that overlap: one that comes where
/// another goes cannot come alone.
fn networks(moved: &Moved<IpNet>) -> Vec<(Change, Edit)> {
    let mut parts: Vec<(Change, Edit)> = Vec::new();
    let mut widest: Option<IpNet> = None;
    // One that contains others comes before them.
    for net in &moved.add | &moved.remove {
        let is_within = widest.is_some_and(|wide| wide.contains(&net));
        if !is_within {
            widest = Some(net);
            parts.push((Change::Network(net), Edit::default()));
        }
        let Some((change, part)) = parts.last_mut() else {
            continue;
        };
        let comes = moved.add.contains(&net);
        if comes && part.networks.add.is_empty() {
            *change = Change::Network(net);
        }
        part.networks.add.extend(comes.then_some(net));
        part.networks.remove.extend(moved.remove.get(&net));
    }
    parts
}

/// Several parts in one transaction.
pub fn together<'a>(parts: impl IntoIterator<Item = &'a (Change, Edit)>) -> Op {
    let mut all = Edit::default();
    parts.into_iter().for_each(|(_, part)| all.extend(part));
    Op::Table(all.into())
}
