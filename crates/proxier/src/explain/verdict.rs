//! The way of a packet through the layers, as they stand.
//!
//! In the order of the table: fronts without endpoints, source ranges, traffic
//! from outside, the guard of the VIPs; then IPVS, by mark or by address.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use kube_ipvs_core::drain::Key;
use kube_ipvs_core::escape::Escaped;
use kube_ipvs_core::row::{Masquerade, Row, Verdict};
use kube_ipvs_core::state::{Front, KernelState, VirtualServer, VirtualServerKey};
use serde::Serialize;

use crate::dataplane::Connections;

/// What the layers hold.
#[derive(Debug, Default)]
pub struct Seen {
    /// IPVS, VIPs that are addresses, rows.
    pub state: KernelState,
    /// Those that are not zero.
    pub connections: BTreeMap<Key, Connections>,
    /// VIPs that are routes.
    pub routed: BTreeSet<IpAddr>,
    /// Addresses of this host without those on our link.
    pub host: BTreeSet<IpAddr>,
    /// The ownership record, with the Services' names.
    pub recorded: BTreeMap<VirtualServerKey, String>,
}

/// Who answers at a front, and why.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What was asked about.
    pub front: VirtualServerKey,
    /// `namespace/name:port`, as recorded.
    pub service: Option<String>,
    /// What happens to a connection from another machine.
    pub outside: String,
    /// What happens to one from this host or a local pod.
    pub inside: String,
    /// What the address is here.
    pub address: &'static str,
    /// By address, and by the marks of its traffic.
    pub virtual_servers: Vec<Server>,
    /// Whether ports of the address that no row opens are refused.
    pub guarded: bool,
    /// What our table says of the front.
    pub row: Option<Said>,
}

/// A row, as in `compile -o json`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    /// `serve`, `drop-outside`, `refuse`; `closed` for a moment.
    pub verdict: Verdict,
    /// `never`, `off-cluster`, `always`.
    pub masquerade: Masquerade,
    /// Networks that it is open to; null is everybody, none of them nobody.
    pub sources: Option<Vec<IpNet>>,
    /// Firewall mark of traffic from inside.
    pub inside_mark: Option<u32>,
    /// Firewall mark of all traffic.
    pub mark: Option<u32>,
}

impl From<&Row> for Said {
    fn from(row: &Row) -> Self {
        Self {
            verdict: row.verdict,
            masquerade: row.masquerade,
            sources: row.sources.as_ref().map(|nets| nets.to_vec()),
            inside_mark: row.inside,
            mark: row.mark,
        }
    }
}

impl From<&Said> for Row {
    fn from(said: &Said) -> Self {
        Self {
            verdict: said.verdict,
            masquerade: said.masquerade,
            sources: said.sources.as_deref().map(Into::into),
            inside: said.inside_mark,
            mark: said.mark,
        }
    }
}

/// A virtual server as IPVS has it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Server {
    /// Address or mark.
    pub key: VirtualServerKey,
    /// It stands in our record.
    pub ours: bool,
    /// Name of the scheduler.
    pub scheduler: String,
    /// In the order of address and port.
    pub real_servers: Vec<Real>,
}

/// A real server.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Real {
    /// Address and port.
    pub at: String,
    /// 0 gets no new connections; null is one that does not masquerade, and not ours.
    pub weight: Option<u32>,
    /// Connections that carry data.
    pub active: u32,
    /// Connections that have ended, or are about to.
    pub inactive: u32,
}

/// Follows a packet to this front.
pub fn explain(front: &Front, seen: &Seen) -> Explanation {
    let by_address = VirtualServerKey::Front(*front);
    let row = seen.state.row(front);
    let inside = row.and_then(|row| row.inside_server(front));
    let everybody = row.and_then(|row| row.marked_server(front));
    let keys = [Some(by_address), everybody, inside];
    let outside = everybody.unwrap_or(by_address);
    let service = keys.iter().flatten().find_map(|key| seen.recorded.get(key));
    let servers = keys.iter().flatten();
    Explanation {
        front: by_address,
        service: service.filter(|name| !name.is_empty()).cloned(),
        outside: seen.way(front, outside, true),
        inside: seen.way(front, inside.unwrap_or(outside), false),
        address: seen.place(front.address),
        virtual_servers: servers.filter_map(|key| seen.server(key)).collect(),
        guarded: seen.state.table.guarded.contains(&front.address),
        row: row.map(Said::from),
    }
}

impl Seen {
    /// Whether any layer knows the front.
    pub(super) fn holds(&self, front: &Front) -> bool {
        let key = VirtualServerKey::Front(*front);
        self.state.virtual_servers.contains_key(&key) || self.state.row(front).is_some()
    }

    /// The fronts whose traffic is led to a virtual server by a mark.
    pub(super) fn led_to(&self, key: &VirtualServerKey) -> impl Iterator<Item = Front> {
        let rows = self.state.table.rows.iter();
        let led = rows.filter(|(front, row)| row.by_marks(front).any(|of| of == *key));
        led.map(|(front, _)| *front)
    }

    /// What becomes of a connection, in the order of the table's rules.
    fn way(&self, front: &Front, key: VirtualServerKey, outside: bool) -> String {
        let vip = self.is_vip(front.address);
        if !vip && !self.host.contains(&front.address) {
            return "not taken by this node: the address is not here".to_owned();
        }
        let verdict = self.state.row(front).map(|row| row.verdict);
        let verdict = verdict.unwrap_or_default();
        if verdict == Verdict::Refuse {
            return "refused: the Service has no endpoints".to_owned();
        }
        if outside && verdict == Verdict::DropOutside {
            return "dropped: externalTrafficPolicy is Local, and no endpoint is on this node"
                .to_owned();
        }
        let guarded = self.state.table.guarded.contains(&front.address);
        if guarded && !verdict.is_open() {
            return "refused: the address is a VIP, and no Service has this port".to_owned();
        }
        let Some(server) = self.state.virtual_servers.get(&key) else {
            return "no virtual server: left to the host's own programs".to_owned();
        };
        self.answered(front, &key, server)
    }

    fn answered(&self, front: &Front, key: &VirtualServerKey, server: &VirtualServer) -> String {
        let all = server.real_servers.len();
        let open = server
            .real_servers
            .values()
            .filter(|x| x.weight > 0)
            .count();
        if open == 0 {
            return format!("refused by IPVS: {key} has no real server that takes connections");
        }
        let drains = match all - open {
            0 => String::new(),
            n => format!(", {n} more at weight 0"),
        };
        let by = match key {
            VirtualServerKey::Front(_) => String::new(),
            VirtualServerKey::Mark { .. } => format!(" of {key}"),
        };
        let masquerade = self.state.row(front).map(|row| row.masquerade);
        let source = match (masquerade.unwrap_or_default(), key) {
            (Masquerade::Always, _) => ", with this node as source",
            (Masquerade::OffCluster, VirtualServerKey::Front(_)) => {
                ", with this node as source unless a local pod asks"
            }
            _ => "",
        };
        let noun = if open == 1 {
            "real server"
        } else {
            "real servers"
        };
        format!("answered by {open} {noun}{by}{drains}{source}")
    }

    fn is_vip(&self, address: IpAddr) -> bool {
        self.state.vips.contains(&address) || self.routed.contains(&address)
    }

    fn place(&self, address: IpAddr) -> &'static str {
        match (
            self.state.vips.contains(&address),
            self.routed.contains(&address),
            self.host.contains(&address),
        ) {
            (true, ..) => "VIP, bound as an address",
            (_, true, _) => "VIP, bound by a route",
            (_, _, true) => "this host's own",
            _ => "not here",
        }
    }

    fn server(&self, key: &VirtualServerKey) -> Option<Server> {
        let server = self.state.virtual_servers.get(key)?;
        let reals = server.real_servers.iter().map(|(real, state)| {
            let counts = self.connections.get(&(*key, *real));
            let counts = counts.copied().unwrap_or_default();
            Real {
                at: real.to_string(),
                weight: (state.weight != u32::MAX).then_some(state.weight),
                active: counts.active,
                inactive: counts.inactive,
            }
        });
        Some(Server {
            key: *key,
            ours: self.recorded.contains_key(key),
            scheduler: server.scheduler.clone(),
            real_servers: reals.collect(),
        })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = self.service.as_deref().unwrap_or("of no Service on record");
        writeln!(f, "{}  {}", self.front, Escaped(service))?;
        writeln!(f, "  from outside  {}", self.outside)?;
        writeln!(f, "  from inside   {}", self.inside)?;
        if let Some(sources) = self.row.as_ref().and_then(|row| row.sources.as_ref()) {
            writeln!(f, "  open to       {}", names(sources))?;
        }
        writeln!(f, "  address       {}", self.address)?;
        let guarded = if self.guarded { ", guarded" } else { "" };
        match &self.row {
            Some(said) => {
                let row = Row {
                    sources: None,
                    ..said.into()
                };
                writeln!(f, "  row           {row}{guarded}")?;
            }
            None => writeln!(f, "  row           none{guarded}")?,
        }
        for server in &self.virtual_servers {
            let Server { key, scheduler, .. } = server;
            let owner = if server.ours { "ours" } else { "not ours" };
            let scheduler = Escaped(scheduler);
            writeln!(f, "  IPVS          {key} {scheduler}, {owner}")?;
            for real in &server.real_servers {
                writeln!(f, "                  -> {real}")?;
            }
        }
        Ok(())
    }
}

fn names(sources: &[IpNet]) -> String {
    if sources.is_empty() {
        return "nobody".to_owned();
    }
    let names: Vec<_> = sources.iter().map(IpNet::to_string).collect();
    names.join(", ")
}

impl fmt::Display for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            at,
            active,
            inactive,
            ..
        } = self;
        match self.weight {
            Some(weight) => write!(f, "{at} weight {weight}")?,
            None => write!(f, "{at} not masqueraded")?,
        }
        write!(f, ", {active} active, {inactive} inactive")
    }
}

#[cfg(test)]
mod tests {
    use kube_ipvs_core::state::RealServer;

    use super::*;

    const WEB: &str = "203.0.113.5:80/TCP";

    fn front() -> Front {
        WEB.parse().expect("a front")
    }

    fn server(reals: &[(&str, u32)]) -> VirtualServer {
        let real = |(at, weight): &(&str, u32)| {
            let state = RealServer {
                weight: *weight,
                upper_threshold: 0,
                lower_threshold: 0,
            };
            (at.parse().expect("a real server"), state)
        };
        VirtualServer {
            scheduler: "rr".into(),
            flags: Default::default(),
            persistence: None,
            real_servers: reals.iter().map(real).collect(),
        }
    }

    /// A load balancer's address with two endpoints, one of them leaving.
    fn seen(row: Row) -> Seen {
        let mut seen = Seen::default();
        let key = VirtualServerKey::Front(front());
        let web = server(&[("10.244.1.2:8080", 1), ("10.244.1.3:8080", 0)]);
        seen.state.virtual_servers.insert(key, web.into());
        seen.state.vips.insert(front().address);
        seen.state.table.guarded.insert(front().address);
        let row = row.said().map(|row| (front(), row));
        seen.state.table.rows.extend(row);
        seen.recorded.insert(key, "default/web:http".into());
        seen
    }

    fn ways(seen: &Seen) -> [String; 2] {
        let Explanation {
            outside, inside, ..
        } = explain(&front(), seen);
        [outside, inside]
    }

    #[test]
    fn a_front_is_told_with_all_its_layers() {
        let net = "192.0.2.0/24".parse().expect("a network");
        let mut seen = seen(Row {
            masquerade: Masquerade::Always,
            sources: Some([net].into()),
            ..Row::of(Verdict::Serve)
        });
        let leaving = (
            VirtualServerKey::Front(front()),
            "10.244.1.3:8080".parse().expect("a real server"),
        );
        let counts = Connections {
            active: 3,
            inactive: 1,
        };
        seen.connections.insert(leaving, counts);

        let text = explain(&front(), &seen).to_string();

        assert_eq!(
            text,
            "203.0.113.5:80/TCP  default/web:http
  from outside  answered by 1 real server, 1 more at weight 0, with this node as source
  from inside   answered by 1 real server, 1 more at weight 0, with this node as source
  open to       192.0.2.0/24
  address       VIP, bound as an address
  row           serve masquerade always, guarded
  IPVS          203.0.113.5:80/TCP rr, ours
                  -> 10.244.1.2:8080 weight 1, 0 active, 0 inactive
                  -> 10.244.1.3:8080 weight 0, 3 active, 1 inactive
"
        );
    }

    #[test]
    fn outside_and_inside_of_a_local_service_differ() {
        let mut seen = seen(Row {
            inside: Some(291),
            ..Row::of(Verdict::DropOutside)
        });
        let mark = VirtualServerKey::Mark {
            mark: 291,
            family: kube_ipvs_core::state::Family::V4,
        };
        let by_mark = server(&[("10.244.1.2:8080", 1), ("10.244.2.9:8080", 1)]);
        seen.state.virtual_servers.insert(mark, by_mark.into());

        assert_eq!(
            ways(&seen),
            [
                "dropped: externalTrafficPolicy is Local, and no endpoint is on this node",
                "answered by 2 real servers of FWM 291"
            ]
        );
    }

    #[test]
    fn a_node_port_by_mark_is_answered_by_its_marks_virtual_server() {
        let mut seen = seen(Row {
            masquerade: Masquerade::Always,
            mark: Some(0x456),
            ..Row::of(Verdict::Serve)
        });
        seen.state.vips.clear();
        seen.state.table.guarded.clear();
        seen.host = [front().address].into();
        let mark = VirtualServerKey::Mark {
            mark: 0x456,
            family: kube_ipvs_core::state::Family::V4,
        };
        let by_mark = server(&[("10.244.2.9:8080", 1)]);
        seen.state.virtual_servers.insert(mark, by_mark.into());

        assert_eq!(
            ways(&seen),
            ["answered by 1 real server of FWM 1110, with this node as source"; 2]
        );
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let refused = seen(Row::of(Verdict::Refuse));
        assert_eq!(ways(&refused), ["refused: the Service has no endpoints"; 2]);
        let guarded = seen(Row::default());
        assert_eq!(
            ways(&guarded),
            ["refused: the address is a VIP, and no Service has this port"; 2]
        );
        let mut empty = seen(Row::of(Verdict::Serve));
        let key = VirtualServerKey::Front(front());
        empty.state.virtual_servers.insert(key, server(&[]).into());
        assert_eq!(
            ways(&empty),
            ["refused by IPVS: 203.0.113.5:80/TCP has no real server that takes connections"; 2]
        );
    }

    #[test]
    fn what_is_not_a_service_is_left_to_others() {
        assert_eq!(
            ways(&Seen::default()),
            ["not taken by this node: the address is not here"; 2]
        );
        let host = Seen {
            host: [front().address].into(),
            ..Seen::default()
        };
        assert_eq!(
            ways(&host),
            ["no virtual server: left to the host's own programs"; 2]
        );
    }
}
