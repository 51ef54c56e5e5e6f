//! Services and their slices, as they are kept.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::Cluster;
use super::claims::Claimant;
use super::footprint::Footprint;
use super::networks::ServiceNetworks;
use super::placement::Served;
use crate::climb::Climb;
use crate::event::Kind;
use crate::k8s::{self, HEADLESS_LABEL, SERVICE_NAME_LABEL};
use crate::names::ServiceName;
use crate::read::{self, Quoted};
use crate::regarding::Regarding;
use crate::services::Service;
use crate::slices::{self, Slice};
use crate::state::RealServerKey;
use crate::warnings::Warnings;

/// A Service with its slices and what it was compiled to.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) service: Option<Box<Service>>,
    pub(super) slices: Slices,
    pub(super) footprint: Footprint,
    /// Where new endpoints are to begin with little.
    pub(super) climb: Option<Box<Climb>>,
}

/// Slices by name, so that the order of arrival plays no part. Nearly always
/// one, for which a map would take the room of eleven.
#[derive(Debug, Default)]
pub(super) struct Slices(Vec<(Arc<str>, Slice)>);

impl Slices {
    pub(super) fn values(&self) -> impl Iterator<Item = &Slice> + Clone {
        self.0.iter().map(|(_, slice)| slice)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| (**other).cmp(name))
    }

    fn get(&self, name: &str) -> Option<&Slice> {
        let at = self.place(name).ok()?;
        Some(&self.0[at].1)
    }

    fn insert(&mut self, name: Arc<str>, slice: Slice) {
        match self.place(&name) {
            Ok(at) => self.0[at].1 = slice,
            Err(at) => {
                if self.0.len() < FEW {
                    self.0.reserve_exact(1);
                }
                self.0.insert(at, (name, slice));
            }
        }
    }

    fn remove(&mut self, name: &str) -> Option<Slice> {
        let at = self.place(name).ok()?;
        Some(self.0.remove(at).1)
    }
}

/// So many slices get memory one by one, with nothing to spare; beyond them it
/// would cost more to move all for each that comes.
const FEW: usize = 4;

impl Entry {
    pub(super) fn is_empty(&self) -> bool {
        self.service.is_none() && self.slices.is_empty() && self.footprint.is_empty()
    }

    /// The addresses of all its endpoints.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let endpoints = self.slices.values().flat_map(|slice| &slice.endpoints);
        endpoints.map(|endpoint| endpoint.address)
    }

    pub(super) fn claimant(&self, name: &ServiceName) -> Claimant {
        let service = self.service.as_ref();
        let created = service.map(|service| service.created);
        Claimant::new(created.unwrap_or_default(), name)
    }

    pub(super) fn has_endpoint(&self, served: &Served, real: &RealServerKey) -> bool {
        self.slices.values().any(|slice| {
            let mut ports = slice.ports.iter();
            ports.any(|p| {
                (&p.name, p.protocol, p.port) == (&served.port, served.protocol, real.port)
            }) && slice.endpoints.iter().any(|e| e.address == real.address)
        })
    }
}

impl Cluster {
    /// A name that shares its namespace with all others there.
    fn name_of(&mut self, namespace: &str, name: &str) -> ServiceName {
        ServiceName {
            namespace: self.names.intern(namespace),
            name: name.into(),
        }
    }

    pub(super) fn upsert_service(&mut self, service: Box<k8s::Service>) {
        let metadata = &service.metadata;
        let name = self.name_of(&metadata.namespace, &metadata.name);
        let service = self.reader.read(service, &self.options, &mut self.names);
        let service = Box::new(service);
        let entry = self.entries.entry(name.clone()).or_default();
        if entry.service.as_ref() != Some(&service) {
            self.schedulers.follow(&name, Some(&service));
            let before = entry.service.take();
            let moved = self
                .territory
                .service(&name, before.as_deref(), Some(&service));
            entry.service = Some(service);
            self.dirty.insert(name);
            self.mark_around(&moved);
        }
    }

    pub(super) fn upsert_slice(&mut self, slice: &k8s::EndpointSlice) {
        let metadata = &slice.metadata;
        let name = self.name_of(&metadata.namespace, &metadata.name);
        let service = metadata.labels.get(SERVICE_NAME_LABEL);
        let service = service.filter(|_| !metadata.labels.contains_key(HEADLESS_LABEL));
        let Some(service) = service else {
            return self.remove_slice(&name);
        };
        let service = ServiceName {
            namespace: name.namespace.clone(),
            name: service.as_str().into(),
        };
        // As the Service itself is called, if it is there: the text is kept once.
        let owner = self.slice_owners.get(&name);
        let is_new = owner != Some(&service);
        let service = match owner.filter(|_| !is_new) {
            Some(owner) => owner.clone(),
            None => {
                let known = self.entries.get_key_value(&service);
                known.map_or(service, |(known, _)| known.clone())
            }
        };
        if is_new && owner.is_some() {
            self.remove_slice(&name);
        }
        let slice = slices::read(slice, &self.options, &mut self.names);
        let entry = self.entries.entry(service.clone()).or_default();
        if entry.slices.get(&name.name) == Some(&slice) {
            return;
        }
        let before = entry.slices.remove(&name.name);
        let moved = self
            .territory
            .slice(&name.namespace, before.as_ref(), Some(&slice));
        entry.slices.insert(name.name.clone(), slice);
        self.dirty.extend(self.territory.outside(&moved));
        if is_new {
            self.slice_owners.insert(name, service.clone());
        }
        self.slices_changed(service);
    }

    pub(super) fn remove_slice(&mut self, name: &ServiceName) {
        let Some(service) = self.slice_owners.remove(name) else {
            return;
        };
        if let Some(entry) = self.entries.get_mut(&service) {
            let before = entry.slices.remove(&name.name);
            let moved = self.territory.slice(&name.namespace, before.as_ref(), None);
            self.dirty.extend(self.territory.outside(&moved));
        }
        self.slices_changed(service);
    }

    /// The addresses of API servers are the endpoints of this one Service.
    fn slices_changed(&mut self, service: ServiceName) {
        if &*service.namespace == "default" && &*service.name == "kubernetes" {
            let entry = self.entries.get(&service);
            let slices = entry.into_iter().flat_map(|entry| entry.slices.values());
            let endpoints = slices.flat_map(|slice| &slice.endpoints);
            let addresses = endpoints.map(|endpoint| endpoint.address).collect();
            let change = self.ground.api_servers(addresses, &self.options);
            self.ground_changed(&change);
        }
        self.dirty.insert(service);
    }
}

/// The networks of a ServiceCIDR.
pub(super) fn networks(cidr: &k8s::ServiceCidr) -> ServiceNetworks {
    let mut networks = BTreeSet::new();
    let mut warnings = Warnings::default();
    for text in &cidr.spec.cidrs {
        let read = read::network(text);
        networks.extend(read.map(|read| read.value));
        let message = match read {
            Some(read) => read.note(),
            None => Some(format!("{} is no network; it is ignored", Quoted(text))),
        };
        if let Some(message) = message {
            warnings.add(format!("spec.cidrs: {message}"));
        }
    }
    let object = || Regarding::of(Kind::ServiceCidr, &cidr.metadata);
    ServiceNetworks {
        uid: cidr.metadata.uid,
        networks,
        warnings: warnings.finish(object),
    }
}
