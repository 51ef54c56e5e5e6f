//! Single lines of ipvsadm's listings.

use ipvs_netlink::{
    Daemon, DaemonState, Destination, Family, ForwardingMethod, Info, Protocol, Service,
    ServiceFlags, ServiceId, Timeouts, TunnelFlags, TunnelKind,
};

use super::form::{Form, ListOptions};
use super::names::{Names, cut};
use super::numbers::large;

/// `IP Virtual Server version 1.2.1 (size=4096)`.
pub(super) fn heading(info: &Info) -> String {
    format!(
        "IP Virtual Server version {} (size={})\n",
        info.version, info.conn_tab_size
    )
}

/// The two lines above a listing.
pub(super) fn title(form: Form) -> String {
    let front = "Prot LocalAddress:Port";
    let back = "  -> RemoteAddress:Port";
    let counts = |words: [&str; 5]| {
        let [a, b, c, d, e] = words;
        format!("{front:<33} {a:>8} {b:>8} {c:>8} {d:>8} {e:>8}\n{back}\n")
    };
    match form {
        Form::Rules => String::new(),
        Form::Stats => counts(["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"]),
        Form::Rate => counts(["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"]),
        Form::Thresholds => format!(
            "{front:<33} {:<10} {:<10} {:<10} {:<10}\n{back}\n",
            "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"
        ),
        Form::Persistent => format!(
            "{front:<33} {:<9} {:<11} {:<10} {:<10}\n{back}\n",
            "Weight", "PersistConn", "ActiveConn", "InActConn"
        ),
        Form::Tunnels => format!(
            "{front} Scheduler Flags\n{back}           Forward TunnelInfo    Weight ActiveConn InActConn\n"
        ),
        Form::Default => format!(
            "{front} Scheduler Flags\n{back}           Forward Weight ActiveConn InActConn\n"
        ),
    }
}

/// A service's line.
pub(super) fn service(service: &Service, options: &ListOptions, names: &Names) -> String {
    let stats = &service.stats;
    let counts = |n: [u64; 5]| n.map(|n| large(n, options.exact)).concat();
    match options.form {
        Form::Rules => rule(service, names),
        Form::Stats => format!(
            "{:<33}{}\n",
            name(&service.id, names),
            counts([
                stats.connections,
                stats.in_packets,
                stats.out_packets,
                stats.in_bytes,
                stats.out_bytes
            ])
        ),
        Form::Rate => format!(
            "{:<33}{}\n",
            name(&service.id, names),
            counts([
                stats.connection_rate,
                stats.in_packet_rate,
                stats.out_packet_rate,
                stats.in_byte_rate,
                stats.out_byte_rate
            ])
        ),
        _ => listed(service, names),
    }
}

fn listed(service: &Service, names: &Names) -> String {
    let mut line = format!(
        "{} {}",
        name(&service.id, names),
        service.scheduler.as_str()
    );
    if let Some(flags) = scheduler_flags(service) {
        line += &format!(" ({flags})");
    }
    if service.flags.contains(ServiceFlags::PERSISTENT) {
        line += &format!(" persistent {}", service.timeout);
        if !service.netmask.is_host() {
            line += &format!(" mask {}", service.netmask);
        }
        if let Some(pe) = &service.pe_name {
            line += &format!(" pe {pe}");
        }
    }
    if service.flags.contains(ServiceFlags::ONE_PACKET) {
        line += " ops";
    }
    line + "\n"
}

fn rule(service: &Service, names: &Names) -> String {
    let mut line = format!(
        "-A {} -s {}",
        rule_name(&service.id, names),
        service.scheduler.as_str()
    );
    if service.flags.contains(ServiceFlags::PERSISTENT) {
        line += &format!(" -p {}", service.timeout);
        if !service.netmask.is_host() {
            line += &format!(" -M {}", service.netmask);
        }
    }
    if let Some(pe) = &service.pe_name {
        line += &format!(" --pe {pe}");
    }
    if service.flags.contains(ServiceFlags::ONE_PACKET) {
        line += " -o";
    }
    if let Some(flags) = scheduler_flags(service) {
        line += &format!(" -b {flags}");
    }
    line + "\n"
}

/// Names of the scheduler's flags; none when it has none. The third flag of `sh`
/// and `mh` has no name: ipvsadm says that there are flags, and not which.
fn scheduler_flags(service: &Service) -> Option<String> {
    if !service.flags.intersects(ServiceFlags::SCHEDULER) {
        return None;
    }
    let named = if ["sh", "mh"].contains(&service.scheduler.as_str()) {
        service.flags - ServiceFlags::SCHED3
    } else {
        service.flags
    };
    Some(named.scheduler_flag_names(&service.scheduler).join(","))
}

/// A destination's line.
pub(super) fn destination(
    service: &Service,
    to: &Destination,
    options: &ListOptions,
    names: &Names,
) -> String {
    let mut at = back(service, to, names);
    if to.id.address.is_ipv4() {
        cut(&mut at, 28);
    }
    let (active, inactive) = (to.active_connections, to.inactive_connections);
    // ipvsadm prints it as an int.
    let weight = to.weight.cast_signed();
    let forward = to.forwarding.to_string();
    let stats = &to.stats;
    let count = |n| large(n, options.exact);
    match options.form {
        Form::Rules => rule_of_destination(service, to, names),
        Form::Stats => format!(
            "  -> {at:<28}{}{}{}{}{}\n",
            count(stats.connections),
            count(stats.in_packets),
            count(stats.out_packets),
            count(stats.in_bytes),
            count(stats.out_bytes)
        ),
        Form::Rate => format!(
            "  -> {at:<28} {:>8} {:>8} {:>8}{}{}\n",
            stats.connection_rate,
            stats.in_packet_rate,
            stats.out_packet_rate,
            count(stats.in_byte_rate),
            count(stats.out_byte_rate)
        ),
        Form::Thresholds => format!(
            "  -> {at:<28} {:<10} {:<10} {active:<10} {inactive:<10}\n",
            to.upper_threshold, to.lower_threshold
        ),
        Form::Persistent => format!(
            "  -> {at:<28} {:<9} {:<11} {active:<10} {inactive:<10}\n",
            to.weight, to.persistent_connections
        ),
        Form::Tunnels => format!(
            "  -> {at:<28} {forward:<7} {:<13} {weight:<6} {active:<10} {inactive:<10}\n",
            tunnel(to)
        ),
        Form::Default => {
            format!("  -> {at:<28} {forward:<7} {weight:<6} {active:<10} {inactive:<10}\n")
        }
    }
}

fn rule_of_destination(service: &Service, to: &Destination, names: &Names) -> String {
    let switch = match to.forwarding {
        ForwardingMethod::Masquerade => "-m",
        ForwardingMethod::Tunnel => "-i",
        _ => "-g",
    };
    let mut line = format!(
        "-a {} -r {} {switch} -w {}",
        rule_name(&service.id, names),
        back(service, to, names),
        to.weight.cast_signed()
    );
    if to.forwarding == ForwardingMethod::Tunnel {
        line += &tunnel_rule(to);
    }
    line + "\n"
}

fn tunnel_rule(to: &Destination) -> String {
    let checksum = match to.tunnel.flags {
        flags if flags.contains(TunnelFlags::REMOTE_CHECKSUM) => " --tun-remcsum",
        flags if flags.contains(TunnelFlags::CHECKSUM) => " --tun-csum",
        _ => " --tun-nocsum",
    };
    match to.tunnel.kind {
        TunnelKind::Ipip => " --tun-type ipip".to_owned(),
        TunnelKind::Gue => format!(" --tun-type gue --tun-port {}{checksum}", to.tunnel.port),
        TunnelKind::Gre => format!(" --tun-type gre{checksum}"),
        TunnelKind::Other(_) => String::new(),
    }
}

/// `ipip`, `gue:6080:+c`, `gre:-c`, `n/a`.
pub(super) fn tunnel(to: &Destination) -> String {
    if to.forwarding != ForwardingMethod::Tunnel {
        return "n/a".to_owned();
    }
    let checksum = match to.tunnel.flags {
        flags if flags.contains(TunnelFlags::REMOTE_CHECKSUM) => "r+c",
        flags if flags.contains(TunnelFlags::CHECKSUM) => "+c",
        _ => "-c",
    };
    match to.tunnel.kind {
        TunnelKind::Ipip => "ipip".to_owned(),
        TunnelKind::Gue => format!("gue:{}:{checksum}", to.tunnel.port),
        TunnelKind::Gre => format!("gre:{checksum}"),
        TunnelKind::Other(_) => "n/a".to_owned(),
    }
}

/// `TCP  10.96.0.1:443`, `FWM  7 IPv6`.
fn name(id: &ServiceId, names: &Names) -> String {
    match id {
        ServiceId::Fwmark {
            mark,
            family: Family::V4,
        } => format!("FWM  {}", mark.cast_signed()),
        ServiceId::Fwmark {
            mark,
            family: Family::V6,
        } => {
            format!("FWM  {} IPv6", mark.cast_signed())
        }
        ServiceId::Address {
            address,
            port,
            protocol,
        } => {
            let at = names.socket(*address, *port, Some(*protocol));
            let mut name = format!("{:<4} {at}", protocol_name(*protocol));
            if address.is_ipv4() {
                cut(&mut name, 33);
            }
            name
        }
    }
}

/// `-t 10.96.0.1:443`, `-f 7 -6`.
fn rule_name(id: &ServiceId, names: &Names) -> String {
    match id {
        ServiceId::Fwmark {
            mark,
            family: Family::V4,
        } => format!("-f {}", mark.cast_signed()),
        ServiceId::Fwmark {
            mark,
            family: Family::V6,
        } => format!("-f {} -6", mark.cast_signed()),
        ServiceId::Address {
            address,
            port,
            protocol,
        } => {
            let switch = match protocol {
                Protocol::Udp => "-u",
                Protocol::Sctp => "--sctp-service",
                _ => "-t",
            };
            let at = names.socket(*address, *port, Some(*protocol));
            format!("{switch} {at}")
        }
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
        _ => "TCP",
    }
}

fn back(service: &Service, to: &Destination, names: &Names) -> String {
    let protocol = match service.id {
        ServiceId::Address { protocol, .. } => Some(protocol),
        ServiceId::Fwmark { .. } => None,
    };
    names.socket(to.id.address, to.id.port, protocol)
}

/// `Timeout (tcp tcpfin udp): 900 120 300`.
pub(super) fn timeouts(timeouts: &Timeouts) -> String {
    let Timeouts { tcp, tcp_fin, udp } = timeouts;
    format!("Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}\n")
}

/// `master sync daemon (mcast=eth0, syncid=1)`.
pub(super) fn daemon(daemon: &Daemon) -> String {
    let role = if daemon.state == DaemonState::Master {
        "master"
    } else {
        "backup"
    };
    let mut line = format!(
        "{role} sync daemon (mcast={}, syncid={}",
        daemon.interface, daemon.sync_id
    );
    if daemon.sync_maxlen != 0 {
        line += &format!(", maxlen={}", daemon.sync_maxlen);
    }
    if let Some(group) = daemon.group {
        line += &format!(", group={group}");
    }
    if daemon.port != 0 {
        line += &format!(", port={}", daemon.port);
    }
    if daemon.ttl != 0 {
        line += &format!(", ttl={}", daemon.ttl);
    }
    line + ")\n"
}
