//! Requests that change something, and how they are written.

use std::ops::Deref;

use netlink_exchange::Writer;

use crate::constants::*;
use crate::wire::generic_header;
use crate::{
    Daemon, DaemonState, Destination, DestinationId, Operation, Service, ServiceId, Timeouts,
};

/// A request that changes something. Each is one netlink message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Add a service; equivalent to `ipvsadm -A`.
    AddService(Service),
    /// Change the settings of a service, all of them; equivalent to `ipvsadm -E`.
    EditService(Service),
    /// Remove a service with its destinations; equivalent to `ipvsadm -D`.
    RemoveService(ServiceId),
    /// Add a destination; equivalent to `ipvsadm -a`.
    AddDestination(ServiceId, Destination),
    /// Change the settings of a destination, all of them; equivalent to
    /// `ipvsadm -e`.
    EditDestination(ServiceId, Destination),
    /// Remove a destination; equivalent to `ipvsadm -d`.
    RemoveDestination(ServiceId, DestinationId),
    /// Remove all services; equivalent to `ipvsadm -C`.
    Flush,
    /// Zero counters, of one service or of all; equivalent to `ipvsadm -Z`.
    Zero(Option<ServiceId>),
    /// Set time-outs; equivalent to `ipvsadm --set`.
    SetTimeouts(Timeouts),
    /// Start a daemon; equivalent to `ipvsadm --start-daemon`.
    StartDaemon(Daemon),
    /// Stop a daemon; equivalent to `ipvsadm --stop-daemon`.
    StopDaemon(DaemonState),
}

impl Request {
    /// What it asks, without the settings.
    pub fn operation(&self) -> Operation {
        match self {
            Self::AddService(service) => Operation::AddService {
                service: service.id,
                scheduler: service.scheduler.clone(),
                pe_name: service.pe_name.clone(),
            },
            Self::EditService(service) => Operation::EditService {
                service: service.id,
                scheduler: service.scheduler.clone(),
                pe_name: service.pe_name.clone(),
            },
            Self::RemoveService(service) => Operation::RemoveService(*service),
            Self::AddDestination(service, destination) => Operation::AddDestination {
                service: *service,
                destination: destination.id,
            },
            Self::EditDestination(service, destination) => Operation::EditDestination {
                service: *service,
                destination: destination.id,
            },
            Self::RemoveDestination(service, destination) => Operation::RemoveDestination {
                service: *service,
                destination: *destination,
            },
            Self::Flush => Operation::Flush,
            Self::Zero(service) => Operation::Zero(*service),
            Self::SetTimeouts(_) => Operation::SetTimeouts,
            Self::StartDaemon(daemon) => Operation::StartDaemon {
                state: daemon.state,
                interface: daemon.interface.clone(),
            },
            Self::StopDaemon(state) => Operation::StopDaemon(*state),
        }
    }

    fn command(&self) -> u8 {
        match self {
            Self::AddService(_) => IPVS_CMD_NEW_SERVICE,
            Self::EditService(_) => IPVS_CMD_SET_SERVICE,
            Self::RemoveService(_) => IPVS_CMD_DEL_SERVICE,
            Self::AddDestination(..) => IPVS_CMD_NEW_DEST,
            Self::EditDestination(..) => IPVS_CMD_SET_DEST,
            Self::RemoveDestination(..) => IPVS_CMD_DEL_DEST,
            Self::Flush => IPVS_CMD_FLUSH,
            Self::Zero(_) => IPVS_CMD_ZERO,
            Self::SetTimeouts(_) => IPVS_CMD_SET_CONFIG,
            Self::StartDaemon(_) => IPVS_CMD_NEW_DAEMON,
            Self::StopDaemon(_) => IPVS_CMD_DEL_DAEMON,
        }
    }

    fn write(&self, out: &mut Writer<'_>) {
        match self {
            Self::AddService(service) | Self::EditService(service) => {
                out.nest(IPVS_CMD_ATTR_SERVICE, |out| service.write(out));
            }
            Self::RemoveService(service) | Self::Zero(Some(service)) => write_id(out, service),
            Self::AddDestination(service, destination)
            | Self::EditDestination(service, destination) => {
                write_id(out, service);
                out.nest(IPVS_CMD_ATTR_DEST, |out| destination.write(out));
            }
            Self::RemoveDestination(service, destination) => {
                write_id(out, service);
                out.nest(IPVS_CMD_ATTR_DEST, |out| {
                    destination.write(out);
                    destination.write_family(out);
                });
            }
            Self::Flush | Self::Zero(None) => {}
            Self::SetTimeouts(timeouts) => timeouts.write(out),
            Self::StartDaemon(daemon) => {
                out.nest(IPVS_CMD_ATTR_DAEMON, |out| daemon.write(out));
            }
            Self::StopDaemon(state) => out.nest(IPVS_CMD_ATTR_DAEMON, |out| {
                out.u32(IPVS_DAEMON_ATTR_STATE, state.number());
            }),
        }
    }
}

/// A request to the family `IPVS`, which has another number on every boot.
pub(crate) struct Addressed<'a> {
    pub(crate) family: u16,
    pub(crate) request: &'a Request,
}

impl netlink_exchange::Request for Addressed<'_> {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.header(&generic_header(self.request.command(), IPVS_GENL_VERSION));
        self.request.write(out);
    }
}

/// What identifies a service, in a nest.
pub(crate) fn write_id(out: &mut Writer<'_>, service: &ServiceId) {
    out.nest(IPVS_CMD_ATTR_SERVICE, |out| service.write(out));
}

/// Requests to be applied together, in order.
///
/// ```
/// use std::net::Ipv4Addr;
/// use ipvs_netlink::{Batch, Request, Scheduler, Service, ServiceId};
///
/// let mut batch = Batch::default();
/// let id = ServiceId::tcp(Ipv4Addr::new(10, 96, 0, 1), 443);
/// batch.push(Request::AddService(Service::new(id, Scheduler::RR)));
/// assert_eq!(batch.len(), 1);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch(Vec<Request>);

impl Batch {
    /// Add a request at the end.
    pub fn push(&mut self, request: Request) {
        self.0.push(request);
    }
}

impl Deref for Batch {
    type Target = [Request];

    fn deref(&self) -> &[Request] {
        &self.0
    }
}

impl Extend<Request> for Batch {
    fn extend<I: IntoIterator<Item = Request>>(&mut self, requests: I) {
        self.0.extend(requests);
    }
}

impl FromIterator<Request> for Batch {
    fn from_iter<I: IntoIterator<Item = Request>>(requests: I) -> Self {
        Self(requests.into_iter().collect())
    }
}
