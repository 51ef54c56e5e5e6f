//! What the kernel holds, read once.

use anyhow::Context;
use ipvs_netlink::{Client, Destination, Info, Service, ServiceId};

/// Services with their destinations, in the kernel's order.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// What the kernel says of its IPVS.
    pub info: Info,
    /// Each with its destinations.
    pub services: Vec<(Service, Vec<Destination>)>,
}

impl Snapshot {
    /// Reads all services, or the one named.
    ///
    /// # Errors
    /// When the kernel does not answer, or has no such service. A service that
    /// vanishes while the others are read is left out.
    pub fn of(client: &mut Client, one: Option<&ServiceId>) -> anyhow::Result<Self> {
        let info = client.info().context("read IPVS version")?;
        let services = match one {
            Some(id) => vec![client.service(id).with_context(|| format!("read {id}"))?],
            None => client.services().context("read IPVS services")?,
        };
        let mut snapshot = Self {
            info,
            services: Vec::with_capacity(services.len()),
        };
        each(client, services, |service, destinations| {
            snapshot.services.push((service, destinations));
        })?;
        Ok(snapshot)
    }
}

/// Gives each service with its destinations, and keeps none of them.
///
/// # Errors
/// When the kernel does not answer. A service that vanished is left out.
pub(crate) fn each(
    client: &mut Client,
    services: Vec<Service>,
    mut given: impl FnMut(Service, Vec<Destination>),
) -> anyhow::Result<()> {
    for service in services {
        match client.destinations(&service.id) {
            Ok(destinations) => given(service, destinations),
            Err(error) if error.errno() == Some(ipvs_netlink::Errno::ESRCH) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("read destinations of {}", service.id));
            }
        }
    }
    Ok(())
}
