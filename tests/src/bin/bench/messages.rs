//! What programs of a namespace ask of the kernel by netlink, as a link of kind
//! `nlmon` hears it.

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use kube_ipvs_tests::Namespace;
use nix::errno::Errno;
use nix::libc::{NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE, NLM_F_REQUEST};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};

/// Of a message (linux/netlink.h).
const HEADER: usize = 16;
/// Of the link's packets (linux/if_arp.h).
const ARPHRD_NETLINK: u16 = 824;
const BUFFER: usize = 32 << 20;
const LARGEST: usize = 1 << 20;

/// Requests, by whom they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Messages {
    /// Generic netlink, of which IPVS is a family.
    pub(crate) ipvs: usize,
    /// Begin and end of a transaction are messages as well.
    pub(crate) nftables: usize,
    pub(crate) routes: usize,
}

impl Messages {
    pub(crate) fn all(self) -> usize {
        self.ipvs + self.nftables + self.routes
    }
}

impl fmt::Display for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (IPVS {}, nftables {}, routes {})",
            self.all(),
            self.ipvs,
            self.nftables,
            self.routes
        )
    }
}

/// Hears all of them.
pub(crate) struct Ear {
    socket: OwnedFd,
    datagram: Vec<u8>,
}

impl Ear {
    pub(crate) fn at(namespace: &Namespace) -> Result<Self> {
        namespace.ip("link add ear type nlmon\nlink set ear up");
        let socket = namespace.run(|| {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let all = SockProtocol::EthAll;
            socket(AddressFamily::Packet, SockType::Raw, flags, all)
        });
        let socket = socket.context("hear all packets")?;
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
        let datagram = vec![0; LARGEST];
        Ok(Self { socket, datagram })
    }

    /// What was asked since the last time.
    pub(crate) fn requests(&mut self) -> Result<Messages> {
        let mut messages = Messages::default();
        loop {
            let fd = self.socket.as_raw_fd();
            match recvfrom::<LinkAddr>(fd, &mut self.datagram) {
                Ok((length, Some(from))) if from.hatype() == ARPHRD_NETLINK => {
                    let count = requests_in(&self.datagram[..length]);
                    match i32::from(from.protocol().to_be()) {
                        NETLINK_GENERIC => messages.ipvs += count,
                        NETLINK_NETFILTER => messages.nftables += count,
                        NETLINK_ROUTE => messages.routes += count,
                        _ => {}
                    }
                }
                Ok(_) => {}
                Err(Errno::EAGAIN) => return Ok(messages),
                Err(error) => return Err(error).context("hear a packet"),
            }
        }
    }
}

/// Messages of a datagram that ask for something, not those that answer.
fn requests_in(mut datagram: &[u8]) -> usize {
    let mut requests = 0;
    while let Some(header) = datagram.first_chunk::<HEADER>() {
        let [a, b, c, d, _, _, e, f, ..] = *header;
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        if i32::from(u16::from_ne_bytes([e, f])) & NLM_F_REQUEST != 0 {
            requests += 1;
        }
        let next = length.max(HEADER).next_multiple_of(4);
        datagram = datagram.get(next..).unwrap_or_default();
    }
    requests
}
