//! The cluster as the sources told it, and what it compiles to.

mod account;
mod claims;
mod climbs;
mod concerned;
mod counts;
mod events;
mod farewell;
mod footprint;
mod grant;
mod ground;
mod health_ports;
mod host_ports;
mod lists;
mod networks;
mod node_ports;
mod objects;
mod placement;
mod queries;
mod schedulers;
mod sources;
mod territory;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

pub use self::account::{Account, EndpointCounts, FrontAccount, PortAccount, Unserved};
use self::claims::Claims;
use self::climbs::Climbs;
pub(crate) use self::counts::Addresses as CountedAddresses;
use self::ground::Ground;
use self::health_ports::{HealthPorts, moved};
use self::host_ports::HostPorts;
use self::lists::Lists;
use self::objects::Entry;
use self::placement::Placement;
use self::schedulers::Schedulers;
pub(crate) use self::territory::Territory;
use crate::diff::Touched;
use crate::due::Due;
use crate::event::Kind;
use crate::names::ServiceName;
use crate::options::Options;
use crate::services::Reader;
use crate::slices::Interner;
use crate::state::KernelState;
use crate::unknown::Unknown;

/// What a health-check node port answers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HealthCheck {
    /// The Service.
    pub service: ServiceName,
    /// Port to listen on.
    pub port: u16,
    /// Ready endpoints on this node, each address once.
    pub local_endpoints: usize,
    /// Load-balancer addresses of the Service on which it should answer too.
    pub vips: BTreeSet<IpAddr>,
}

/// All objects, and the kernel state they ask for.
#[derive(Debug)]
pub struct Cluster {
    options: Options,
    /// Services by name; one that has only slices so far is there too.
    entries: BTreeMap<ServiceName, Box<Entry>>,
    /// Which Service a slice belongs to, since a deletion does not say.
    slice_owners: BTreeMap<ServiceName, ServiceName>,
    territory: Territory,
    ground: Ground,
    schedulers: Schedulers,
    lists: Lists,
    names: Interner,
    reader: Reader,
    dirty: BTreeSet<ServiceName>,
    /// The networks of ClusterIPs changed.
    networks_moved: bool,
    /// Services with warnings or a health-check node port, so that asking for
    /// those does not walk over all.
    notable: BTreeSet<ServiceName>,
    claims: Claims,
    health_ports: HealthPorts,
    host_ports: HostPorts,
    placement: Placement,
    climbs: Climbs,
    /// Addresses of Services that are gone, and until when they stay.
    leaving: Due<IpAddr>,
    /// How often a Service was compiled.
    #[cfg(test)]
    compilations: usize,
}

impl Cluster {
    /// An empty cluster.
    pub fn new(options: Options) -> Self {
        Self {
            territory: Territory::default(),
            ground: Ground::new(&options),
            schedulers: Schedulers::default(),
            lists: Lists::new(&options),
            reader: Reader::new(&options),
            options,
            entries: BTreeMap::new(),
            slice_owners: BTreeMap::new(),
            names: Interner::default(),
            dirty: BTreeSet::new(),
            networks_moved: false,
            notable: BTreeSet::new(),
            claims: Claims::default(),
            health_ports: HealthPorts::default(),
            host_ports: HostPorts::default(),
            placement: Placement::default(),
            climbs: Climbs::default(),
            leaving: Due::default(),
            #[cfg(test)]
            compilations: 0,
        }
    }

    /// Whether every kind needed has been listed. Before that the desired state
    /// must not be used at all, and then [`Self::unknown`] says what may be
    /// missing from it.
    pub fn synced(&self) -> bool {
        self.awaited().next().is_none()
    }

    /// The kinds whose first full list is still missing.
    pub fn awaited(&self) -> impl Iterator<Item = Kind> {
        self.lists.awaited()
    }

    /// What may be in the cluster besides what could be read: of it nothing must
    /// be removed.
    pub fn unknown(&self) -> &Unknown {
        self.lists.unknown()
    }

    /// Whether anything changed since the last [`Self::compile`].
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
            || self.networks_moved
            || self.claims.has_moved()
            || self.health_ports.has_moved()
    }

    /// Compiles the Services that changed; says what may differ in [`Self::desired`].
    pub fn compile(&mut self) -> Touched {
        let mut touched = Touched::default();
        let mut vips = BTreeSet::new();
        loop {
            while let Some(name) = self.dirty.pop_first() {
                // Not `append`, which makes the whole set anew each time.
                vips.extend(self.compile_one(&name, &mut touched));
            }
            // Once for all: each may look through all Services.
            self.mark_endpoints(&core::mem::take(&mut vips));
            self.mark_lost_to_others();
            if self.dirty.is_empty() {
                break;
            }
        }
        self.place_networks(&mut touched);
        self.let_go(&mut touched);
        touched
    }

    fn place_networks(&mut self, touched: &mut Touched) {
        if core::mem::take(&mut self.networks_moved) && self.options.close_service_cidrs {
            let networks = self.ground.service_networks().iter().copied();
            self.placement.set_networks(networks, touched);
        }
    }

    /// Compiles the Services that changed; says for each what may differ, there
    /// and at those that win or lose something by it.
    pub fn compile_each(&mut self) -> Vec<Touched> {
        let mut waiting = core::mem::take(&mut self.dirty);
        let mut networks = Touched::default();
        self.place_networks(&mut networks);
        let mut each = vec![networks];
        while let Some(name) = waiting.pop_first() {
            let mut touched = Touched::default();
            self.dirty.insert(name);
            while let Some(rival) = self.dirty.pop_first() {
                waiting.remove(&rival);
                let vips = self.compile_one(&rival, &mut touched);
                self.mark_endpoints(&vips);
            }
            each.push(touched);
        }
        each.push(self.compile());
        each.retain(|touched| !touched.is_empty());
        each
    }

    /// Compiles one Service before all others, if it changed: on a cold start
    /// that of the API server and DNS.
    pub fn compile_first(&mut self, name: &ServiceName) -> Touched {
        let mut touched = Touched::default();
        if self.dirty.remove(name) {
            let vips = self.compile_one(name, &mut touched);
            self.mark_endpoints(&vips);
        }
        touched
    }

    /// Compiles one Service. Returns the VIPs that came or went.
    fn compile_one(&mut self, name: &ServiceName, touched: &mut Touched) -> BTreeSet<IpAddr> {
        let Some((claimant, mut compiled)) = self.compile_objects(name) else {
            return BTreeSet::new();
        };
        #[cfg(test)]
        {
            self.compilations += 1;
        }
        let Some(entry) = self.entries.get_mut(name) else {
            return BTreeSet::new();
        };
        let footprint = &mut entry.footprint;
        let before = footprint.stake.claims.clone();
        let mut rivals = self
            .claims
            .stake(&claimant, &mut footprint.stake, &compiled);
        self.host_ports
            .replace(&mut footprint.host_ports, &compiled);
        let (wish, health) = (&mut footprint.health_wish, compiled.health.as_ref());
        rivals.extend(self.health_ports.stake(&claimant, wish, health));
        rivals.extend(
            self.health_ports
                .beside(moved(&before, &footprint.stake.claims)),
        );
        rivals.remove(name);
        let node_ports = self.ground.node_ports();
        self.health_ports
            .decide(name, &mut compiled, node_ports, &self.claims);
        let vips =
            self.placement
                .place(name, &mut entry.footprint, compiled, &self.claims, touched);
        if entry.footprint.is_notable() {
            self.notable.insert(name.clone());
        } else {
            self.notable.remove(name);
        }
        if entry.is_empty() {
            self.entries.remove(name);
        }
        self.dirty.extend(rivals);
        self.bid_farewell(&vips);
        vips
    }

    /// How often a Service was compiled.
    #[cfg(test)]
    pub(crate) fn compilations(&self) -> usize {
        self.compilations
    }

    /// What the kernel should hold, as of the last [`Self::compile`].
    pub fn desired(&self) -> &KernelState {
        self.placement.desired()
    }

    /// Whether Services took ports of this host since this was last asked, so
    /// that its listeners should be looked at.
    pub fn take_new_host_ports(&mut self) -> bool {
        self.host_ports.take_new()
    }
}

#[cfg(test)]
mod tests {
    use crate::event::ObjectRef;
    use crate::fixtures::*;
    use crate::{Event, Kind};

    #[test]
    fn a_service_is_a_virtual_server_a_vip_and_a_port_that_passes_the_guard() {
        let mut cluster = cluster();
        cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);

        assert_lines(
            &cluster.text(),
            "10.96.0.1:80/TCP rr  ClusterIP default/web
               -> 10.244.1.7:8080 weight 1
             vip  10.96.0.1
             front  10.96.0.1:80/TCP serve  ClusterIP default/web",
        );
    }

    #[test]
    fn new_endpoint_joins_the_virtual_server() {
        let mut cluster = cluster();
        cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
        let before = cluster.state();

        cluster.endpoints(&web(), [ep("10.244.1.7"), ep("10.244.2.9")]);

        assert_lines(
            &plan(&before, &cluster.state()),
            "real server  add  10.96.0.1:80/TCP -> 10.244.2.9:8080 weight 1",
        );
    }

    #[test]
    fn nothing_is_synced_before_both_lists_are_whole() {
        let mut cluster = cluster();
        cluster.apply(Event::ListStarted(Kind::Service));
        cluster.apply(Event::ListCompleted(Kind::Service));
        assert!(!cluster.synced());
        cluster.apply(Event::ListCompleted(Kind::EndpointSlice));
        assert!(!cluster.synced(), "a list that never began is not whole");
        cluster.complete();
        assert!(cluster.synced());
    }

    #[test]
    fn what_a_full_list_does_not_name_goes_when_it_is_complete() {
        let mut cluster = cluster();
        cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
        let before = cluster.state();

        cluster.apply(Event::ListStarted(Kind::Service));
        cluster.add(service("other", "10.96.0.2"));
        assert!(
            cluster
                .state()
                .virtual_servers
                .keys()
                .eq(before.virtual_servers.keys())
        );

        cluster.apply(Event::ListCompleted(Kind::Service));
        assert_lines(
            &cluster.text(),
            "vip  10.96.0.2
             front  10.96.0.2:80/TCP refuse  ClusterIP default/other",
        );
    }

    #[test]
    fn what_a_full_list_names_but_cannot_be_read_stays_as_it_was() {
        let mut cluster = cluster();
        let web = web();
        cluster.add(web.clone()).endpoints(&web, [ep("10.244.1.7")]);
        let before = cluster.text();
        let mut list = |kind, namespace: &str, name: &str| {
            cluster.apply(Event::ListStarted(kind));
            let object = ObjectRef {
                kind,
                namespace: namespace.into(),
                name: name.into(),
            };
            cluster.apply(Event::Unreadable(object.into()));
            cluster.apply(Event::ListCompleted(kind));
            cluster.text()
        };

        // Beside the warning nothing is new.
        let state = |text: &str| {
            let lines = text.lines().filter(|line| !line.starts_with("warning "));
            lines.collect::<alloc::vec::Vec<_>>().join("\n")
        };
        let service = list(Kind::Service, "default", "web");
        assert!(
            service.contains("default/web: it cannot be read any more"),
            "{service}"
        );
        assert_lines(&state(&service), &before);
        let slice = list(Kind::EndpointSlice, "default", "web-1");
        assert_lines(&state(&slice), &before);
        assert_lines(&state(&list(Kind::Service, "default", "other")), "");
    }

    #[test]
    fn one_change_touches_its_service_alone() {
        let mut cluster = cluster();
        cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
        cluster.add(service("other", "10.96.0.2"));
        cluster.compile();

        cluster.endpoints(&web(), [ep("10.244.1.8")]);
        let touched = cluster.compile();

        assert_eq!(touched.len(), 1);
        assert!(cluster.compile().is_empty());
    }
}
