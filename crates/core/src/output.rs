//! What was compiled, for people and programs: text and the stable JSON of
//! `kube-ipvs compile`.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::Serialize;

use crate::cluster::{Cluster, HealthCheck};
use crate::names::Warning;
use crate::row::{Masquerade, Row, Verdict};
use crate::state::{Family, Front, Protocol, VirtualServer, VirtualServerKey};

/// The compiled state of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Output {
    /// Name of the node.
    pub node: String,
    /// In the order of family, address, port, protocol; marks last.
    pub virtual_servers: Vec<VirtualServerOutput>,
    /// Addresses bound to the link.
    pub vips: BTreeSet<IpAddr>,
    /// Health-check node ports.
    pub health_check_node_ports: Vec<HealthCheckOutput>,
    /// NodePorts on loopback addresses that the daemon listens on: in the order
    /// of address and port.
    pub localhost_node_ports: Vec<LocalhostPortOutput>,
    /// What becomes of each front: in the order of family, address, port, protocol.
    pub fronts: Vec<FrontOutput>,
    /// Endpoints on this node, which may reach themselves by a Service.
    pub hairpin: BTreeSet<IpAddr>,
    /// Fronts and endpoints whose packets are not tracked, and addresses that are.
    pub untracked: Vec<String>,
    /// Networks of ClusterIPs: what is in them and no Service's leads nowhere.
    pub service_networks: BTreeSet<IpNet>,
    /// What makes no sense in the objects.
    pub warnings: Vec<Warning>,
}

/// A virtual server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VirtualServerOutput {
    /// Null for a mark.
    pub address: Option<IpAddr>,
    /// Null for a mark.
    pub port: Option<u16>,
    /// Null for a mark.
    pub protocol: Option<Protocol>,
    /// Firewall mark; absent for an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    /// Family of a mark: `IPv4`, `IPv6`; absent for an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<&'static str>,
    /// `namespace/name:port`.
    pub service: String,
    /// `ClusterIP`, `LoadBalancer`, `ExternalIP`, `NodePort`, `InsideMark`.
    pub kind: String,
    /// Name of the scheduler.
    pub scheduler: String,
    /// `persistent`, `one-packet`, `sh-fallback`, `sh-port`, `mh-fallback`, `mh-port`.
    pub flags: Vec<&'static str>,
    /// Seconds; null without persistence.
    pub persistence_timeout: Option<u32>,
    /// Prefix length; null without persistence.
    pub persistence_netmask: Option<u8>,
    /// In the order of address and port.
    pub real_servers: Vec<RealServerOutput>,
}

/// A real server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RealServerOutput {
    /// Address of the endpoint.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// 0 drains.
    pub weight: u32,
    /// Always `masq`.
    pub forward: &'static str,
    /// Absent without one.
    #[serde(skip_serializing_if = "is_zero")]
    pub upper_threshold: u32,
    /// Absent without one.
    #[serde(skip_serializing_if = "is_zero")]
    pub lower_threshold: u32,
}

/// A health-check node port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthCheckOutput {
    /// `namespace/name`.
    pub service: String,
    /// Where it is answered.
    pub port: u16,
    /// Ready endpoints on this node.
    pub local_endpoints: usize,
}

/// A NodePort on a loopback address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LocalhostPortOutput {
    /// `127.0.0.1` or `::1`.
    pub address: IpAddr,
    /// TCP port.
    pub port: u16,
    /// `namespace/name:port`.
    pub service: String,
    /// Seconds; null without session affinity.
    pub affinity_timeout: Option<u32>,
    /// Where a connection may go, as `address:port`.
    pub endpoints: Vec<SocketAddr>,
}

/// What becomes of a front.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FrontOutput {
    /// Where traffic arrives.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// `namespace/name:port`; of a health check `namespace/name`.
    pub service: String,
    /// `ClusterIP`, `LoadBalancer`, `ExternalIP`, `NodePort`, `HealthCheck`.
    pub kind: String,
    /// `serve`, `drop-outside`, `refuse`.
    pub verdict: Verdict,
    /// `never`, `off-cluster`, `always`.
    pub masquerade: Masquerade,
    /// Networks that it is open to; null is everybody, none of them nobody.
    pub sources: Option<Vec<IpNet>>,
    /// Firewall mark of traffic from inside.
    pub inside_mark: Option<u32>,
    /// Firewall mark of all traffic.
    pub mark: Option<u32>,
    /// Whether the address is bound to the link.
    pub bind: bool,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Output {
    /// Of the last compilation.
    pub fn of(cluster: &Cluster) -> Self {
        let desired = cluster.desired();
        let servers = desired.virtual_servers.iter();
        let checks = cluster.health_checks();
        let rows = desired.table.rows.iter();
        Self {
            node: cluster.options().node_name.clone(),
            virtual_servers: servers
                .map(|(key, server)| virtual_server(cluster, key, server))
                .collect(),
            vips: desired.vips.clone(),
            fronts: rows
                .map(|(at, row)| front(cluster, &checks, at, row))
                .collect(),
            hairpin: desired.table.hairpin.clone(),
            untracked: desired
                .table
                .untracked
                .iter()
                .map(ToString::to_string)
                .collect(),
            service_networks: desired.table.networks.clone(),
            health_check_node_ports: checks
                .into_iter()
                .map(|check| HealthCheckOutput {
                    service: check.service.to_string(),
                    port: check.port,
                    local_endpoints: check.local_endpoints,
                })
                .collect(),
            localhost_node_ports: localhost_node_ports(cluster),
            warnings: cluster.warnings(),
        }
    }

    /// Indented JSON, with a newline at its end.
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self);
        json.expect("maps with text keys and plain values serialize") + "\n"
    }
}

fn localhost_node_ports(cluster: &Cluster) -> Vec<LocalhostPortOutput> {
    let ports = cluster.localhost_node_ports().iter();
    let output = ports.map(|(at, port)| LocalhostPortOutput {
        address: at.ip(),
        port: at.port(),
        service: port.service.to_string(),
        affinity_timeout: port.affinity,
        endpoints: port.endpoints.to_vec(),
    });
    output.collect()
}

fn virtual_server(
    cluster: &Cluster,
    key: &VirtualServerKey,
    server: &VirtualServer,
) -> VirtualServerOutput {
    let (front, mark, family) = match key {
        VirtualServerKey::Front(front) => (Some(front), None, None),
        VirtualServerKey::Mark { mark, family } => {
            let family = match family {
                Family::V4 => "IPv4",
                Family::V6 => "IPv6",
            };
            (None, Some(*mark), Some(family))
        }
    };
    let mut flags = Vec::new();
    flags.extend(server.persistence.map(|_| "persistent"));
    flags.extend(server.flags.words(&server.scheduler));
    let real_servers = server.real_servers.iter();
    let text = |text: Option<String>| text.unwrap_or_default();
    VirtualServerOutput {
        address: front.map(|front| front.address),
        port: front.map(|front| front.port),
        protocol: front.map(|front| front.protocol),
        mark,
        family,
        service: text(cluster.service_of(key).map(|name| name.to_string())),
        kind: text(cluster.kind_of(key).map(|kind| kind.to_string())),
        scheduler: server.scheduler.to_string(),
        flags,
        persistence_timeout: server.persistence.map(|p| p.timeout),
        persistence_netmask: server.persistence.map(|p| p.prefix),
        real_servers: real_servers
            .map(|(key, real)| RealServerOutput {
                address: key.address,
                port: key.port,
                weight: real.weight,
                forward: "masq",
                upper_threshold: real.upper_threshold,
                lower_threshold: real.lower_threshold,
            })
            .collect(),
    }
}

fn front(cluster: &Cluster, checks: &[HealthCheck], front: &Front, row: &Row) -> FrontOutput {
    let key = VirtualServerKey::Front(*front);
    let served = cluster.service_of(&key).zip(cluster.kind_of(&key));
    let (service, kind) = match served {
        Some((service, kind)) => (service.to_string(), kind.to_string()),
        None => {
            let mut all = checks.iter();
            let check = all.find(|x| x.port == front.port && x.vips.contains(&front.address));
            let service = check.map(|check| check.service.to_string());
            (service.unwrap_or_default(), "HealthCheck".to_owned())
        }
    };
    FrontOutput {
        address: front.address,
        port: front.port,
        protocol: front.protocol,
        service,
        kind,
        verdict: row.verdict,
        masquerade: row.masquerade,
        sources: row.sources.as_ref().map(|nets| nets.to_vec()),
        inside_mark: row.inside,
        mark: row.mark,
        bind: cluster.desired().vips.contains(&front.address),
    }
}

impl fmt::Display for Output {
    /// Everything that is there, a line each, under headings.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for server in &self.virtual_servers {
            writeln!(f, "{server}")?;
            for real in &server.real_servers {
                writeln!(f, "  {real}")?;
            }
        }
        for vip in &self.vips {
            writeln!(f, "vip  {vip}")?;
        }
        for front in &self.fronts {
            writeln!(f, "front  {front}")?;
        }
        for address in &self.hairpin {
            writeln!(f, "hairpin  {address}")?;
        }
        for one in &self.untracked {
            writeln!(f, "untracked  {one}")?;
        }
        for net in &self.service_networks {
            writeln!(f, "service network  {net}")?;
        }
        for check in &self.health_check_node_ports {
            let HealthCheckOutput { service, port, .. } = check;
            let count = check.local_endpoints;
            writeln!(
                f,
                "health check  {service} port {port} local endpoints {count}"
            )?;
        }
        for port in &self.localhost_node_ports {
            writeln!(f, "localhost  {port}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning  {warning}")?;
        }
        Ok(())
    }
}

impl fmt::Display for FrontOutput {
    /// `10.96.0.10:53/UDP serve masquerade off-cluster  ClusterIP kube-system/kube-dns:dns`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let front = Front {
            address: self.address,
            port: self.port,
            protocol: self.protocol,
        };
        let row = Row {
            verdict: self.verdict,
            masquerade: self.masquerade,
            sources: self.sources.as_deref().map(Into::into),
            inside: self.inside_mark,
            mark: self.mark,
        };
        write!(f, "{front} {row}  {} {}", self.kind, self.service)
    }
}

impl fmt::Display for VirtualServerOutput {
    /// `10.96.0.10:53/UDP rr  ClusterIP kube-system/kube-dns:dns`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.port, self.protocol) {
            (Some(address), Some(port), Some(protocol)) => {
                let socket = core::net::SocketAddr::new(address, port);
                write!(f, "{socket}/{protocol}")?;
            }
            _ => {
                write!(f, "FWM {}", self.mark.unwrap_or_default())?;
                if self.family == Some("IPv6") {
                    write!(f, " IPv6")?;
                }
            }
        }
        write!(f, " {}", self.scheduler)?;
        for flag in &self.flags {
            write!(f, " {flag}")?;
        }
        if let Some(timeout) = self.persistence_timeout {
            write!(f, " {timeout}")?;
        }
        write!(f, "  {} {}", self.kind, self.service)
    }
}

impl fmt::Display for LocalhostPortOutput {
    /// `127.0.0.1:30080/TCP default/web affinity 10800 -> 10.244.0.16:53 10.244.0.17:53`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = SocketAddr::new(self.address, self.port);
        write!(f, "{socket}/TCP {}", self.service)?;
        if let Some(seconds) = self.affinity_timeout {
            write!(f, " affinity {seconds}")?;
        }
        write!(f, " ->")?;
        self.endpoints.iter().try_for_each(|at| write!(f, " {at}"))
    }
}

impl fmt::Display for RealServerOutput {
    /// `-> 10.244.0.16:53 weight 1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = core::net::SocketAddr::new(self.address, self.port);
        let state = crate::state::RealServer {
            weight: self.weight,
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
        };
        write!(f, "-> {socket} {state}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::*;

    #[test]
    fn the_json_is_as_documented() {
        let dns = bare("kube-dns", &["10.96.0.10"]).port("dns", "UDP", 53);
        let dns = dns.with(|s| s.metadata.namespace = "kube-system".to_owned());
        let sticky = web()
            .load_balancer("203.0.113.5")
            .external_local()
            .with(|s| {
                s.spec.session_affinity = Some("ClientIP".to_owned());
                s.spec.health_check_node_port = Some(32000);
                s.spec.external_ips.push("198.51.100.5".to_owned());
            });
        let sticky = sticky.annotation("ipvs.kube-ipvs.dev/scheduler", "mh");
        let mut cluster = cluster();
        cluster
            .add(dns.clone())
            .endpoints(&dns, [ep("10.244.0.16")]);
        cluster.add(sticky.clone());
        cluster.endpoints(&sticky, [ep("10.244.1.7").here(), ep("10.244.2.9")]);
        cluster.compile();
        insta::assert_snapshot!(Output::of(&cluster).to_json());
    }
}
