//! What was asked of the kernel, for messages.

use std::fmt;

use crate::{DaemonState, DestinationId, Scheduler, ServiceId};

/// What was asked of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Find the family of IPVS.
    FindFamily,
    /// List all services.
    ListServices,
    /// Look at a service.
    ShowService(ServiceId),
    /// List the destinations of a service.
    ListDestinations(ServiceId),
    /// Add a service.
    AddService {
        /// Which.
        service: ServiceId,
        /// Its scheduler.
        scheduler: Scheduler,
        /// Its persistence engine.
        pe_name: Option<String>,
    },
    /// Change a service.
    EditService {
        /// Which.
        service: ServiceId,
        /// Its scheduler.
        scheduler: Scheduler,
        /// Its persistence engine.
        pe_name: Option<String>,
    },
    /// Remove a service.
    RemoveService(ServiceId),
    /// Add a destination.
    AddDestination {
        /// To which service.
        service: ServiceId,
        /// Which.
        destination: DestinationId,
    },
    /// Change a destination.
    EditDestination {
        /// Of which service.
        service: ServiceId,
        /// Which.
        destination: DestinationId,
    },
    /// Remove a destination.
    RemoveDestination {
        /// From which service.
        service: ServiceId,
        /// Which.
        destination: DestinationId,
    },
    /// Remove all services.
    Flush,
    /// Zero counters, of one service or of all.
    Zero(Option<ServiceId>),
    /// Read the time-outs.
    ShowTimeouts,
    /// Set the time-outs.
    SetTimeouts,
    /// Read version and table size.
    ShowInfo,
    /// List the synchronisation daemons.
    ListDaemons,
    /// Start a synchronisation daemon.
    StartDaemon {
        /// Which.
        state: DaemonState,
        /// On which interface.
        interface: String,
    },
    /// Stop a synchronisation daemon.
    StopDaemon(DaemonState),
    /// Several requests in one send; none of them in particular.
    Batch,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FindFamily => f.write_str("find IPVS in the kernel"),
            Self::ListServices => f.write_str("list virtual servers"),
            Self::ShowService(service) => write!(f, "read virtual server {service}"),
            Self::ListDestinations(service) => write!(f, "list real servers of {service}"),
            Self::AddService {
                service, scheduler, ..
            } => {
                write!(f, "add virtual server {service} with scheduler {scheduler}")
            }
            Self::EditService {
                service, scheduler, ..
            } => {
                write!(
                    f,
                    "change virtual server {service} with scheduler {scheduler}"
                )
            }
            Self::RemoveService(service) => write!(f, "remove virtual server {service}"),
            Self::AddDestination {
                service,
                destination,
            } => {
                write!(f, "add real server {destination} to {service}")
            }
            Self::EditDestination {
                service,
                destination,
            } => {
                write!(f, "change real server {destination} of {service}")
            }
            Self::RemoveDestination {
                service,
                destination,
            } => {
                write!(f, "remove real server {destination} from {service}")
            }
            Self::Flush => f.write_str("remove all virtual servers"),
            Self::Zero(None) => f.write_str("zero all counters"),
            Self::Zero(Some(service)) => write!(f, "zero counters of {service}"),
            Self::ShowTimeouts => f.write_str("read time-outs"),
            Self::SetTimeouts => f.write_str("set time-outs"),
            Self::ShowInfo => f.write_str("read IPVS version"),
            Self::ListDaemons => f.write_str("list sync daemons"),
            Self::StartDaemon { state, interface } => {
                write!(f, "start {state} sync daemon on {interface}")
            }
            Self::StopDaemon(state) => write!(f, "stop {state} sync daemon"),
            Self::Batch => f.write_str("apply requests"),
        }
    }
}
