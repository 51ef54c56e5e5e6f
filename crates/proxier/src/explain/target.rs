//! What is asked about: a front, all fronts of an address, a port or a Service,
//! or a pod.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use kube_ipvs_core::state::{Front, Protocol, VirtualServerKey};

use super::seen::Seen;
use crate::answers::split;

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
const ALLOWED: &str = "allowed: [NAMESPACE/]NAME[:PORT], NAME.NAMESPACE.svc[.DOMAIN][:PORT], \
                       ADDRESS, ADDRESS:PORT[/PROTOCOL], nodeport:PORT[/PROTOCOL]";

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// An address and port, of one protocol or of those that are there.
    Front(SocketAddr, Option<Protocol>),
    /// All fronts at an address, or a pod's.
    Address(IpAddr),
    /// All fronts with this port at this host's own addresses.
    NodePort(u16, Option<Protocol>),
    /// A Service, or one port of it.
    Service(Wanted),
}

/// A Service as somebody named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// None is `default`, or where there is one with that name.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Name or number of a port.
    pub port: Option<String>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (place, protocol) = match text.rsplit_once('/') {
            Some((place, protocol)) => (place, Some(protocol)),
            None => (text, None),
        };
        let protocol = || {
            let parsed = protocol.map(Protocol::from_str).transpose();
            parsed.map_err(|error| error.to_string())
        };
        if let Some(address) = address(text) {
            return Ok(Self::Address(address));
        }
        if let Some((at, number)) = place.rsplit_once(':') {
            if at == "nodeport" {
                return Ok(Self::NodePort(port(number)?, protocol()?));
            }
            // Of IPv6 without brackets nobody could say where the port begins.
            if let Some(at) = address(at).filter(|_| at.starts_with('[') || !at.contains(':')) {
                return Ok(Self::Front((at, port(number)?).into(), protocol()?));
            }
        }
        Wanted::read(text).map(Self::Service).ok_or_else(|| {
            let near = near(text).map(|near| format!("perhaps {near}; "));
            near.unwrap_or_default() + ALLOWED
        })
    }
}

/// An address, that of IPv6 in brackets too. One of IPv4 within IPv6 is what it is on the wire.
fn address(text: &str) -> Option<IpAddr> {
    let within = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address: IpAddr = within.unwrap_or(text).parse().ok()?;
    Some(address.to_canonical())
}

/// A port that something can listen at.
fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("{text:?} is no port of 1 to 65535; {ALLOWED}")),
        Ok(port) => Ok(port),
    }
}

/// What somebody may have meant who wrote `web.shop`, as pods may in DNS.
fn near(text: &str) -> Option<Wanted> {
    let (object, port) = match text.split_once(':') {
        Some((object, port)) => (object, format!(":{port}")),
        None => (text, String::new()),
    };
    let (name, namespace) = object.split_once('.')?;
    Wanted::read(&format!("{namespace}/{name}{port}"))
}

impl Wanted {
    fn read(text: &str) -> Option<Self> {
        let is_label = |label: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            !label.is_empty() && label.chars().all(fits)
        };
        let (object, port) = match text.split_once(':') {
            Some((object, port)) => (object, Some(port)),
            None => (text, None),
        };
        let (namespace, name) = match object.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => by_dns(object)?,
        };
        let named = is_label(name) && namespace.is_none_or(is_label) && port.is_none_or(is_label);
        named.then(|| Self {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
            port: port.map(str::to_owned),
        })
    }

    /// Whether this is a Service that is meant, given as `namespace/name:port`.
    fn is(&self, service: &str) -> bool {
        let (namespace, name) = split(service);
        self.name == name && self.namespace.as_deref().is_none_or(|own| own == namespace)
    }
}

/// `web`, `web.shop.svc`, `web.shop.svc.cluster.local`.
fn by_dns(name: &str) -> Option<(Option<&str>, &str)> {
    let mut labels = name.splitn(4, '.');
    let name = labels.next()?;
    match (labels.next(), labels.next()) {
        (None, _) => Some((None, name)),
        (Some(namespace), Some("svc")) => Some((Some(namespace), name)),
        _ => None,
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}",
            self.namespace.as_deref().unwrap_or("default"),
            self.name
        )?;
        match &self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = |f: &mut fmt::Formatter<'_>, protocol: &Option<Protocol>| match protocol {
            Some(protocol) => write!(f, "/{protocol}"),
            None => Ok(()),
        };
        match self {
            Self::Front(socket, of) => {
                socket.fmt(f)?;
                protocol(f, of)
            }
            Self::Address(address) => address.fmt(f),
            Self::NodePort(port, of) => {
                write!(f, "nodeport:{port}")?;
                protocol(f, of)
            }
            Self::Service(wanted) => wanted.fmt(f),
        }
    }
}

impl Target {
    /// The fronts that are meant, as far as a layer knows them. Of an address
    /// and port there is always one.
    pub(super) fn fronts(&self, seen: &Seen) -> BTreeSet<Front> {
        match self {
            Self::Front(socket, protocol) => at(*socket, *protocol, seen),
            Self::Address(address) => {
                let all = seen.fronts().into_iter();
                all.filter(|front| front.address == *address).collect()
            }
            Self::NodePort(port, protocol) => {
                let all = seen.fronts().into_iter();
                let meant = |front: &Front| {
                    front.port == *port
                        && protocol.is_none_or(|protocol| protocol == front.protocol)
                        && !seen.is_vip(front.address)
                };
                all.filter(meant).collect()
            }
            Self::Service(wanted) => of_service(wanted, seen),
        }
    }
}

fn at(socket: SocketAddr, protocol: Option<Protocol>, seen: &Seen) -> BTreeSet<Front> {
    let front = |protocol| Front {
        address: socket.ip(),
        port: socket.port(),
        protocol,
    };
    if let Some(protocol) = protocol {
        return [front(protocol)].into();
    }
    let there = PROTOCOLS.map(front).into_iter();
    let there: BTreeSet<Front> = there.filter(|front| seen.holds(front)).collect();
    if there.is_empty() {
        return [front(Protocol::Tcp)].into();
    }
    there
}

/// Those of the virtual servers recorded for a Service, by mark too. Where no
/// namespace was named, `default` goes before the others.
fn of_service(wanted: &Wanted, seen: &Seen) -> BTreeSet<Front> {
    let recorded = seen.recorded.iter();
    let meant: Vec<_> = recorded.filter(|(_, service)| wanted.is(service)).collect();
    let first = |(_, service): &&(&VirtualServerKey, &String)| split(service).0 == "default";
    let in_default = wanted.namespace.is_none() && meant.iter().any(|each| first(&each));
    let keys = meant.iter().filter(|each| !in_default || first(each));
    let mut fronts = BTreeSet::new();
    for (key, service) in keys {
        match key {
            VirtualServerKey::Front(front) => _ = fronts.insert((*front, *service)),
            VirtualServerKey::Mark { .. } => {
                fronts.extend(seen.led_to(key).map(|front| (front, *service)));
            }
        }
    }
    only_port(wanted.port.as_deref(), fronts)
}

/// Those of one port, by its name or by the number that one of its fronts has.
fn only_port(port: Option<&str>, fronts: BTreeSet<(Front, &String)>) -> BTreeSet<Front> {
    let name = |service: &str| service.split_once(':').map(|(_, port)| port.to_owned());
    let Some(port) = port else {
        return fronts.into_iter().map(|(front, _)| front).collect();
    };
    let number: Option<u16> = port.parse().ok();
    let named = |(front, service): &&(Front, &String)| {
        name(service).as_deref() == Some(port) || number == Some(front.port)
    };
    let services: BTreeSet<&String> = fronts.iter().filter(named).map(|(_, of)| *of).collect();
    let meant = fronts
        .iter()
        .filter(|(_, service)| services.contains(service));
    meant.map(|(front, _)| *front).collect()
}
