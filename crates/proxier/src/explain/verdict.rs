//! A front with its verdicts, and below them what each layer holds for it.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use kube_ipvs_core::escape::Escaped;
use kube_ipvs_core::row::{Masquerade, Row, Verdict};
use kube_ipvs_core::state::{Front, VirtualServerKey};
use serde::Serialize;

use super::account::Known;
use super::judge::Question;
use super::reason::{Asker, Said, key, names, plural};
use super::seen::Seen;

/// Who answers at a front, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Explanation {
    /// What was asked about.
    pub front: VirtualServerKey,
    /// Other addresses of this host at which everything is the same.
    pub also_at: Vec<IpAddr>,
    /// `namespace/name:port`, as recorded.
    pub service: Option<String>,
    /// What happens to a connection from another machine.
    pub outside: Said,
    /// To one from a pod of this node.
    pub pods: Said,
    /// To one from a program of this host.
    pub host: Said,
    /// What to do, for each thing that is wrong.
    pub remedies: Vec<String>,
    /// What the address is here.
    pub address: &'static str,
    /// By address, and by the marks of its traffic.
    pub virtual_servers: Vec<Server>,
    /// Whether ports of the address that no row opens are refused.
    pub guarded: bool,
    /// What our table says of the front.
    pub row: Option<Told>,
}

/// A row, as in `compile -o json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
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

impl From<&Row> for Told {
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

impl From<&Told> for Row {
    fn from(told: &Told) -> Self {
        Self {
            verdict: told.verdict,
            masquerade: told.masquerade,
            sources: told.sources.as_deref().map(Into::into),
            inside: told.inside_mark,
            mark: told.mark,
        }
    }
}

/// A virtual server as IPVS has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Server {
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Real {
    /// Address and port.
    pub at: String,
    /// 0 gets no new connections; null is one that does not masquerade, and not ours.
    pub weight: Option<u32>,
    /// Connections that carry data.
    pub active: u32,
    /// Connections that have ended, or are about to.
    pub inactive: u32,
}

/// Follows a packet to this front, of this client if one is named, with what is
/// known of it besides.
pub(crate) fn explain(
    front: &Front,
    client: Option<IpAddr>,
    known: &Known,
    seen: &Seen,
) -> Explanation {
    let by_address = key(front);
    let row = seen.state.row(front);
    let inside = row.and_then(|row| row.inside_server(front));
    let everybody = row.and_then(|row| row.marked_server(front));
    let keys = [Some(by_address), everybody, inside];
    let said = Asker::ALL.map(|asker| {
        let question = Question {
            front,
            asker,
            client,
            seen,
            known,
        };
        question.judge()
    });
    let mut remedies: Vec<String> = Vec::new();
    for remedy in said.iter().filter_map(|said| said.reason.remedy(seen.runs)) {
        if !remedies.contains(&remedy) {
            remedies.push(remedy);
        }
    }
    let [outside, pods, host] = said;
    Explanation {
        front: by_address,
        also_at: Vec::new(),
        service: known
            .service
            .as_ref()
            .or_else(|| seen.service_of(front))
            .cloned(),
        outside,
        pods,
        host,
        remedies,
        address: place(seen, front.address),
        virtual_servers: keys
            .iter()
            .flatten()
            .filter_map(|key| server(seen, key))
            .collect(),
        guarded: seen.state.table.guarded.contains(&front.address),
        row: row.map(Told::from),
    }
}

/// Makes one of those that differ in nothing but which of this host's addresses
/// they are at: a NodePort is at all of them.
pub(super) fn joined(all: Vec<Explanation>) -> Vec<Explanation> {
    let mut joined: Vec<Explanation> = Vec::new();
    for each in all {
        let twin = joined.iter_mut().find(|first| is_twin(first, &each));
        match (twin, each.front) {
            (Some(first), VirtualServerKey::Front(front)) => first.also_at.push(front.address),
            _ => joined.push(each),
        }
    }
    joined
}

/// Both by mark, so that no layer names the address.
fn is_twin(first: &Explanation, other: &Explanation) -> bool {
    let (VirtualServerKey::Front(a), VirtualServerKey::Front(b)) = (first.front, other.front)
    else {
        return false;
    };
    let same = Explanation {
        front: first.front,
        also_at: first.also_at.clone(),
        ..other.clone()
    };
    let host = first.address == HOST && a.address.is_ipv4() == b.address.is_ipv4();
    host && (a.port, a.protocol) == (b.port, b.protocol) && *first == same
}

const HOST: &str = "this host's own";

fn place(seen: &Seen, address: IpAddr) -> &'static str {
    match (
        seen.state.vips.contains(&address),
        seen.routed.contains(&address),
        seen.host.contains(&address),
    ) {
        (true, ..) => "VIP, bound as an address",
        (_, true, _) => "VIP, bound by a route",
        (_, _, true) => HOST,
        _ if address.is_loopback() => "loopback",
        _ => "not here",
    }
}

fn server(seen: &Seen, key: &VirtualServerKey) -> Option<Server> {
    let server = seen.state.virtual_servers.get(key)?;
    let reals = server.real_servers.iter().map(|(real, state)| {
        let counts = seen.connections.get(&(*key, *real));
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
        ours: seen.recorded.contains_key(key),
        scheduler: server.scheduler.to_string(),
        real_servers: reals.collect(),
    })
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = self.service.as_deref().unwrap_or("of no Service on record");
        write!(f, "{}", self.front)?;
        match self.also_at.len() {
            0 => {}
            n => write!(f, " and at {n} more {} of this host", addresses(n))?,
        }
        writeln!(f, "  {}", Escaped(service))?;
        let Self {
            outside,
            pods,
            host,
            ..
        } = self;
        writeln!(f, "  from outside  {}", Escaped(&outside.to_string()))?;
        writeln!(f, "  from pods     {}", Escaped(&pods.to_string()))?;
        writeln!(f, "  from host     {}", Escaped(&host.to_string()))?;
        for remedy in &self.remedies {
            writeln!(f, "  to do         {remedy}")?;
        }
        if let Some(sources) = self.row.as_ref().and_then(|row| row.sources.as_ref()) {
            writeln!(f, "  open to       {}", names(sources))?;
        }
        writeln!(f, "  address       {}", self.address)?;
        self.layers(f)
    }
}

impl Explanation {
    /// Whether traffic from inside goes another way.
    pub(super) fn has_inside(&self) -> bool {
        self.row
            .as_ref()
            .is_some_and(|row| row.inside_mark.is_some())
    }

    fn layers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let guarded = if self.guarded { ", guarded" } else { "" };
        match &self.row {
            Some(told) => {
                let row = Row {
                    sources: None,
                    ..told.into()
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

fn addresses(n: usize) -> &'static str {
    if n == 1 { "address" } else { "addresses" }
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

/// An address that is an endpoint: which Services lead to it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Endpoint {
    /// The pod's address.
    pub endpoint: IpAddr,
    /// The port that was asked about, where none of them leads to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_at: Option<u16>,
    /// Virtual servers with a real server there.
    pub behind: Vec<Behind>,
}

/// A virtual server with a real server at an address.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Behind {
    /// Address or mark.
    pub key: VirtualServerKey,
    /// `namespace/name:port`, as recorded.
    pub service: Option<String>,
    /// Weight 0: it keeps the connections that it has and gets no new ones.
    pub drains: bool,
    /// There.
    pub real: Real,
}

/// Which Services lead to an address, and to its port where they do; none when no virtual
/// server leads to the address.
pub(super) fn endpoint(address: IpAddr, port: Option<u16>, seen: &Seen) -> Option<Endpoint> {
    let servers = || seen.state.virtual_servers.values();
    let mut reals = servers().flat_map(|server| server.real_servers.keys());
    let at = port.filter(|port| reals.any(|real| (real.address, real.port) == (address, *port)));
    let mut behind = Vec::new();
    for (key, server_at) in &seen.state.virtual_servers {
        let here = server_at
            .real_servers
            .keys()
            .filter(|real| real.address == address && at.is_none_or(|port| port == real.port));
        for here in here.map(ToString::to_string) {
            let reals = server(seen, key)
                .into_iter()
                .flat_map(|server| server.real_servers);
            behind.extend(reals.filter(|real| real.at == here).map(|real| Behind {
                key: *key,
                service: seen.recorded.get(key).cloned(),
                drains: real.weight == Some(0),
                real,
            }));
        }
    }
    (!behind.is_empty()).then_some(Endpoint {
        endpoint: address,
        not_at: port.filter(|_| at.is_none()),
        behind,
    })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.behind.len();
        write!(
            f,
            "{}  endpoint behind {n} {}",
            self.endpoint,
            plural(n, "virtual server")
        )?;
        match self.not_at {
            Some(port) => writeln!(f, ", none of which leads to port {port}")?,
            None => writeln!(f)?,
        }
        for Behind {
            key,
            service,
            drains,
            real,
        } in &self.behind
        {
            let service = Escaped(service.as_deref().unwrap_or("of no Service on record"));
            let drains = if *drains { ": drains" } else { "" };
            writeln!(f, "  {key}  {service}  -> {real}{drains}")?;
        }
        Ok(())
    }
}
