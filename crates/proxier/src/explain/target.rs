//! What is asked about: a front, or all fronts of a Service.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use kube_ipvs_core::state::{Front, Protocol, VirtualServerKey};

use super::verdict::Seen;

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

/// A front or a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An address and port, of one protocol or of those that are there.
    Front(SocketAddr, Option<Protocol>),
    /// `namespace/name`, or `namespace/name:port`.
    Service(String),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (socket, protocol) = match text.rsplit_once('/') {
            Some((socket, protocol)) => (socket, Some(protocol)),
            None => (text, None),
        };
        if let Ok(socket) = socket.parse() {
            let protocol = protocol.map(Protocol::from_str).transpose();
            return protocol
                .map(|protocol| Self::Front(socket, protocol))
                .map_err(|error| error.to_string());
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || "-./:".contains(c);
        let name = text.split(':').next().unwrap_or_default();
        let is_address = text.parse::<std::net::IpAddr>().is_ok();
        if is_address || name.is_empty() || !text.chars().all(fits) || name.matches('/').count() > 1
        {
            return Err("allowed: ADDRESS:PORT[/PROTOCOL], [NAMESPACE/]NAME[:PORT]".to_owned());
        }
        Ok(Self::Service(match name.contains('/') {
            true => text.to_owned(),
            false => format!("default/{text}"),
        }))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Front(socket, Some(protocol)) => write!(f, "{socket}/{protocol}"),
            Self::Front(socket, None) => socket.fmt(f),
            Self::Service(name) => f.write_str(name),
        }
    }
}

impl Target {
    /// The fronts that are meant. Of an address and port there is always one.
    pub(super) fn fronts(&self, seen: &Seen) -> BTreeSet<Front> {
        match self {
            Self::Front(socket, protocol) => {
                let front = |protocol| Front {
                    address: socket.ip(),
                    port: socket.port(),
                    protocol,
                };
                let named = protocol.map(front).into_iter();
                let there = PROTOCOLS.map(front).into_iter();
                let there = there.filter(|x| protocol.is_none() && seen.holds(x));
                let fronts: BTreeSet<Front> = named.chain(there).collect();
                match fronts.is_empty() {
                    true => [front(Protocol::Tcp)].into(),
                    false => fronts,
                }
            }
            Self::Service(name) => of_service(name, seen),
        }
    }
}

/// Those of the virtual servers recorded for a Service, by mark too.
fn of_service(name: &str, seen: &Seen) -> BTreeSet<Front> {
    let is_its = |service: &String| {
        let rest = service.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    };
    let keys = seen.recorded.iter().filter(|(_, service)| is_its(service));
    let mut fronts = BTreeSet::new();
    for (key, _) in keys {
        match key {
            VirtualServerKey::Front(front) => _ = fronts.insert(*front),
            VirtualServerKey::Mark { .. } => fronts.extend(seen.led_to(key)),
        }
    }
    fronts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fronts_and_services_are_told_apart() {
        let parsed = |text: &str| text.parse::<Target>().map(|target| target.to_string());

        for (text, is) in [
            ("10.96.0.10:80", "10.96.0.10:80"),
            ("[fd00::a]:53/udp", "[fd00::a]:53/UDP"),
            ("web", "default/web"),
            ("web:http", "default/web:http"),
            ("kube-system/kube-dns", "kube-system/kube-dns"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(is));
        }
        for text in [
            "",
            "10.96.0.10",
            "fd00::a",
            "10.96.0.10:80/icmp",
            "a/b/c",
            "a b",
        ] {
            assert!(parsed(text).is_err(), "{text}: {:?}", parsed(text));
        }
    }
}
