//! Reads what the kernel holds.

use std::collections::BTreeMap;

use anyhow::Context;
use kube_ipvs_core::drain::Load;
use kube_ipvs_core::state::{
    KernelState, NftState, RealServerKey, VirtualServer, VirtualServerKey,
};

use super::{Linux, convert};
use crate::dataplane::{Connections, Observed};

/// Everything: virtual servers with their real servers, VIPs, tables.
pub(super) fn all(linux: &mut Linux) -> anyhow::Result<Observed> {
    let mut observed = Observed::default();
    for (key, server) in virtual_servers(linux)? {
        observed.state.virtual_servers.insert(key, server);
    }
    let keys: Vec<_> = observed.state.virtual_servers.keys().copied().collect();
    for key in keys {
        real_servers(linux, &key, &mut observed)?;
    }
    observed.state.vips = linux.binder.bound().context("read bound VIPs")?;
    observed.state.nft = tables(linux)?;
    Ok(observed)
}

/// Virtual servers without their real servers, of the families that we serve.
fn virtual_servers(linux: &mut Linux) -> anyhow::Result<Vec<(VirtualServerKey, VirtualServer)>> {
    let services = linux.client.services().context("read IPVS services")?;
    Ok(services
        .iter()
        .filter_map(|service| Some((convert::key(&service.id)?, convert::virtual_server(service))))
        .filter(|(key, _)| linux.serves(key.family()))
        .collect())
}

/// Real servers of one virtual server. One that vanished meanwhile is left out.
fn real_servers(
    linux: &mut Linux,
    key: &VirtualServerKey,
    observed: &mut Observed,
) -> anyhow::Result<()> {
    let destinations = match linux.client.destinations(&convert::service_id(key)) {
        Ok(destinations) => destinations,
        Err(error) if convert::is_not_found(&error) => {
            observed.state.virtual_servers.remove(key);
            return Ok(());
        }
        Err(error) => return Err(error).context("read IPVS destinations"),
    };
    let KernelState {
        virtual_servers, ..
    } = &mut observed.state;
    let Some(server) = virtual_servers.get_mut(key) else {
        return Ok(());
    };
    for destination in &destinations {
        let (real, state) = convert::real_server(destination);
        server.real_servers.insert(real, state);
        let connections = Connections {
            active: destination.active_connections,
            inactive: destination.inactive_connections,
        };
        if connections != Connections::default() {
            observed.connections.insert((*key, real), connections);
        }
    }
    Ok(())
}

/// Connections of the real servers of one virtual server.
pub(super) fn loads(
    linux: &mut Linux,
    key: &VirtualServerKey,
) -> anyhow::Result<BTreeMap<RealServerKey, Load>> {
    let destinations = match linux.client.destinations(&convert::service_id(key)) {
        Ok(destinations) => destinations,
        Err(error) if convert::is_not_found(&error) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error).context("read IPVS destinations"),
    };
    Ok(destinations
        .iter()
        .map(|destination| {
            let (real, state) = convert::real_server(destination);
            let load = Load {
                weight: state.weight,
                active: destination.active_connections,
                inactive: destination.inactive_connections,
            };
            (real, load)
        })
        .collect())
}

fn tables(linux: &mut Linux) -> anyhow::Result<NftState> {
    let mut state = NftState::new();
    for table in &mut linux.tables {
        table.read(&linux.nft, &mut state)?;
    }
    Ok(state)
}
