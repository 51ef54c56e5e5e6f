//! VIPs on our link: binding, unbinding, listing.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_exchange::Errno;
use netlink_packet_core::Parseable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteType};

use crate::link::{self, Ensured};
use crate::listed::vip_in;
use crate::message::{self, TABLE_LOCAL, host_prefix};
use crate::socket::{Refusal, Request, RouteSocket};
use crate::{Error, HostAddress, Result, host};

/// The protocol number of our routes (`ip route show ... proto 196`), by which
/// we tell them from those of others.
pub const ROUTE_PROTOCOL: u8 = 196;
/// The metric of our routes. Those that the kernel makes for addresses have 0.
pub const ROUTE_METRIC: u32 = 1024;

/// How a VIP becomes one of this host's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// An address on the link: `ip address add VIP/32 dev LINK`. The kernel
    /// needs time in proportion to the addresses that are there for each more.
    Address,
    /// A route: `ip route add local VIP dev LINK src SOURCE`. Cheap, and what
    /// this host sends to a VIP carries the source given here.
    Route {
        /// The source for IPv4, an address of this host; the kernel chooses if none.
        source_v4: Option<Ipv4Addr>,
        /// The source for IPv6, an address of this host; the kernel chooses if none.
        source_v6: Option<Ipv6Addr>,
    },
}

impl Binding {
    /// The source hint for a VIP.
    fn source(self, vip: IpAddr) -> Option<IpAddr> {
        match (self, vip) {
            (Self::Address, _) => None,
            (Self::Route { source_v4, .. }, IpAddr::V4(_)) => source_v4.map(IpAddr::V4),
            (Self::Route { source_v6, .. }, IpAddr::V6(_)) => source_v6.map(IpAddr::V6),
        }
    }
}

/// Binds VIPs to one dummy link.
///
/// Synchronous. It works in the network namespace of the thread that made it,
/// wherever it is used later.
pub struct Binder {
    socket: RouteSocket,
    link: String,
    binding: Binding,
    sources_checked: bool,
}

impl Binder {
    /// Opens the socket. The link is neither looked for nor made yet.
    ///
    /// # Errors
    /// The name can be no link's, or the kernel gives no socket.
    pub fn new(link_name: &str, binding: Binding) -> Result<Self> {
        link::check_name(link_name)?;
        Ok(Self {
            socket: RouteSocket::open()?,
            link: link_name.into(),
            binding,
            sources_checked: false,
        })
    }

    /// The name of our link.
    pub fn link_name(&self) -> &str {
        &self.link
    }

    /// How VIPs are bound.
    pub fn binding(&self) -> Binding {
        self.binding
    }

    /// Binds otherwise from now on. What is bound the old way stays: see
    /// [`bound_in`](Self::bound_in) and [`unbind_in`](Self::unbind_in). New
    /// source hints reach the routes that exist with the next `ensure_link`.
    pub fn set_binding(&mut self, binding: Binding) {
        self.binding = binding;
        self.sources_checked = false;
    }

    /// How many times something was sent to the kernel, for tests and metrics.
    pub fn sends(&self) -> u64 {
        self.socket.sends()
    }

    /// Makes sure our link exists, is a dummy link, up, NOARP, and without a
    /// link-local address:
    ///
    /// ```text
    /// ip link add LINK type dummy
    /// ip link set LINK addrgenmode none
    /// ip link set LINK up arp off
    /// ```
    ///
    /// The first time in route mode, routes of ours with another source than
    /// wanted get the right one, in place.
    ///
    /// # Errors
    /// A link of that name exists and is not dummy; the kernel refuses.
    pub fn ensure_link(&mut self) -> Result<Ensured> {
        let ensured = link::ensure(&mut self.socket, &self.link)?;
        if !self.sources_checked {
            self.correct_sources()?;
            self.sources_checked = true;
        }
        Ok(ensured)
    }

    /// Removes our link and with it all that is bound. Equal to `ip link del
    /// LINK`. False when there is none.
    ///
    /// # Errors
    /// The link is not dummy; the kernel refuses.
    pub fn remove_link(&mut self) -> Result<bool> {
        link::remove(&mut self.socket, &self.link)
    }

    /// Binds VIPs; one that is bound already is fine. Gives those that were
    /// refused, with the reason.
    ///
    /// # Errors
    /// Nothing is known of any of them: no link, or the socket failed.
    pub fn bind(&mut self, vips: &[IpAddr]) -> Result<Vec<(IpAddr, Error)>> {
        let binding = self.binding;
        let add = |index, vip| match binding {
            Binding::Address => message::add_address(index, vip),
            Binding::Route { .. } => message::add_route(index, vip, binding.source(vip)),
        };
        self.carry_out("bind", vips, add, |errno| errno == Errno::EEXIST)
    }

    /// Unbinds VIPs; one that is not bound is fine, and so is a link that is
    /// not there. Gives those that were refused, with the reason.
    ///
    /// # Errors
    /// Nothing is known of any of them: the socket failed.
    pub fn unbind(&mut self, vips: &[IpAddr]) -> Result<Vec<(IpAddr, Error)>> {
        self.unbind_in(self.binding, vips)
    }

    /// [`unbind`](Self::unbind) of what was bound in the given mode, whatever
    /// the mode is now. With the last IPv4 address the kernel takes the routes
    /// off the link; those that should be there are made again at once.
    ///
    /// # Errors
    /// As [`unbind`](Self::unbind).
    pub fn unbind_in(&mut self, mode: Binding, vips: &[IpAddr]) -> Result<Vec<(IpAddr, Error)>> {
        let switching = mode == Binding::Address && self.binding != Binding::Address;
        let routes = if switching {
            self.bound()?
        } else {
            BTreeSet::new()
        };
        let remove = |index, vip| match mode {
            Binding::Address => message::remove_address(index, vip),
            Binding::Route { .. } => message::remove_route(index, vip),
        };
        let gone = |errno| {
            use Errno::{EADDRNOTAVAIL, ENODEV, ENXIO, ESRCH};
            [EADDRNOTAVAIL, ESRCH, ENODEV, ENXIO].contains(&errno)
        };
        let refused = match self.carry_out("unbind", vips, remove, gone) {
            Err(Error::NoLink { .. }) => return Ok(Vec::new()),
            done => done?,
        };
        self.bind_again(&routes, refused)
    }

    /// With the last IPv4 address of a link the kernel removes its IPv4 routes
    /// too, so they are made again.
    fn bind_again(
        &mut self,
        routes: &BTreeSet<IpAddr>,
        mut refused: Vec<(IpAddr, Error)>,
    ) -> Result<Vec<(IpAddr, Error)>> {
        let routes: Vec<_> = routes.iter().copied().filter(IpAddr::is_ipv4).collect();
        refused.extend(self.bind(&routes)?);
        Ok(refused)
    }

    /// The VIPs that are bound in the present mode. A link that is not there
    /// holds none.
    ///
    /// # Errors
    /// The kernel's tables could not be read whole; there is never a partial answer.
    pub fn bound(&mut self) -> Result<BTreeSet<IpAddr>> {
        self.bound_in(self.binding)
    }

    /// The VIPs that are bound in the given mode, whatever the mode is now: in
    /// the other mode these are left-overs. Source hints do not matter.
    ///
    /// Equal to `ip address show dev LINK scope global`, addresses with the
    /// full prefix length only; or to `ip route show table local type local
    /// dev LINK proto 196`.
    ///
    /// # Errors
    /// As [`bound`](Self::bound).
    pub fn bound_in(&mut self, mode: Binding) -> Result<BTreeSet<IpAddr>> {
        let Some(link) = link::find(&mut self.socket, &self.link)? else {
            return Ok(BTreeSet::new());
        };
        match mode {
            Binding::Address => self.addresses(link.index),
            Binding::Route { .. } => {
                let routes = self.routes(link.index)?;
                Ok(routes.into_iter().map(|route| route.vip).collect())
            }
        }
    }

    /// The addresses of this host that are not on our link, of all links and
    /// scopes, by link and address. Equal to `ip address show`.
    ///
    /// # Errors
    /// The kernel's tables could not be read whole.
    pub fn host_addresses(&mut self) -> Result<Vec<HostAddress>> {
        host::addresses(&mut self.socket, &self.link)
    }

    /// The next hops of all default routes of the main table. Equal to the
    /// `via` of `ip [-6] route show default`.
    ///
    /// # Errors
    /// The kernel's tables could not be read whole.
    pub fn default_gateways(&mut self) -> Result<BTreeSet<IpAddr>> {
        host::default_gateways(&mut self.socket)
    }

    /// Sends one request for each VIP and explains the refusals.
    fn carry_out(
        &mut self,
        verb: &str,
        vips: &[IpAddr],
        request: impl Fn(u32, IpAddr) -> Request,
        is_done: impl Fn(Errno) -> bool,
    ) -> Result<Vec<(IpAddr, Error)>> {
        if vips.is_empty() {
            return Ok(Vec::new());
        }
        let operation = format!("{verb} {} VIPs to {}", vips.len(), self.link);
        let Some(link) = link::find(&mut self.socket, &self.link)? else {
            let link = self.link.clone();
            return Err(Error::NoLink { operation, link });
        };
        let requests: Vec<_> = vips.iter().map(|vip| request(link.index, *vip)).collect();
        let refusals = self.socket.batch(&operation, &requests)?;
        let explain = |refusal: Refusal| {
            let vip = vips[refusal.index];
            let prefix = host_prefix(vip);
            let operation = format!("{verb} {vip}/{prefix} on {}", self.link);
            (vip, Error::refused(operation, &refusal.reason))
        };
        Ok(refusals
            .into_iter()
            .filter(|refusal| !is_done(refusal.reason.errno))
            .map(explain)
            .collect())
    }

    fn addresses(&mut self, link: u32) -> Result<BTreeSet<IpAddr>> {
        let operation = format!("list addresses of {}", self.link);
        let request = message::list_addresses(Some(link));
        let found = self
            .socket
            .dump(&operation, request, |content| vip_in(content.payload, link));
        // The link vanished between two questions.
        gone_is_empty(found).map(BTreeSet::from_iter)
    }

    fn routes(&mut self, link: u32) -> Result<Vec<VipRoute>> {
        let operation = format!("list routes of {}", self.link);
        let mut all = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let request = message::list_our_routes(family, link);
            let found = self.socket.dump(&operation, request, |content| {
                let route = RouteMessage::parse(content.payload)?;
                Ok(VipRoute::of(&route, link))
            });
            all.extend(gone_is_empty(found)?);
        }
        Ok(all)
    }

    /// Gives our routes the source they should have.
    fn correct_sources(&mut self) -> Result<()> {
        let Binding::Route { .. } = self.binding else {
            return Ok(());
        };
        let Some(link) = link::find(&mut self.socket, &self.link)? else {
            return Ok(());
        };
        let wrong: Vec<_> = self
            .routes(link.index)?
            .into_iter()
            .filter(|route| route.source != self.binding.source(route.vip))
            .map(|route| route.vip)
            .collect();
        match self.bind(&wrong)?.into_iter().next() {
            None => Ok(()),
            Some((_, error)) => Err(error),
        }
    }
}

/// A route of ours as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VipRoute {
    pub(crate) vip: IpAddr,
    pub(crate) source: Option<IpAddr>,
}

impl VipRoute {
    /// The VIP of a route, if it is one of ours on that link.
    pub(crate) fn of(route: &RouteMessage, link: u32) -> Option<Self> {
        let header = &route.header;
        let mut vip = None;
        let mut source = None;
        let mut on_link = false;
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Destination(address) => vip = host::ip(address),
                RouteAttribute::PrefSource(address) => source = host::ip(address),
                RouteAttribute::Oif(index) => on_link = *index == link,
                _ => {}
            }
        }
        let vip = vip?;
        let ours = header.kind == RouteType::Local
            && header.table == TABLE_LOCAL
            && header.protocol == RouteProtocol::from(ROUTE_PROTOCOL)
            && header.destination_prefix_length == host_prefix(vip)
            && on_link;
        ours.then_some(Self { vip, source })
    }
}

fn gone_is_empty<T>(found: Result<Vec<T>>) -> Result<Vec<T>> {
    match found {
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(Vec::new()),
        found => found,
    }
}
