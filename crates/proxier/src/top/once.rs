//! `--once`: two looks, and the difference as a table or as JSON.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipvs_netlink::{DestinationId, Family, ServiceId};
use serde::Serialize;

use super::page::{Kind, page};
use super::rates::{Counts, Rates};
use super::rows::{Choice, Column, Level, Row, Sums, rows};
use super::table::Table;

/// `-o json`.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    /// Between the two looks.
    interval_seconds: f64,
    services: Vec<Service<'a>>,
    virtual_servers: Vec<VirtualServer<'a>>,
}

#[derive(Debug, Serialize)]
struct Service<'a> {
    /// `namespace/name`; null for all that is not ours.
    service: Option<&'a str>,
    virtual_server_count: usize,
    #[serde(flatten)]
    sums: Together,
}

#[derive(Debug, Serialize)]
struct VirtualServer<'a> {
    /// `10.96.0.10:53/UDP`, `FWM 7 IPv6`.
    key: String,
    #[serde(flatten)]
    by: By,
    /// `namespace/name:port`; null when it is not ours.
    service: Option<&'a str>,
    scheduler: &'a str,
    #[serde(flatten)]
    sums: Together,
    real_servers: Vec<RealServer<'a>>,
}

/// What identifies it.
#[derive(Debug, Serialize)]
struct By {
    address: Option<IpAddr>,
    port: Option<u16>,
    protocol: Option<String>,
    mark: Option<u32>,
    family: &'static str,
}

#[derive(Debug, Serialize)]
struct RealServer<'a> {
    address: IpAddr,
    port: u16,
    /// The pod that it is; null with --pods off, or where it is none.
    pod: Option<&'a str>,
    weight: u32,
    /// Of weight 0: it gets no new connections.
    draining: bool,
    active_connections: u64,
    inactive_connections: u64,
    rates: Rates,
    totals: Counts,
}

/// Of many.
#[derive(Debug, Serialize)]
struct Together {
    real_server_count: usize,
    /// Those of weight 0.
    draining: usize,
    active_connections: u64,
    inactive_connections: u64,
    /// A second.
    rates: Rates,
    /// Since they were made, or zeroed.
    totals: Counts,
}

/// The table that is chosen, as text.
pub(super) fn text(table: &Table, choice: &Choice) -> String {
    let page = page(&rows(table, choice), Kind::Level(choice.level), None);
    let mut text = page.heading + "\n";
    for line in page.lines {
        text += line.text.trim_end();
        text += "\n";
    }
    text
}

/// Everything that passes a filter, by name.
pub(super) fn document<'a>(table: &'a Table, interval_seconds: f64, filter: &str) -> Document<'a> {
    let at = |level| {
        let choice = Choice {
            level,
            focus: None,
            sort: Column::Name,
            reversed: false,
            filter: filter.to_owned(),
        };
        rows(table, &choice)
    };
    let mut real_servers: BTreeMap<&ServiceId, Vec<RealServer<'_>>> = BTreeMap::new();
    for row in at(Level::RealServers) {
        if let (Some(server), Some(real)) = (row.server, row.real) {
            let of = real_servers.entry(server).or_default();
            of.push(real_server(real, &row));
        }
    }
    let services = at(Level::Services).into_iter().map(|row| Service {
        service: row.service,
        virtual_server_count: row.sums.servers,
        sums: together(&row.sums),
    });
    let virtual_servers = at(Level::VirtualServers).into_iter().filter_map(|row| {
        let id = row.server?;
        Some(VirtualServer {
            key: id.to_string(),
            by: by(id),
            service: row.service,
            scheduler: row.scheduler.unwrap_or_default(),
            sums: together(&row.sums),
            real_servers: real_servers.remove(id).unwrap_or_default(),
        })
    });
    Document {
        interval_seconds,
        services: services.collect(),
        virtual_servers: virtual_servers.collect(),
    }
}

fn real_server<'a>(id: &DestinationId, row: &Row<'a>) -> RealServer<'a> {
    let sums = &row.sums;
    let weight = row.weight.unwrap_or_default();
    RealServer {
        address: id.address,
        port: id.port,
        pod: row.pod,
        weight,
        draining: weight == 0,
        active_connections: sums.active,
        inactive_connections: sums.inactive,
        rates: sums.rates.rounded(),
        totals: sums.counts,
    }
}

fn together(sums: &Sums) -> Together {
    Together {
        real_server_count: sums.real_servers,
        draining: sums.draining,
        active_connections: sums.active,
        inactive_connections: sums.inactive,
        rates: sums.rates.rounded(),
        totals: sums.counts,
    }
}

fn by(id: &ServiceId) -> By {
    let family = match id.family() {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    let none = By {
        address: None,
        port: None,
        protocol: None,
        mark: None,
        family,
    };
    match id {
        ServiceId::Address {
            address,
            port,
            protocol,
        } => By {
            address: Some(*address),
            port: Some(*port),
            protocol: Some(protocol.to_string()),
            ..none
        },
        ServiceId::Fwmark { mark, .. } => By {
            mark: Some(*mark),
            ..none
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::{at, real, seen};
    use super::*;
    use crate::pods::PodNames;

    fn table() -> Table {
        let mut table = Table::default();
        for (seconds, busy) in [(0, 0), (2, 5)] {
            let mut marked = seen(9, "ns/web:http", Some(vec![real(7, 1, 0, 0)]));
            marked.id = ServiceId::fwmark(7, Family::V6);
            let web = vec![real(7, 1, 3, busy), real(8, 0, 1, 5)];
            let servers = vec![seen(1, "ns/web:http", Some(web)), marked, seen(4, "", None)];
            table.take(at(seconds, servers));
        }
        table
    }

    #[test]
    fn json_is_typed_to_the_last_value() {
        let mut table = table();
        let address = IpAddr::from([10, 244, 1, 7]);
        table.pods = PodNames::one("ns/web", address, "web-0");
        let document = document(&table, 2.0, "");
        insta::assert_snapshot!(serde_json::to_string_pretty(&document).unwrap());
    }

    #[test]
    fn a_filter_goes_for_json_and_the_table() {
        let table = table();
        let filter = "10.96.0.4";
        let json = serde_json::to_value(document(&table, 2.0, filter)).unwrap();
        assert_eq!(json["virtual_servers"].as_array().map(Vec::len), Some(1));
        assert_eq!(json["services"][0]["service"], serde_json::Value::Null);
        let choice = Choice {
            level: Level::VirtualServers,
            focus: None,
            sort: Column::Name,
            reversed: false,
            filter: filter.to_owned(),
        };
        let text = text(&table, &choice);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("(not ours)"), "{text}");
    }
}
