//! The netlink socket.

use std::io;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};
use nix::libc::MSG_TRUNC;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::Error;

/// Receive buffer that is asked for. The kernel doubles it.
const RECEIVE_BUFFER: usize = 1 << 20;

/// The longest datagram that is read. The kernel makes them 32 KiB at most.
pub(crate) const DATAGRAM: usize = 1 << 16;

/// Carries datagrams to the kernel and back.
pub(crate) trait Transport {
    /// Send one datagram; how many bytes of it went.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Receive one datagram into `into`, which is emptied first; how long it
    /// was, which is more than what is in `into` if it was cut off.
    /// `WouldBlock` when the time-out is over.
    fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<usize>;

    /// The same without waiting.
    fn receive_now(&mut self, into: &mut Vec<u8>) -> io::Result<usize>;

    /// How long `receive` waits.
    fn set_timeout(&mut self, timeout: Duration) -> io::Result<()>;

    /// Bytes of the receive buffer, with the kernel's own overhead.
    fn receive_buffer(&self) -> usize;
}

/// A generic netlink socket to the kernel.
#[derive(Debug)]
pub(crate) struct KernelSocket {
    socket: Socket,
    receive_buffer: usize,
}

impl KernelSocket {
    pub(crate) fn open() -> Result<Self, Error> {
        let failed = |action| move |source| Error::Socket { action, source };
        let mut socket =
            Socket::new(NETLINK_GENERIC).map_err(failed("open a generic netlink socket"))?;
        socket
            .bind_auto()
            .map_err(failed("bind the netlink socket"))?;
        socket
            .connect(&SocketAddr::new(0, 0))
            .map_err(failed("connect to the kernel"))?;
        // Both make errors smaller or plainer. Kernels before 4.2 and 4.12 lack
        // them and are understood as well.
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        // Beyond net.core.rmem_max needs CAP_NET_ADMIN in the first user
        // namespace; without it the limit is the best that can be had.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
        }
        let receive_buffer = socket
            .get_rx_buf_sz()
            .map_err(failed("read the size of the receive buffer"))?;
        Ok(Self {
            socket,
            receive_buffer,
        })
    }

    /// Receive from the kernel alone; anybody may write to a netlink socket.
    fn receive_with(&self, into: &mut Vec<u8>, flags: i32) -> io::Result<usize> {
        into.reserve(DATAGRAM);
        loop {
            into.clear();
            match self.socket.recv_from(into, flags | MSG_TRUNC) {
                Ok((length, from)) if from.port_number() == 0 => return Ok(length),
                Ok(_) => {}
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

    fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        self.receive_with(into, 0)
    }

    fn receive_now(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        self.receive_with(into, nix::libc::MSG_DONTWAIT)
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
}
