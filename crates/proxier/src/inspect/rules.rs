//! Rules, a line each, as `ipvsadm -S` writes and `ipvsadm -R` reads them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use ipvs_netlink::{
    Destination, DestinationId, Family, ForwardingMethod, Netmask, Protocol, Request, Scheduler,
    Service, ServiceFlags, ServiceId, Tunnel, TunnelFlags,
};

use super::names::Names;
use super::options::{Name, Options, options};

/// Seconds of persistence when none are said, and the most ipvsadm takes.
const PERSISTENCE: u32 = 360;
const LONGEST_PERSISTENCE: u32 = 31 * 86_400;

const COMMANDS: [(&str, &str, char); 6] = [
    ("-A", "--add-service", 'A'),
    ("-E", "--edit-service", 'E'),
    ("-D", "--delete-service", 'D'),
    ("-a", "--add-server", 'a'),
    ("-e", "--edit-server", 'e'),
    ("-d", "--delete-server", 'd'),
];

/// The request that a line is; none for an empty line or a comment.
///
/// # Errors
/// What is wrong with it.
pub(super) fn request(line: &str, names: &Names) -> anyhow::Result<Option<Request>> {
    let mut words = line.split_ascii_whitespace().peekable();
    words.next_if(|word| *word == "ipvsadm");
    let Some(first) = words.next_if(|word| !word.starts_with('#')) else {
        return Ok(None);
    };
    let command = COMMANDS
        .iter()
        .find(|(short, long, _)| first == *short || first == *long)
        .with_context(|| {
            format!("{first:?} is none of -A, -E, -D (virtual servers), -a, -e, -d (real servers)")
        })?;
    let rule = Rule {
        options: options(&mut words, command.2)?,
        names,
    };
    let id = rule.service_id()?;
    Ok(Some(match command.2 {
        'A' => Request::AddService(rule.service(id)?),
        'E' => Request::EditService(rule.service(id)?),
        'D' => Request::RemoveService(id),
        'a' => Request::AddDestination(id, rule.destination(&id)?),
        'e' => Request::EditDestination(id, rule.destination(&id)?),
        _ => Request::RemoveDestination(id, rule.destination(&id)?.id),
    }))
}

/// The options of a line.
struct Rule<'a> {
    options: Options<'a>,
    names: &'a Names,
}

impl Rule<'_> {
    fn has(&self, option: Name) -> bool {
        self.options.get(option).is_some()
    }

    /// The number of an option, if it is there.
    fn number<T>(&self, option: Name, least: T, most: T) -> anyhow::Result<Option<T>>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.options.get(option) else {
            return Ok(None);
        };
        let number = text.parse().ok().filter(|n| *n >= least && *n <= most);
        let number = number.with_context(|| {
            let long = option.long();
            format!("{long} {text:?} is no number from {least} to {most}")
        })?;
        Ok(Some(number))
    }

    fn service_id(&self) -> anyhow::Result<ServiceId> {
        let by = [
            (Name::TcpService, Protocol::Tcp),
            (Name::UdpService, Protocol::Udp),
            (Name::SctpService, Protocol::Sctp),
        ];
        let mut found = None;
        let mut count = 0;
        for (option, protocol) in by {
            if let Some(text) = self.options.get(option) {
                let (address, port) = socket(text, Some(protocol), self.names)?;
                found = Some(ServiceId::address(address, port.unwrap_or(0), protocol));
                count += 1;
            }
        }
        if let Some(text) = self.options.get(Name::FwmarkService) {
            let family = if self.has(Name::Ipv6) {
                Family::V6
            } else {
                Family::V4
            };
            found = Some(ServiceId::fwmark(mark(text)?, family));
            count += 1;
        }
        found
            .filter(|_| count == 1)
            .context("one virtual server is needed: -t, -u, --sctp-service or -f")
    }

    fn service(&self, id: ServiceId) -> anyhow::Result<Service> {
        let scheduler = self.options.get(Name::Scheduler).unwrap_or("wlc");
        let scheduler = Scheduler::from_str(scheduler)?;
        let mut service = Service::new(id, scheduler);
        if let Some(seconds) = self.options.get(Name::Persistent) {
            service.timeout = if seconds.is_empty() {
                PERSISTENCE
            } else {
                self.number(Name::Persistent, 1, LONGEST_PERSISTENCE)?
                    .unwrap_or(PERSISTENCE)
            };
            service.flags |= ServiceFlags::PERSISTENT;
        }
        if self.has(Name::Netmask) {
            service.netmask = self.netmask(id.family())?;
        }
        service.pe_name = self.options.get(Name::Pe).map(str::to_owned);
        if self.has(Name::Ops) {
            service.flags |= ServiceFlags::ONE_PACKET;
        }
        let flags = self.options.get(Name::SchedFlags);
        for name in flags
            .unwrap_or_default()
            .split(',')
            .filter(|n| !n.is_empty())
        {
            service.flags |= ServiceFlags::from_scheduler_flag_name(name, &service.scheduler)
                .with_context(|| {
                    format!("{name:?} is no flag of the scheduler {}", service.scheduler)
                })?;
        }
        if let ServiceId::Address { port, protocol, .. } = id {
            let persistent = service.flags.contains(ServiceFlags::PERSISTENT);
            ensure!(
                port != 0 || persistent,
                "port 0 is for persistent (-p) ones"
            );
            ensure!(
                !self.has(Name::Ops) || protocol == Protocol::Udp,
                "one-packet scheduling (-o) is for UDP"
            );
        }
        Ok(service)
    }

    fn netmask(&self, family: Family) -> anyhow::Result<Netmask> {
        if family == Family::V6 {
            let prefix = self.number(Name::Netmask, 1, 128)?;
            return Ok(prefix.map_or(Netmask::host(family), Netmask::V6));
        }
        let text = self.options.get(Name::Netmask).unwrap_or_default();
        let mask: Ipv4Addr = text
            .parse()
            .with_context(|| format!("-M {text:?} is no mask such as 255.255.255.0"))?;
        Ok(Netmask::V4(mask))
    }

    fn destination(&self, service: &ServiceId) -> anyhow::Result<Destination> {
        let at = self.options.get(Name::RealServer);
        let at = at.context("a real server is needed: -r")?;
        let (protocol, front) = match service {
            ServiceId::Address { protocol, port, .. } => (Some(*protocol), Some(*port)),
            ServiceId::Fwmark { .. } => (None, None),
        };
        let (address, port) = socket(at, protocol, self.names)?;
        let forwarding = self.forwarding()?;
        // Packets that are not translated keep their port.
        let port = if forwarding == ForwardingMethod::Masquerade {
            port.or(front)
        } else {
            front.or(port)
        };
        let mut to = Destination::new(DestinationId::new(address, port.unwrap_or(0)));
        to.forwarding = forwarding;
        to.weight = self.number(Name::Weight, 0, i32::MAX as u32)?.unwrap_or(1);
        to.upper_threshold = self
            .number(Name::UThreshold, 0, i32::MAX as u32)?
            .unwrap_or(0);
        to.lower_threshold = self
            .number(Name::LThreshold, 0, i32::MAX as u32)?
            .unwrap_or(0);
        let tunnelled = forwarding == ForwardingMethod::Tunnel;
        ensure!(
            tunnelled || Family::of(address) == service.family(),
            "a real server of the other family needs a tunnel (-i)"
        );
        let mut said = self.options.said(|long| long.starts_with("--tun-"));
        if let Some(name) = said.next() {
            ensure!(tunnelled, "{name} needs a tunnel (-i)");
            to.tunnel = self.tunnel()?;
        }
        Ok(to)
    }

    fn forwarding(&self) -> anyhow::Result<ForwardingMethod> {
        let given = [
            (Name::Masquerading, ForwardingMethod::Masquerade),
            (Name::Ipip, ForwardingMethod::Tunnel),
            (Name::Gatewaying, ForwardingMethod::DirectRoute),
        ];
        let mut given = given.into_iter().filter(|(name, _)| self.has(*name));
        let method = given.next().map(|(_, method)| method);
        ensure!(given.next().is_none(), "one of -m, -i and -g");
        Ok(method.unwrap_or(ForwardingMethod::DirectRoute))
    }

    fn tunnel(&self) -> anyhow::Result<Tunnel> {
        let flags = [
            (Name::TunNocsum, TunnelFlags::empty()),
            (Name::TunCsum, TunnelFlags::CHECKSUM),
            (Name::TunRemcsum, TunnelFlags::REMOTE_CHECKSUM),
        ];
        let mut flags = flags.into_iter().filter(|(name, _)| self.has(*name));
        let checksum = flags.next();
        ensure!(
            flags.next().is_none(),
            "one of --tun-nocsum, --tun-csum and --tun-remcsum"
        );
        let port = self.number(Name::TunPort, 1, u16::MAX)?;
        let flags = checksum.map_or(TunnelFlags::empty(), |(_, flags)| flags);
        match self.options.get(Name::TunType).unwrap_or("ipip") {
            "gue" => Ok(Tunnel::gue(port.context("gue needs --tun-port")?, flags)),
            other => {
                ensure!(port.is_none(), "--tun-port is for gue");
                match other {
                    "gre" => Ok(Tunnel::gre(flags)),
                    "ipip" if checksum.is_none() => Ok(Tunnel::IPIP),
                    "ipip" => bail!("ipip has no checksum"),
                    _ => bail!("--tun-type {other:?} is none of ipip, gue, gre"),
                }
            }
        }
    }
}

/// A mark; from 2^31 on ipvsadm -S writes it as a negative number.
fn mark(text: &str) -> anyhow::Result<u32> {
    let mark = text.parse::<u32>().ok();
    let mark = mark.or_else(|| text.parse::<i32>().ok().map(i32::cast_unsigned));
    mark.filter(|mark| *mark != 0)
        .with_context(|| format!("-f {text:?} is no mark: a number from 1 to {}", u32::MAX))
}

/// `10.96.0.1:80`, `[fd00::1]:80`, `fd00::1`, `web.example:http`; without a port
/// none.
///
/// # Errors
/// What it is not.
pub(super) fn socket(
    text: &str,
    protocol: Option<Protocol>,
    names: &Names,
) -> anyhow::Result<(IpAddr, Option<u16>)> {
    // As nearly all are; a scope would not be carried on.
    if let Some(socket) = text.parse().ok().filter(|_| !text.contains('%')) {
        let socket: SocketAddr = socket;
        return Ok((socket.ip(), Some(socket.port())));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((address, None));
    }
    let wrong = || format!("{text:?} is not ADDRESS:PORT, such as 10.96.0.10:53 or [fd00::a]:53");
    let (host, port, family) = if let Some(inner) = text.strip_prefix('[') {
        let (host, port) = inner.split_once("]:").with_context(wrong)?;
        (host, Some(port), Family::V6)
    } else {
        match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port), Family::V4),
            None => (text, None, Family::V4),
        }
    };
    let number = host
        .parse()
        .ok()
        .filter(|address| Family::of(*address) == family);
    let digits = host.bytes().all(|byte| byte.is_ascii_digit());
    let address = number
        .or_else(|| (!digits).then(|| names.address(host, family)).flatten())
        .with_context(wrong)?;
    let port = match port {
        Some(port) => Some(names.port_number(port, protocol).with_context(wrong)?),
        None => None,
    };
    Ok((address, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::form::{Form, ListOptions};
    use crate::inspect::render::render;
    use crate::inspect::snapshot::Snapshot;

    fn read(line: &str) -> anyhow::Result<Option<Request>> {
        request(line, &Names::none())
    }

    #[track_caller]
    fn refused(line: &str) -> String {
        read(line).expect_err(line).to_string()
    }

    #[test]
    fn what_is_saved_is_read_again() {
        let saved = "\
            -A -t 10.96.0.30:443 -s sh -p 360 -M 255.255.255.0 -b sh-fallback,sh-port\n\
            -a -t 10.96.0.30:443 -r 192.0.2.9:443 -g -w 5\n\
            -A -u 10.96.0.31:5060 -s rr -p 300 --pe sip -o -b flag-1,flag-3\n\
            -a -u 10.96.0.31:5060 -r 10.244.0.2:5061 -m -w 0\n\
            -A --sctp-service [fd00::1]:80 -s wlc -p 100 -M 64\n\
            -a --sctp-service [fd00::1]:80 -r 10.1.1.2:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum\n\
            -A -f -1294967296 -6 -s rr\n\
            -a -f -1294967296 -6 -r [fd00::2]:0 -i -w 1 --tun-type gre --tun-remcsum\n\
            -a -f -1294967296 -6 -r [fd00::3]:80 -i -w 1 --tun-type ipip\n";
        let mut snapshot = Snapshot::default();
        for line in saved.lines() {
            match read(line).expect(line).expect("a rule") {
                Request::AddService(service) => snapshot.services.push((service, Vec::new())),
                Request::AddDestination(_, to) => {
                    snapshot.services.last_mut().unwrap().1.push(to);
                }
                other => panic!("{other:?}"),
            }
        }
        let options = ListOptions {
            form: Form::Rules,
            exact: false,
            sort: false,
            heading: false,
        };
        assert_eq!(render(&snapshot, &options, &Names::none()), saved);
    }

    #[test]
    fn defaults_long_names_and_what_is_no_rule() {
        assert_eq!(read("  ").unwrap(), None);
        assert_eq!(read("# saved").unwrap(), None);
        let short = read("-A -t 10.0.0.1:80 -s wlc -p 360").unwrap();
        assert_eq!(
            read("ipvsadm --add-service --tcp-service=10.0.0.1:80 -p").unwrap(),
            short
        );
        let to = read("-a -t 10.0.0.1:80 -r 10.0.0.2:8080").unwrap();
        let Some(Request::AddDestination(_, to)) = to else {
            panic!("{to:?}")
        };
        assert_eq!(to.id.port, 80, "a routed packet keeps its port");
        assert_eq!(
            (to.weight, to.forwarding),
            (1, ForwardingMethod::DirectRoute)
        );
        assert!(matches!(
            read("-d -f 1 -r 10.0.0.2").unwrap(),
            Some(Request::RemoveDestination(..))
        ));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for (line, why) in [
            ("-C", "\"-C\" is none of -A"),
            ("-A -s rr", "one virtual server is needed"),
            (
                "-A -t 10.0.0.1:80 -u 10.0.0.1:80",
                "one virtual server is needed",
            ),
            ("-A -t 10.0.0.1:80 -w 1", "\"-w\" does not go with -A"),
            ("-A -t 10.0.0.1:80 -t 10.0.0.1:81", "\"-t\" is said twice"),
            ("-A -t 10.0.0.1", "port 0 is for persistent"),
            ("-A -t 10.0.0.1:80 -o", "is for UDP"),
            ("-A -t web:80", "\"web:80\" is not ADDRESS:PORT"),
            (
                "-A -t 10.0.0.1:http",
                "\"10.0.0.1:http\" is not ADDRESS:PORT",
            ),
            ("-A -f 0", "-f \"0\" is no mark"),
            (
                "-A -t 10.0.0.1:80 -s rr -b sh-port",
                "no flag of the scheduler rr",
            ),
            ("-A -t 10.0.0.1:80 -M 24", "is no mask"),
            ("-A -t 10.0.0.1:80 -p 0", "no number from 1 to"),
            ("-a -t 10.0.0.1:80", "a real server is needed"),
            ("-a -t 10.0.0.1:80 -r [fd00::1]:80 -m", "needs a tunnel"),
            (
                "-a -t 10.0.0.1:80 -r 10.0.0.2 -m -i",
                "one of -m, -i and -g",
            ),
            (
                "-a -t 10.0.0.1:80 -r 10.0.0.2 -m --tun-type gre",
                "needs a tunnel",
            ),
            (
                "-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-type gue",
                "needs --tun-port",
            ),
            ("-a -t 10.0.0.1:80 -r 10.0.0.2 -w", "\"-w\" needs a value"),
        ] {
            let said = refused(line);
            assert!(said.contains(why), "{line}: {said}");
        }
    }
}
