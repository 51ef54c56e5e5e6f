//! Binding a server: dual-stack wildcards, and what a busy port means.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket};
use tracing::{info, warn};

use super::connections::{Connections, Port};

/// How often a port that cannot be bound is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;

/// Which families a socket takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// A wildcard stands for both families.
    DualStack,
    /// Only the family of the address, so that both may be bound side by side.
    OwnFamily,
}

/// Serves until the future is dropped.
///
/// A port that is taken is tried again every 5 s, or is an error at once with
/// `hard_fail` (`bindAddressHardFail`). `what` names the server in messages.
pub async fn serve(
    connections: Connections,
    what: &str,
    address: SocketAddr,
    hard_fail: bool,
    router: Router,
) -> anyhow::Result<()> {
    let retry = (!hard_fail).then_some(RETRY);
    let listener = bound(what, address, retry).await?;
    info!(%address, "{what} listens");
    connections.serve(listener, Port { address, router }).await;
    anyhow::bail!("serve {what} on {address}: its socket was shut down")
}

async fn bound(
    what: &str,
    address: SocketAddr,
    retry: Option<Duration>,
) -> anyhow::Result<TcpListener> {
    loop {
        let error = match listen(address, Reach::DualStack) {
            Ok(listener) => return Ok(listener),
            Err(error) => error,
        };
        let Some(pause) = retry else {
            return Err(error).with_context(|| format!("bind {what} to {address}"));
        };
        warn!(%address, %error, ?pause, "cannot bind {what}, will try again");
        tokio::time::sleep(pause).await;
    }
}

/// A listening socket. `0.0.0.0` means both families with [`Reach::DualStack`],
/// as it does in Go programs; a host without IPv6 gets IPv4.
///
/// Must be called within a runtime.
pub(crate) fn listen(address: SocketAddr, reach: Reach) -> io::Result<TcpListener> {
    let both = reach == Reach::DualStack && address.ip().is_unspecified();
    if !both {
        return socket(address, false);
    }
    let wildcard = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), address.port());
    match socket(wildcard, true) {
        Err(error) if no_ipv6(&error) && address.is_ipv4() => socket(address, false),
        result => result,
    }
}

fn socket(address: SocketAddr, dual_stack: bool) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if address.is_ipv6() {
        setsockopt(&socket.as_fd(), sockopt::Ipv6V6Only, &!dual_stack)?;
    }
    if !address.ip().is_unspecified() {
        // A VIP may be bound to its link a moment later than its port is opened.
        setsockopt(&socket.as_fd(), sockopt::IpFreebind, &true)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn no_ipv6(error: &io::Error) -> bool {
    use nix::errno::Errno;
    [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL]
        .iter()
        .any(|errno| error.raw_os_error() == Some(*errno as i32))
}

#[cfg(test)]
mod tests {
    use axum::routing::get;

    use super::*;
    use crate::health::testing;
    use kube_ipvs_source::tasks::Tasks;

    fn local(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[tokio::test]
    async fn a_wildcard_is_reached_over_both_families() {
        let listener =
            listen("0.0.0.0:0".parse().expect("an address"), Reach::DualStack).expect("bind");
        let port = listener.local_addr().expect("an address").port();
        let router = Router::new().route("/", get(|| async { "hi" }));
        tokio::spawn(async move { axum::serve(listener, router).await });

        assert_eq!(testing::get(local(port), "/").await.body, "hi");
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        assert_eq!(testing::get(v6, "/").await.body, "hi");
    }

    #[tokio::test]
    async fn families_may_be_bound_side_by_side() {
        let v4 = listen("0.0.0.0:0".parse().expect("an address"), Reach::OwnFamily).expect("v4");
        let port = v4.local_addr().expect("an address").port();

        let v6 = listen((Ipv6Addr::UNSPECIFIED, port).into(), Reach::OwnFamily);

        assert!(v6.is_ok(), "{v6:?}");
    }

    #[tokio::test]
    async fn an_address_that_is_not_here_yet_can_be_bound() {
        for address in ["192.0.2.77:0", "[2001:db8::77]:0"] {
            let listener = listen(address.parse().expect("an address"), Reach::OwnFamily);

            assert!(listener.is_ok(), "{address}: {listener:?}");
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_with_hard_fail() {
        let taken = listen(local(0), Reach::OwnFamily).expect("bind");
        let address = taken.local_addr().expect("an address");

        let connections = Connections::at_most(Tasks::unwatched(), 8);
        let error = serve(connections, "metrics server", address, true, Router::new())
            .await
            .expect_err("the port is taken");

        let message = format!("{error:#}");
        assert!(
            message.starts_with(&format!("bind metrics server to {address}: ")),
            "{message}"
        );
    }

    #[tokio::test]
    async fn a_taken_port_is_tried_again_without_hard_fail() {
        // One who does not listen: whoever asks for any port is given another.
        let keeper = TcpSocket::new_v4().expect("a socket");
        keeper.set_reuseaddr(true).expect("an option");
        keeper.bind(local(0)).expect("a free port");
        let address = keeper.local_addr().expect("an address");
        let taken = listen(address, Reach::OwnFamily).expect("bind");
        let mut trial = Box::pin(bound(
            "health server",
            address,
            Some(Duration::from_millis(5)),
        ));
        let early = tokio::time::timeout(Duration::from_millis(20), &mut trial).await;
        assert!(early.is_err(), "bound a taken port: {early:?}");

        drop(taken);

        let listener = trial.await.expect("bound at last");
        assert_eq!(listener.local_addr().expect("an address"), address);
    }
}
