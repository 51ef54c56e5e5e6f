//! Our own forms of connections, time-outs and sync daemons.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context;
use ipvs_netlink::{Daemon, ServiceId, Timeouts};
use kube_ipvs_core::escape::Escaped;
use serde::Serialize;

use super::args::Output;
use super::connections::{Entry, entries};
use super::lines;
use super::names::ServiceNames;

#[derive(Serialize)]
struct Connection<'a> {
    protocol: &'a str,
    client: SocketAddr,
    virtual_server: SocketAddr,
    real_server: SocketAddr,
    /// `namespace/name:port`; null when it is not ours.
    service: Option<&'a str>,
    /// That of the real server; only with --pods, and where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    state: &'a str,
    expires_seconds: u64,
    persistence_engine: Option<&'a str>,
    persistence_data: Option<&'a str>,
}

#[derive(Serialize)]
struct Seconds {
    tcp: u32,
    tcp_fin: u32,
    udp: u32,
}

#[derive(Serialize)]
struct SyncDaemon<'a> {
    state: String,
    interface: &'a str,
    sync_id: u32,
    max_length: u16,
    group: Option<IpAddr>,
    port: u16,
    ttl: u8,
}

/// The entries of `/proc/net/ip_vs_conn` with the names of Services. A
/// connection that came by a mark names the one of its address, if any.
pub(super) fn connections(
    table: &str,
    names: &ServiceNames,
    output: Output,
) -> anyhow::Result<String> {
    let list: Vec<_> = entries(table)
        .map(|entry| connection(entry, names))
        .collect();
    if output != Output::Wide {
        return written("connections", &list, output);
    }
    let mut text = format!(
        "{:<4} {:<7} {:<11} {:<24} {:<24} {:<24} SERVICE\n",
        "PROT", "EXPIRES", "STATE", "CLIENT", "VIRTUAL SERVER", "REAL SERVER"
    );
    for one in &list {
        text += &format!(
            "{:<4} {:<7} {:<11} {:<24} {:<24} {:<24} {}{}\n",
            one.protocol,
            format!(
                "{:02}:{:02}",
                one.expires_seconds / 60,
                one.expires_seconds % 60
            ),
            one.state,
            one.client.to_string(),
            one.virtual_server.to_string(),
            one.real_server.to_string(),
            Escaped(one.service.unwrap_or("(not ours)")),
            one.pod
                .map(|pod| format!(" pod {}", Escaped(pod)))
                .unwrap_or_default(),
        );
    }
    Ok(text)
}

fn connection<'a>(entry: Entry<'a>, names: &'a ServiceNames) -> Connection<'a> {
    let front = entry
        .protocol()
        .map(|protocol| ServiceId::address(entry.front.ip(), entry.front.port(), protocol));
    let service = front.and_then(|front| names.of(&front));
    Connection {
        protocol: entry.protocol,
        client: entry.source,
        virtual_server: entry.front,
        real_server: entry.back,
        service,
        pod: service.and_then(|service| names.pod(service, entry.back.ip())),
        state: entry.state,
        expires_seconds: entry.expires,
        persistence_engine: entry.engine.map(|(name, _)| name),
        persistence_data: entry.engine.map(|(_, data)| data),
    }
}

/// Time-outs; ipvsadm's line where no other form is asked for.
pub(super) fn timeouts(timeouts: &Timeouts, output: Option<Output>) -> anyhow::Result<String> {
    let Some(output @ (Output::Json | Output::Yaml)) = output else {
        return Ok(lines::timeouts(timeouts));
    };
    let Timeouts { tcp, tcp_fin, udp } = *timeouts;
    written("timeouts", &Seconds { tcp, tcp_fin, udp }, output)
}

/// Sync daemons; ipvsadm's lines where no other form is asked for.
pub(super) fn daemons(daemons: &[Daemon], output: Option<Output>) -> anyhow::Result<String> {
    let Some(output @ (Output::Json | Output::Yaml)) = output else {
        return Ok(daemons.iter().map(lines::daemon).collect());
    };
    let list: Vec<_> = daemons
        .iter()
        .map(|daemon| SyncDaemon {
            state: daemon.state.to_string(),
            interface: &daemon.interface,
            sync_id: daemon.sync_id,
            max_length: daemon.sync_maxlen,
            group: daemon.group,
            port: daemon.port,
            ttl: daemon.ttl,
        })
        .collect();
    written("daemons", &list, output)
}

fn written(name: &str, value: &impl Serialize, output: Output) -> anyhow::Result<String> {
    let document = std::collections::BTreeMap::from([(name, value)]);
    if output == Output::Yaml {
        return serde_saphyr::to_string(&document).context("write YAML");
    }
    Ok(serde_json::to_string_pretty(&document).context("write JSON")? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipvs_netlink::DaemonState;

    const TABLE: &str = "\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 0A010002 0FA2 0A600001 0050 0A020002 1F90 ESTABLISHED     894
";

    #[test]
    fn a_connection_names_the_service_of_its_front() {
        let names = ServiceNames::one("10.96.0.1:80/TCP", "default/web:http");
        let json = connections(TABLE, &names, Output::Json).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let one = &json["connections"][0];
        assert_eq!(one["service"], "default/web:http");
        assert_eq!(one["real_server"], "10.2.0.2:8080");
        assert_eq!(one["expires_seconds"], 894);
        let wide = connections(TABLE, &names, Output::Wide).unwrap();
        assert!(wide.ends_with(" default/web:http\n"), "{wide}");
        assert!(wide.contains(" 14:54 "), "{wide}");
    }

    #[test]
    fn a_connection_names_the_pod_that_serves_it() {
        let names = ServiceNames::one("10.96.0.1:80/TCP", "default/web:http");
        let names = names.and_pod("10.2.0.2", "web-0");
        let wide = connections(TABLE, &names, Output::Wide).unwrap();
        assert!(wide.ends_with(" default/web:http pod web-0\n"), "{wide}");
        let json = connections(TABLE, &names, Output::Json).unwrap();
        assert!(json.contains("\"pod\": \"web-0\""), "{json}");
    }

    #[test]
    fn time_outs_and_daemons_are_for_programs_too() {
        let set = Timeouts {
            tcp: 900,
            tcp_fin: 120,
            udp: 300,
        };
        assert_eq!(
            timeouts(&set, Some(Output::Yaml)).unwrap(),
            "timeouts:\n  tcp: 900\n  tcp_fin: 120\n  udp: 300\n"
        );
        let daemon = Daemon::new(DaemonState::Backup, "eth0", 7);
        let json = daemons(&[daemon], Some(Output::Json)).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["daemons"][0]["state"], "backup");
        assert_eq!(json["daemons"][0]["sync_id"], 7);
    }
}
