//! The bytes of one connection: from socket to socket through a pipe, without a
//! copy to this program and back.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use nix::unistd::pipe2;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::consume_budget;
use tokio::time::timeout;

/// How long an endpoint may take to answer: as long as kube-proxy waits.
const DIAL: Duration = Duration::from_secs(5);
/// Most bytes on their way in one direction, so that a reader that does not read
/// costs no more.
const MOST: usize = 16 << 10;
/// Silence after which a peer is asked whether it is still there, and between
/// two questions, in seconds.
const ALIVE: u32 = 15;

/// Connects to an endpoint.
///
/// # Errors
/// As `connect(2)`; `TimedOut` after five seconds.
pub(super) async fn dial(endpoint: SocketAddr) -> io::Result<TcpStream> {
    timeout(DIAL, TcpStream::connect(endpoint))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Carries bytes both ways until both sides have ended. The end of one is told to
/// the other, which may go on.
///
/// # Errors
/// One of the two broke off, or there is no descriptor for a pipe.
pub(super) async fn both(one: &TcpStream, other: &TcpStream) -> io::Result<()> {
    for stream in [one, other] {
        stream.set_nodelay(true)?;
        ask_whether_alive(stream)?;
    }
    tokio::try_join!(one_way(one, other), one_way(other, one)).map(drop)
}

/// Without that, a peer that vanished without a word would keep its place for good.
fn ask_whether_alive(stream: &TcpStream) -> io::Result<()> {
    let socket = stream.as_fd();
    setsockopt(&socket, sockopt::KeepAlive, &true)?;
    setsockopt(&socket, sockopt::TcpKeepIdle, &ALIVE)?;
    setsockopt(&socket, sockopt::TcpKeepInterval, &ALIVE)?;
    Ok(())
}

async fn one_way(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let (pipe, into) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    loop {
        // The pipe is empty here: who is waited for is the sender.
        let read = || piece(from, &into, MOST);
        let mut left = from.async_io(Interest::READABLE, read).await?;
        if left == 0 {
            break;
        }
        while left > 0 {
            let write = || piece(&pipe, to, left);
            left -= to.async_io(Interest::WRITABLE, write).await?;
        }
        // Two that are always ready would let nobody else run on this thread.
        consume_budget().await;
    }
    Ok(shutdown(to.as_raw_fd(), Shutdown::Write)?)
}

fn piece(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
    Ok(splice(from, None, to, None, most, flags)?)
}
