//! From rows to the elements of our sets, and back: what a set means is written
//! down here and in the table's rules.
//!
//! Each row is some elements by itself, but for its networks: an element is for
//! a run of ports, and fronts that share networks share runs. What lies between
//! the first and the last port of a run is not asked for, unless it is
//! restricted, and then it has a run of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use kube_ipvs_core::row::{Masquerade, Row, Sources, Verdict};
use kube_ipvs_core::state::{Family, Front, Protocol};
use kube_ipvs_core::table::{Edit, Moved, Table, Untracked};
use kube_ipvs_nft as nft;
use nft::{Class, Config, Elements, Fate, Masquerading, Set, TableChange};

mod read;

pub(super) use read::read;

/// What has to be remembered of the table of a family so that a change of rows
/// costs no more than the elements it is.
#[derive(Debug, Default)]
pub(super) struct Projection {
    /// Networks of restricted fronts: those of neighbours make a run.
    sources: BTreeMap<Place, BTreeMap<u16, Sources>>,
    /// How many fronts carry each mark.
    marks: BTreeMap<u32, usize>,
    /// How many marks fronts carry in all.
    marked: usize,
}

/// Where ports are neighbours.
type Place = (IpAddr, Protocol);

/// Neighbouring ports with the same networks.
type Run = (u16, u16, Sources);

impl Projection {
    /// Of a table that holds this in a family.
    pub(super) fn of(table: &Table, family: Family) -> Self {
        let mut projection = Self::default();
        for (front, row) in rows_of(table, family) {
            projection.remember(front, Some(row));
        }
        projection
    }

    /// The elements that a change takes away and brings, of one family.
    pub(super) fn change(&self, edit: &Edit, family: Family) -> TableChange {
        let mut removed = Elements::new();
        let mut added = Elements::new();
        let mut places = BTreeSet::new();
        for (front, turn) in &edit.rows {
            if Family::of(front.address) != family {
                continue;
            }
            let from = row_elements(front, turn.from.as_ref());
            let to = row_elements(front, turn.to.as_ref());
            insert_all(&mut removed, from.difference(&to));
            insert_all(&mut added, to.difference(&from));
            let sources = |row: &Option<Row>| row.as_ref()?.sources.clone();
            if sources(&turn.from) != sources(&turn.to) {
                places.insert(place(front));
            }
        }
        for place in places {
            let (before, after) = self.sources_at(&place, edit);
            let (from, to) = (
                source_elements(&place, &before, &after),
                source_elements(&place, &after, &before),
            );
            insert_all(&mut removed, from.difference(&to));
            insert_all(&mut added, to.difference(&from));
        }
        let mut moved = |set, all: &Moved<IpAddr>| {
            insert_all(&mut removed, addresses(set, &all.remove, family).iter());
            insert_all(&mut added, addresses(set, &all.add, family).iter());
        };
        moved(Set::Vips, &edit.guarded);
        moved(Set::Hairpin, &edit.hairpin);
        let Moved { add, remove } = &edit.untracked;
        insert_all(&mut removed, untracked(remove, family).iter());
        insert_all(&mut added, untracked(add, family).iter());
        insert_all(&mut removed, networks(&edit.networks.remove, family).iter());
        insert_all(&mut added, networks(&edit.networks.add, family).iter());
        let more: isize = marks_moved(edit, family).values().sum();
        let marked = self.marked.saturating_add_signed(more) > 0;
        TableChange {
            removed,
            added,
            marking: (marked != (self.marked > 0)).then_some(marked),
        }
    }

    /// Where fronts that are open before and after a change come to stand, of
    /// those that leave one set for another. A packet asks one set after the
    /// other: were both changed in one transaction, it could find such a front
    /// in neither, so it has to be in both for a while.
    pub(super) fn arrivals(edit: &Edit, family: Family) -> Elements {
        let mut arrivals = Elements::new();
        for (front, turn) in &edit.rows {
            let (Some(from), Some(to)) = (&turn.from, &turn.to) else {
                continue;
            };
            let open = from.verdict.is_open() && to.verdict.is_open();
            if !open || Family::of(front.address) != family {
                continue;
            }
            let (from, to) = (class_element(front, from), class_element(front, to));
            if let (Some((before, _)), Some((after, element))) = (from, to)
                && before != after
            {
                arrivals.entry(after).or_default().insert(element);
            }
        }
        arrivals
    }

    /// Whether any front has a mark once a change is made.
    pub(super) fn marks_after(&self, edit: &Edit, family: Family) -> impl Fn(u32) -> bool {
        let more = marks_moved(edit, family);
        move |mark| {
            let now = self.marks.get(&mark).copied().unwrap_or_default();
            let more = more.get(&mark).copied().unwrap_or_default();
            now.saturating_add_signed(more) > 0
        }
    }

    /// The change was made.
    pub(super) fn changed(&mut self, edit: &Edit, family: Family) {
        for (front, turn) in &edit.rows {
            if Family::of(front.address) == family {
                self.forget(front, turn.from.as_ref());
                self.remember(front, turn.to.as_ref());
            }
        }
    }

    fn remember(&mut self, front: &Front, row: Option<&Row>) {
        let Some(row) = row else { return };
        for mark in marks(row) {
            *self.marks.entry(mark).or_default() += 1;
            self.marked += 1;
        }
        if let Some(sources) = &row.sources {
            let at = self.sources.entry(place(front)).or_default();
            at.insert(front.port, sources.clone());
        }
    }

    fn forget(&mut self, front: &Front, row: Option<&Row>) {
        let Some(row) = row else { return };
        for mark in marks(row) {
            if let Some(count) = self.marks.get_mut(&mark) {
                *count = count.saturating_sub(1);
                self.marked = self.marked.saturating_sub(1);
                if *count == 0 {
                    self.marks.remove(&mark);
                }
            }
        }
        let place = place(front);
        if let Some(at) = self.sources.get_mut(&place) {
            at.remove(&front.port);
            if at.is_empty() {
                self.sources.remove(&place);
            }
        }
    }

    /// The runs of a place before and after a change.
    fn sources_at(&self, place: &Place, edit: &Edit) -> (Vec<Run>, Vec<Run>) {
        let none = BTreeMap::new();
        let before = self.sources.get(place).unwrap_or(&none);
        let mut after = before.clone();
        let at = |port| Front {
            address: place.0,
            port,
            protocol: place.1,
        };
        // Fronts are ordered by port before protocol.
        for (front, turn) in edit.rows.range(first(place.0)..) {
            if front.address != place.0 {
                break;
            }
            if *front != at(front.port) {
                continue;
            }
            match turn.to.as_ref().and_then(|row| row.sources.clone()) {
                Some(sources) => after.insert(front.port, sources),
                None => after.remove(&front.port),
            };
        }
        (runs(before), runs(&after))
    }
}

/// By how many more fronts each mark is carried after a change.
fn marks_moved(edit: &Edit, family: Family) -> BTreeMap<u32, isize> {
    let mut more: BTreeMap<u32, isize> = BTreeMap::new();
    let turns = edit.rows.iter();
    for (_, turn) in turns.filter(|(front, _)| Family::of(front.address) == family) {
        for mark in turn.from.iter().flat_map(marks) {
            *more.entry(mark).or_default() -= 1;
        }
        for mark in turn.to.iter().flat_map(marks) {
            *more.entry(mark).or_default() += 1;
        }
    }
    more
}

/// The least front at an address.
fn first(address: IpAddr) -> Front {
    Front {
        address,
        port: 0,
        protocol: Protocol::Tcp,
    }
}

/// All elements of one family.
pub(super) fn elements(table: &Table, family: Family) -> Elements {
    let mut all = Elements::new();
    let mut sources: BTreeMap<Place, BTreeMap<u16, Sources>> = BTreeMap::new();
    for (front, row) in rows_of(table, family) {
        insert_all(&mut all, row_elements(front, Some(row)).iter());
        if let Some(nets) = &row.sources {
            let at = sources.entry(place(front)).or_default();
            at.insert(front.port, nets.clone());
        }
    }
    for (place, ports) in &sources {
        insert_all(&mut all, source_elements(place, &runs(ports), &[]).iter());
    }
    insert_all(
        &mut all,
        addresses(Set::Vips, &table.guarded, family).iter(),
    );
    insert_all(
        &mut all,
        addresses(Set::Hairpin, &table.hairpin, family).iter(),
    );
    insert_all(&mut all, untracked(&table.untracked, family).iter());
    insert_all(&mut all, networks(&table.networks, family).iter());
    all
}

/// The family of a table.
pub(super) fn family_of(config: &Config) -> Family {
    match config.family {
        nft::Family::Ip => Family::V4,
        nft::Family::Ip6 => Family::V6,
    }
}

fn rows_of(table: &Table, family: Family) -> impl Iterator<Item = (&Front, &Row)> {
    let rows = table.rows.iter();
    rows.filter(move |(front, _)| Family::of(front.address) == family)
}

fn place(front: &Front) -> Place {
    (front.address, front.protocol)
}

fn marks(row: &Row) -> impl Iterator<Item = u32> + use<> {
    row.inside.into_iter().chain(row.mark)
}

/// What a row says but for its marks and networks.
fn class(row: &Row) -> Class {
    Class {
        fate: match row.verdict {
            Verdict::Closed => Fate::Closed,
            Verdict::Serve => Fate::Served,
            Verdict::DropOutside => Fate::Outside,
            Verdict::Refuse => Fate::Refused,
        },
        masquerading: match row.masquerade {
            Masquerade::Never => Masquerading::Never,
            Masquerade::OffCluster => Masquerading::OffCluster,
            Masquerade::Always => Masquerading::Always,
        },
        restricted: row.sources.is_some(),
    }
}

/// All of a row but its networks.
fn row_elements(front: &Front, row: Option<&Row>) -> BTreeSet<(Set, String)> {
    let Some(row) = row else {
        return BTreeSet::new();
    };
    let text = front_text(place(front), front.port, front.port);
    let mut elements: BTreeSet<_> = class_element(front, row).into_iter().collect();
    let marks = [
        (Set::InsideMarks, row.inside),
        (Set::NodePortMarks, row.mark),
    ];
    elements.extend(
        marks
            .into_iter()
            .filter_map(|(set, mark)| Some((set, format!("{text} : {:#010x}", mark?)))),
    );
    elements
}

/// The set where a front stands with its class, and how.
fn class_element(front: &Front, row: &Row) -> Option<(Set, String)> {
    let text = front_text(place(front), front.port, front.port);
    let marked = row.inside.or(row.mark).is_some();
    class(row).element(&text, marked)
}

/// Ports that follow one another among the restricted ones, with the same networks.
fn runs(ports: &BTreeMap<u16, Sources>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (port, sources) in ports {
        match runs.last_mut() {
            Some((_, last, same)) if same == sources => *last = *port,
            _ => runs.push((*port, *port, sources.clone())),
        }
    }
    runs
}

/// The elements of runs, but for those that are among the others as they are.
fn source_elements(place: &Place, runs: &[Run], others: &[Run]) -> BTreeSet<(Set, String)> {
    let changed = runs.iter().filter(|run| !others.contains(run));
    let elements = changed.flat_map(|(first, last, sources)| {
        let at = front_text(*place, *first, *last);
        let nets = sources.iter();
        nets.map(move |net| (Set::AllowedSources, format!("{at} . {net}")))
    });
    elements.collect()
}

fn addresses(set: Set, all: &BTreeSet<IpAddr>, family: Family) -> BTreeSet<(Set, String)> {
    let all = all.iter().filter(|at| Family::of(**at) == family);
    all.map(|at| (set, at.to_string())).collect()
}

fn untracked(all: &BTreeSet<Untracked>, family: Family) -> BTreeSet<(Set, String)> {
    let all = all.iter().filter(|one| Family::of(one.address()) == family);
    let at = |front: &Front| front_text(place(front), front.port, front.port);
    all.map(|one| match one {
        Untracked::Front(front) => (Set::UntrackedFronts, at(front)),
        Untracked::Endpoint(endpoint) => (Set::UntrackedEndpoints, at(endpoint)),
        Untracked::Own(address) => (Set::UntrackedOwn, address.to_string()),
    })
    .collect()
}

fn networks(all: &BTreeSet<IpNet>, family: Family) -> BTreeSet<(Set, String)> {
    let all = all.iter().filter(|net| Family::of(net.addr()) == family);
    all.map(|net| (Set::ServiceCidrs, net.to_string()))
        .collect()
}

fn insert_all<'a>(into: &mut Elements, elements: impl Iterator<Item = &'a (Set, String)>) {
    for (set, text) in elements {
        into.entry(*set).or_default().insert(text.clone());
    }
}

/// `10.96.0.10 . tcp . 80`, `10.96.0.10 . tcp . 80-90`.
fn front_text((address, protocol): Place, first: u16, last: u16) -> String {
    let protocol = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    if first == last {
        format!("{address} . {protocol} . {first}")
    } else {
        format!("{address} . {protocol} . {first}-{last}")
    }
}

#[cfg(test)]
mod tests;
