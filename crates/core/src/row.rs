//! What becomes of a front: one row for each.
//!
//! A row is what the whole way of a packet is read from: whether it is served,
//! by which virtual server or mark, for whom, and with whose address. How the
//! kernel is told is not decided here.

use std::fmt;
use std::sync::Arc;

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
    /// `ready` says whether a virtual server is there already and stays.
    pub fn stricter_of(
        old: &Self,
        new: &Self,
        front: &Front,
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
            sources: Self::sources_between(old, new),
        }
    }

    /// The row once all virtual servers are there, while those that go are too:
    /// the new one, but for what holds of those.
    pub fn opened(old: &Self, new: &Self) -> Self {
        Self {
            masquerade: old.masquerade.max(new.masquerade),
            sources: Self::sources_between(old, new),
            ..new.clone()
        }
    }

    /// Where both are for some, those that may be in the end, at once.
    fn sources_between(old: &Self, new: &Self) -> Option<Sources> {
        new.sources.as_ref().or(old.sources.as_ref()).cloned()
    }
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
    use super::*;

    fn front() -> Front {
        "10.96.0.1:80/TCP".parse().unwrap()
    }

    /// All rows of a few marks and networks.
    fn rows() -> Vec<Row> {
        let verdicts = [
            Verdict::Closed,
            Verdict::Serve,
            Verdict::DropOutside,
            Verdict::Refuse,
        ];
        let sources: [Option<Sources>; 3] = [
            None,
            Some(Arc::new([])),
            Some(Arc::new(["192.0.2.0/24".parse().unwrap()])),
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
            let first = Row::stricter_of(old, new, &front(), |_| false);
            let opened = Row::opened(old, new);

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
                assert_eq!(
                    row.sources.is_some(),
                    old.sources.is_some() || new.sources.is_some()
                );
                assert!(new.sources.is_none() || row.sources == new.sources);
            }
        }
    }

    #[test]
    fn what_is_served_already_is_open_at_once() {
        let new = Row {
            inside: Some(7),
            ..Row::of(Verdict::DropOutside)
        };
        assert_eq!(
            Row::stricter_of(&Row::default(), &new, &front(), |_| true),
            new
        );
        let new = Row::of(Verdict::Serve);
        assert_eq!(
            Row::stricter_of(&Row::default(), &new, &front(), |_| true),
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
