//! What becomes of a front: one row for each.
//!
//! A row is what the whole way of a packet is read from: whether it is served,
//! by which virtual server or mark, for whom, and with whose address. How the
//! kernel is told is not decided here.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use ipnet::IpNet;
use serde::Serialize;

use crate::state::{Family, Front, VirtualServerKey};

/// What becomes of new connections to a front.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing is said of it: the guard of its address, if it has one, refuses
    /// it. A row is so only while its virtual server comes or goes.
    #[default]
    Closed,
    /// Answered by its virtual server, or that of its mark; without either, by
    /// this host (health checks).
    Serve,
    /// Traffic from outside is dropped, since another node answers it; that from
    /// inside goes by the inside mark.
    DropOutside,
    /// Refused at once, with RST or ICMP: there is nobody to answer.
    Refuse,
}

impl Verdict {
    /// Whether its packets get past the guard of the address.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Serve | Self::DropOutside)
    }
}

impl fmt::Display for Verdict {
    /// `closed`, `serve`, `drop-outside`, `refuse`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Serve => "serve",
            Self::DropOutside => "drop-outside",
            Self::Refuse => "refuse",
        })
    }
}

/// Whether the client's address is replaced by the node's. The later one
/// includes the earlier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Masquerade {
    /// The endpoint sees the client.
    #[default]
    Never,
    /// Unless a local pod sent it.
    OffCluster,
    /// In any case.
    Always,
}

impl fmt::Display for Masquerade {
    /// `never`, `off-cluster`, `always`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Never => "never",
            Self::OffCluster => "off-cluster",
            Self::Always => "always",
        })
    }
}

/// Networks that a front is open to, in order, without one within another;
/// none of them is nobody. Fronts of a Service share them.
pub type Sources = Arc<[IpNet]>;

/// What is said of a front.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// What becomes of new connections.
    pub verdict: Verdict,
    /// Whose address the endpoint sees.
    pub masquerade: Masquerade,
    /// Whom it is open to; `None` is everybody.
    pub sources: Option<Sources>,
    /// The mark of traffic from inside (pods and this host), host order.
    pub inside: Option<u32>,
    /// The mark of all traffic: the NodePorts of many addresses.
    pub mark: Option<u32>,
}

impl Row {
    /// A row of a verdict and nothing besides.
    pub fn of(verdict: Verdict) -> Self {
        Self {
            verdict,
            ..Self::default()
        }
    }

    /// The row, unless it says nothing.
    pub fn said(self) -> Option<Self> {
        (self != Self::default()).then_some(self)
    }

    /// The virtual server that traffic from inside is led to by its mark, there
    /// or not.
    pub fn inside_server(&self, front: &Front) -> Option<VirtualServerKey> {
        self.inside.map(|mark| by_mark(mark, front))
    }

    /// The virtual server that all traffic is led to by its mark, there or not.
    pub fn marked_server(&self, front: &Front) -> Option<VirtualServerKey> {
        self.mark.map(|mark| by_mark(mark, front))
    }

    /// The virtual servers that its marks lead to, there or not.
    pub fn by_marks(&self, front: &Front) -> impl Iterator<Item = VirtualServerKey> + use<> {
        let marks = [self.inside_server(front), self.marked_server(front)];
        marks.into_iter().flatten()
    }

    /// The row to begin with on the way from one to another: nobody is let in
    /// who is not in the end, nobody is let through to what is not there yet, and
    /// whoever is served goes on being served until what serves him goes.
    /// `sources` are for whom it is open meanwhile; `ready` says whether a virtual
    /// server is there already and stays.
    pub fn stricter_of(
        old: &Self,
        new: &Self,
        front: &Front,
        sources: Option<Sources>,
        ready: impl Fn(&VirtualServerKey) -> bool,
    ) -> Self {
        let mark = |old: Option<u32>, new: Option<u32>| {
            old.or(new.filter(|mark| ready(&by_mark(*mark, front))))
        };
        let inside = mark(old.inside, new.inside);
        let all = mark(old.mark, new.mark);
        let is_ready = |mark: Option<u32>| mark.is_some_and(|mark| ready(&by_mark(mark, front)));
        let served = match new.verdict {
            Verdict::DropOutside => inside == new.inside && is_ready(inside),
            _ => ready(&VirtualServerKey::Front(*front)) || all == new.mark && is_ready(all),
        };
        let verdict = match (old.verdict, new.verdict) {
            (Verdict::Closed, new) if new.is_open() && !served => Verdict::Closed,
            (Verdict::Closed, new) => new,
            (old, Verdict::Closed) => old,
            (old, new) => old.max(new),
        };
        Self {
            verdict,
            inside,
            mark: all,
            masquerade: old.masquerade.max(new.masquerade),
            sources,
        }
    }

    /// The row once all virtual servers are there, while those that go are too:
    /// the new one, but for what holds of those. `sources` as above.
    pub fn opened(old: &Self, new: &Self, sources: Option<Sources>) -> Self {
        Self {
            masquerade: old.masquerade.max(new.masquerade),
            sources,
            ..new.clone()
        }
    }
}

/// For whom fronts are open while they pass from one row to another. Those of a
/// Service share networks, and so they do meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Meanwhile {
    /// Old networks, new ones, and what is in both, of the row before.
    last: Option<[Sources; 3]>,
}

impl Meanwhile {
    /// Where both are for some: as long as a real server of before is there that
    /// does not stay (`loses`), those that may both before and in the end, else
    /// those that may in the end.
    pub(crate) fn sources(
        &mut self,
        old: &Row,
        new: &Row,
        loses: impl FnOnce() -> bool,
    ) -> Option<Sources> {
        let (old, new) = (old.sources.as_ref(), new.sources.as_ref());
        let (Some(old), Some(new)) = (old, new) else {
            return new.or(old).cloned();
        };
        if old == new || !loses() {
            return Some(new.clone());
        }
        if let Some([from, to, both]) = &self.last
            && Arc::ptr_eq(from, old)
            && Arc::ptr_eq(to, new)
        {
            return Some(both.clone());
        }
        let both: Sources = common(old, new).into();
        self.last = Some([old.clone(), new.clone(), both.clone()]);
        Some(both)
    }
}

/// What is in both of two lists of networks, each in order and without one
/// within another.
fn common(one: &[IpNet], other: &[IpNet]) -> Vec<IpNet> {
    let (mut left, mut right) = (one.iter().peekable(), other.iter().peekable());
    let mut both = Vec::new();
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        if a.contains(*b) {
            both.extend(right.next());
        } else if b.contains(*a) {
            both.extend(left.next());
        } else if a < b {
            left.next();
        } else {
            right.next();
        }
    }
    both
}

fn by_mark(mark: u32, front: &Front) -> VirtualServerKey {
    VirtualServerKey::Mark {
        mark,
        family: Family::of(front.address),
    }
}

impl fmt::Display for Row {
    /// `serve`, `serve masquerade always`, `drop-outside inside-mark 0x00000123`,
    /// `serve mark 0x00004123 only 192.0.2.0/24`, `serve only nobody`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verdict)?;
        if self.masquerade != Masquerade::Never {
            write!(f, " masquerade {}", self.masquerade)?;
        }
        if let Some(mark) = self.inside {
            write!(f, " inside-mark {mark:#010x}")?;
        }
        if let Some(mark) = self.mark {
            write!(f, " mark {mark:#010x}")?;
        }
        let Some(sources) = &self.sources else {
            return Ok(());
        };
        f.write_str(" only")?;
        if sources.is_empty() {
            f.write_str(" nobody")?;
        }
        sources.iter().try_for_each(|net| write!(f, " {net}"))
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn front() -> Front {
        "10.96.0.1:80/TCP".parse().unwrap()
    }

    fn nets(all: &[&str]) -> Option<Sources> {
        Some(all.iter().map(|net| net.parse().unwrap()).collect())
    }

    /// Whether nobody is in the first who is not in the other.
    fn is_within(one: &Option<Sources>, other: &Option<Sources>) -> bool {
        let Some(other) = other else { return true };
        let within = |net: &IpNet| other.iter().any(|wide| wide.contains(net));
        one.as_ref().is_some_and(|one| one.iter().all(within))
    }

    /// All rows of a few marks and networks.
    fn rows() -> Vec<Row> {
        let verdicts = [
            Verdict::Closed,
            Verdict::Serve,
            Verdict::DropOutside,
            Verdict::Refuse,
        ];
        let sources = [
            None,
            nets(&[]),
            nets(&["192.0.2.0/24"]),
            nets(&["192.0.2.128/25", "198.51.100.0/24"]),
        ];
        let mut rows = Vec::new();
        for verdict in verdicts {
            for masquerade in [
                Masquerade::Never,
                Masquerade::OffCluster,
                Masquerade::Always,
            ] {
                for sources in &sources {
                    for inside in [None, Some(1), Some(2)] {
                        rows.push(Row {
                            verdict,
                            masquerade,
                            sources: sources.clone(),
                            inside,
                            mark: None,
                        });
                    }
                }
            }
        }
        rows
    }

    #[test]
    fn on_the_way_nobody_is_let_in_who_may_not_in_the_end() {
        let rows = rows();
        for (old, new) in rows
            .iter()
            .flat_map(|old| rows.iter().map(move |new| (old, new)))
        {
            let sources = Meanwhile::default().sources(old, new, || true);
            let first = Row::stricter_of(old, new, &front(), sources.clone(), |_| false);
            let opened = Row::opened(old, new, sources);

            assert!(first.verdict >= old.verdict, "{old} {new}: {first}");
            let newly_open = first.verdict.is_open() && !old.verdict.is_open();
            assert!(!newly_open, "without a server: {old} {new}: {first}");
            if new.verdict == Verdict::Refuse {
                assert_eq!(first.verdict, Verdict::Refuse, "{old} {new}");
            }
            assert_eq!(first.inside, old.inside, "no new way yet: {old} {new}");
            assert_eq!((opened.verdict, opened.inside), (new.verdict, new.inside));
            for row in [&first, &opened] {
                assert!(row.masquerade >= old.masquerade.max(new.masquerade));
                for side in [old, new] {
                    assert!(is_within(&row.sources, &side.sources), "{old} {new}: {row}");
                }
            }
        }
    }

    #[test]
    fn whom_both_let_in_is_found_in_one_walk() {
        let both = |one: &[&str], other: &[&str]| {
            let (one, other) = (nets(one).unwrap(), nets(other).unwrap());
            let both = common(&one, &other);
            assert_eq!(both, common(&other, &one), "whichever comes first");
            both.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let wide = ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"];
        assert_eq!(both(&wide, &wide), wide);
        assert_eq!(both(&wide, &[]), [""; 0]);
        assert_eq!(
            both(
                &wide,
                &["10.0.0.0/16", "10.255.0.0/16", "11.0.0.0/8", "192.0.0.0/16"]
            ),
            ["10.0.0.0/16", "10.255.0.0/16", "192.0.2.0/24"]
        );
        assert_eq!(both(&wide, &["::/0"]), ["2001:db8::/32"]);
    }

    #[test]
    fn without_a_server_that_goes_new_networks_hold_at_once_and_rows_share_them() {
        let row = |all: &[&str]| Row {
            sources: nets(all),
            ..Row::of(Verdict::Serve)
        };
        let (old, new) = (row(&["10.0.0.0/8"]), row(&["10.0.0.0/9", "192.0.2.0/24"]));
        let mut meanwhile = Meanwhile::default();
        assert_eq!(meanwhile.sources(&old, &new, || false), new.sources);
        let first = meanwhile.sources(&old, &new, || true).unwrap();
        assert_eq!(Some(&first), nets(&["10.0.0.0/9"]).as_ref());
        let second = meanwhile.sources(&old, &new, || true).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(meanwhile.sources(&old, &old, || true), old.sources);
        assert_ne!(
            meanwhile.sources(&new, &old, || true),
            Some(row(&[]).sources.unwrap())
        );
    }

    #[test]
    fn what_is_served_already_is_open_at_once() {
        let new = Row {
            inside: Some(7),
            ..Row::of(Verdict::DropOutside)
        };
        assert_eq!(
            Row::stricter_of(&Row::default(), &new, &front(), None, |_| true),
            new
        );
        let new = Row::of(Verdict::Serve);
        assert_eq!(
            Row::stricter_of(&Row::default(), &new, &front(), None, |_| true),
            new
        );
    }

    #[test]
    fn a_row_is_told_in_words() {
        let row = Row {
            verdict: Verdict::Serve,
            masquerade: Masquerade::Always,
            sources: Some(Arc::new(["192.0.2.0/24".parse().unwrap()])),
            inside: Some(0x123),
            mark: None,
        };
        let words = "serve masquerade always inside-mark 0x00000123 only 192.0.2.0/24";
        assert_eq!(row.to_string(), words);
        let nobody = Row {
            sources: Some(Arc::new([])),
            ..Row::of(Verdict::Refuse)
        };
        assert_eq!(nobody.to_string(), "refuse only nobody");
    }
}
