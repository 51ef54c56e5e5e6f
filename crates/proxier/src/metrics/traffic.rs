//! Traffic of every Service and real server, with Kubernetes' names.
//!
//! Behind a flag: it costs a dump of the table a scrape, and the number of
//! series follows the number of endpoints.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::series::Labels;

/// A virtual server, or one of its real servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrafficRow {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// Name of the Service's port, empty when it has none.
    pub port_name: String,
    /// The virtual server: `10.96.0.10:53`, or `FWM 291`.
    pub virtual_server: String,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
    /// The real server, or none for the virtual server's own sums.
    pub real_server: Option<RealServerRow>,
    /// Connections scheduled since the entry exists.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
}

/// What only a real server has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RealServerRow {
    /// `10.244.2.9:8080`.
    pub address: String,
    /// Share of new connections; 0 drains.
    pub weight: u64,
    /// Connections in an active state.
    pub active: u64,
    /// Connections in any other state, TIME_WAIT among them.
    pub inactive: u64,
}

/// The collector: asks for rows at each scrape.
#[derive(Clone)]
pub struct Traffic {
    rows: Arc<dyn Fn() -> Vec<TrafficRow> + Send + Sync>,
}

impl Traffic {
    /// `rows` is called at each scrape; nothing is cached here.
    pub fn new(rows: impl Fn() -> Vec<TrafficRow> + Send + Sync + 'static) -> Self {
        Self {
            rows: Arc::new(rows),
        }
    }
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traffic")
    }
}

/// Which number of a row a metric shows.
type Number = fn(&TrafficRow) -> u64;

const COUNTERS: [(&str, &str, Number); 5] = [
    ("connections", "Connections scheduled", |row| {
        row.connections
    }),
    ("incoming_packets", "Packets from clients", |row| {
        row.packets_in
    }),
    ("outgoing_packets", "Packets to clients", |row| {
        row.packets_out
    }),
    ("incoming_bytes", "Bytes from clients", |row| row.bytes_in),
    ("outgoing_bytes", "Bytes to clients", |row| row.bytes_out),
];

impl Collector for Traffic {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let rows = (self.rows)();
        let (servers, services): (Vec<_>, Vec<_>) =
            rows.iter().partition(|row| row.real_server.is_some());
        for (name, help, number) in COUNTERS {
            let name_of = |layer: &str| format!("kube_ipvs_{layer}_{name}");
            counter(&mut encoder, &name_of("service"), help, &services, number)?;
            counter(
                &mut encoder,
                &name_of("real_server"),
                help,
                &servers,
                number,
            )?;
        }
        let real: Vec<_> = servers
            .iter()
            .filter_map(|row| Some((*row, row.real_server.as_ref()?)))
            .collect();
        gauge(
            &mut encoder,
            "active_connections",
            "Connections in an active state",
            &real,
            |server| server.active,
        )?;
        gauge(
            &mut encoder,
            "inactive_connections",
            "Connections in any other state",
            &real,
            |server| server.inactive,
        )?;
        gauge(
            &mut encoder,
            "weight",
            "Share of new connections, 0 drains",
            &real,
            |server| server.weight,
        )
    }
}

fn counter(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    rows: &[&TrafficRow],
    number: Number,
) -> Result<(), fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for row in rows {
        labelled(&mut metric, row, |metric| {
            ConstCounter::new(number(row)).encode(metric)
        })?;
    }
    Ok(())
}

fn gauge(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    rows: &[(&TrafficRow, &RealServerRow)],
    number: fn(&RealServerRow) -> u64,
) -> Result<(), fmt::Error> {
    let name = format!("kube_ipvs_real_server_{name}");
    let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
    for (row, server) in rows {
        labelled(&mut metric, row, |metric| {
            ConstGauge::new(number(server)).encode(metric)
        })?;
    }
    Ok(())
}

fn labelled(
    metric: &mut MetricEncoder,
    row: &TrafficRow,
    encode: impl FnOnce(MetricEncoder) -> Result<(), fmt::Error>,
) -> Result<(), fmt::Error> {
    let mut labels: Labels = vec![
        ("namespace", row.namespace.clone()),
        ("service", row.service.clone()),
        ("port", row.port_name.clone()),
        ("virtual_server", row.virtual_server.clone()),
        ("protocol", row.protocol.clone()),
    ];
    if let Some(server) = &row.real_server {
        labels.push(("real_server", server.address.clone()));
    }
    encode(metric.encode_family(&labels)?)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::metrics::Metrics;

    fn dns() -> TrafficRow {
        TrafficRow {
            namespace: "kube-system".into(),
            service: "kube-dns".into(),
            port_name: "dns".into(),
            virtual_server: "10.96.0.10:53".into(),
            protocol: "UDP".into(),
            connections: 7,
            bytes_in: 640,
            ..TrafficRow::default()
        }
    }

    #[test]
    fn services_and_real_servers_have_their_names() {
        let metrics = Metrics::new();
        let server = RealServerRow {
            address: "10.244.0.16:53".into(),
            weight: 1,
            active: 0,
            inactive: 4,
        };
        metrics.show_traffic(Traffic::new(move || {
            let real = Some(server.clone());
            vec![
                dns(),
                TrafficRow {
                    real_server: real,
                    ..dns()
                },
            ]
        }));

        let page = metrics.render(Instant::now());

        let labels = "namespace=\"kube-system\",service=\"kube-dns\",port=\"dns\",\
                      virtual_server=\"10.96.0.10:53\",protocol=\"UDP\"";
        for expected in [
            format!("kube_ipvs_service_connections_total{{{labels}}} 7\n"),
            format!("kube_ipvs_service_incoming_bytes_total{{{labels}}} 640\n"),
            format!(
                "kube_ipvs_real_server_inactive_connections{{{labels},real_server=\"10.244.0.16:53\"}} 4\n"
            ),
            format!("kube_ipvs_real_server_weight{{{labels},real_server=\"10.244.0.16:53\"}} 1\n"),
        ] {
            assert!(page.contains(&expected), "{expected} not in\n{page}");
        }
    }
}
