//! Reads what the kernel holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use ipvs_netlink::{Destination, Error, Operation};
use kube_ipvs_core::drain::Load;
use kube_ipvs_core::listing::{Compared, Listing};
use kube_ipvs_core::state::{Family, RealServer, RealServerKey, VirtualServer, VirtualServerKey};
use kube_ipvs_core::table::Table;

use super::{Linux, convert};
use crate::{Connections, Observed};

/// Everything: virtual servers with their real servers, VIPs, tables. A virtual
/// server that vanished meanwhile is left out.
pub(super) fn all(linux: &mut Linux) -> anyhow::Result<Observed> {
    let mut observed = Observed::default();
    for (key, mut server) in virtual_servers(linux)? {
        let Some(destinations) = destinations(linux, &key)? else {
            continue;
        };
        for destination in &destinations {
            let (real, state) = convert::real_server(&destination.settings());
            server.real_servers.insert(real, state);
            let connections = Connections {
                active: destination.active_connections,
                inactive: destination.inactive_connections,
            };
            if connections != Connections::default() {
                observed.connections.insert((key, real), connections);
            }
        }
        observed.state.virtual_servers.insert(key, server.into());
    }
    observed.state.vips = vips(linux)?;
    observed.state.table = tables(linux)?;
    Ok(observed)
}

/// What the list of virtual servers, of the families that we serve, has other
/// than is known.
pub(super) fn compare_virtual_servers(
    linux: &mut Linux,
    known: &BTreeMap<VirtualServerKey, Arc<VirtualServer>>,
) -> anyhow::Result<Compared> {
    let serves = [Family::V4, Family::V6].map(|family| (family, linux.serves(family)));
    let compared = linux.client.undisturbed(|client| {
        let mut listing = Listing::new(known);
        client.survey_services(|service| {
            let key = convert::key(&service.id);
            let key = key.filter(|key| serves.contains(&(key.family(), true)));
            if let Some(key) = key {
                listing.take(key, convert::virtual_server(&service));
            }
        })?;
        let operation = Operation::ListServices;
        listing.compared().ok_or(Error::Interrupted { operation })
    });
    compared.context("read IPVS services")
}

/// Virtual servers without their real servers, of the families that we serve.
fn virtual_servers(linux: &mut Linux) -> anyhow::Result<BTreeMap<VirtualServerKey, VirtualServer>> {
    let services = linux.client.services().context("read IPVS services")?;
    Ok(services
        .iter()
        .filter_map(|service| {
            let server = convert::virtual_server(&service.settings());
            Some((convert::key(&service.id)?, server))
        })
        .filter(|(key, _)| linux.serves(key.family()))
        .collect())
}

/// One of them; none when it is not there.
pub(super) fn virtual_server(
    linux: &mut Linux,
    key: &VirtualServerKey,
) -> anyhow::Result<Option<VirtualServer>> {
    if !linux.serves(key.family()) {
        return Ok(None);
    }
    match linux.client.service(&convert::service_id(key)) {
        Ok(service) => Ok(Some(convert::virtual_server(&service.settings()))),
        Err(error) if convert::is_not_found(&error) => Ok(None),
        Err(error) => Err(error).context("read an IPVS service"),
    }
}

/// Real servers of one virtual server; none when it is not there.
pub(super) fn real_servers(
    linux: &mut Linux,
    key: &VirtualServerKey,
) -> anyhow::Result<Option<BTreeMap<RealServerKey, RealServer>>> {
    let settings = linux.client.destination_settings(&convert::service_id(key));
    let settings = found(settings)?;
    Ok(settings.map(|all| all.iter().map(convert::real_server).collect()))
}

/// Connections of the real servers of one virtual server.
pub(super) fn loads(
    linux: &mut Linux,
    key: &VirtualServerKey,
) -> anyhow::Result<BTreeMap<RealServerKey, Load>> {
    let destinations = destinations(linux, key)?.unwrap_or_default();
    Ok(destinations
        .iter()
        .map(|destination| {
            let (real, state) = convert::real_server(&destination.settings());
            let load = Load {
                weight: state.weight,
                active: destination.active_connections,
                inactive: destination.inactive_connections,
            };
            (real, load)
        })
        .collect())
}

/// Addresses bound to our link.
pub(super) fn vips(linux: &mut Linux) -> anyhow::Result<BTreeSet<IpAddr>> {
    linux.binder.bound().context("read bound VIPs")
}

/// The rows of our tables.
pub(super) fn tables(linux: &mut Linux) -> anyhow::Result<Table> {
    let before = linux.nft.now();
    let mut rows = Table::default();
    for table in &mut linux.tables {
        table.read(&mut linux.nft, &mut rows)?;
    }
    linux.nft.tables_read(before);
    Ok(rows)
}

fn destinations(
    linux: &mut Linux,
    key: &VirtualServerKey,
) -> anyhow::Result<Option<Vec<Destination>>> {
    found(linux.client.destinations(&convert::service_id(key)))
}

/// None where there is no such virtual server.
fn found<T>(destinations: Result<T, Error>) -> anyhow::Result<Option<T>> {
    match destinations {
        Ok(destinations) => Ok(Some(destinations)),
        Err(error) if convert::is_not_found(&error) => Ok(None),
        Err(error) => Err(error).context("read IPVS destinations"),
    }
}
