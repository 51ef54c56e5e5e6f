//! Rules, a line each, as `ipvsadm -S` writes and `ipvsadm -R` reads them.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use ipvs_netlink::{
    Destination, DestinationId, Family, ForwardingMethod, Netmask, Protocol, Request, Scheduler,
    Service, ServiceFlags, ServiceId, Tunnel, TunnelFlags,
};

use super::names::Names;

/// Seconds of persistence when none are said, and the most ipvsadm takes.
const PERSISTENCE: u32 = 360;
const LONGEST_PERSISTENCE: u32 = 31 * 86_400;

/// What follows an option.
#[derive(Clone, Copy, PartialEq)]
enum Value {
    None,
    Needed,
    Optional,
}

const SERVICE: &str = "AEDaed";
const SETTINGS: &str = "AE";
const SERVER: &str = "aed";
const ROUTE: &str = "ae";

/// Short name, long name, value, and the commands that it goes with.
const OPTIONS: [(&str, &str, Value, &str); 23] = [
    ("-t", "--tcp-service", Value::Needed, SERVICE),
    ("-u", "--udp-service", Value::Needed, SERVICE),
    ("", "--sctp-service", Value::Needed, SERVICE),
    ("-f", "--fwmark-service", Value::Needed, SERVICE),
    ("-6", "--ipv6", Value::None, SERVICE),
    ("-s", "--scheduler", Value::Needed, SETTINGS),
    ("-p", "--persistent", Value::Optional, SETTINGS),
    ("-M", "--netmask", Value::Needed, SETTINGS),
    ("", "--pe", Value::Needed, SETTINGS),
    ("-o", "--ops", Value::None, SETTINGS),
    // ipvsadm -S writes no names for a flag that has none.
    ("-b", "--sched-flags", Value::Optional, SETTINGS),
    ("-r", "--real-server", Value::Needed, SERVER),
    ("-m", "--masquerading", Value::None, ROUTE),
    ("-i", "--ipip", Value::None, ROUTE),
    ("-g", "--gatewaying", Value::None, ROUTE),
    ("-w", "--weight", Value::Needed, ROUTE),
    ("-x", "--u-threshold", Value::Needed, ROUTE),
    ("-y", "--l-threshold", Value::Needed, ROUTE),
    ("", "--tun-type", Value::Needed, ROUTE),
    ("", "--tun-port", Value::Needed, ROUTE),
    ("", "--tun-nocsum", Value::None, ROUTE),
    ("", "--tun-csum", Value::None, ROUTE),
    ("", "--tun-remcsum", Value::None, ROUTE),
];

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
    let mut words = line.split_whitespace().peekable();
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

type Options<'a> = BTreeMap<&'static str, &'a str>;

fn options<'a>(
    words: &mut Peekable<impl Iterator<Item = &'a str>>,
    command: char,
) -> anyhow::Result<Options<'a>> {
    let mut options = Options::new();
    while let Some(word) = words.next() {
        let (name, joined) = match word.split_once('=') {
            Some((name, value)) if word.starts_with("--") => (name, Some(value)),
            _ => (word, None),
        };
        let (_, long, value, commands) = OPTIONS
            .iter()
            .find(|(short, long, ..)| name == *short || name == *long)
            .with_context(|| format!("{word:?} is no option of a rule"))?;
        ensure!(
            commands.contains(command),
            "{word:?} does not go with -{command}"
        );
        let value = match value {
            Value::None => None,
            Value::Needed => Some(
                joined
                    .or_else(|| words.next())
                    .with_context(|| format!("{word:?} needs a value"))?,
            ),
            Value::Optional => joined.or_else(|| words.next_if(|next| !next.starts_with('-'))),
        };
        let before = options.insert(*long, value.unwrap_or_default());
        ensure!(before.is_none(), "{word:?} is said twice");
    }
    Ok(options)
}

/// The options of a line.
struct Rule<'a> {
    options: Options<'a>,
    names: &'a Names,
}

impl Rule<'_> {
    fn has(&self, option: &str) -> bool {
        self.options.contains_key(option)
    }

    /// The number of an option, if it is there.
    fn number<T>(&self, option: &str, least: T, most: T) -> anyhow::Result<Option<T>>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.options.get(option) else {
            return Ok(None);
        };
        let number = text.parse().ok().filter(|n| *n >= least && *n <= most);
        let number = number
            .with_context(|| format!("{option} {text:?} is no number from {least} to {most}"))?;
        Ok(Some(number))
    }

    fn service_id(&self) -> anyhow::Result<ServiceId> {
        let by = [
            ("--tcp-service", Protocol::Tcp),
            ("--udp-service", Protocol::Udp),
            ("--sctp-service", Protocol::Sctp),
        ];
        let mut found = Vec::new();
        for (option, protocol) in by {
            if let Some(text) = self.options.get(option) {
                let (address, port) = socket(text, Some(protocol), self.names)?;
                found.push(ServiceId::address(address, port.unwrap_or(0), protocol));
            }
        }
        if let Some(text) = self.options.get("--fwmark-service") {
            let family = if self.has("--ipv6") {
                Family::V6
            } else {
                Family::V4
            };
            found.push(ServiceId::fwmark(mark(text)?, family));
        }
        let [id] = found[..] else {
            bail!("one virtual server is needed: -t, -u, --sctp-service or -f");
        };
        Ok(id)
    }

    fn service(&self, id: ServiceId) -> anyhow::Result<Service> {
        let scheduler = self.options.get("--scheduler").unwrap_or(&"wlc");
        let scheduler = Scheduler::from_str(scheduler)?;
        let mut service = Service::new(id, scheduler);
        if let Some(seconds) = self.options.get("--persistent") {
            service.timeout = if seconds.is_empty() {
                PERSISTENCE
            } else {
                self.number("--persistent", 1, LONGEST_PERSISTENCE)?
                    .unwrap_or(PERSISTENCE)
            };
            service.flags |= ServiceFlags::PERSISTENT;
        }
        if self.has("--netmask") {
            service.netmask = self.netmask(id.family())?;
        }
        service.pe_name = self.options.get("--pe").map(|name| (*name).to_owned());
        if self.has("--ops") {
            service.flags |= ServiceFlags::ONE_PACKET;
        }
        let flags = self.options.get("--sched-flags").copied();
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
                !self.has("--ops") || protocol == Protocol::Udp,
                "one-packet scheduling (-o) is for UDP"
            );
        }
        Ok(service)
    }

    fn netmask(&self, family: Family) -> anyhow::Result<Netmask> {
        if family == Family::V6 {
            let prefix = self.number("--netmask", 1, 128)?;
            return Ok(prefix.map_or(Netmask::host(family), Netmask::V6));
        }
        let text = self.options.get("--netmask").copied().unwrap_or_default();
        let mask: Ipv4Addr = text
            .parse()
            .with_context(|| format!("-M {text:?} is no mask such as 255.255.255.0"))?;
        Ok(Netmask::V4(mask))
    }

    fn destination(&self, service: &ServiceId) -> anyhow::Result<Destination> {
        let at = self.options.get("--real-server");
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
        to.weight = self.number("--weight", 0, i32::MAX as u32)?.unwrap_or(1);
        to.upper_threshold = self
            .number("--u-threshold", 0, i32::MAX as u32)?
            .unwrap_or(0);
        to.lower_threshold = self
            .number("--l-threshold", 0, i32::MAX as u32)?
            .unwrap_or(0);
        let tunnelled = forwarding == ForwardingMethod::Tunnel;
        ensure!(
            tunnelled || Family::of(address) == service.family(),
            "a real server of the other family needs a tunnel (-i)"
        );
        let mut said = self
            .options
            .keys()
            .filter(|name| name.starts_with("--tun-"));
        if let Some(name) = said.next() {
            ensure!(tunnelled, "{name} needs a tunnel (-i)");
            to.tunnel = self.tunnel()?;
        }
        Ok(to)
    }

    fn forwarding(&self) -> anyhow::Result<ForwardingMethod> {
        let given = [
            ("--masquerading", ForwardingMethod::Masquerade),
            ("--ipip", ForwardingMethod::Tunnel),
            ("--gatewaying", ForwardingMethod::DirectRoute),
        ];
        let mut given = given.into_iter().filter(|(name, _)| self.has(name));
        let method = given.next().map(|(_, method)| method);
        ensure!(given.next().is_none(), "one of -m, -i and -g");
        Ok(method.unwrap_or(ForwardingMethod::DirectRoute))
    }

    fn tunnel(&self) -> anyhow::Result<Tunnel> {
        let flags = [
            ("--tun-nocsum", TunnelFlags::empty()),
            ("--tun-csum", TunnelFlags::CHECKSUM),
            ("--tun-remcsum", TunnelFlags::REMOTE_CHECKSUM),
        ];
        let mut flags = flags.into_iter().filter(|(name, _)| self.has(name));
        let checksum = flags.next();
        ensure!(
            flags.next().is_none(),
            "one of --tun-nocsum, --tun-csum and --tun-remcsum"
        );
        let port = self.number("--tun-port", 1, u16::MAX)?;
        let flags = checksum.map_or(TunnelFlags::empty(), |(_, flags)| flags);
        match self.options.get("--tun-type").copied().unwrap_or("ipip") {
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
    use crate::inspect::render::{Form, ListOptions, render};
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
