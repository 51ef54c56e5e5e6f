//! Connection entries, from `/proc/net/ip_vs_conn`: the kernel gives them no
//! other way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipvs_netlink::Protocol;

use super::names::Names;

/// The listing of `ipvsadm -L -c`. Lines that make no sense are left out.
pub(super) fn render(table: &str, persistent: bool, names: &Names) -> String {
    let mut text = "IPVS connection entries\n".to_owned();
    text += &if persistent {
        format!(
            "pro expire {:<11} {:<18} {:<18} {:<18} {:<16} {}\n",
            "state", "source", "virtual", "destination", "pe name", "pe_data"
        )
    } else {
        format!(
            "pro expire {:<11} {:<18} {:<18} {}\n",
            "state", "source", "virtual", "destination"
        )
    };
    for entry in entries(table) {
        text += &entry.line(persistent, names);
    }
    text
}

/// The entries of the table, in the kernel's order.
pub(super) fn entries(table: &str) -> impl Iterator<Item = Entry<'_>> {
    table.lines().skip(1).filter_map(Entry::parse)
}

pub(super) struct Entry<'a> {
    pub(super) protocol: &'a str,
    pub(super) source: SocketAddr,
    pub(super) front: SocketAddr,
    pub(super) back: SocketAddr,
    pub(super) state: &'a str,
    /// Seconds that are left.
    pub(super) expires: u64,
    /// Persistence engine and its data.
    pub(super) engine: Option<(&'a str, &'a str)>,
}

impl<'a> Entry<'a> {
    /// `Pro FromIP FPrt ToIP TPrt DestIP DPrt State Expires PEName PEData`.
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let protocol = words.next()?;
        let mut socket = || {
            let address = address(words.next()?)?;
            let port = u16::from_str_radix(words.next()?, 16).ok()?;
            Some(SocketAddr::new(address, port))
        };
        let (source, front, back) = (socket()?, socket()?, socket()?);
        let state = words.next()?;
        let expires = words.next()?.parse().ok()?;
        let engine = words.next().zip(words.next());
        Some(Self {
            protocol,
            source,
            front,
            back,
            state,
            expires,
            engine,
        })
    }

    /// What the kernel calls the protocol; none for one without fronts.
    pub(super) fn protocol(&self) -> Option<Protocol> {
        match self.protocol {
            "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            "SCTP" => Some(Protocol::Sctp),
            _ => None,
        }
    }

    fn line(&self, persistent: bool, names: &Names) -> String {
        let expires = format!("{:02}:{:02}", self.expires / 60, self.expires % 60);
        let [source, front, back] = [self.source, self.front, self.back]
            .map(|socket| names.socket(socket.ip(), socket.port(), self.protocol()));
        let head = format!(
            "{:<3} {expires:<6} {:<11} {source:<18} {front:<18}",
            self.protocol, self.state,
        );
        match self.engine {
            Some((name, data)) if persistent => format!("{head} {back:<16} {name:<18} {data}\n"),
            _ => format!("{head} {back}\n"),
        }
    }
}

/// Hexadecimal without dots, or `[fd00:...]`-like with all groups written out.
fn address(word: &str) -> Option<IpAddr> {
    let bare = word.trim_start_matches('[').trim_end_matches(']');
    if bare.contains(':') {
        return bare.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    u32::from_str_radix(bare, 16)
        .ok()
        .map(|bits| Ipv4Addr::from_bits(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 0A010002 0FA2 0A600001 0050 0A020002 1F90 ESTABLISHED     894
UDP [fd00:0000:0000:0000:0000:0000:0000:0001] 0035 [fd00:0000:0000:0000:0000:0000:0000:0002] 0035 [fd00:0000:0000:0000:0000:0000:0000:0003] 14E9 UDP 10800
nonsense
";

    #[test]
    fn entries_are_printed_as_ipvsadm_prints_them() {
        assert_eq!(
            render(TABLE, false, &Names::none()),
            "IPVS connection entries\n\
             pro expire state       source             virtual            destination\n\
             TCP 14:54  ESTABLISHED 10.1.0.2:4002      10.96.0.1:80       10.2.0.2:8080\n\
             UDP 180:00 UDP         [fd00::1]:53       [fd00::2]:53       [fd00::3]:5353\n"
        );
    }
}
