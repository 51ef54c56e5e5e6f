//! The client: one method a command.

mod daemons;
mod lists;

use std::net::Ipv6Addr;
use std::time::Duration;

use netlink_exchange::Connection;
use netlink_exchange::protocols::NETLINK_GENERIC;
use netlink_packet_core::DecodeError;
use nix::errno::Errno;

use crate::constants::*;
use crate::generic::find_family;
use crate::query::{Query, list, no_answer};
use crate::request::write_id;
use crate::{
    Destination, DestinationId, Error, Info, Netmask, Operation, Request, Scheduler, Service,
    ServiceId, Timeouts,
};

/// How long an answer is waited for. The kernel answers at once; only a module
/// that it must load first takes longer.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to the IPVS of one network namespace: that of the thread which
/// opened it, for good, whichever thread uses it.
///
/// ```no_run
/// use std::net::Ipv4Addr;
/// use ipvs_netlink::{Client, Destination, DestinationId, Scheduler, Service, ServiceId};
///
/// # fn main() -> Result<(), ipvs_netlink::Error> {
/// let mut client = Client::open()?;
/// let id = ServiceId::tcp(Ipv4Addr::new(10, 96, 0, 10), 80);
/// client.add_service(&Service::new(id, Scheduler::WLC))?;
/// let endpoint = DestinationId::new(Ipv4Addr::new(10, 244, 1, 7), 8080);
/// client.add_destination(&id, &Destination::new(endpoint))?;
/// for service in client.services()? {
///     println!("{} {}", service.id, service.scheduler);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Client {
    pub(crate) connection: Connection,
    pub(crate) family: u16,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("family", &self.family)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Open a socket in the network namespace of this thread, and find IPVS. The
    /// kernel loads `ip_vs` if it is a module and not loaded yet.
    ///
    /// # Errors
    ///
    /// [`Error::NoIpvs`] if the kernel has no IPVS; [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        Self::over(Connection::open(NETLINK_GENERIC).map_err(unopened)?)
    }

    /// The same over a connection of generic netlink that is open already.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn over(mut connection: Connection) -> Result<Self, Error> {
        connection.set_timeout(RECEIVE_TIMEOUT).map_err(unopened)?;
        let family = find_family(&mut connection)?;
        Ok(Self { connection, family })
    }

    /// Wait this long for an answer rather than 5 seconds.
    ///
    /// # Errors
    ///
    /// [`Error::Socket`].
    pub fn set_receive_timeout(&mut self, timeout: Duration) -> Result<(), Error> {
        self.connection.set_timeout(timeout).map_err(unopened)
    }

    /// One service.
    ///
    /// # Errors
    ///
    /// ESRCH if there is none.
    pub fn service(&mut self, id: &ServiceId) -> Result<Service, Error> {
        self.look_at(id, Operation::ShowService(*id))
    }

    /// Add a service; equivalent to `ipvsadm -A`.
    ///
    /// # Errors
    ///
    /// EEXIST; ENOENT if there is no such scheduler or persistence engine.
    pub fn add_service(&mut self, service: &Service) -> Result<(), Error> {
        self.request(&Request::AddService(service.clone()))
    }

    /// Whether the kernel has a scheduler, or can load it; none where that cannot
    /// be asked. Nothing is made.
    ///
    /// The question is an IPv6 service whose clients are grouped by a prefix of
    /// no length. The kernel looks its scheduler up (ENOENT) before it refuses
    /// the prefix (EINVAL), see [`ip_vs_add_service`].
    ///
    /// [`ip_vs_add_service`]: https://github.com/torvalds/linux/blob/v6.1/net/netfilter/ipvs/ip_vs_ctl.c#L1277
    ///
    /// # Errors
    ///
    /// EPERM.
    pub fn has_scheduler(&mut self, scheduler: &Scheduler) -> Result<Option<bool>, Error> {
        // 2001:db8::/32 is for documentation: nobody's traffic goes there.
        let nowhere = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0);
        let mut question = Service::new(ServiceId::tcp(nowhere, 20000), scheduler.clone());
        question.netmask = Netmask::V6(0);
        let answer = self.add_service(&question);
        match answer.as_ref().map_err(Error::errno) {
            Ok(()) => self.remove_service(&question.id).map(|()| Some(true)),
            Err(Some(Errno::EINVAL)) => Ok(Some(true)),
            Err(Some(Errno::ENOENT)) => Ok(Some(false)),
            // A kernel without IPv6, or somebody's service at that address.
            Err(Some(Errno::EAFNOSUPPORT | Errno::EEXIST)) => Ok(None),
            Err(_) => answer.map(|()| None),
        }
    }

    /// Change all settings of a service; equivalent to `ipvsadm -E`. Its
    /// connections stay.
    ///
    /// # Errors
    ///
    /// ESRCH; ENOENT if there is no such scheduler or persistence engine.
    pub fn edit_service(&mut self, service: &Service) -> Result<(), Error> {
        self.request(&Request::EditService(service.clone()))
    }

    /// Remove a service with its destinations; equivalent to `ipvsadm -D`.
    ///
    /// # Errors
    ///
    /// ESRCH.
    pub fn remove_service(&mut self, id: &ServiceId) -> Result<(), Error> {
        self.request(&Request::RemoveService(*id))
    }

    /// Add a destination; equivalent to `ipvsadm -a`.
    ///
    /// # Errors
    ///
    /// EEXIST; ESRCH if there is no such service; EINVAL if `lo` is down; ERANGE
    /// if the lower threshold is above the upper.
    pub fn add_destination(
        &mut self,
        id: &ServiceId,
        destination: &Destination,
    ) -> Result<(), Error> {
        self.request(&Request::AddDestination(*id, destination.clone()))
    }

    /// Change all settings of a destination; equivalent to `ipvsadm -e`. Its
    /// connections stay.
    ///
    /// # Errors
    ///
    /// ENOENT; ESRCH if there is no such service; ERANGE.
    pub fn edit_destination(
        &mut self,
        id: &ServiceId,
        destination: &Destination,
    ) -> Result<(), Error> {
        self.request(&Request::EditDestination(*id, destination.clone()))
    }

    /// Remove a destination; equivalent to `ipvsadm -d`.
    ///
    /// # Errors
    ///
    /// ENOENT; ESRCH if there is no such service.
    pub fn remove_destination(
        &mut self,
        id: &ServiceId,
        destination: &DestinationId,
    ) -> Result<(), Error> {
        self.request(&Request::RemoveDestination(*id, *destination))
    }

    /// Remove all services; equivalent to `ipvsadm -C`.
    ///
    /// # Errors
    ///
    /// EPERM.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.request(&Request::Flush)
    }

    /// Zero counters, of one service and its destinations or of all; equivalent
    /// to `ipvsadm -Z`.
    ///
    /// # Errors
    ///
    /// ESRCH.
    pub fn zero(&mut self, id: Option<&ServiceId>) -> Result<(), Error> {
        self.request(&Request::Zero(id.copied()))
    }

    /// The time-outs; equivalent to `ipvsadm -L --timeout`.
    ///
    /// # Errors
    ///
    /// EPERM.
    pub fn timeouts(&mut self) -> Result<Timeouts, Error> {
        self.show(
            Operation::ShowTimeouts,
            IPVS_CMD_GET_CONFIG,
            IPVS_CMD_SET_CONFIG,
            Timeouts::parse,
        )
    }

    /// Set the time-outs; equivalent to `ipvsadm --set`.
    ///
    /// # Errors
    ///
    /// EINVAL if one is beyond what the kernel can count.
    pub fn set_timeouts(&mut self, timeouts: &Timeouts) -> Result<(), Error> {
        self.request(&Request::SetTimeouts(*timeouts))
    }

    /// Version and table size; the head of `ipvsadm -L`.
    ///
    /// # Errors
    ///
    /// EPERM.
    pub fn info(&mut self) -> Result<Info, Error> {
        self.show(
            Operation::ShowInfo,
            IPVS_CMD_GET_INFO,
            IPVS_CMD_SET_INFO,
            Info::parse,
        )
    }

    /// Carry out one request.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the kernel refuses it.
    pub fn request(&mut self, request: &Request) -> Result<(), Error> {
        let failed = self.apply(std::slice::from_ref(request))?;
        failed
            .into_iter()
            .next()
            .map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Look at a service on behalf of an operation.
    fn look_at(&mut self, id: &ServiceId, operation: Operation) -> Result<Service, Error> {
        let query = self.query(operation, IPVS_CMD_GET_SERVICE, false);
        let answer = (IPVS_CMD_NEW_SERVICE, IPVS_CMD_ATTR_SERVICE);
        let found = list(
            &mut self.connection,
            &query,
            answer,
            |out| write_id(out, id),
            Service::parse,
        )?;
        found
            .into_iter()
            .next()
            .ok_or_else(|| no_answer(query.operation))
    }

    fn query(&self, operation: Operation, command: u8, dump: bool) -> Query {
        Query {
            operation,
            family: self.family,
            command,
            version: IPVS_GENL_VERSION,
            dump,
        }
    }

    /// Ask for what there is one of.
    fn show<T>(
        &mut self,
        operation: Operation,
        command: u8,
        answer: u8,
        parse: impl Fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<T, Error> {
        let query = self.query(operation, command, false);
        let mut shown = None;
        query.ask(
            &mut self.connection,
            |_| {},
            |command, attributes| {
                if command == answer {
                    shown = Some(parse(attributes)?);
                }
                Ok(())
            },
        )?;
        shown.ok_or_else(|| no_answer(query.operation))
    }
}

/// There is no operation yet.
fn unopened(error: netlink_exchange::Error) -> Error {
    Error::of(&Operation::FindFamily, error)
}
