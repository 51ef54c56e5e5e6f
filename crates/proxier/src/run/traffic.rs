//! Traffic of each Service and real server, for `--service-metrics`: read from
//! the kernel at each scrape.

use std::path::{Path, PathBuf};

use ipvs_netlink::{Client, Service, ServiceId, Stats};
use kube_ipvs_dataplane::linux::key_of;
use kube_ipvs_dataplane::record::RecordFile;

use crate::metrics::{RealServerRow, Traffic, TrafficRow};

/// The collector. What cannot be read is logged and left out of the scrape.
pub(super) fn traffic(state_dir: PathBuf) -> Traffic {
    Traffic::new(move || {
        rows(&state_dir).unwrap_or_else(|error| {
            tracing::warn!(error = format!("{error:#}"), "no traffic metrics this time");
            Vec::new()
        })
    })
}

fn rows(state_dir: &Path) -> anyhow::Result<Vec<TrafficRow>> {
    let record = RecordFile::open(state_dir)?;
    let names = &record.record().virtual_servers;
    let mut client = Client::open()?;
    let mut rows = Vec::new();
    for service in client.services()? {
        let Some(name) = key_of(&service.id).and_then(|key| names.get(&key)) else {
            continue;
        };
        rows.push(row(name, &service, None, &service.stats));
        // One that vanished meanwhile has no real servers.
        for to in client.destinations(&service.id).unwrap_or_default() {
            let real = RealServerRow {
                address: std::net::SocketAddr::new(to.id.address, to.id.port).to_string(),
                weight: u64::from(to.weight),
                active: u64::from(to.active_connections),
                inactive: u64::from(to.inactive_connections),
            };
            rows.push(row(name, &service, Some(real), &to.stats));
        }
    }
    Ok(rows)
}

fn row(name: &str, at: &Service, real_server: Option<RealServerRow>, stats: &Stats) -> TrafficRow {
    let (namespace, service, port_name) = parts(name);
    let (virtual_server, protocol) = match &at.id {
        ServiceId::Address {
            address,
            port,
            protocol,
        } => (
            std::net::SocketAddr::new(*address, *port).to_string(),
            protocol.to_string(),
        ),
        mark @ ServiceId::Fwmark { .. } => (mark.to_string(), String::new()),
    };
    TrafficRow {
        namespace: namespace.to_owned(),
        service: service.to_owned(),
        port_name: port_name.to_owned(),
        virtual_server,
        protocol,
        real_server,
        connections: stats.connections,
        packets_in: stats.in_packets,
        packets_out: stats.out_packets,
        bytes_in: stats.in_bytes,
        bytes_out: stats.out_bytes,
    }
}

/// `kube-system/kube-dns:dns` in its parts; a port may have no name.
fn parts(name: &str) -> (&str, &str, &str) {
    let (namespace, rest) = name.split_once('/').unwrap_or(("", name));
    let (service, port) = rest.split_once(':').unwrap_or((rest, ""));
    (namespace, service, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_port_comes_apart() {
        assert_eq!(
            parts("kube-system/kube-dns:dns"),
            ("kube-system", "kube-dns", "dns")
        );
        assert_eq!(parts("default/web"), ("default", "web", ""));
    }

    #[test]
    fn a_row_names_the_service_and_counts_its_traffic() {
        let at = Service::new(ServiceId::udp([10, 96, 0, 10], 53), "rr".into());
        let stats = Stats {
            connections: 3,
            in_bytes: 40,
            ..Stats::default()
        };
        let row = row("kube-system/kube-dns:dns", &at, None, &stats);
        assert_eq!(row.virtual_server, "10.96.0.10:53");
        assert_eq!(
            (row.protocol.as_str(), row.port_name.as_str()),
            ("UDP", "dns")
        );
        assert_eq!((row.connections, row.bytes_in), (3, 40));
    }
}
