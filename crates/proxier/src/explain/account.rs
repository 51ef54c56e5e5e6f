//! What the running daemon says of a Service, beside what the layers hold.

use std::collections::BTreeSet;
use std::fmt;

use kube_ipvs_core::escape::Escaped;
use kube_ipvs_core::state::{Front, VirtualServerKey};
use kube_ipvs_core::{Account, FrontAccount, PortAccount, Unserved};
use serde::Serialize;

use super::reason::{Nobody, key, plural};
use super::target::Wanted;
use crate::answers::{Refused, Told};

/// What is known of a front from elsewhere than the layers.
#[derive(Debug, Clone)]
pub struct Known {
    /// Why nobody answers.
    pub nobody: Nobody,
    /// `namespace/name:port`.
    pub service: Option<String>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            nobody: Nobody::Unknown,
            service: None,
        }
    }
}

/// A Service as the daemon knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
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
        let is_meant = |name: &str| match self.port(wanted) {
            Some(port) => port.name == name,
            None => wanted.port.is_none(),
        };
        let held = self.account.fronts.iter();
        let meant = held.filter(|front| front.port.as_deref().is_some_and(is_meant));
        let fronts = meant.filter_map(|front| match front.key {
            VirtualServerKey::Front(front) => Some(front),
            VirtualServerKey::Mark { .. } => None,
        });
        fronts.collect()
    }

    /// The port that is meant, by name or number.
    fn port(&self, wanted: &Wanted) -> Option<&PortAccount> {
        let name = wanted.port.as_deref()?;
        let number: Option<u16> = name.parse().ok();
        let mut ports = self.account.ports.iter();
        ports.find(|port| port.name == name || number == Some(port.port))
    }

    /// What is wrong with the port that is meant, if there is none.
    pub(super) fn no_such_port(&self, wanted: &Wanted) -> Option<String> {
        let name = wanted.port.as_deref()?;
        if self.port(wanted).is_some() {
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
        }
    }

    /// Why a front is refused.
    fn nobody(&self, front: &FrontAccount, port: &PortAccount) -> Nobody {
        // A front that is closed has no marks any more: the daemon has them.
        let is_mark = |key: &VirtualServerKey| matches!(key, VirtualServerKey::Mark { .. });
        let mut refused = self.refused.iter().filter(|refused| {
            let of_port = |other: &FrontAccount| {
                other.port == front.port && other.key == refused.key && is_mark(&other.key)
            };
            refused.key == front.key || self.account.fronts.iter().any(of_port)
        });
        if let Some(refused) = refused.next() {
            return Nobody::RefusedByKernel(refused.error.clone());
        }
        let local = match front.kind.as_deref() {
            Some("ClusterIP") => self.account.internal_local,
            _ => self.account.external_local,
        };
        match port {
            PortAccount { more: true, .. } => Nobody::Unknown,
            PortAccount { endpoints: 0, .. } => Nobody::NoEndpoints,
            PortAccount {
                ready: 0,
                leaving: 0,
                ..
            } => Nobody::NoneReady(port.endpoints),
            PortAccount {
                ready,
                ready_here: 0,
                ..
            } if *ready > 0 && local => Nobody::NoneHere(*ready),
            _ => Nobody::Unknown,
        }
    }

    /// Why nothing of it is here, if nothing is.
    fn unserved(&self) -> Option<String> {
        let text = match &self.account.unserved {
            Some(Unserved::ExternalName) => {
                "it is of type ExternalName: a name in DNS, and nothing for a proxy".to_owned()
            }
            Some(Unserved::OtherProxy(label)) if label.is_empty() => {
                "it has no label service.kubernetes.io/service-proxy-name, and this proxy serves \
                 those with one"
                    .to_owned()
            }
            Some(Unserved::OtherProxy(label)) => format!(
                "its label service.kubernetes.io/service-proxy-name gives it to another proxy: {label}"
            ),
            Some(Unserved::Headless) => {
                "it is headless (clusterIP: None): DNS names its pods, and nothing is proxied"
                    .to_owned()
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
            let PortAccount {
                endpoints: n,
                ready,
                ready_here: here,
                leaving,
                more,
                ..
            } = port;
            let of = named(port);
            let noun = plural(*n, "endpoint");
            let least = if *more { "at least " } else { "" };
            write!(
                f,
                "  port          {}: {least}{n} {noun}, {ready} ready, {here} of them here",
                Escaped(&of)
            )?;
            match leaving {
                0 => writeln!(f)?,
                n => writeln!(f, ", {n} leaving")?,
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
        for Refused { key, error } in &self.refused {
            writeln!(f, "  refused       {key}: {}", Escaped(error))?;
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
