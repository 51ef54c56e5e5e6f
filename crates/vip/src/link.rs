//! Our dummy link: what the kernel says of it, making it, removing it.

use netlink_exchange::Errno;
use netlink_exchange::attributes::{self, Attribute};
use netlink_packet_route::link::LinkFlags;

use crate::message;
use crate::socket::RouteSocket;
use crate::{Error, Result};

const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_AF_SPEC: u16 = 26;
const AF_INET6: u16 = 10;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

/// What `ensure_link` had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    /// There was no such link; there is one now.
    Created,
    /// The link was there, and down or with other settings. While it was down
    /// the kernel may have removed its routes and IPv6 addresses: look again.
    Changed,
    /// All was as it should be; nothing was written.
    Unchanged,
}

/// A link, as far as we care. Read by hand, so that an attribute of some
/// exotic driver is no reason to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// `dummy`, `veth`, ...; physical links have none.
    pub(crate) kind: Option<String>,
    pub(crate) flags: LinkFlags,
    /// None when the kernel has no IPv6 on this link.
    address_mode: Option<u8>,
}

impl Link {
    /// Reads what follows the header of an `RTM_NEWLINK` or `RTM_DELLINK`.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let word = |at: usize| {
            let bytes = payload.get(at..at + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        let attributes = payload.get(16..)?;
        let mode = [IFLA_AF_SPEC, AF_INET6, IFLA_INET6_ADDR_GEN_MODE];
        Some(Self {
            index: word(4)?,
            flags: LinkFlags::from_bits_retain(word(8)?),
            name: attributes::name(value_at(attributes, &[IFLA_IFNAME])?),
            kind: value_at(attributes, &[IFLA_LINKINFO, IFLA_INFO_KIND]).map(attributes::name),
            address_mode: value_at(attributes, &mode).and_then(|value| value.first().copied()),
        })
    }

    fn is_up(&self) -> bool {
        self.flags.contains(LinkFlags::Up | LinkFlags::Noarp)
    }

    fn makes_no_addresses(&self) -> bool {
        self.address_mode
            .is_none_or(|mode| mode == IN6_ADDR_GEN_MODE_NONE)
    }

    fn require_dummy(&self) -> Result<()> {
        match self.kind.as_deref() {
            Some("dummy") => Ok(()),
            kind => Err(Error::NotDummy {
                link: self.name.clone(),
                kind: kind.unwrap_or("unknown").into(),
            }),
        }
    }
}

/// The value found by going down through nested attributes.
fn value_at<'a>(attributes: &'a [u8], path: &[u16]) -> Option<&'a [u8]> {
    path.iter().try_fold(attributes, |value, kind| {
        attributes::find(value, *kind).ok()?.map(Attribute::value)
    })
}

/// Refuses what the kernel would refuse, or worse, cut short.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let odd = |c: char| c == '/' || c == ':' || c == '%' || c == '\0' || c.is_whitespace();
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(odd) {
        return Err(Error::BadName(name.into()));
    }
    Ok(())
}

/// The link of that name, if there is one.
pub(crate) fn find(socket: &mut RouteSocket, name: &str) -> Result<Option<Link>> {
    let operation = format!("look up link {name}");
    match socket.get(&operation, message::get_link(name), Link::parse) {
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
        found => found,
    }
}

/// Makes sure the link is there, is dummy, up, NOARP and without an IPv6
/// address of the kernel's making.
pub(crate) fn ensure(socket: &mut RouteSocket, name: &str) -> Result<Ensured> {
    let (link, created) = match find(socket, name)? {
        Some(link) => (link, false),
        None => (create(socket, name)?, true),
    };
    link.require_dummy()?;
    if link.is_up() && link.makes_no_addresses() {
        return Ok(Ensured::Unchanged);
    }
    // The mode comes before `up`, which is when the kernel makes fe80::.
    let steps = [
        message::no_autoconf_address(link.index),
        message::up(link.index),
    ];
    let operation = format!("set up link {name}");
    for refusal in socket.batch(&operation, &steps)? {
        // A kernel without IPv6 makes no IPv6 address.
        if refusal.index == 0 && refusal.reason.errno == Errno::EAFNOSUPPORT {
            continue;
        }
        return Err(Error::refused(operation, &refusal.reason));
    }
    Ok(if created {
        Ensured::Created
    } else {
        Ensured::Changed
    })
}

fn create(socket: &mut RouteSocket, name: &str) -> Result<Link> {
    let operation = format!("create dummy link {name}");
    let refusals = socket.batch(&operation, &[message::add_link(name)])?;
    match refusals.first().map(|refusal| &refusal.reason) {
        // Somebody was faster; what they made is checked like any other.
        Some(reason) if reason.errno != Errno::EEXIST => {
            return Err(Error::refused(operation, reason));
        }
        _ => {}
    }
    find(socket, name)?.ok_or(Error::NoLink {
        operation,
        link: name.into(),
    })
}

/// Removes the link; false when there was none.
pub(crate) fn remove(socket: &mut RouteSocket, name: &str) -> Result<bool> {
    let Some(link) = find(socket, name)? else {
        return Ok(false);
    };
    link.require_dummy()?;
    let request = [message::remove_link(link.index)];
    let operation = format!("remove link {name}");
    match socket.batch(&operation, &request)?.first() {
        None => Ok(true),
        Some(refusal) if refusal.reason.errno == Errno::ENODEV => Ok(false),
        Some(refusal) => Err(Error::refused(operation, &refusal.reason)),
    }
}
