//! Names for numbers: ports by `/etc/services`, addresses by `/etc/hosts` and
//! DNS, fronts by the ownership record.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

use ipvs_netlink::{Family, Protocol, ServiceId};
use kube_ipvs_core::escape::Escaped;
use kube_ipvs_core::state::VirtualServerKey;
use kube_ipvs_dataplane::linux::key_of;
use kube_ipvs_dataplane::record::RecordFile;

use crate::answers::object;
use crate::pods::{PodArgs, PodNames};

/// What ipvsadm's buffer for an address and a port holds, in bytes.
const LONGEST: usize = 59;

/// Names of ports and hosts, both ways.
#[derive(Debug, Default)]
pub struct Names {
    ports: BTreeMap<(u16, &'static str), String>,
    /// Those that were looked up; none when hosts are numbers.
    hosts: Option<RefCell<BTreeMap<IpAddr, String>>>,
}

impl Names {
    /// None: ports and addresses are numbers, as with `-n`.
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of this host: ports by `/etc/services`, which need not be there, and
    /// hosts as its C library finds them. Each address is looked up once, when it
    /// is printed, and one without a name takes as long as DNS does.
    pub fn of_this_host() -> Self {
        Self {
            ports: ports(&std::fs::read_to_string("/etc/services").unwrap_or_default()),
            hosts: Some(RefCell::default()),
        }
    }

    /// `10.96.0.1:443`, `[fd00::1]:443`, `web.example:https`: of a protocol that
    /// is not said the port is a number.
    pub(super) fn socket(&self, address: IpAddr, port: u16, protocol: Option<Protocol>) -> String {
        let host = self.host(address);
        let port = self.port(port, protocol);
        let mut text = if address.is_ipv4() {
            format!("{host}:{port}")
        } else {
            format!("[{host}]:{port}")
        };
        cut(&mut text, LONGEST);
        text
    }

    fn host(&self, address: IpAddr) -> String {
        let Some(known) = &self.hosts else {
            return number(address);
        };
        let look_up = || match dns_lookup::lookup_addr(&address) {
            // Whoever answers for the address chooses the name.
            Ok(name) => Escaped(&name).to_string(),
            Err(_) => number(address),
        };
        let mut known = known.borrow_mut();
        known.entry(address).or_insert_with(look_up).clone()
    }

    fn port(&self, port: u16, protocol: Option<Protocol>) -> String {
        let name = word(protocol).and_then(|word| self.ports.get(&(port, word)));
        name.cloned().unwrap_or_else(|| port.to_string())
    }

    /// The port of a name, or of a number written out.
    pub(super) fn port_number(&self, name: &str, protocol: Option<Protocol>) -> Option<u16> {
        if let Ok(number) = name.parse() {
            return Some(number);
        }
        let word = word(protocol)?;
        let mut known = self.ports.iter();
        known
            .find(|((_, of), known)| *of == word && *known == name)
            .map(|((port, _), _)| *port)
    }

    /// The first address of a host in a family, as the C library finds it.
    pub(super) fn address(&self, host: &str, family: Family) -> Option<IpAddr> {
        self.hosts.as_ref()?;
        let found = (host, 0).to_socket_addrs().ok()?;
        found
            .map(|socket| socket.ip())
            .find(|address| Family::of(*address) == family)
    }
}

/// As `inet_ntop` writes it, which ends IPv6 addresses that embed an IPv4 one
/// with dots: `::192.0.2.1`.
fn number(address: IpAddr) -> String {
    match address {
        IpAddr::V6(v6) if v6.to_bits() >> 32 == 0 && v6.to_bits() >> 16 != 0 => {
            format!("::{}", std::net::Ipv4Addr::from_bits(v6.to_bits() as u32))
        }
        other => other.to_string(),
    }
}

/// No longer than so many bytes.
pub(super) fn cut(text: &mut String, length: usize) {
    let mut ends = (0..=length.min(text.len())).rev();
    let end = ends.find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
}

/// How `/etc/services` calls a protocol.
fn word(protocol: Option<Protocol>) -> Option<&'static str> {
    match protocol? {
        Protocol::Tcp => Some("tcp"),
        Protocol::Udp => Some("udp"),
        Protocol::Sctp => Some("sctp"),
        Protocol::Other(_) => None,
    }
}

/// The first name of each port, by protocol.
fn ports(text: &str) -> BTreeMap<(u16, &'static str), String> {
    let mut names = BTreeMap::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let (Some(name), Some(number)) = (words.next(), words.next()) else {
            continue;
        };
        let Some((port, protocol)) = number.split_once('/') else {
            continue;
        };
        let mut known = ["tcp", "udp", "sctp"].into_iter();
        let known = known.find(|known| *known == protocol);
        if let (Ok(port), Some(protocol)) = (port.parse(), known) {
            names
                .entry((port, protocol))
                .or_insert_with(|| name.to_owned());
        }
    }
    names
}

/// Services by virtual server, as the daemon recorded them, and their pods, where they
/// are asked for.
#[derive(Debug, Default)]
pub(super) struct ServiceNames {
    services: BTreeMap<VirtualServerKey, String>,
    pods: PodNames,
}

impl ServiceNames {
    /// Those in the ownership record of a state directory.
    ///
    /// # Errors
    /// When there is one and it cannot be read.
    pub(super) fn read(state_dir: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            services: RecordFile::open(state_dir)?
                .record()
                .virtual_servers
                .clone(),
            pods: PodNames::default(),
        })
    }

    /// The same with the pods of one virtual server, or of all.
    ///
    /// # Errors
    /// The API server does not tell.
    pub(super) fn with_pods(
        mut self,
        args: &PodArgs,
        one: Option<&ServiceId>,
    ) -> anyhow::Result<Self> {
        let services = match one {
            Some(id) => self.of(id).into_iter().map(object).collect(),
            None => self.services.values().map(|name| object(name)).collect(),
        };
        self.pods = PodNames::asked(args, &services)?;
        Ok(self)
    }

    /// `namespace/name:port`; none for what is not ours.
    pub(super) fn of(&self, id: &ServiceId) -> Option<&str> {
        self.services.get(&key_of(id)?).map(String::as_str)
    }

    /// The pod at the address of a real server of `namespace/name:port`; none where no
    /// names were asked for, or it is no pod.
    pub(super) fn pod(&self, service: &str, address: IpAddr) -> Option<&str> {
        self.pods.of(service, address)
    }

    #[cfg(test)]
    pub(super) fn one(key: &str, service: &str) -> Self {
        let key = key.parse().expect("a key");
        Self {
            services: BTreeMap::from([(key, service.to_owned())]),
            pods: PodNames::default(),
        }
    }

    /// With a pod at this address, of the only Service.
    #[cfg(test)]
    pub(super) fn and_pod(mut self, address: &str, pod: &str) -> Self {
        let service = self.services.values().next().expect("one");
        let address = address.parse().expect("an address");
        self.pods = PodNames::one(object(service), address, pod);
        self
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A host of the ports and hosts of a test.
    pub(in crate::inspect) fn host(services: &str, hosts: &[(&str, &str)]) -> Names {
        let hosts = hosts
            .iter()
            .map(|(address, name)| (address.parse().unwrap(), (*name).to_owned()));
        Names {
            ports: ports(services),
            hosts: Some(RefCell::new(hosts.collect())),
        }
    }

    const SERVICES: &str = "# x\nhttp 80/tcp www # web\nweb 80/tcp\ndomain 53/udp\n";

    #[test]
    fn the_first_name_of_a_port_counts() {
        let names = host(SERVICES, &[]);
        assert_eq!(names.port(80, Some(Protocol::Tcp)), "http");
        assert_eq!(names.port(80, Some(Protocol::Udp)), "80");
        assert_eq!(names.port(53, Some(Protocol::Udp)), "domain");
        assert_eq!(names.port(53, None), "53", "of a mark");
        assert_eq!(names.port_number("domain", Some(Protocol::Udp)), Some(53));
        assert_eq!(names.port_number("domain", Some(Protocol::Tcp)), None);
        assert_eq!(names.port_number("8080", None), Some(8080));
    }

    #[test]
    fn a_host_is_called_by_its_name_and_no_longer_than_a_buffer() {
        let long = "a".repeat(80);
        let names = host(SERVICES, &[("10.0.0.1", "web"), ("fd00::1", &long)]);
        let socket =
            |address: &str| names.socket(address.parse().unwrap(), 80, Some(Protocol::Tcp));
        assert_eq!(socket("10.0.0.1"), "web:http");
        assert_eq!(socket("fd00::1"), format!("[{}", "a".repeat(58)));
        assert_eq!(
            Names::none().socket("fd00::1".parse().unwrap(), 80, Some(Protocol::Tcp)),
            "[fd00::1]:80"
        );
        let number = |text: &str| number(text.parse().unwrap());
        assert_eq!(number("::c000:201"), "::192.0.2.1");
        assert_eq!(number("::ffff:192.0.2.1"), "::ffff:192.0.2.1");
        assert_eq!(number("::201"), "::201");
    }
}
