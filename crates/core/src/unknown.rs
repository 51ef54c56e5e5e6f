//! What may be in the cluster besides what could be read: as long as nobody
//! knows, what the kernel holds of it stays.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;

use crate::event::{Kind, ObjectRef};
use crate::names::ServiceName;
use crate::state::{Front, KernelState, VirtualServer, VirtualServerKey};
use crate::table::Untracked;

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
            marked: marked(observed),
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
        kept.stay(observed);
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
    fn server(&mut self, key: &VirtualServerKey, there: &Arc<VirtualServer>, same: bool) {
        let reals = there.real_servers.keys().map(|real| real.address);
        self.addresses.extend(reals);
        if same && let Some(server) = self.state.virtual_servers.get_mut(key) {
            let server = Arc::make_mut(server);
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
        let speaks = |front: &&Front| {
            let own = VirtualServerKey::Front(**front);
            desired.row(front).is_some() || desired.virtual_servers.contains_key(&own)
        };
        let there = observed.table.rows.keys();
        self.fronts.extend(there.filter(|front| !speaks(front)));
        self.addresses.extend(&observed.vips);
        self.addresses.extend(&observed.table.guarded);
        self.addresses.extend(&observed.table.hairpin);
        let untracked = observed.table.untracked.iter();
        self.addresses.extend(untracked.map(Untracked::address));
        self.networks(observed);
    }

    /// Networks of ClusterIPs stay; others join where none of those lies, since
    /// two that overlap are refused.
    fn networks(&mut self, observed: &KernelState) {
        let there = &observed.table.networks;
        let overlaps = |net: &IpNet| {
            let mut others = there.iter();
            others.any(|other| other.contains(net) || net.contains(other))
        };
        let desired = &mut self.state.table.networks;
        desired.retain(|net| !overlaps(net));
        desired.extend(there);
    }

    /// Makes rows and addresses those of the fronts that stay.
    fn stay(&mut self, observed: &KernelState) {
        self.addresses.extend(self.fronts.iter().map(|f| f.address));
        let there = |all: &BTreeSet<IpAddr>| -> Vec<IpAddr> {
            all.intersection(&self.addresses).copied().collect()
        };
        self.state.vips.extend(there(&observed.vips));
        let table = &mut self.state.table;
        table.guarded.extend(there(&observed.table.guarded));
        table.hairpin.extend(there(&observed.table.hairpin));
        let untracked = observed.table.untracked.iter();
        let stays = |one: &&Untracked| self.addresses.contains(&one.address());
        table.untracked.extend(untracked.filter(stays));
        for front in &self.fronts {
            match observed.row(front) {
                Some(row) => table.rows.insert(*front, row.clone()),
                None => table.rows.remove(front),
            };
        }
    }
}

/// Fronts by the virtual server of their mark.
fn marked(observed: &KernelState) -> BTreeMap<VirtualServerKey, BTreeSet<Front>> {
    let mut marked: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (front, row) in &observed.table.rows {
        for key in row.by_marks(front) {
            marked.entry(key).or_default().insert(*front);
        }
    }
    marked
}
