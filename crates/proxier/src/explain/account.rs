//! What the running daemon says of a Service, beside what the layers hold.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use kube_ipvs_core::escape::Escaped;
use kube_ipvs_core::state::{Family, Front, VirtualServerKey};
use kube_ipvs_core::{Account, Change, EndpointCounts, FrontAccount, PortAccount, Unserved};
use serde::Serialize;

use super::nobody::Nobody;
use super::reason::{key, plural};
use super::target::Wanted;
use crate::answers::{Refused, Told};

/// What is known of a front from elsewhere than the layers.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// Why nobody answers.
    pub nobody: Nobody,
    /// `namespace/name:port`.
    pub service: Option<String>,
    /// How many endpoints the port has, where none is ready and those that leave serve on.
    pub leaving: Option<usize>,
    /// How many are ready elsewhere, where the policy is Local and on this node
    /// none is, and those that leave serve on.
    pub leaving_here: Option<usize>,
    /// Why the kernel does not bind its address.
    pub unbound: Option<String>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            nobody: Nobody::Unknown,
            service: None,
            leaving: None,
            leaving_here: None,
            unbound: None,
        }
    }
}

/// A Service as the daemon knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Service {
    /// What it is and asks for.
    #[serde(flatten)]
    pub account: Account,
    /// What the kernel refuses of it.
    pub refused: Vec<Refused>,
    /// Services with the same name in other namespaces.
    pub elsewhere: Vec<String>,
}

impl Service {
    /// Of the daemon's answer, if there is such a Service.
    pub(super) fn of(told: &Told) -> Option<Self> {
        Some(Self {
            account: told.account.clone()?,
            refused: told.refused.clone(),
            elsewhere: told.elsewhere.clone(),
        })
    }

    /// The fronts that it holds, of one port or of all.
    pub(super) fn fronts(&self, wanted: &Wanted) -> BTreeSet<Front> {
        let named = wanted.port.as_deref();
        let is_meant = |port: &str, front: &Front| match named {
            Some(name) => self.meant(name).any(|meant| meant.is(port, front)),
            None => true,
        };
        let held = self.account.fronts.iter();
        let meant = held.filter_map(|held| {
            let (port, front) = (held.port.as_deref()?, held.key.front()?);
            is_meant(port, &front).then_some(front)
        });
        meant.collect()
    }

    /// The ports that a name or number means: a number may be that of several
    /// protocols, and one on the nodes.
    fn meant(&self, name: &str) -> impl Iterator<Item = Meant<'_>> {
        let number: Option<u16> = name.parse().ok();
        let ports = self.account.ports.iter();
        ports.filter_map(move |port| {
            let by_number = number.is_some_and(|number| number == port.port);
            let at_nodes = number.filter(|number| port.node_port == Some(*number));
            if port.name == name || by_number {
                Some(Meant { port, only: None })
            } else {
                at_nodes.map(|number| Meant {
                    port,
                    only: Some(number),
                })
            }
        })
    }

    /// What is wrong with the port that is meant, if there is none.
    pub(super) fn no_such_port(&self, wanted: &Wanted) -> Option<String> {
        let name = wanted.port.as_deref()?;
        if self.meant(name).next().is_some() {
            return None;
        }
        let ports: Vec<String> = self.account.ports.iter().map(named).collect();
        let service = &self.account.service;
        let has = if ports.is_empty() {
            ": it has none".to_owned()
        } else {
            format!("; it has {}", ports.join(", "))
        };
        Some(format!("Service {service} has no port {name}{has}"))
    }

    /// What is known of one of its fronts.
    pub(super) fn known(&self, front: &Front) -> Known {
        let mut fronts = self.account.fronts.iter();
        let held = fronts.find(|held| held.key == key(front));
        let Some((held, name)) = held.and_then(|held| Some((held, held.port.as_deref()?))) else {
            return Known::default();
        };
        let mut ports = self.account.ports.iter();
        let port = ports.find(|port| port.name == name && port.protocol == front.protocol);
        let service = match name {
            "" => self.account.service.clone(),
            name => format!("{}:{name}", self.account.service),
        };
        Known {
            nobody: port.map_or(Nobody::Unknown, |port| self.nobody(held, port)),
            service: Some(service),
            leaving: port.and_then(|port| only_leaving(port, held.key.family())),
            leaving_here: port
                .filter(|_| self.is_local(held))
                .and_then(|port| only_leaving_here(port, held.key.family())),
            unbound: self.unbound(front.address),
        }
    }

    /// Why an address cannot be bound, where the kernel refuses that.
    fn unbound(&self, address: IpAddr) -> Option<String> {
        let mut refused = self.refused.iter();
        let of = Change::Bind(address).to_string();
        let refused = refused.find(|refused| refused.what == of)?;
        Some(refused.error.clone())
    }

    /// Why a front is refused.
    fn nobody(&self, front: &FrontAccount, port: &PortAccount) -> Nobody {
        if let Some(error) = self.refused_at(front) {
            return Nobody::RefusedByKernel(error.to_owned());
        }
        let local = self.is_local(front);
        let family = front.key.family();
        let other = port.of(family.other());
        let EndpointCounts {
            endpoints,
            ready,
            ready_here,
            leaving,
            leaving_here,
        } = *port.of(family);
        if port.more {
            return Nobody::Unknown;
        }
        match (endpoints, ready, leaving) {
            (0, ..) if other.endpoints > 0 => Nobody::NoneOfFamily(family),
            (0, ..) => Nobody::NoEndpoints,
            (n, 0, 0) => Nobody::NoneReady(n),
            _ if !local || ready_here > 0 || leaving_here > 0 => Nobody::Unknown,
            (_, 0, leaving) => Nobody::LeavingElsewhere(leaving),
            (_, ready, _) => Nobody::NoneHere(ready),
        }
    }

    /// Whether only endpoints on this node may answer a front from outside; a
    /// ClusterIP, from anywhere.
    fn is_local(&self, front: &FrontAccount) -> bool {
        match front.kind.as_deref() {
            Some("ClusterIP") => self.account.internal_local,
            _ => self.account.external_local,
        }
    }

    /// What the kernel refuses that closes a front: its virtual server, the
    /// guard of its address, or a mark of its port.
    fn refused_at(&self, front: &FrontAccount) -> Option<&str> {
        // A front that is closed has no marks any more: the daemon has them.
        let is_its_mark = |key: &VirtualServerKey| {
            let mut fronts = self.account.fronts.iter();
            key.front().is_none()
                && fronts.any(|other| other.port == front.port && other.key == *key)
        };
        let guard = front
            .key
            .front()
            .map(|at| Change::Guard(at.address).to_string());
        let mut refused = self.refused.iter();
        let refused = refused.find(|refused| match &refused.key {
            Some(key) => *key == front.key || is_its_mark(key),
            None => Some(&refused.what) == guard.as_ref(),
        })?;
        Some(&refused.error)
    }

    /// Why nothing of it is here, if nothing is.
    fn unserved(&self) -> Option<String> {
        let text = match &self.account.unserved {
            Some(Unserved::ExternalName) => {
                "it is of type ExternalName: a name in DNS, and nothing for a proxy".to_owned()
            }
            Some(Unserved::OtherProxy(None)) => {
                "it has no label service.kubernetes.io/service-proxy-name, and this proxy serves \
                 those with one"
                    .to_owned()
            }
            Some(Unserved::OtherProxy(Some(label))) if label.is_empty() => {
                "its label service.kubernetes.io/service-proxy-name is there with an empty value: \
                 that gives it to another proxy too"
                    .to_owned()
            }
            Some(Unserved::OtherProxy(Some(label))) => format!(
                "its label service.kubernetes.io/service-proxy-name gives it to another proxy: {label}"
            ),
            Some(Unserved::Headless) => {
                "it is headless (clusterIP: None): DNS names its pods, and nothing is proxied"
                    .to_owned()
            }
            Some(Unserved::NoPorts) => {
                "it has no port: nothing that a proxy could serve".to_owned()
            }
            Some(Unserved::NoAddress) => {
                "it has no address that this node serves: none of the cluster's, or the warnings \
                 say why"
                    .to_owned()
            }
            None => return None,
        };
        Some(text)
    }
}

/// The endpoints of a port of which none is ready, and some still serve.
fn only_leaving(port: &PortAccount, family: Family) -> Option<usize> {
    let of = port.of(family);
    let only = of.ready == 0 && of.leaving > 0 && !port.more;
    only.then_some(of.endpoints)
}

/// The ready endpoints of a port, all of them elsewhere, where some on this node still serve.
fn only_leaving_here(port: &PortAccount, family: Family) -> Option<usize> {
    let of = port.of(family);
    let only = of.ready > 0 && of.ready_here == 0 && of.leaving_here > 0 && !port.more;
    only.then_some(of.ready)
}

/// A port that is meant.
struct Meant<'a> {
    port: &'a PortAccount,
    /// Only where it has this number.
    only: Option<u16>,
}

impl Meant<'_> {
    fn is(&self, port: &str, front: &Front) -> bool {
        let PortAccount { name, protocol, .. } = self.port;
        let its = name == port && *protocol == front.protocol;
        its && self.only.is_none_or(|number| number == front.port)
    }
}

impl Service {
    /// The families in which it has fronts, or endpoints of a port.
    fn families(&self, port: &PortAccount) -> BTreeSet<Family> {
        let fronts = self.account.fronts.iter().map(|front| front.key.family());
        let both = [Family::V4, Family::V6].into_iter();
        let with_endpoints = both.filter(|family| port.of(*family).endpoints > 0);
        let mut families: BTreeSet<Family> = fronts.chain(with_endpoints).collect();
        if families.is_empty() {
            families.insert(Family::V4);
        }
        families
    }

    fn port_line(
        &self,
        f: &mut fmt::Formatter<'_>,
        port: &PortAccount,
        family: Family,
    ) -> fmt::Result {
        let EndpointCounts {
            endpoints: n,
            ready,
            ready_here: here,
            leaving,
            leaving_here,
        } = port.of(family);
        let of = named(port);
        let noun = plural(*n, "endpoint");
        let least = if port.more { "at least " } else { "" };
        let over = match self.families(port).len() {
            1 => String::new(),
            _ => format!(" over {family}"),
        };
        write!(
            f,
            "  port          {}{over}: {least}{n} {noun}, {ready} ready, {here} of them here",
            Escaped(&of)
        )?;
        if *leaving > 0 {
            write!(f, ", {leaving} leaving, {leaving_here} of them here")?;
        }
        match n.saturating_sub(ready + leaving) {
            0 => writeln!(f),
            n => writeln!(f, ", {n} not ready"),
        }
    }
}

fn named(port: &PortAccount) -> String {
    let PortAccount {
        name,
        port,
        protocol,
        ..
    } = port;
    match &name[..] {
        "" => format!("{port}/{protocol}"),
        name => format!("{name} {port}/{protocol}"),
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Account {
            service,
            kind,
            ports,
            fronts,
            warnings,
            ..
        } = &self.account;
        writeln!(f, "{}  {}", Escaped(service), Escaped(kind))?;
        if let Some(why) = self.unserved() {
            writeln!(f, "  not served    {}", Escaped(&why))?;
        }
        for port in ports {
            for family in self.families(port) {
                self.port_line(f, port, family)?;
            }
        }
        for front in fronts {
            if let Some(other) = &front.lost_to {
                writeln!(
                    f,
                    "  lost          {} to {}, which goes before it",
                    front.key,
                    Escaped(other)
                )?;
            }
        }
        for Refused { what, error, .. } in &self.refused {
            writeln!(f, "  refused       {}: {}", Escaped(what), Escaped(error))?;
        }
        for warning in warnings {
            writeln!(f, "  warning       {}", Escaped(warning))?;
        }
        if !self.elsewhere.is_empty() {
            writeln!(f, "  also named so {}", Escaped(&self.elsewhere.join(", ")))?;
        }
        Ok(())
    }
}
