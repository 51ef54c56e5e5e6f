//! From elements to rows: the way back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use kube_ipvs_core::row::{Masquerade, Row, Sources, Verdict};
use kube_ipvs_core::state::Front;
use kube_ipvs_core::table::{Table, Untracked};
use kube_ipvs_nft::{Class, Config, Elements, Fate, Masquerading, Set, aggregate};

use super::{Place, family_of, place};

/// Reads elements of one family back, of a table that is to be as configured.
/// False when they are not what rows would be: somebody else's are among them,
/// or some of ours are missing.
///
/// What is read can be made again, whatever the kernel holds: a table that could
/// not would never be right again. A front with a mark that none may have is
/// closed, and networks that overlap are joined.
pub(in crate::linux) fn read(elements: &Elements, config: &Config, into: &mut Table) -> bool {
    let family = family_of(config);
    let mut read = Reading::of(config);
    for (set, texts) in elements {
        for text in texts {
            read.strange |= read.element(*set, text).is_none();
        }
    }
    let (mut table, understood) = read.end();
    let understood = understood && super::elements(&table, family) == *elements;
    into.rows.append(&mut table.rows);
    into.guarded.append(&mut table.guarded);
    into.hairpin.append(&mut table.hairpin);
    into.untracked.append(&mut table.untracked);
    into.networks.append(&mut table.networks);
    understood
}

/// What is read so far.
struct Reading<'a> {
    config: &'a Config,
    table: Table,
    /// Fronts with a mark that none may have.
    mismarked: BTreeSet<Front>,
    /// Networks by place, and the ports they are for.
    sources: BTreeMap<Place, Vec<(u16, u16, IpNet)>>,
    /// Something is no element of ours.
    strange: bool,
}

impl<'a> Reading<'a> {
    fn of(config: &'a Config) -> Self {
        Self {
            config,
            table: Table::default(),
            mismarked: BTreeSet::new(),
            sources: BTreeMap::new(),
            strange: false,
        }
    }

    fn element(&mut self, set: Set, text: &str) -> Option<()> {
        match set {
            Set::Vips => _ = self.table.guarded.insert(text.parse().ok()?),
            Set::Hairpin => _ = self.table.hairpin.insert(text.parse().ok()?),
            Set::ServiceCidrs => _ = self.table.networks.insert(text.parse().ok()?),
            Set::UntrackedFronts => self.untracked(Untracked::Front(front(text)?)),
            Set::UntrackedEndpoints => self.untracked(Untracked::Endpoint(front(text)?)),
            Set::UntrackedOwn => self.untracked(Untracked::Own(text.parse().ok()?)),
            Set::AllowedSources => {
                let (at, net) = text.rsplit_once(" . ")?;
                let (place, first, last) = ports(at)?;
                let all = self.sources.entry(place).or_default();
                all.push((first, last, net.parse().ok()?));
            }
            Set::InsideMarks | Set::NodePortMarks => {
                let (at, mark) = text.split_once(" : ")?;
                let mark = u32::from_str_radix(mark.strip_prefix("0x")?, 16).ok()?;
                let front = front(at)?;
                if !self.config.may_mark(set, mark) {
                    self.mismarked.insert(front);
                    return None;
                }
                let row = self.table.rows.entry(front).or_default();
                if set == Set::InsideMarks {
                    row.inside = Some(mark);
                } else {
                    row.mark = Some(mark);
                }
            }
            Set::Served | Set::ServedOffCluster => {
                let mut usual = Class::USUAL.into_iter();
                let (class, _) = usual.find(|(_, of)| *of == set)?;
                put_class(class, self.row(text)?);
            }
            Set::Fronts => {
                let (at, class) = text.split_once(" : goto ")?;
                put_class(Class::from_name(class)?, self.row(at)?);
            }
        }
        Some(())
    }

    fn untracked(&mut self, one: Untracked) {
        self.table.untracked.insert(one);
    }

    fn row(&mut self, text: &str) -> Option<&mut Row> {
        Some(self.table.rows.entry(front(text)?).or_default())
    }

    /// The rows, and whether all of it was understood.
    fn end(mut self) -> (Table, bool) {
        for front in &self.mismarked {
            let row = self.table.rows.entry(*front).or_default();
            (row.inside, row.mark) = (None, None);
            if row.verdict.is_open() {
                row.verdict = Verdict::Closed;
            }
        }
        spread(self.sources, &mut self.table);
        self.table.rows.retain(|_, row| *row != Row::default());
        self.table.networks = aggregate(self.table.networks);
        (self.table, !self.strange)
    }
}

/// Gives networks to the restricted rows that they are for; rows of the same
/// networks share them.
fn spread(sources: BTreeMap<Place, Vec<(u16, u16, IpNet)>>, table: &mut Table) {
    let mut shared: BTreeMap<(IpAddr, Vec<IpNet>), Sources> = BTreeMap::new();
    for (front, row) in &mut table.rows {
        if row.sources.is_none() {
            continue;
        }
        let all = sources.get(&place(front)).into_iter().flatten();
        let of = all.filter(|(first, last, _)| (*first..=*last).contains(&front.port));
        let nets: Vec<IpNet> = aggregate(of.map(|(.., net)| *net)).into_iter().collect();
        let shared = shared.entry((front.address, nets));
        let nets = shared.key().1.clone();
        row.sources = Some(shared.or_insert_with(|| nets.into()).clone());
    }
}

/// Takes a class in: the way back.
fn put_class(class: Class, row: &mut Row) {
    row.verdict = match class.fate {
        Fate::Closed => Verdict::Closed,
        Fate::Served => Verdict::Serve,
        Fate::Outside => Verdict::DropOutside,
        Fate::Refused => Verdict::Refuse,
    };
    row.masquerade = match class.masquerading {
        Masquerading::Never => Masquerade::Never,
        Masquerading::OffCluster => Masquerade::OffCluster,
        Masquerading::Always => Masquerade::Always,
    };
    row.sources = class.restricted.then(|| Arc::new([]) as Sources);
}

fn front(text: &str) -> Option<Front> {
    let ((address, protocol), port, last) = ports(text)?;
    (port == last).then_some(Front {
        address,
        port,
        protocol,
    })
}

fn ports(text: &str) -> Option<(Place, u16, u16)> {
    let mut parts = text.split(" . ");
    let address = parts.next()?.parse().ok()?;
    let protocol = parts.next()?.parse().ok()?;
    let ports = parts.next()?;
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let ports = (first.parse().ok()?, last.parse().ok()?);
    parts
        .next()
        .is_none()
        .then_some(((address, protocol), ports.0, ports.1))
}
