//! What may be in the cluster besides what could be read: as long as nobody
//! knows, what the kernel holds of it stays.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::event::{Kind, ObjectRef};
use crate::names::ServiceName;
use crate::state::{
    Front, KernelState, NftElement, NftSet, NftState, Protocol, VirtualServer, VirtualServerKey,
};

/// Services that nobody knows whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// A list was not whole: any Service may have been in it.
    Everything,
    /// These, and all of these namespaces.
    Some {
        /// Services that could not be read.
        services: BTreeSet<ServiceName>,
        /// Namespaces of slices that could not be read.
        namespaces: BTreeSet<String>,
    },
}

impl Default for Unknown {
    /// Nothing is unknown.
    fn default() -> Self {
        Self::Some {
            services: BTreeSet::new(),
            namespaces: BTreeSet::new(),
        }
    }
}

impl Unknown {
    /// Whose the objects are that cannot be read, on this node. Another Node
    /// adds nothing to the kernel.
    pub(crate) fn of(unreadable: &BTreeSet<ObjectRef>, node: &str) -> Self {
        let mut services = BTreeSet::new();
        let mut namespaces = BTreeSet::new();
        for object in unreadable {
            match object.kind {
                Kind::Service => {
                    services.insert(ServiceName::new(&object.namespace, &object.name));
                }
                // Its label, which names the Service, was not read either.
                Kind::EndpointSlice => _ = namespaces.insert(object.namespace.clone()),
                Kind::Node if object.name != node => {}
                // It says which addresses may be served at all.
                Kind::Node | Kind::ServiceCidr => return Self::Everything,
            }
        }
        Self::Some {
            services,
            namespaces,
        }
    }

    /// Whether all is known.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a Service may be other than it is known.
    pub fn covers(&self, service: &ServiceName) -> bool {
        match self {
            Self::Everything => true,
            Self::Some {
                services,
                namespaces,
            } => services.contains(service) || namespaces.contains(&*service.namespace),
        }
    }

    /// What is desired, and besides whatever the kernel holds of Services that
    /// are not known whole.
    ///
    /// `recorded` says whose a virtual server in the kernel is, `None` that it
    /// is not ours; `wanted` whose it is to be.
    ///
    /// A front that has its virtual server in both, for the same Service, keeps
    /// its real servers and gets those of now besides; how it is closed is as
    /// desired, since that stands in the Service. One whose virtual server is
    /// not desired, or for another Service, stays altogether as it is.
    pub fn keep(
        &self,
        desired: &KernelState,
        observed: &KernelState,
        recorded: impl Fn(&VirtualServerKey) -> Option<ServiceName>,
        wanted: impl Fn(&VirtualServerKey) -> Option<ServiceName>,
    ) -> KernelState {
        let mut kept = Kept {
            state: desired.clone(),
            fronts: BTreeSet::new(),
            addresses: BTreeSet::new(),
            marked: marked(&observed.nft),
        };
        for (key, there) in &observed.virtual_servers {
            let Some(service) = recorded(key).filter(|service| self.covers(service)) else {
                continue;
            };
            kept.server(key, there, wanted(key) == Some(service));
        }
        if *self == Self::Everything {
            kept.rest(desired, observed);
        }
        kept.elements(observed);
        kept.state
    }
}

/// What is kept so far.
struct Kept {
    state: KernelState,
    /// Fronts that stay as they are.
    fronts: BTreeSet<Front>,
    /// Addresses that stay on the link, and of real servers that stay.
    addresses: BTreeSet<IpAddr>,
    /// Fronts by the virtual server of their mark, as they are.
    marked: BTreeMap<VirtualServerKey, BTreeSet<Front>>,
}

impl Kept {
    fn server(&mut self, key: &VirtualServerKey, there: &VirtualServer, same: bool) {
        let reals = there.real_servers.keys().map(|real| real.address);
        self.addresses.extend(reals);
        if same && let Some(server) = self.state.virtual_servers.get_mut(key) {
            for (real, settings) in &there.real_servers {
                server.real_servers.entry(*real).or_insert(*settings);
            }
            return;
        }
        self.state.virtual_servers.insert(*key, there.clone());
        match key {
            VirtualServerKey::Front(front) => _ = self.fronts.insert(*front),
            mark => self
                .fronts
                .extend(self.marked.get(mark).into_iter().flatten()),
        }
    }

    /// Fronts that nothing desired speaks of, and all addresses.
    fn rest(&mut self, desired: &KernelState, observed: &KernelState) {
        let servers = desired.virtual_servers.keys();
        let servers = servers.filter_map(|key| match key {
            VirtualServerKey::Front(front) => Some(*front),
            VirtualServerKey::Mark { .. } => None,
        });
        let elements = desired.nft.values().flatten().filter_map(front_of);
        let known: BTreeSet<Front> = servers.chain(elements).collect();
        let there = observed.nft.values().flatten().filter_map(front_of);
        self.fronts
            .extend(there.filter(|front| !known.contains(front)));
        self.addresses.extend(&observed.vips);
        self.networks(observed);
        let addresses = observed.nft.values().flatten();
        self.addresses
            .extend(addresses.filter_map(|element| match element {
                NftElement::Address(address) => Some(*address),
                _ => None,
            }));
    }

    /// Networks of ClusterIPs stay; others join where none of those lies, since
    /// two that overlap are refused.
    fn networks(&mut self, observed: &KernelState) {
        let none = BTreeSet::new();
        let there = observed.nft.get(&NftSet::ServiceCidrs).unwrap_or(&none);
        let overlaps = |element: &NftElement| {
            there.iter().any(|other| match (element, other) {
                (NftElement::Network(a), NftElement::Network(b)) => a.contains(b) || b.contains(a),
                _ => false,
            })
        };
        let desired = self.state.nft.entry(NftSet::ServiceCidrs).or_default();
        desired.retain(|element| !overlaps(element));
        desired.extend(there);
    }

    /// Makes addresses and elements those of the fronts that stay.
    fn elements(&mut self, observed: &KernelState) {
        self.addresses.extend(self.fronts.iter().map(|f| f.address));
        let vips = observed.vips.intersection(&self.addresses);
        self.state.vips.extend(vips);
        let restricted = observed.nft.get(&NftSet::Restricted).into_iter().flatten();
        let restricted = restricted.filter_map(front_of);
        // Networks are those of runs of ports, which Services of one address
        // share and which must not overlap: they stay together.
        let closed: BTreeSet<(IpAddr, Protocol)> = restricted
            .filter(|front| self.fronts.contains(front))
            .map(|front| (front.address, front.protocol))
            .collect();
        let front_stays = |front: Front| self.fronts.contains(&front);
        let stays = |element: &NftElement| match element {
            NftElement::Source(ports, _) => closed.contains(&(ports.address, ports.protocol)),
            other => front_of(other).is_some_and(front_stays),
        };
        for set in NftSet::ALL {
            let there = observed.nft.get(&set).into_iter().flatten();
            let there = there.filter(|element| match element {
                NftElement::Address(address) => self.addresses.contains(address),
                other => stays(other),
            });
            let there: Vec<_> = there.copied().collect();
            let desired = self.state.nft.entry(set).or_default();
            desired.retain(|element| !stays(element));
            desired.extend(there);
        }
        self.state.nft.retain(|_, elements| !elements.is_empty());
    }
}

/// Fronts by the virtual server of their mark.
fn marked(nft: &NftState) -> BTreeMap<VirtualServerKey, BTreeSet<Front>> {
    let mut marked: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let maps = NftSet::MARKS.into_iter().filter_map(|map| nft.get(&map));
    for element in maps.flatten() {
        if let NftElement::Mark(front, mark) = element {
            let (mark, family) = (*mark, element.family());
            let key = VirtualServerKey::Mark { mark, family };
            marked.entry(key).or_default().insert(*front);
        }
    }
    marked
}

fn front_of(element: &NftElement) -> Option<Front> {
    match element {
        NftElement::Front(front) | NftElement::Mark(front, _) => Some(*front),
        NftElement::Address(_) | NftElement::Source(..) | NftElement::Network(_) => None,
    }
}
