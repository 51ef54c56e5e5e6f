//! Names for numbers: ports by `/etc/services`, fronts by the ownership record.

use std::collections::BTreeMap;
use std::path::Path;

use ipvs_netlink::{Protocol, ServiceId};
use kube_ipvs_core::state::VirtualServerKey;

use crate::dataplane::linux::key_of;
use crate::dataplane::record::RecordFile;

/// Port names by protocol.
#[derive(Debug, Default)]
pub struct PortNames(BTreeMap<(u16, &'static str), String>);

impl PortNames {
    /// None: every port is a number.
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of `/etc/services`; a host without it has none.
    pub(super) fn of_this_host() -> Self {
        Self::parse(&std::fs::read_to_string("/etc/services").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let mut names = BTreeMap::new();
        for line in text.lines() {
            let mut words = line
                .split('#')
                .next()
                .unwrap_or_default()
                .split_whitespace();
            let (Some(name), Some(number)) = (words.next(), words.next()) else {
                continue;
            };
            let Some((port, protocol)) = number.split_once('/') else {
                continue;
            };
            let known = ["tcp", "udp", "sctp"]
                .into_iter()
                .find(|known| *known == protocol);
            if let (Ok(port), Some(protocol)) = (port.parse(), known) {
                names
                    .entry((port, protocol))
                    .or_insert_with(|| name.to_owned());
            }
        }
        Self(names)
    }

    /// The name of a port, or its number.
    pub(super) fn port(&self, port: u16, protocol: Protocol) -> String {
        let protocol = match protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
            Protocol::Other(_) => return port.to_string(),
        };
        self.0
            .get(&(port, protocol))
            .cloned()
            .unwrap_or_else(|| port.to_string())
    }
}

/// Services by virtual server, as the daemon recorded them.
#[derive(Debug, Default)]
pub(super) struct ServiceNames(BTreeMap<VirtualServerKey, String>);

impl ServiceNames {
    /// Those in the ownership record of a state directory.
    ///
    /// # Errors
    /// When there is one and it cannot be read.
    pub(super) fn read(state_dir: &Path) -> anyhow::Result<Self> {
        Ok(Self(
            RecordFile::open(state_dir)?
                .record()
                .virtual_servers
                .clone(),
        ))
    }

    /// `namespace/name:port`; none for what is not ours.
    pub(super) fn of(&self, id: &ServiceId) -> Option<&str> {
        self.0.get(&key_of(id)?).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_port_counts() {
        let names = PortNames::parse("# x\nhttp 80/tcp www # web\nweb 80/tcp\ndomain 53/udp\n");
        assert_eq!(names.port(80, Protocol::Tcp), "http");
        assert_eq!(names.port(80, Protocol::Udp), "80");
        assert_eq!(names.port(53, Protocol::Udp), "domain");
    }
}
