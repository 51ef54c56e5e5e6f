//! Rows of what is known: summed up, filtered, sorted.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use clap::ValueEnum;
use ipvs_netlink::{DestinationId, ServiceId};

use super::rates::{Counts, Rates};
use super::table::{RealServer, Server, Table};
use crate::pods::PodNames;

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Services, with all of their virtual servers
    Services,
    /// Virtual servers
    VirtualServers,
    /// Real servers of each virtual server
    RealServers,
}

/// What rows can be sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Column {
    /// Service and addresses
    Name,
    /// Virtual servers
    VirtualServers,
    /// Real servers
    RealServers,
    /// Share of new connections
    Weight,
    /// Real servers of weight 0
    Draining,
    /// Established connections
    Active,
    /// Other connections
    Inactive,
    /// Connections a second
    Connections,
    /// Packets from clients a second
    InPackets,
    /// Packets to clients a second
    OutPackets,
    /// Bytes from clients a second
    InBytes,
    /// Bytes to clients a second
    OutBytes,
}

/// Which rows, in which order.
#[derive(Debug, Clone)]
pub struct Choice {
    /// What a row is.
    pub level: Level,
    /// Only this Service, if one is looked at in depth.
    pub focus: Option<Focus>,
    /// Sorted by this.
    pub sort: Column,
    /// The least first.
    pub reversed: bool,
    /// Only what has this in a name or an address; case does not matter.
    pub filter: String,
}

/// What is looked at in depth: a Service, or what is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Focus(pub Option<String>);

/// What stands for a row while others come and go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// `namespace/name`, none for what is not ours.
    pub(super) service: Option<String>,
    /// The virtual server, unless the row is a Service.
    pub(super) server: Option<ServiceId>,
    /// The real server, if the row is one.
    pub(super) real: Option<DestinationId>,
}

/// Sums of one row.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sums {
    /// Virtual servers.
    pub(super) servers: usize,
    /// Real servers.
    pub(super) real_servers: usize,
    /// Those of weight 0.
    pub(super) draining: usize,
    /// Established connections.
    pub(super) active: u64,
    /// Other connections.
    pub(super) inactive: u64,
    /// Growth a second.
    pub(super) rates: Rates,
    /// Since the beginning.
    pub(super) counts: Counts,
}

/// A row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    /// `namespace/name:port`, or `namespace/name` if the row is a Service; none
    /// when it is not ours.
    pub(super) service: Option<&'a str>,
    /// The virtual server, unless the row is a Service.
    pub(super) server: Option<&'a ServiceId>,
    /// The scheduler of a virtual server.
    pub(super) scheduler: Option<&'a str>,
    /// The real server, if the row is one.
    pub(super) real: Option<&'a DestinationId>,
    /// The pod that it is, if it is known to be one.
    pub(super) pod: Option<&'a str>,
    /// Its weight.
    pub(super) weight: Option<u32>,
    /// Its numbers.
    pub(super) sums: Sums,
}

impl Sums {
    /// Those of a virtual server.
    pub(super) fn of(server: &Server) -> Self {
        let mut sums = Self {
            servers: 1,
            rates: server.meter.rates(),
            counts: server.meter.counts(),
            ..Self::default()
        };
        for one in server.real_servers.values() {
            sums.real_servers += 1;
            sums.draining += usize::from(one.drains());
            sums.active += u64::from(one.active);
            sums.inactive += u64::from(one.inactive);
        }
        sums
    }

    fn of_real(one: &RealServer) -> Self {
        Self {
            servers: 0,
            real_servers: 1,
            draining: usize::from(one.drains()),
            active: one.active.into(),
            inactive: one.inactive.into(),
            rates: one.meter.rates(),
            counts: one.meter.counts(),
        }
    }

    /// Takes another's in.
    pub(super) fn add(&mut self, other: &Self) {
        self.servers += other.servers;
        self.real_servers += other.real_servers;
        self.draining += other.draining;
        self.active += other.active;
        self.inactive += other.inactive;
        self.rates = self.rates.plus(other.rates);
        self.counts = self.counts.plus(other.counts);
    }
}

impl Row<'_> {
    /// What stands for it.
    pub(super) fn key(&self) -> Key {
        Key {
            service: self.service.map(|service| object(service).to_owned()),
            server: self.server.copied(),
            real: self.real.copied(),
        }
    }

    /// Whether it is `key`.
    pub(super) fn is(&self, key: &Key) -> bool {
        self.server == key.server.as_ref()
            && self.real == key.real.as_ref()
            && self.service.map(object) == key.service.as_deref()
    }
}

/// `namespace/name` of `namespace/name:port`.
pub(super) fn object(service: &str) -> &str {
    service
        .split_once(':')
        .map_or(service, |(object, _)| object)
}

/// The rows of a choice, in order.
pub(super) fn rows<'a>(table: &'a Table, choice: &Choice) -> Vec<Row<'a>> {
    let filter = choice.filter.to_lowercase();
    let wanted = table.servers().filter(|(id, server)| {
        let within = |focus: &Focus| focus.0.as_deref() == server.service.as_deref().map(object);
        choice.focus.as_ref().is_none_or(within) && passes(&table.pods, id, server, &filter)
    });
    if choice.focus.is_some() {
        return in_depth(&table.pods, wanted, choice);
    }
    let mut rows = match choice.level {
        Level::Services => services(wanted),
        Level::VirtualServers => wanted.map(|(id, server)| row(id, server)).collect(),
        Level::RealServers => wanted
            .flat_map(|(id, server)| {
                let all = named(id, server, &filter);
                let filter = &filter;
                real_rows(&table.pods, id, server).filter(move |row| all || has(row, filter))
            })
            .collect(),
    };
    sort(&mut rows, choice);
    rows
}

/// Everything together.
pub(super) fn total(table: &Table) -> Sums {
    let mut total = Sums::default();
    for (_, server) in table.servers() {
        total.add(&Sums::of(server));
    }
    total
}

/// Each virtual server with its real servers below it.
fn in_depth<'a>(
    pods: &'a PodNames,
    servers: impl Iterator<Item = (&'a ServiceId, &'a Server)>,
    choice: &Choice,
) -> Vec<Row<'a>> {
    let servers: BTreeMap<_, _> = servers.collect();
    let mut fronts: Vec<_> = servers.iter().map(|(id, server)| row(id, server)).collect();
    sort(&mut fronts, choice);
    let mut rows = Vec::new();
    for front in fronts {
        rows.push(front);
        let found = front.server.and_then(|id| servers.get_key_value(id));
        if let Some((id, server)) = found {
            let mut real: Vec<_> = real_rows(pods, id, server).collect();
            sort(&mut real, choice);
            rows.append(&mut real);
        }
    }
    rows
}

fn services<'a>(servers: impl Iterator<Item = (&'a ServiceId, &'a Server)>) -> Vec<Row<'a>> {
    let mut sums: BTreeMap<Option<&str>, Sums> = BTreeMap::new();
    for (_, server) in servers {
        let service = server.service.as_deref().map(object);
        sums.entry(service).or_default().add(&Sums::of(server));
    }
    sums.into_iter()
        .map(|(service, sums)| Row {
            service,
            server: None,
            scheduler: None,
            real: None,
            pod: None,
            weight: None,
            sums,
        })
        .collect()
}

fn row<'a>(id: &'a ServiceId, server: &'a Server) -> Row<'a> {
    Row {
        service: server.service.as_deref(),
        server: Some(id),
        scheduler: Some(server.scheduler.as_str()),
        real: None,
        pod: None,
        weight: None,
        sums: Sums::of(server),
    }
}

fn real_rows<'a>(
    pods: &'a PodNames,
    id: &'a ServiceId,
    server: &'a Server,
) -> impl Iterator<Item = Row<'a>> {
    let service = server.service.as_deref();
    server.real_servers.iter().map(move |(real, one)| Row {
        service,
        server: Some(id),
        scheduler: None,
        real: Some(real),
        pod: service.and_then(|service| pods.of(service, real.address)),
        weight: Some(one.weight),
        sums: Sums::of_real(one),
    })
}

/// Whether anything of a virtual server has the filter, in small letters, in it.
fn passes(pods: &PodNames, id: &ServiceId, server: &Server, filter: &str) -> bool {
    let real = || real_rows(pods, id, server).any(|row| has(&row, filter));
    named(id, server, filter) || real()
}

fn named(id: &ServiceId, server: &Server, filter: &str) -> bool {
    filter.is_empty()
        || id.to_string().to_lowercase().contains(filter)
        || server
            .service
            .as_ref()
            .is_some_and(|service| service.to_lowercase().contains(filter))
}

fn has(row: &Row<'_>, filter: &str) -> bool {
    let named = |pod: &str| pod.to_lowercase().contains(filter);
    let at = |real: &DestinationId| real.to_string().contains(filter);
    row.real.is_some_and(at) || row.pod.is_some_and(named)
}

/// The most first, and names as in a dictionary; the other way round if so chosen.
fn sort(rows: &mut [Row<'_>], choice: &Choice) {
    rows.sort_by(|a, b| {
        let order = match choice.sort {
            Column::Name => by_name(a, b),
            column => number(b, column).total_cmp(&number(a, column)),
        };
        let order = if choice.reversed {
            order.reverse()
        } else {
            order
        };
        order.then_with(|| by_name(a, b))
    });
}

/// What is not ours comes last.
fn by_name(a: &Row<'_>, b: &Row<'_>) -> Ordering {
    let name = |row: &Row<'_>| row.service.is_none();
    name(a)
        .cmp(&name(b))
        .then_with(|| (a.service, a.server, a.real).cmp(&(b.service, b.server, b.real)))
}

/// The number in a column of a row.
pub(super) fn number(row: &Row<'_>, column: Column) -> f64 {
    let sums = &row.sums;
    match column {
        Column::Name => 0.0,
        Column::VirtualServers => sums.servers as f64,
        Column::RealServers => sums.real_servers as f64,
        Column::Weight => row.weight.map_or(-1.0, f64::from),
        Column::Draining => sums.draining as f64,
        Column::Active => sums.active as f64,
        Column::Inactive => sums.inactive as f64,
        Column::Connections => sums.rates.connections,
        Column::InPackets => sums.rates.in_packets,
        Column::OutPackets => sums.rates.out_packets,
        Column::InBytes => sums.rates.in_bytes,
        Column::OutBytes => sums.rates.out_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::{at, real, seen};
    use super::*;

    fn table() -> Table {
        let mut table = Table::default();
        let look = |busy: u64| {
            vec![
                seen(
                    1,
                    "ns/web:http",
                    Some(vec![real(7, 1, 3, busy), real(8, 0, 1, 5)]),
                ),
                seen(2, "ns/web:https", Some(vec![real(7, 1, 0, 0)])),
                seen(3, "ns/dns:dns", Some(vec![real(9, 1, 0, busy * 2)])),
                seen(4, "", Some(vec![real(20, 1, 9, 0)])),
            ]
        };
        table.take(at(0, look(0)));
        table.take(at(2, look(10)));
        table
    }

    fn choice(level: Level, sort: Column) -> Choice {
        Choice {
            level,
            focus: None,
            sort,
            reversed: false,
            filter: String::new(),
        }
    }

    fn shown(table: &Table, choice: &Choice) -> Vec<String> {
        let rows = rows(table, choice);
        let each = rows.iter().map(|row| {
            let server = row.server.map(ToString::to_string);
            let real = row.real.map(ToString::to_string);
            let words = [row.service.map(str::to_owned), server, real];
            words.into_iter().flatten().collect::<Vec<_>>().join(" ")
        });
        each.collect()
    }

    #[test]
    fn services_are_sums_over_their_ports_and_the_busiest_is_first() {
        let table = table();
        let all = rows(&table, &choice(Level::Services, Column::Connections));

        let names: Vec<_> = all.iter().map(|row| row.service).collect();
        assert_eq!(names, [Some("ns/dns"), Some("ns/web"), None]);
        let web = &all[1].sums;
        assert_eq!((web.servers, web.real_servers, web.draining), (2, 3, 1));
        assert_eq!((web.active, web.rates.connections), (4, 5.0));
        assert_eq!(web.counts.connections, 15);
        assert_eq!(total(&table).rates.connections, 15.0);
    }

    #[test]
    fn any_column_sorts_both_ways_and_names_break_ties() {
        let table = table();
        let mut by = choice(Level::VirtualServers, Column::Active);
        let first = |by: &Choice| shown(&table, by)[0].clone();
        assert_eq!(first(&by), "10.96.0.4:80/TCP");
        by.reversed = true;
        assert_eq!(first(&by), "ns/dns:dns 10.96.0.3:80/TCP");
        by.sort = Column::Name;
        assert_eq!(
            first(&by),
            "10.96.0.4:80/TCP",
            "what is not ours comes last"
        );
        by.reversed = false;
        assert_eq!(first(&by), "ns/dns:dns 10.96.0.3:80/TCP");
        let drains = choice(Level::RealServers, Column::Draining);
        assert_eq!(
            first(&drains),
            "ns/web:http 10.96.0.1:80/TCP 10.244.1.8:8080"
        );
    }

    #[test]
    fn a_filter_knows_names_fronts_and_real_servers() {
        let table = table();
        let with = |level, filter: &str| {
            let filter = filter.to_owned();
            let choice = Choice {
                filter,
                ..choice(level, Column::Name)
            };
            shown(&table, &choice)
        };
        assert_eq!(with(Level::Services, "WEB"), ["ns/web"]);
        assert_eq!(
            with(Level::VirtualServers, "0.3:80"),
            ["ns/dns:dns 10.96.0.3:80/TCP"]
        );
        assert_eq!(with(Level::VirtualServers, "1.20:"), ["10.96.0.4:80/TCP"]);
        assert_eq!(
            with(Level::RealServers, "10.244.1.8"),
            ["ns/web:http 10.96.0.1:80/TCP 10.244.1.8:8080"]
        );
        assert_eq!(with(Level::RealServers, "https").len(), 1);
        assert!(with(Level::Services, "nothing").is_empty());
    }

    #[test]
    fn a_service_in_depth_has_its_real_servers_below_each_front() {
        let table = table();
        let mut of = choice(Level::Services, Column::Name);
        of.focus = Some(Focus(Some("ns/web".to_owned())));
        assert_eq!(
            shown(&table, &of),
            [
                "ns/web:http 10.96.0.1:80/TCP",
                "ns/web:http 10.96.0.1:80/TCP 10.244.1.7:8080",
                "ns/web:http 10.96.0.1:80/TCP 10.244.1.8:8080",
                "ns/web:https 10.96.0.2:80/TCP",
                "ns/web:https 10.96.0.2:80/TCP 10.244.1.7:8080",
            ]
        );
        of.focus = Some(Focus(None));
        assert_eq!(shown(&table, &of).len(), 2);
    }
}
