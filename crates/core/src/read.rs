//! The one reader of addresses and networks that others wrote, and of the small
//! values beside them: ports, protocols, weights.
//!
//! Every part that looks at such a text asks here, so that what one of them
//! calls an address is the same address for all: a reader of its own that let a
//! blank pass would bind what another one protects. It is as generous as the
//! reader of kube-proxy, which stored objects may rely on, and never guesses:
//! leading zeros are decimal, an IPv4-mapped address is the IPv4 one, a zone
//! makes no address. What was not written as it is printed comes with a note.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::state::Protocol;

/// The greatest weight that is given to the kernel.
pub(crate) const MOST_WEIGHT: u16 = 65_535;

/// What was read, and how it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read<'t, T> {
    /// What it means.
    pub value: T,
    text: &'t str,
    /// Whether a strict reader would take it for the same.
    plain: bool,
}

impl<T: fmt::Display> Read<'_, T> {
    /// What should be said of the way it was written, if anything:
    /// `"10.96.011.012" is read as 10.96.11.12`.
    pub fn note(&self) -> Option<String> {
        let say = || format!("{} is read as {}", Quoted(self.text), self.value);
        (!self.plain).then(say)
    }
}

/// An address: blanks around it and leading zeros are overlooked, an
/// IPv4-mapped one is the IPv4 address in it.
pub fn address(text: &str) -> Option<Read<'_, IpAddr>> {
    // Nearly all are, and reading them twice is most of what a slice costs.
    if let Ok(v4) = text.parse::<Ipv4Addr>() {
        return Some(Read {
            value: v4.into(),
            text,
            plain: true,
        });
    }
    let trimmed = text.trim();
    let value = sloppy(trimmed)?;
    let plain = trimmed == text && trimmed.parse() == Ok(value);
    Some(Read { value, text, plain })
}

/// A network, likewise. Host bits are cleared; `::ffff:10.0.0.0/104` is
/// `10.0.0.0/8`.
pub fn network(text: &str) -> Option<Read<'_, IpNet>> {
    let trimmed = text.trim();
    let (left, right) = trimmed.split_once('/')?;
    let prefix = decimal(right, 128)?;
    let value = match (left.contains(':'), sloppy(left)?) {
        (false, IpAddr::V4(v4)) => IpNet::V4(Ipv4Net::new(v4, prefix).ok()?),
        // In the notation of IPv6 the prefix counts from there.
        (true, IpAddr::V4(v4)) if prefix >= 96 => IpNet::V4(Ipv4Net::new(v4, prefix - 96).ok()?),
        (_, IpAddr::V4(v4)) => IpNet::V6(Ipv6Net::new(v4.to_ipv6_mapped(), prefix).ok()?),
        (_, IpAddr::V6(v6)) => IpNet::V6(Ipv6Net::new(v6, prefix).ok()?),
    };
    // Not by a parser of networks: that takes zeros in front for nothing odd.
    let plain = trimmed == text
        && left.parse() == Ok(value.addr())
        && right == value.prefix_len().to_string();
    let value = value.trunc();
    Some(Read { value, text, plain })
}

/// A network, or a single address.
pub fn network_or_address(text: &str) -> Option<Read<'_, IpNet>> {
    network(text).or_else(|| {
        let Read { value, text, plain } = address(text)?;
        Some(Read {
            value: value.into(),
            text,
            plain,
        })
    })
}

fn sloppy(text: &str) -> Option<IpAddr> {
    if !text.contains(':') {
        return octets(text).map(IpAddr::V4);
    }
    let v6: Ipv6Addr = match text.rsplit_once(':') {
        // The last part of an IPv6 address may be written as IPv4.
        Some((head, tail)) if tail.contains('.') => {
            format!("{head}:{}", octets(tail)?).parse().ok()?
        }
        _ => text.parse().ok()?,
    };
    Some(IpAddr::V6(v6).to_canonical())
}

/// Four decimal numbers, never octal.
fn octets(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = decimal(parts.next()?, u8::MAX)?;
    }
    parts.next().is_none().then(|| octets.into())
}

/// A number of digits alone, with zeros in front or without.
fn decimal(text: &str, most: u8) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let significant = text.trim_start_matches('0');
    let number = match significant {
        "" => Some(0),
        some => some.parse().ok(),
    };
    number.filter(|number| digits && *number <= most)
}

/// A value as it stands in a message: in quotation marks, what cannot be
/// printed escaped, and no longer than 100 characters.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'t>(pub &'t str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 100;
        match self.0.char_indices().nth(MOST) {
            Some((end, _)) => write!(f, "{:?}...", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}

/// A port number, 1 to 65535.
pub fn port_number(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| *number != 0)
}

/// A protocol as Kubernetes writes it; absent is TCP.
pub(crate) fn protocol(name: Option<&str>) -> Result<Protocol, &str> {
    match name {
        None | Some("" | "TCP") => Ok(Protocol::Tcp),
        Some("UDP") => Ok(Protocol::Udp),
        Some("SCTP") => Ok(Protocol::Sctp),
        Some(other) => Err(other),
    }
}

/// A weight of an endpoint: 1 to 65535.
pub(crate) fn weight(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;

    use super::*;

    fn as_address(text: &str) -> String {
        match address(text) {
            Some(read) => format!("{}{}", read.value, read.note().map_or("", |_| " noted")),
            None => "none".to_owned(),
        }
    }

    fn as_network(text: &str) -> String {
        match network_or_address(text) {
            Some(read) => format!("{}{}", read.value, read.note().map_or("", |_| " noted")),
            None => "none".to_owned(),
        }
    }

    #[test]
    fn addresses_are_read_as_kube_proxy_reads_them() {
        for (text, meant) in [
            ("10.96.0.10", "10.96.0.10"),
            ("10.96.011.012", "10.96.11.12 noted"),
            ("010.096.000.008", "10.96.0.8 noted"),
            ("10.96.0.0000000010", "10.96.0.10 noted"),
            (" 192.0.2.66", "192.0.2.66 noted"),
            ("192.0.2.66\t\n", "192.0.2.66 noted"),
            ("::ffff:10.0.0.1", "10.0.0.1 noted"),
            ("::FFFF:0a00:0001", "10.0.0.1 noted"),
            ("::ffff:010.0.0.1", "10.0.0.1 noted"),
            ("64:ff9b::192.0.02.1", "64:ff9b::c000:201 noted"),
            ("FD00:0:0::A", "fd00::a"),
            ("fe80::1%eth0", "none"),
            ("fe80::1%", "none"),
            ("10.96.0.256", "none"),
            ("10.96.0", "none"),
            ("10.96.0.1.2", "none"),
            ("10.96..1", "none"),
            ("10.96.0.+1", "none"),
            ("10.96.0.0x1", "none"),
            ("10.96.0. 1", "none"),
            ("10.96.0.1/32", "none"),
            ("[fd00::a]", "none"),
            ("\u{661}.1.1.1", "none"),
            ("", "none"),
            ("None", "none"),
        ] {
            assert_eq!(as_address(text), meant, "{text:?}");
        }
    }

    #[test]
    fn networks_are_read_as_kube_proxy_reads_them() {
        for (text, meant) in [
            ("10.96.0.0/16", "10.96.0.0/16"),
            ("10.96.0.1/16", "10.96.0.0/16"),
            ("010.096.0.0/016", "10.96.0.0/16 noted"),
            (" 10.0.0.0/8 ", "10.0.0.0/8 noted"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8 noted"),
            ("::ffff:10.1.2.3/96", "0.0.0.0/0 noted"),
            ("::ffff:0.0.0.0/90", "::ffc0:0:0/90"),
            ("::/0", "::/0"),
            ("fd00:96::/112", "fd00:96::/112"),
            ("fd00:96::/0112", "fd00:96::/112 noted"),
            ("10.0.0.0/08", "10.0.0.0/8 noted"),
            ("010.0.0.0/8", "10.0.0.0/8 noted"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.07", "192.0.2.7/32 noted"),
            ("10.0.0.0/33", "none"),
            ("fd00::/129", "none"),
            ("10.0.0.0/", "none"),
            ("10.0.0.0/+8", "none"),
            ("10.0.0.0/255.0.0.0", "none"),
            ("/8", "none"),
            ("fe80::%eth0/64", "none"),
        ] {
            assert_eq!(as_network(text), meant, "{text:?}");
        }
    }

    #[test]
    fn long_and_odd_values_are_cut_and_escaped() {
        assert_eq!(Quoted("a\n\u{1b}").to_string(), "\"a\\n\\u{1b}\"");
        let long = Quoted(&"ä".repeat(300)).to_string();
        assert_eq!(long, format!("\"{}\"...", "ä".repeat(100)));
        let just = "x".repeat(100);
        assert_eq!(Quoted(&just).to_string(), format!("\"{just}\""));
    }
}
