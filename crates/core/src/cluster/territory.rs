//! Whose an address is: which addresses Services have as their own, which are
//! endpoints, and who asks for one from outside. Kept up one object at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::k8s::Service;
use crate::names::ServiceName;
use crate::read;
use crate::slices::{Endpoint, Slice};

/// All addresses that objects have, point at, or ask for.
#[derive(Debug, Default)]
pub(crate) struct Territory {
    /// ClusterIPs of all Services, also of those somebody else serves.
    cluster_ips: Counts<IpAddr>,
    /// Endpoints that a node was named for: pods.
    pods: Counts<IpAddr>,
    /// Endpoints without a node, by their namespace. Who may write a slice in
    /// one can name any address in it.
    pointers: Counts<(IpAddr, Option<Arc<str>>)>,
    /// Who asks for an address from outside: rarely more than one.
    outside: BTreeMap<IpAddr, BTreeSet<ServiceName>>,
}

impl Territory {
    /// Whether the address is some Service's ClusterIP.
    pub(crate) fn is_cluster_ip(&self, address: IpAddr) -> bool {
        self.cluster_ips.has(&address)
    }

    /// Whether the address is a pod's, or that of another endpoint in one of
    /// these namespaces, of all of them if none is given.
    pub(crate) fn is_endpoint(&self, address: IpAddr, namespace: Option<&Arc<str>>) -> bool {
        if self.pods.has(&address) {
            return true;
        }
        match namespace {
            Some(namespace) => self.pointers.has(&(address, Some(namespace.clone()))),
            None => {
                // Sorted before all of this address.
                let mut next = self.pointers.0.range((address, None)..);
                next.next().is_some_and(|((other, _), _)| *other == address)
            }
        }
    }

    /// The Services that ask for one of these addresses.
    pub(super) fn outside(&self, addresses: &BTreeSet<IpAddr>) -> BTreeSet<ServiceName> {
        let asking = addresses.iter().filter_map(|at| self.outside.get(at));
        asking.flatten().cloned().collect()
    }

    /// A Service changed. Returns the addresses that became ClusterIPs or are
    /// none any more.
    pub(super) fn service(
        &mut self,
        name: &ServiceName,
        before: Option<&Service>,
        after: Option<&Service>,
    ) -> BTreeSet<IpAddr> {
        for address in before.into_iter().flat_map(outside_addresses) {
            if let Some(asking) = self.outside.get_mut(&address) {
                asking.remove(name);
                if asking.is_empty() {
                    self.outside.remove(&address);
                }
            }
        }
        for address in after.into_iter().flat_map(outside_addresses) {
            let asking = self.outside.entry(address).or_default();
            asking.insert(name.clone());
        }
        let (before, after) = (before.map(cluster_ips), after.map(cluster_ips));
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        self.cluster_ips.swap(before, after)
    }

    /// A slice of a namespace changed. Returns the addresses that became
    /// endpoints or are none any more.
    pub(super) fn slice(
        &mut self,
        namespace: &Arc<str>,
        before: Option<&Slice>,
        after: Option<&Slice>,
    ) -> BTreeSet<IpAddr> {
        let pods = |slice: Option<&Slice>| addresses(slice, true);
        let pointers = |slice: Option<&Slice>| -> Vec<_> {
            let all = addresses(slice, false).into_iter();
            all.map(|address| (address, Some(namespace.clone())))
                .collect()
        };
        let mut changed = self.pods.swap(pods(before), pods(after));
        let others = self.pointers.swap(pointers(before), pointers(after));
        changed.extend(others.into_iter().map(|(address, _)| address));
        changed
    }
}

fn addresses(slice: Option<&Slice>, on_node: bool) -> Vec<IpAddr> {
    let endpoints = slice.into_iter().flat_map(|slice| &slice.endpoints);
    let ours = endpoints.filter(|endpoint: &&Endpoint| endpoint.on_node == on_node);
    ours.map(|endpoint| endpoint.address).collect()
}

/// The ClusterIPs that a Service names, each once.
fn cluster_ips(service: &Service) -> BTreeSet<IpAddr> {
    let spec = &service.spec;
    if spec.type_.as_deref() == Some("ExternalName") {
        return BTreeSet::new();
    }
    let all = spec.cluster_ip.iter().chain(&spec.cluster_ips);
    all.filter_map(|text| Some(read::address(text)?.value))
        .collect()
}

/// The addresses that a Service asks for and that are not the cluster's.
fn outside_addresses(service: &Service) -> BTreeSet<IpAddr> {
    let ingress = &service.status.load_balancer.ingress;
    let balanced = ingress.iter().filter_map(|ingress| ingress.ip.as_ref());
    let all = balanced.chain(&service.spec.external_ips);
    all.filter_map(|text| Some(read::address(text)?.value))
        .collect()
}

/// How often each is there.
#[derive(Debug)]
struct Counts<K>(BTreeMap<K, u32>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Counts<K> {
    fn has(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// Counts some less and others more. Returns those that were not there
    /// before, or are not any more.
    fn swap(
        &mut self,
        before: impl IntoIterator<Item = K>,
        after: impl IntoIterator<Item = K>,
    ) -> BTreeSet<K> {
        let mut changed = BTreeSet::new();
        // More first: what stays is there all the time.
        for key in after {
            let count = self.0.entry(key.clone()).or_default();
            *count += 1;
            if *count == 1 {
                changed.insert(key);
            }
        }
        for key in before {
            let Some(count) = self.0.get_mut(&key) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                self.0.remove(&key);
                changed.insert(key);
            }
        }
        changed
    }
}
