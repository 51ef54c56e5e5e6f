//! Whose an address is: which addresses Services have as their own, which are
//! endpoints, and who asks for one from outside. Kept up one object at a time.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use core::net::IpAddr;

use super::counts::{Addresses, swap};
use crate::names::ServiceName;
use crate::services::Service;
use crate::slices::{Endpoint, Slice};

/// All addresses that objects have, point at, or ask for.
#[derive(Debug, Default)]
pub(crate) struct Territory {
    /// ClusterIPs of all Services, also of those somebody else serves.
    cluster_ips: Addresses,
    /// Endpoints that a node was named for: pods.
    pods: Addresses,
    /// Endpoints without a node, by their namespace. Who may write a slice in
    /// one can name any address in it.
    pointers: BTreeMap<(IpAddr, Option<Arc<str>>), u32>,
    /// Who asks for an address from outside: rarely more than one.
    outside: BTreeMap<IpAddr, BTreeSet<ServiceName>>,
}

impl Territory {
    /// Whether the address is some Service's ClusterIP.
    pub(crate) fn is_cluster_ip(&self, address: IpAddr) -> bool {
        self.cluster_ips.has(address)
    }

    /// Whether the address is a pod's, or that of another endpoint in one of
    /// these namespaces, of all of them if none is given.
    pub(crate) fn is_endpoint(&self, address: IpAddr, namespace: Option<&Arc<str>>) -> bool {
        if self.pods.has(address) {
            return true;
        }
        match namespace {
            Some(namespace) => self
                .pointers
                .contains_key(&(address, Some(namespace.clone()))),
            None => {
                // Sorted before all of this address.
                let mut next = self.pointers.range((address, None)..);
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
        let named = |service: Option<&Service>| service.map(cluster_ips).unwrap_or_default();
        let (before, after) = (named(before), named(after));
        swap(
            &mut self.cluster_ips,
            before.iter().copied(),
            after.iter().copied(),
        )
    }

    /// A slice of a namespace changed. Returns the addresses that became
    /// endpoints or are none any more.
    pub(super) fn slice(
        &mut self,
        namespace: &Arc<str>,
        before: Option<&Slice>,
        after: Option<&Slice>,
    ) -> BTreeSet<IpAddr> {
        let (before, after) = without_same(endpoints(before), endpoints(after));
        let pods = |endpoints| addresses(endpoints, true);
        let pointers = |endpoints| {
            let all = addresses(endpoints, false);
            all.map(|address| (address, Some(namespace.clone())))
        };
        let mut changed = swap(&mut self.pods, pods(before), pods(after));
        let others = swap(&mut self.pointers, pointers(before), pointers(after));
        changed.extend(others.into_iter().map(|(address, _)| address));
        changed
    }
}

fn endpoints(slice: Option<&Slice>) -> &[Endpoint] {
    slice.map_or(&[], |slice| &slice.endpoints)
}

/// Both without what they begin and end with alike: mostly one endpoint of many
/// has come, gone or moved.
fn without_same<'a>(
    before: &'a [Endpoint],
    after: &'a [Endpoint],
) -> (&'a [Endpoint], &'a [Endpoint]) {
    let same = |(one, other): &(&Endpoint, &Endpoint)| {
        (one.address, one.on_node) == (other.address, other.on_node)
    };
    let first = before.iter().zip(after).take_while(same).count();
    let (before, after) = (&before[first..], &after[first..]);
    let backwards = before.iter().rev().zip(after.iter().rev());
    let last = backwards.take_while(same).count();
    (&before[..before.len() - last], &after[..after.len() - last])
}

fn addresses(
    endpoints: &[Endpoint],
    on_node: bool,
) -> impl Iterator<Item = IpAddr> + Clone + use<'_> {
    let ours = endpoints.iter().filter(move |e| e.on_node == on_node);
    ours.map(|endpoint| endpoint.address)
}

/// The ClusterIPs that a Service names, each once.
fn cluster_ips(service: &Service) -> BTreeSet<IpAddr> {
    let all = service.addresses.iter();
    let cluster = all.filter(|asked| asked.is_cluster_ip());
    cluster.map(|asked| asked.address).collect()
}

/// The addresses that a Service asks for and that are not the cluster's.
fn outside_addresses(service: &Service) -> BTreeSet<IpAddr> {
    let all = service.addresses.iter();
    let outside = all.filter(|asked| !asked.is_cluster_ip());
    outside.map(|asked| asked.address).collect()
}
