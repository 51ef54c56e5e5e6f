//! The bare replay: the same messages, written beforehand, on a plain socket.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

use crate::programming::{Entry, PORT, TARGET_PORT};

/// Messages a send; more do not fit the socket's buffer.
const MESSAGES: usize = 512;

const HEADER: usize = 16;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const DUMP: u16 = 0x300;
const NLMSG_DONE: u16 = 3;

const NEW_SERVICE: u8 = 1;
const GET_SERVICE: u8 = 4;
const GET_DEST: u8 = 8;
const NEW_DEST: u8 = 5;
const NESTED: u16 = 0x8000;

/// A socket and the buffers to write to it.
pub(crate) struct Replay {
    socket: Socket,
    sends: Vec<Vec<u8>>,
}

impl Replay {
    /// Everything that can be done before the clock runs.
    pub(crate) fn prepare(table: &[Entry]) -> Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let family = family(&socket).context("find the netlink family IPVS")?;
        let messages: Vec<Vec<u8>> = table
            .iter()
            .flat_map(|entry| messages(family, entry))
            .collect();
        let sends = messages.chunks(MESSAGES).map(acknowledged).collect();
        Ok(Self { socket, sends })
    }

    /// Sends it all; one acknowledgement a send.
    pub(crate) fn send(&mut self) -> Result<()> {
        for send in &self.sends {
            self.socket.send(send, 0)?;
            let (answer, _) = self.socket.recv_from_full()?;
            ensure!(kind(&answer) == NLMSG_ERROR, "not an acknowledgement");
            ensure!(
                answer[HEADER..HEADER + 4] == [0; 4],
                "the kernel refused the replay"
            );
        }
        Ok(())
    }
}

/// A socket that asks for what an audit reads and looks at nothing of it.
pub(crate) struct Dumps {
    socket: Socket,
    family: u16,
}

impl Dumps {
    pub(crate) fn open() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let family = family(&socket).context("find the netlink family IPVS")?;
        Ok(Self { socket, family })
    }

    /// Lists all virtual servers, then the real servers of each; the bytes of both.
    pub(crate) fn read(&mut self, table: &[Entry]) -> Result<usize> {
        let mut bytes = self.virtual_servers()?;
        for (vip, _) in table {
            bytes += self.dump(GET_DEST, &nested(1, &service(*vip)))?;
        }
        Ok(bytes)
    }

    /// Lists all virtual servers; the bytes of that.
    pub(crate) fn virtual_servers(&mut self) -> Result<usize> {
        self.dump(GET_SERVICE, &[])
    }

    fn dump(&mut self, command: u8, payload: &[u8]) -> Result<usize> {
        let mut message = message(self.family, command, payload);
        message[6..8].copy_from_slice(&(REQUEST | DUMP).to_ne_bytes());
        self.socket.send(&message, 0)?;
        let mut bytes = 0;
        let mut buffer = Vec::with_capacity(64 * 1024);
        loop {
            buffer.clear();
            self.socket.recv(&mut buffer, 0)?;
            bytes += buffer.len();
            let mut rest = &buffer[..];
            while rest.len() >= HEADER {
                let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
                if kind(rest) == NLMSG_DONE {
                    return Ok(bytes);
                }
                ensure!(kind(rest) != NLMSG_ERROR, "the kernel refused a dump");
                rest = &rest[length.next_multiple_of(4)..];
            }
        }
    }
}

fn family(socket: &Socket) -> Result<u16> {
    let mut name = Vec::new();
    attribute(&mut name, CTRL_ATTR_FAMILY_NAME, b"IPVS\0");
    socket.send(&message(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &name), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    ensure!(kind(&answer) == GENL_ID_CTRL, "the kernel does not know it");
    let mut rest = &answer[HEADER + 4..];
    while rest.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        if u16::from_ne_bytes([rest[2], rest[3]]) == CTRL_ATTR_FAMILY_ID {
            return Ok(u16::from_ne_bytes([rest[4], rest[5]]));
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    anyhow::bail!("no number in the answer")
}

fn messages(family: u16, (vip, pods): &Entry) -> Vec<Vec<u8>> {
    let service = service(*vip);
    let mut added = service.clone();
    attribute(&mut added, 6, b"rr\0");
    attribute(&mut added, 7, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]); // flags, mask
    attribute(&mut added, 8, &0u32.to_ne_bytes()); // timeout
    attribute(&mut added, 9, &[0xff; 4]); // netmask
    let mut all = vec![message(family, NEW_SERVICE, &nested(1, &added))];
    for pod in pods {
        let mut payload = nested(1, &service);
        payload.extend(nested(2, &destination(*pod)));
        all.push(message(family, NEW_DEST, &payload));
    }
    all
}

fn service(vip: Ipv4Addr) -> Vec<u8> {
    let mut out = Vec::new();
    attribute(&mut out, 1, &2u16.to_ne_bytes()); // AF_INET
    attribute(&mut out, 2, &6u16.to_ne_bytes()); // TCP
    attribute(&mut out, 3, &address(vip));
    attribute(&mut out, 4, &PORT.to_be_bytes());
    out
}

fn destination(pod: Ipv4Addr) -> Vec<u8> {
    let mut out = Vec::new();
    attribute(&mut out, 1, &address(pod));
    attribute(&mut out, 2, &TARGET_PORT.to_be_bytes());
    attribute(&mut out, 3, &0u32.to_ne_bytes()); // masquerading
    attribute(&mut out, 4, &1u32.to_ne_bytes()); // weight
    attribute(&mut out, 5, &0u32.to_ne_bytes()); // thresholds
    attribute(&mut out, 6, &0u32.to_ne_bytes());
    attribute(&mut out, 11, &2u16.to_ne_bytes()); // AF_INET
    out
}

fn address(address: Ipv4Addr) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&address.octets());
    bytes
}

fn nested(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    attribute(&mut out, kind | NESTED, content);
    out
}

fn attribute(out: &mut Vec<u8>, kind: u16, content: &[u8]) {
    let length = u16::try_from(4 + content.len()).expect("an attribute is short");
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(content);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn message(family: u16, command: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + 4 + payload.len()).expect("a message is short");
    let mut out = Vec::new();
    out.extend(length.to_ne_bytes());
    out.extend(family.to_ne_bytes());
    out.extend(REQUEST.to_ne_bytes());
    out.extend([0; 8]); // sequence, port
    out.extend([command, 1, 0, 0]); // version, reserved
    out.extend(payload);
    out
}

/// One buffer, its last message asking for an answer.
fn acknowledged(messages: &[Vec<u8>]) -> Vec<u8> {
    let last = messages.last().map_or(0, Vec::len);
    let mut all = messages.concat();
    let flags = all.len() - last + 6;
    all[flags..flags + 2].copy_from_slice(&(REQUEST | ACK).to_ne_bytes());
    all
}

fn kind(message: &[u8]) -> u16 {
    u16::from_ne_bytes([message[4], message[5]])
}
