//! A stream that says when the host's addresses or our link changed.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt, Stream, StreamExt};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::RouteMessage;
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::sys::{AsyncSocket, SocketAddr};
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use tokio::task::unconstrained;

use crate::binder::{Binding, VipRoute};
use crate::host::local_address;
use crate::link;
use crate::listed::vip_of_address;
use crate::socket::RouteSocket;
use crate::{Error, Result};

/// Room for notices that have not been read, in bytes; the kernel doubles it.
const RECEIVE_BUFFER: usize = 8 << 20;

/// Something changed. What is true now is learned by looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// An address of another link came, changed or went.
    HostAddress(IpAddr),
    /// A VIP left our link, by our own doing or that of somebody else.
    VipGone(IpAddr),
    /// A VIP came to our link, likewise.
    VipCome(IpAddr),
    /// Something came to our link, or left it, that is no VIP but may take some
    /// with it: with the last IPv4 address of a link the kernel removes its
    /// routes, and does not tell of them.
    Stray,
    /// Our link was made, removed, renamed, or went up or down.
    Link,
    /// Some changes were lost, or cannot be followed any more: look again.
    Lost,
}

impl Notice {
    fn of_vip(vip: IpAddr, exists: bool) -> Self {
        if exists {
            Self::VipCome(vip)
        } else {
            Self::VipGone(vip)
        }
    }
}

/// The stream of [`watch`]. It may be dropped at any time, and a `next()` that
/// is given up loses nothing.
///
/// Its socket is read while it is polled; a reader that is slow gets
/// [`Notice::Lost`]. It ends when the kernel closes the socket.
pub struct Watch {
    connection: Pin<Box<dyn Future<Output = ()> + Send>>,
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    /// The connection ends without one.
    _handle: Handle,
    our_link: OurLink,
    ready: VecDeque<Notice>,
}

/// Watches addresses of all links, and the link named with its routes. Equal
/// to `ip monitor link address route`, reduced to what matters. `binding` says
/// what on the link is a VIP.
///
/// To be called within a tokio runtime, on a thread in the network namespace
/// to be watched. What happens after it returned is reported.
///
/// # Errors
/// The kernel gives no socket, or cannot be asked for the link.
pub fn watch(link_name: &str, binding: Binding) -> Result<Watch> {
    link::check_name(link_name)?;
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let (mut connection, handle, messages) =
        new_multicast_connection(&groups).map_err(Error::Open)?;
    enlarge(connection.socket_mut().socket_ref());
    // Looked up after the subscription, so that no change falls in between.
    let found = link::find(&mut RouteSocket::open()?, link_name)?;
    Ok(Watch {
        // Each poll must empty the socket: while something is left in one that
        // has overflowed, the kernel drops further news without a word, and
        // `Lost` would be told too early. tokio's budget would stop half-way.
        connection: Box::pin(unconstrained(connection)),
        messages,
        _handle: handle,
        our_link: OurLink {
            name: link_name.into(),
            by_route: binding != Binding::Address,
            state: found.map(|link| (link.index, link.flags.contains(LinkFlags::Up))),
        },
        ready: VecDeque::new(),
    })
}

/// Gives the socket room for the notices of a start: some for each VIP, faster
/// than they can be read. Refused, or too little, it is told of by
/// [`Notice::Lost`], so that neither is an error.
fn enlarge(socket: &impl AsFd) {
    // Beyond the host's limit where that is allowed.
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        _ = setsockopt(socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
    }
}

impl Stream for Watch {
    type Item = Notice;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Notice>> {
        let watch = &mut *self;
        let ended = watch.connection.poll_unpin(context).is_ready();
        while let Poll::Ready(Some((message, _))) = watch.messages.poll_next_unpin(context) {
            let change = watch.our_link.change(&message.payload);
            // A burst of equal news is one piece of news.
            watch
                .ready
                .extend(change.filter(|new| watch.ready.back() != Some(new)));
        }
        match watch.ready.pop_front() {
            Some(change) => Poll::Ready(Some(change)),
            None if ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// What is known of our link, kept up to date from the messages themselves.
struct OurLink {
    name: String,
    /// VIPs are routes there, and not addresses.
    by_route: bool,
    /// Index, and whether it is up; none while there is no such link.
    state: Option<(u32, bool)>,
}

impl OurLink {
    /// What a message of the kernel means to us.
    fn change(&mut self, payload: &NetlinkPayload<RouteNetlinkMessage>) -> Option<Notice> {
        use RouteNetlinkMessage::{DelAddress, DelLink, DelRoute, NewAddress, NewLink, NewRoute};
        match payload {
            NetlinkPayload::Overrun(_) => Some(Notice::Lost),
            NetlinkPayload::InnerMessage(message) => match message {
                NewLink(link) => self.link(link, true),
                DelLink(link) => self.link(link, false),
                NewAddress(address) => self.address(address, true),
                DelAddress(address) => self.address(address, false),
                NewRoute(route) => self.route(route, true),
                DelRoute(route) => self.route(route, false),
                _ => None,
            },
            _ => None,
        }
    }

    fn link(&mut self, message: &LinkMessage, exists: bool) -> Option<Notice> {
        let index = message.header.index;
        let was_ours = self.state.is_some_and(|(ours, _)| ours == index);
        let has_our_name = message.attributes.iter().any(
            |attribute| matches!(attribute, LinkAttribute::IfName(name) if *name == self.name),
        );
        let now =
            (exists && has_our_name).then(|| (index, message.header.flags.contains(LinkFlags::Up)));
        if !(was_ours || has_our_name) || now == self.state {
            return None;
        }
        self.state = now;
        Some(Notice::Link)
    }

    fn address(&self, message: &AddressMessage, exists: bool) -> Option<Notice> {
        match self.state {
            Some((ours, _)) if ours == message.header.index => {
                if self.by_route {
                    return Some(Notice::Stray);
                }
                vip_of_address(message, ours).map(|vip| Notice::of_vip(vip, exists))
            }
            _ => local_address(message).map(Notice::HostAddress),
        }
    }

    fn route(&self, message: &RouteMessage, exists: bool) -> Option<Notice> {
        let (ours, _) = self.state.filter(|_| self.by_route)?;
        VipRoute::of(message, ours).map(|route| Notice::of_vip(route.vip, exists))
    }
}
