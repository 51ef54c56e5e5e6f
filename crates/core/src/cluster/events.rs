//! What sources saw, taken in one by one.

use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Cluster, objects};
use crate::event::{Event, Kind, Listener, ObjectRef};
use crate::names::ServiceName;
use crate::object::Object;
use crate::state::Protocol;

impl Cluster {
    /// Takes in what a source saw. Cheap: the Services concerned are marked and
    /// compiled by the next [`Self::compile`].
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Upsert(object) => self.upsert(object),
            Event::Unreadable(object) => {
                let known = self.knows(&object.object);
                self.lists.unreadable(object, known);
            }
            Event::Delete(object) => self.delete(&object),
            Event::ListStarted(kind) => self.lists.started(kind),
            Event::ListCompleted(kind) => self.list_completed(kind),
            Event::ListIncomplete(kind) => self.lists.incomplete(kind),
            Event::HostAddresses(addresses) => {
                let change = self.ground.host_addresses(&addresses, &self.options);
                self.ground_changed(&change);
            }
            Event::Gateways(addresses) => {
                let change = self.ground.gateways(addresses, &self.options);
                self.ground_changed(&change);
            }
            Event::UnopenedHealthPorts(ports) => {
                let concerned = self.health_ports.unopened(ports);
                self.dirty.extend(concerned);
            }
            Event::Listeners(listeners) => self.listeners(listeners),
            Event::Protected(addresses) => {
                let change = self.ground.protect(addresses, &self.options);
                self.ground_changed(&change);
            }
            Event::MissingSchedulers(missing) => {
                let concerned = self.schedulers.lacks(missing);
                self.dirty.extend(concerned);
            }
            Event::Unchecked(addresses) => {
                let change = self.ground.uncheck(addresses, &self.options);
                self.ground_changed(&change);
            }
        }
    }

    /// Whether an object could be read once.
    fn knows(&self, object: &ObjectRef) -> bool {
        let name = ServiceName::new(&object.namespace, &object.name);
        match object.kind {
            Kind::Service => self.has_service(&name),
            Kind::EndpointSlice => self.slice_owners.contains_key(&name),
            Kind::ServiceCidr => {
                let mut names = self.ground.service_cidr_names();
                names.any(|name| *name == *object.name)
            }
            Kind::Node => self.ground.node_names().any(|node| node == object.name),
        }
    }

    fn upsert(&mut self, object: Object) {
        self.lists.read(object.kind(), || object.reference());
        match object {
            Object::Service(service) => self.upsert_service(service),
            Object::EndpointSlice(slice) => self.upsert_slice(&slice),
            Object::ServiceCidr(cidr) => {
                let (name, read) = (&cidr.metadata.name, objects::networks(&cidr));
                let change = self.ground.service_cidr(name, Some(read), &self.options);
                self.ground_changed(&change);
            }
            Object::Node(node) => {
                let change = self.ground.node_changed(*node, &self.options);
                self.ground_changed(&change);
            }
        }
    }

    fn delete(&mut self, object: &ObjectRef) {
        self.lists.gone(object);
        let name = ServiceName::new(&object.namespace, &object.name);
        match object.kind {
            Kind::Service => {
                self.schedulers.follow(&name, None);
                if let Some(entry) = self.entries.get_mut(&name) {
                    let before = entry.service.take();
                    let moved = self.territory.service(&name, before.as_deref(), None);
                    self.dirty.insert(name);
                    self.mark_around(&moved);
                }
            }
            Kind::EndpointSlice => self.remove_slice(&name),
            Kind::ServiceCidr => {
                let name = &object.name;
                let change = self.ground.service_cidr(name, None, &self.options);
                self.ground_changed(&change);
            }
            Kind::Node => {
                let change = self.ground.node_gone(&object.name, &self.options);
                self.ground_changed(&change);
            }
        }
    }

    /// Removes what the full list did not name.
    fn list_completed(&mut self, kind: Kind) {
        let Some(seen) = self.lists.completed(kind) else {
            return;
        };
        let known: Vec<(Arc<str>, Arc<str>)> = match kind {
            Kind::Service => {
                let services = self.services();
                services
                    .map(|n| (n.namespace.clone(), n.name.clone()))
                    .collect()
            }
            Kind::EndpointSlice => {
                let slices = self.slice_owners.keys();
                slices
                    .map(|n| (n.namespace.clone(), n.name.clone()))
                    .collect()
            }
            Kind::ServiceCidr => {
                let cidrs = self.ground.service_cidr_names();
                cidrs.map(|name| ("".into(), name.into())).collect()
            }
            Kind::Node => {
                let nodes = self.ground.node_names();
                nodes.map(|name| ("".into(), name.into())).collect()
            }
        };
        for (namespace, name) in known {
            let object = ObjectRef {
                kind,
                namespace: namespace.to_string(),
                name: name.to_string(),
            };
            if !seen.contains(&object) {
                self.delete(&object);
            }
        }
    }

    /// Our own listeners for health checks are no news: whose port is wanted
    /// for one is warned of anyway.
    fn listeners(&mut self, mut listeners: BTreeSet<Listener>) {
        listeners.retain(|x| x.protocol != Protocol::Tcp || !self.health_ports.wants(x.port));
        let moved = self.ground.listeners(listeners);
        if moved.is_empty() {
            return;
        }
        let concerned = self.entries.iter().filter(|(_, entry)| {
            let mut ports = entry.footprint.host_ports.iter();
            ports.any(|port| moved.contains(port))
        });
        self.dirty.extend(concerned.map(|(name, _)| name.clone()));
    }
}
