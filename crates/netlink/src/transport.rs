//! The socket.

use std::io;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc::{MSG_DONTWAIT, MSG_TRUNC};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::Error;

/// Receive buffer that is asked for. The kernel doubles it.
const RECEIVE_BUFFER: usize = 1 << 20;

/// The longest datagram that is read. The kernel makes them 32 KiB at most.
const DATAGRAM: usize = 1 << 16;

/// What the kernel keeps of a send buffer for itself.
const SEND_OVERHEAD: usize = 32;

/// The largest send buffer that can be asked for.
const SEND_BUFFER_LIMIT: usize = 1 << 30;

/// A datagram was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// How long it was, which is more than what was read if it was cut off.
    pub length: usize,
    /// The port it came from: 0 is the kernel's.
    pub sender: u32,
}

/// Carries datagrams to the kernel and back.
pub trait Transport {
    /// Send one datagram; how many bytes of it went.
    ///
    /// # Errors
    /// Those of `send(2)`, EINTR excepted.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Receive one datagram into `into`, which is emptied first.
    ///
    /// # Errors
    /// `WouldBlock` when the time-out is over; those of `recv(2)`, EINTR excepted.
    fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<Received>;

    /// The same without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; those of `recv(2)`, EINTR excepted.
    fn receive_now(&mut self, into: &mut Vec<u8>) -> io::Result<Received>;

    /// How long `receive` waits.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    fn set_timeout(&mut self, timeout: Duration) -> io::Result<()>;

    /// Bytes of the receive buffer, with the kernel's own overhead.
    fn receive_buffer(&self) -> usize;

    /// Make room for a datagram of this length in the send buffer.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    fn make_room(&mut self, _length: usize) -> io::Result<()> {
        Ok(())
    }
}

/// A netlink socket to the kernel.
#[derive(Debug)]
pub struct KernelSocket {
    socket: Socket,
    port: u32,
    receive_buffer: usize,
    send_buffer: usize,
}

impl KernelSocket {
    /// A socket of a protocol ([`protocols`](crate::protocols)) in the network
    /// namespace of the calling thread.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(protocol: isize) -> Result<Self, Error> {
        let failed = |action| move |source| Error::Open { action, source };
        let mut socket = Socket::new(protocol).map_err(failed("open a netlink socket"))?;
        let address = socket
            .bind_auto()
            .map_err(failed("bind the netlink socket"))?;
        // A connected socket gets nothing from others than the kernel.
        socket
            .connect(&SocketAddr::new(0, 0))
            .map_err(failed("connect to the kernel"))?;
        // Both make errors smaller or plainer. Kernels before 4.2 and 4.12 lack
        // them and are understood as well.
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        if protocol == NETLINK_ROUTE {
            // Dumps are filtered by the kernel. Where it cannot (before 4.20), it
            // gives more than was asked for.
            let _ = socket.set_netlink_get_strict_chk(true);
        }
        // Beyond net.core.rmem_max needs CAP_NET_ADMIN in the first user
        // namespace; without it the limit is the best that can be had.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
        }
        let receive_buffer = socket
            .get_rx_buf_sz()
            .map_err(failed("read the size of the receive buffer"))?;
        let send_buffer = getsockopt(&socket, sockopt::SndBuf)
            .map_err(|errno| failed("read the size of the send buffer")(errno.into()))?;
        Ok(Self {
            socket,
            port: address.port_number(),
            receive_buffer,
            send_buffer,
        })
    }

    /// Its own port, by which the kernel knows it.
    pub fn port(&self) -> u32 {
        self.port
    }

    fn receive_with(&self, into: &mut Vec<u8>, flags: i32) -> io::Result<Received> {
        into.reserve(DATAGRAM);
        loop {
            into.clear();
            match self.socket.recv_from(into, flags | MSG_TRUNC) {
                Ok((length, from)) => {
                    return Ok(Received {
                        length,
                        sender: from.port_number(),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Transport for KernelSocket {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.socket.send(bytes, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<Received> {
        self.receive_with(into, 0)
    }

    fn receive_now(&mut self, into: &mut Vec<u8>) -> io::Result<Received> {
        self.receive_with(into, MSG_DONTWAIT)
    }

    fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        // To the kernel 0 is for ever.
        let timeout = timeout.max(Duration::from_micros(1));
        let seconds = timeout.as_secs().try_into().unwrap_or(i64::MAX);
        let value = TimeVal::new(seconds, timeout.subsec_micros().into());
        Ok(setsockopt(&self.socket, sockopt::ReceiveTimeout, &value)?)
    }

    fn receive_buffer(&self) -> usize {
        self.receive_buffer
    }

    fn make_room(&mut self, length: usize) -> io::Result<()> {
        let needed = length.saturating_add(SEND_OVERHEAD);
        if needed <= self.send_buffer {
            return Ok(());
        }
        if needed > SEND_BUFFER_LIMIT {
            return Err(Errno::EMSGSIZE.into());
        }
        if setsockopt(&self.socket, sockopt::SndBufForce, &needed).is_err() {
            setsockopt(&self.socket, sockopt::SndBuf, &needed)?;
        }
        self.send_buffer = getsockopt(&self.socket, sockopt::SndBuf)?;
        Ok(())
    }
}
