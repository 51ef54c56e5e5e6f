//! What was seen of IPVS, kept between looks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ipvs_netlink::{Destination, DestinationId, Scheduler, ServiceId};

use super::rates::{Counts, Meter};
use crate::pods::PodNames;

/// Virtual servers with traffic whose real servers are read in one look, at most.
const MOST_MOVED: usize = 1000;
/// Virtual servers without, whose turn it is.
const MOST_QUIET: usize = 200;

/// One look at IPVS.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// When it was, since the first one.
    pub at: Duration,
    /// All virtual servers.
    pub servers: Vec<Seen>,
}

/// A virtual server in a look.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What identifies it.
    pub id: ServiceId,
    /// `namespace/name:port` of what it is for; none when it is not ours.
    pub service: Option<Arc<str>>,
    /// Who picks its real servers.
    pub scheduler: Scheduler,
    /// What it has counted.
    pub counts: Counts,
    /// Its real servers, unless they were not looked at this time.
    pub real_servers: Option<Vec<Destination>>,
}

/// All that is known.
#[derive(Debug, Default)]
pub struct Table {
    servers: BTreeMap<ServiceId, Server>,
    /// Names of pods, as far as they were asked for.
    pub pods: PodNames,
}

/// A virtual server.
#[derive(Debug)]
pub struct Server {
    /// `namespace/name:port` of what it is for; none when it is not ours.
    pub service: Option<Arc<str>>,
    /// Who picks its real servers.
    pub scheduler: Scheduler,
    /// What it counts.
    pub meter: Meter,
    /// Its real servers, as of the last time they were looked at.
    pub real_servers: BTreeMap<DestinationId, RealServer>,
    /// When that was; none for never.
    looked_at: Option<Duration>,
    seen_at: Duration,
}

/// A real server of one virtual server.
#[derive(Debug)]
pub struct RealServer {
    /// Its share of new connections; one of 0 drains.
    pub weight: u32,
    /// Established connections.
    pub active: u32,
    /// Other connections.
    pub inactive: u32,
    /// What it counts.
    pub meter: Meter,
    seen_at: Duration,
}

impl Table {
    /// Takes a look in. What is not in it is gone.
    pub fn take(&mut self, sample: Sample) {
        let at = sample.at;
        for seen in sample.servers {
            let server = self
                .servers
                .entry(seen.id)
                .or_insert_with(|| Server::new(at, &seen));
            server.take(at, seen);
        }
        self.servers.retain(|_, server| server.seen_at == at);
    }

    /// All virtual servers, in order.
    pub fn servers(&self) -> impl Iterator<Item = (&ServiceId, &Server)> {
        self.servers.iter()
    }

    /// Whose real servers the next look should read, of virtual servers and what
    /// they have counted now: those on the screen and new ones, and of the others
    /// those that were left longest, the ones that had traffic first. To read all
    /// of 10,000 each time would cost more than serving them does.
    pub fn choose(
        &self,
        now: &[(ServiceId, Counts)],
        shown: &BTreeSet<ServiceId>,
    ) -> BTreeSet<ServiceId> {
        let mut chosen = BTreeSet::new();
        let (mut moved, mut quiet) = (Vec::new(), Vec::new());
        for (id, counts) in now {
            let known = self.servers.get(id);
            let looked_at = known.and_then(|server| server.looked_at.map(|at| (server, at)));
            match looked_at {
                Some((server, at)) if !shown.contains(id) => {
                    if server.meter.counts() == *counts {
                        quiet.push((at, *id));
                    } else {
                        moved.push((at, *id));
                    }
                }
                _ => drop(chosen.insert(*id)),
            }
        }
        for (mut those, most) in [(moved, MOST_MOVED), (quiet, MOST_QUIET)] {
            those.sort_unstable();
            chosen.extend(those.into_iter().take(most).map(|(_, id)| id));
        }
        chosen
    }
}

impl Server {
    fn new(at: Duration, seen: &Seen) -> Self {
        Self {
            service: None,
            scheduler: Scheduler::NONE,
            meter: Meter::new(at, seen.counts),
            real_servers: BTreeMap::new(),
            looked_at: None,
            seen_at: Duration::MAX,
        }
    }

    fn take(&mut self, at: Duration, seen: Seen) {
        if self.seen_at != Duration::MAX {
            self.meter.read(at, seen.counts);
        }
        self.seen_at = at;
        self.service = seen.service;
        self.scheduler = seen.scheduler;
        let Some(real_servers) = seen.real_servers else {
            return;
        };
        self.looked_at = Some(at);
        for one in real_servers {
            let counts = Counts::from(&one.stats);
            self.real_servers
                .entry(one.id)
                .and_modify(|known| known.meter.read(at, counts))
                .or_insert_with(|| RealServer::new(at, counts))
                .take(at, &one);
        }
        self.real_servers.retain(|_, one| one.seen_at == at);
    }
}

impl RealServer {
    fn new(at: Duration, counts: Counts) -> Self {
        Self {
            weight: 0,
            active: 0,
            inactive: 0,
            meter: Meter::new(at, counts),
            seen_at: at,
        }
    }

    fn take(&mut self, at: Duration, seen: &Destination) {
        self.weight = seen.weight;
        self.active = seen.active_connections;
        self.inactive = seen.inactive_connections;
        self.seen_at = at;
    }

    /// Whether it gets no new connections.
    pub fn drains(&self) -> bool {
        self.weight == 0
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// `10.96.N.M:80/TCP`.
    pub(in crate::top) fn front(number: u16) -> ServiceId {
        let [high, low] = number.to_be_bytes();
        ServiceId::tcp(Ipv4Addr::new(10, 96, high, low), 80)
    }

    /// A real server with so many connections so far, of which some are active.
    pub(in crate::top) fn real(
        last: u8,
        weight: u32,
        active: u32,
        connections: u64,
    ) -> Destination {
        let mut one = Destination::new(DestinationId::new(Ipv4Addr::new(10, 244, 1, last), 8080));
        one.weight = weight;
        one.active_connections = active;
        one.stats.connections = connections;
        one
    }

    /// A virtual server whose counts are those of its real servers.
    pub(in crate::top) fn seen(number: u16, service: &str, real: Option<Vec<Destination>>) -> Seen {
        let of = real.iter().flatten().map(|one| Counts::from(&one.stats));
        Seen {
            id: front(number),
            service: (!service.is_empty()).then(|| service.into()),
            scheduler: Scheduler::RR,
            counts: of.fold(Counts::default(), Counts::plus),
            real_servers: real,
        }
    }

    pub(in crate::top) fn at(seconds: u64, servers: Vec<Seen>) -> Sample {
        Sample {
            at: Duration::from_secs(seconds),
            servers,
        }
    }

    #[test]
    fn what_is_not_seen_again_is_gone_and_what_was_not_looked_at_stays() {
        let mut table = Table::default();
        let both = vec![real(7, 1, 3, 10), real(8, 0, 1, 5)];
        table.take(at(
            0,
            vec![seen(1, "ns/a", Some(both)), seen(2, "ns/b", None)],
        ));
        table.take(at(2, vec![seen(1, "ns/a", None)]));

        let left: Vec<_> = table.servers().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(*left[0].0, front(1));
        assert_eq!(left[0].1.real_servers.len(), 2);

        table.take(at(4, vec![seen(1, "ns/a", Some(vec![real(8, 0, 1, 9)]))]));
        let (_, server) = table.servers().next().expect("it is there");
        let (_, one) = server.real_servers.first_key_value().expect("one is left");
        assert_eq!(server.real_servers.len(), 1);
        assert!(one.drains());
        assert_eq!(one.meter.rates().connections, 1.0, "4 in 4 seconds");
    }

    /// Counts that differ from those of [`seen`].
    fn moved() -> Counts {
        Counts {
            in_packets: 1,
            ..Counts::default()
        }
    }

    #[test]
    fn the_shown_the_new_and_those_with_traffic_are_looked_at_and_the_rest_in_turn() {
        let mut table = Table::default();
        let all = |range: std::ops::Range<u16>| range.map(|n| seen(n, "ns/a", Some(Vec::new())));
        table.take(at(0, all(0..2000).collect()));
        table.take(at(
            2,
            all(0..100)
                .chain((100..2000).map(|n| seen(n, "", None)))
                .collect(),
        ));

        let now: Vec<_> = (0..2001)
            .map(|n| {
                (
                    front(n),
                    if n == 1500 {
                        moved()
                    } else {
                        Counts::default()
                    },
                )
            })
            .collect();
        let chosen = table.choose(&now, &BTreeSet::from([front(7)]));
        assert!(chosen.contains(&front(7)), "shown");
        assert!(chosen.contains(&front(2000)), "new");
        assert!(chosen.contains(&front(1500)), "has traffic");
        assert!(chosen.contains(&front(100)), "left longest");
        assert!(!chosen.contains(&front(8)), "looked at just now");
        assert_eq!(chosen.len(), 3 + MOST_QUIET);

        let busy: Vec<_> = (0..2000).map(|n| (front(n), moved())).collect();
        assert_eq!(table.choose(&busy, &BTreeSet::new()).len(), MOST_MOVED);
    }
}
