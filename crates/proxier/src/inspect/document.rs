//! Our own forms: JSON and YAML of everything, and a listing with the names of
//! Services. In the order of keys, not in ipvsadm's.

use std::net::IpAddr;

use anyhow::Context;
use ipvs_netlink::{
    Destination, Family, ForwardingMethod, Service, ServiceFlags, ServiceId, Stats,
};
use kube_ipvs_core::escape::Escaped;
use serde::Serialize;

use super::lines;
use super::names::ServiceNames;
use super::snapshot::Snapshot;

#[derive(Serialize)]
struct Document {
    version: String,
    connection_table_size: u32,
    virtual_servers: Vec<Server>,
}

#[derive(Serialize)]
struct Server {
    /// `10.96.0.10:53/UDP`, `FWM 7 IPv6`.
    key: String,
    address: Option<IpAddr>,
    port: Option<u16>,
    protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<&'static str>,
    /// `namespace/name:port`; null when it is not ours.
    service: Option<String>,
    scheduler: String,
    flags: Vec<&'static str>,
    persistence_timeout: Option<u32>,
    persistence_netmask: Option<String>,
    persistence_engine: Option<String>,
    stats: Counts,
    real_servers: Vec<Real>,
}

#[derive(Serialize)]
struct Real {
    address: IpAddr,
    port: u16,
    /// Its name, in the namespace of the Service; only with --pods, and where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
    forward: String,
    /// `ipip`, `gue:6080:+c`, `gre:-c`; null without a tunnel.
    tunnel: Option<String>,
    weight: u32,
    upper_threshold: u32,
    lower_threshold: u32,
    active_connections: u32,
    inactive_connections: u32,
    persistent_connections: u32,
    stats: Counts,
}

#[derive(Serialize)]
struct Counts {
    connections: u64,
    in_packets: u64,
    out_packets: u64,
    in_bytes: u64,
    out_bytes: u64,
    connections_per_second: u64,
    in_packets_per_second: u64,
    out_packets_per_second: u64,
    in_bytes_per_second: u64,
    out_bytes_per_second: u64,
}

pub(super) fn json(snapshot: &Snapshot, names: &ServiceNames) -> anyhow::Result<String> {
    let document = document(snapshot, names);
    Ok(serde_json::to_string_pretty(&document).context("write JSON")? + "\n")
}

pub(super) fn yaml(snapshot: &Snapshot, names: &ServiceNames) -> anyhow::Result<String> {
    serde_saphyr::to_string(&document(snapshot, names)).context("write YAML")
}

/// ipvsadm's columns with the Service in front.
pub(super) fn wide(snapshot: &Snapshot, names: &ServiceNames) -> String {
    let document = document(snapshot, names);
    let column = document
        .virtual_servers
        .iter()
        .map(|server| shown(&server.service).len())
        .max();
    let column = column.unwrap_or(0).max("SERVICE".len());
    let mut text = format!(
        "{:<column$}  {:<44} SCHEDULER  FLAGS\n",
        "SERVICE", "VIRTUAL SERVER"
    );
    for server in &document.virtual_servers {
        let service = shown(&server.service);
        let line = format!(
            "{service:<column$}  {:<44} {:<10} {}",
            server.key,
            Escaped(&server.scheduler).to_string(),
            server.flags_in_words()
        );
        text += line.trim_end();
        text += "\n";
        for real in &server.real_servers {
            let at = std::net::SocketAddr::new(real.address, real.port).to_string();
            text += &format!(
                "{:column$}  -> {at:<41} weight {} active {} inactive {}{}\n",
                "",
                real.weight,
                real.active_connections,
                real.inactive_connections,
                pod_of(real)
            );
        }
    }
    text
}

fn pod_of(real: &Real) -> String {
    let pod = real.pod.as_deref().map(Escaped);
    pod.map(|pod| format!(" pod {pod}")).unwrap_or_default()
}

/// Names come from a file, so they may be anything.
fn shown(service: &Option<String>) -> String {
    Escaped(service.as_deref().unwrap_or("(not ours)")).to_string()
}

fn document(snapshot: &Snapshot, names: &ServiceNames) -> Document {
    let mut servers: Vec<Server> = snapshot
        .services
        .iter()
        .map(|(service, to)| server(service, to, names))
        .collect();
    servers.sort_by(|a, b| {
        (a.mark, a.address, a.port, &a.protocol).cmp(&(b.mark, b.address, b.port, &b.protocol))
    });
    Document {
        version: snapshot.info.version.to_string(),
        connection_table_size: snapshot.info.conn_tab_size,
        virtual_servers: servers,
    }
}

impl Server {
    /// `persistent 100,sh-port`: as ipvsadm says how long it is.
    fn flags_in_words(&self) -> String {
        let seconds = self.persistence_timeout;
        let word = |flag: &&str| match (*flag, seconds) {
            ("persistent", Some(seconds)) => format!("{flag} {seconds}"),
            _ => (*flag).to_owned(),
        };
        let words: Vec<String> = self.flags.iter().map(word).collect();
        words.join(",")
    }
}

fn server(service: &Service, to: &[Destination], names: &ServiceNames) -> Server {
    let persistent = service.flags.contains(ServiceFlags::PERSISTENT);
    let mut flags = service.flags.scheduler_flag_names(&service.scheduler);
    if persistent {
        flags.push("persistent");
    }
    if service.flags.contains(ServiceFlags::ONE_PACKET) {
        flags.push("one-packet");
    }
    let (mut address, mut port, mut protocol, mut mark, mut family) =
        (None, None, None, None, None);
    match &service.id {
        ServiceId::Address {
            address: at,
            port: number,
            protocol: by,
        } => {
            (address, port, protocol) = (Some(*at), Some(*number), Some(by.to_string()));
        }
        ServiceId::Fwmark {
            mark: value,
            family: of,
        } => {
            mark = Some(*value);
            family = Some(if *of == Family::V4 { "IPv4" } else { "IPv6" });
        }
    }
    let name = names.of(&service.id);
    let pod = |to: &Destination| names.pod(name?, to.id.address);
    let mut real_servers: Vec<Real> = to.iter().map(|to| real(to, pod(to))).collect();
    real_servers.sort_by_key(|real| (real.address, real.port));
    Server {
        key: service.id.to_string(),
        address,
        port,
        protocol,
        mark,
        family,
        service: name.map(str::to_owned),
        scheduler: service.scheduler.as_str().to_owned(),
        flags,
        persistence_timeout: persistent.then_some(service.timeout),
        persistence_netmask: persistent.then(|| service.netmask.to_string()),
        persistence_engine: service.pe_name.clone(),
        stats: counts(&service.stats),
        real_servers,
    }
}

fn real(to: &Destination, pod: Option<&str>) -> Real {
    Real {
        address: to.id.address,
        port: to.id.port,
        pod: pod.map(str::to_owned),
        forward: to.forwarding.to_string(),
        tunnel: (to.forwarding == ForwardingMethod::Tunnel).then(|| lines::tunnel(to)),
        weight: to.weight,
        upper_threshold: to.upper_threshold,
        lower_threshold: to.lower_threshold,
        active_connections: to.active_connections,
        inactive_connections: to.inactive_connections,
        persistent_connections: to.persistent_connections,
        stats: counts(&to.stats),
    }
}

fn counts(stats: &Stats) -> Counts {
    Counts {
        connections: stats.connections,
        in_packets: stats.in_packets,
        out_packets: stats.out_packets,
        in_bytes: stats.in_bytes,
        out_bytes: stats.out_bytes,
        connections_per_second: stats.connection_rate,
        in_packets_per_second: stats.in_packet_rate,
        out_packets_per_second: stats.out_packet_rate,
        in_bytes_per_second: stats.in_byte_rate,
        out_bytes_per_second: stats.out_byte_rate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipvs_netlink::{DestinationId, Scheduler};

    #[test]
    fn the_wide_form_says_for_how_long_a_client_stays() {
        let mut sticky = Service::new(ServiceId::tcp([10, 96, 0, 1], 80), Scheduler::RR);
        sticky.flags |= ServiceFlags::PERSISTENT;
        sticky.timeout = 100;
        let snapshot = Snapshot {
            services: vec![(sticky, Vec::new())],
            ..Snapshot::default()
        };

        let wide = wide(
            &snapshot,
            &ServiceNames::one("10.96.0.1:80/TCP", "default/web"),
        );

        assert!(wide.ends_with(" rr         persistent 100\n"), "{wide}");
    }

    #[test]
    fn real_servers_name_their_pods_where_they_are_known() {
        let ids = [
            ServiceId::tcp([10, 96, 0, 1], 80),
            ServiceId::tcp([10, 96, 0, 2], 80),
        ];
        let to = [
            DestinationId::new([10, 2, 0, 1], 8080),
            DestinationId::new([10, 2, 0, 2], 8080),
        ];
        let server = |id| {
            (
                Service::new(id, Scheduler::RR),
                to.map(Destination::new).into(),
            )
        };
        let snapshot = Snapshot {
            services: ids.map(server).into(),
            ..Snapshot::default()
        };
        let unasked = ServiceNames::one("10.96.0.1:80/TCP", "default/web:http");
        assert!(!wide(&snapshot, &unasked).contains(" pod "));
        assert!(!json(&snapshot, &unasked).unwrap().contains("\"pod\""));

        let names = ServiceNames::one("10.96.0.1:80/TCP", "default/web:http");
        let names = names.and_pod("10.2.0.2", "web-0");
        let wide = wide(&snapshot, &names);
        let named: Vec<_> = wide.lines().filter(|line| line.contains(" pod ")).collect();
        assert_eq!(named.len(), 1, "of the other nothing is known: {wide}");
        assert!(named[0].contains("-> 10.2.0.2:8080 "), "{wide}");
        assert!(named[0].ends_with(" inactive 0 pod web-0"), "{wide}");
        let json = json(&snapshot, &names).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let pods = |server: usize| {
            let real = &json["virtual_servers"][server]["real_servers"];
            [0, 1].map(|at| real[at].get("pod").cloned())
        };
        assert_eq!(pods(0), [None, Some("web-0".into())]);
        assert_eq!(pods(1), [None, None]);
    }
}
