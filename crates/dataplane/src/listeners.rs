//! What this host itself listens on, read off `/proc/net`.
//!
//! Only the ports that somebody asks for are kept, and of TCP only listening
//! sockets are read: the kernel writes them before all connections.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::Context;
use kube_ipvs_core::Listener;
use kube_ipvs_core::state::Protocol;

/// Of the network namespace of this thread.
const ROOT: &str = "/proc/thread-self/net";

/// The kernel's lists of sockets.
pub const LISTS: [(Protocol, &str); 4] = [
    (Protocol::Tcp, "tcp"),
    (Protocol::Tcp, "tcp6"),
    (Protocol::Udp, "udp"),
    (Protocol::Udp, "udp6"),
];

/// `TCP_LISTEN`.
const LISTENS: &str = "0A";
/// `TCP_CLOSE`: a UDP socket that answers anybody.
const UNCONNECTED: &str = "07";

/// The sockets that listen on one of these ports. SCTP is not looked at.
///
/// # Errors
/// One of the lists could not be read.
pub(crate) fn listeners(ports: &BTreeSet<(Protocol, u16)>) -> anyhow::Result<BTreeSet<Listener>> {
    let mut found = BTreeSet::new();
    for (protocol, name) in LISTS {
        if ports.iter().any(|(wanted, _)| *wanted == protocol) {
            let path = Path::new(ROOT).join(name);
            let Some(file) = open(&path)? else { continue };
            read(BufReader::new(file), protocol, ports, &mut found)
                .with_context(|| format!("read {}", path.display()))?;
        }
    }
    Ok(found)
}

/// A kernel without the family has no list of it.
fn open(path: &Path) -> anyhow::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

fn read(
    list: impl BufRead,
    protocol: Protocol,
    ports: &BTreeSet<(Protocol, u16)>,
    found: &mut BTreeSet<Listener>,
) -> std::io::Result<()> {
    each(list, protocol, |address, port, _| {
        if ports.contains(&(protocol, port)) {
            found.insert(Listener {
                protocol,
                address,
                port,
            });
        }
    })
}

/// Tells address, port and inode of each socket in a list that listens, or answers
/// anybody.
///
/// # Errors
/// The list could not be read to its end; what was read until then was told.
pub fn each(
    list: impl BufRead,
    protocol: Protocol,
    mut tell: impl FnMut(IpAddr, u16, &str),
) -> std::io::Result<()> {
    for line in list.lines().skip(1) {
        let line = line?;
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, state) = (words.next(), words.nth(1));
        match (protocol, state) {
            (Protocol::Tcp, Some(LISTENS)) | (Protocol::Udp, Some(UNCONNECTED)) => {}
            // From here on there are connections only.
            (Protocol::Tcp, _) => return Ok(()),
            _ => continue,
        }
        if let Some((address, port)) = local.and_then(socket) {
            tell(address, port, words.nth(5).unwrap_or_default());
        }
    }
    Ok(())
}

/// `0100007F:1F90`: words of four bytes as the processor holds them, and the port.
fn socket(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(8 * at..8 * at + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n";

    fn found(text: &str, protocol: Protocol, ports: &[u16]) -> Vec<String> {
        let ports = ports.iter().map(|port| (protocol, *port)).collect();
        let mut found = BTreeSet::new();
        let text = format!("{HEAD}{text}");
        read(text.as_bytes(), protocol, &ports, &mut found).expect("text");
        found
            .iter()
            .map(|x| format!("{} {} {}", x.protocol, x.address, x.port))
            .collect()
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        let tcp = "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0\n\
                   1: 0B0200C0:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0\n\
                   2: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0\n\
                   3: 0B0200C0:0016 01000A0A:C350 01 00000000:00000000 00:00000000 00000000 0\n";
        assert_eq!(
            found(tcp, Protocol::Tcp, &[22, 6443, 30_000]),
            ["TCP 0.0.0.0 22", "TCP 192.0.2.11 6443"]
        );
        let tcp6 = "0: 00000000000000000000000000000000:280A 0:0000 0A 0 0\n\
                    1: B80D0120000000000000000011000000:1F90 0:0000 0A 0 0\n";
        assert_eq!(
            found(tcp6, Protocol::Tcp, &[10250, 8080]),
            ["TCP :: 10250", "TCP 2001:db8::11 8080"]
        );
        // Connected sockets, and lines of no sense, are passed over.
        let udp = "0: 00000000:0035 08080808:0035 01 0 0\nnonsense\n2: 0100007F:0035 00000000:0000 07 0 0\n\
                   3: 00:0035 00000000:0000 07 0 0\n";
        assert_eq!(found(udp, Protocol::Udp, &[53]), ["UDP 127.0.0.1 53"]);
    }

    #[test]
    fn sockets_of_this_host_are_found_and_clients_are_not() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("bind");
        let tcp6 = TcpListener::bind("[::1]:0").expect("bind");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let to = tcp.local_addr().expect("an address");
        let client = TcpStream::connect(to).expect("connect");
        let port = |at: std::io::Result<std::net::SocketAddr>| at.expect("an address").port();
        let ports = BTreeSet::from([
            (Protocol::Tcp, to.port()),
            (Protocol::Tcp, port(tcp6.local_addr())),
            (Protocol::Tcp, port(client.local_addr())),
            (Protocol::Udp, port(udp.local_addr())),
        ]);
        let listener = |protocol, at: std::net::SocketAddr| Listener {
            protocol,
            address: at.ip(),
            port: at.port(),
        };
        let wanted = BTreeSet::from([
            listener(Protocol::Tcp, to),
            listener(Protocol::Tcp, tcp6.local_addr().expect("an address")),
            listener(Protocol::Udp, udp.local_addr().expect("an address")),
        ]);
        assert_eq!(listeners(&ports).expect("lists"), wanted);
        assert!(listeners(&BTreeSet::new()).expect("lists").is_empty());
    }
}
