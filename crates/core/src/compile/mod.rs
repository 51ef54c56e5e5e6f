//! One Service to what it asks of the kernel. Pure, and about that Service alone.
//!
//! What comes out is claims on fronts; which of several Services gets a front
//! is decided where all are known, in the cluster.

mod addresses;
mod bounds;
mod endpoints;
mod fronts;
mod marks;
mod policy;
mod ranges;
mod this_host;
mod untracked;
mod weights;
mod withheld;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::climb::Climb;
use crate::cluster::{CountedAddresses, Territory};
use crate::event::Listener;
use crate::localhost::LocalhostPort;
use crate::names::{ServiceName, Warning};
use crate::options::Options;
use crate::regarding::Uid;
use crate::row::Row;
use crate::services::{FrontKind, Service, ServiceType, Tuning};
use crate::slices::Slice;
use crate::state::{Family, Front, Protocol, VirtualServer, VirtualServerKey};
use crate::table::Untracked;
use crate::warnings::{MOST, Warnings};

pub(crate) use self::endpoints::liveliness;
pub(crate) use self::ranges::Ranges;
pub use self::withheld::Withheld;

use self::addresses::Addresses;
use self::bounds::Bounds;
use self::fronts::Compiler;

/// What a Service is compiled against: the same for all of them.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) options: &'a Options,
    /// Schedulers that the kernel lacks.
    pub(crate) missing_schedulers: &'a BTreeSet<String>,
    /// Addresses of this host.
    pub(crate) host: &'a BTreeSet<IpAddr>,
    /// Those that take NodePorts.
    pub(crate) node_ports: &'a [IpAddr],
    /// Addresses of others that must not become local here.
    pub(crate) protected: &'a BTreeSet<IpAddr>,
    /// Addresses that may be such: nobody could look.
    pub(crate) unchecked: &'a BTreeSet<IpAddr>,
    /// Gateways of this host.
    pub(crate) gateways: &'a BTreeSet<IpAddr>,
    /// Networks of ClusterIPs.
    pub(crate) service_networks: &'a BTreeSet<IpNet>,
    /// Networks of pods.
    pub(crate) pod_networks: &'a BTreeSet<IpNet>,
    /// Whose addresses are which.
    pub(crate) territory: &'a Territory,
    /// What is bound for other Services, and for this one so far.
    pub(crate) vips: &'a CountedAddresses,
    /// The link of each of this host's addresses, where it is known.
    pub(crate) links: &'a BTreeMap<IpAddr, String>,
    /// Sockets of this host.
    pub(crate) listeners: &'a BTreeSet<Listener>,
    /// Zone of this node.
    pub(crate) zone: Option<&'a str>,
}

impl Surroundings<'_> {
    /// Whether traffic for an address would come back to IPVS, or end at
    /// whatever listens on this host: no endpoint can be there.
    fn is_of_services(&self, address: IpAddr) -> bool {
        let within = |net: &IpNet| net.contains(&address);
        !self.host.contains(&address)
            && (self.service_networks.iter().any(within)
                || self.vips.has(address)
                || self.territory.is_cluster_ip(address))
    }

    /// Whether a program of this host listens at a front, and not at all addresses.
    fn listens_there(&self, front: &Front) -> bool {
        self.listeners.contains(&Listener {
            protocol: front.protocol,
            address: front.address,
            port: front.port,
        })
    }

    /// Whether a program of this host would take what is sent to a front.
    fn listens(&self, front: &Front) -> bool {
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let any = any
            .into_iter()
            .filter(|any| any.is_ipv6() || front.address.is_ipv4());
        let mut addresses = any.chain([front.address]);
        addresses.any(|address| {
            self.listeners.contains(&Listener {
                protocol: front.protocol,
                address,
                port: front.port,
            })
        })
    }
}

/// What a Service asks for.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    /// Fronts and marks.
    pub(crate) claims: Vec<Claim>,
    /// Who may use its restricted fronts.
    pub(crate) ranges: Ranges,
    /// Marks that it uses, and those that it would use if they were free.
    pub(crate) marks: BTreeSet<VirtualServerKey>,
    /// Endpoints on this node, which other Services may have too.
    pub(crate) hairpin: BTreeSet<IpAddr>,
    /// What is not tracked, likewise.
    pub(crate) untracked: BTreeSet<Untracked>,
    /// Fronts at which this host answers health checks, likewise.
    pub(crate) passing: BTreeSet<Front>,
    /// Health-check node port: number, ready local endpoints, addresses.
    pub(crate) health: Option<Health>,
    /// `Local` policies that no endpoint on this node can serve, though others could.
    pub(crate) without_local: BTreeSet<(TrafficPolicy, Family)>,
    /// Fronts that are left to programs of this host.
    pub(crate) left: BTreeSet<Front>,
    /// Why addresses of it are not served.
    pub(crate) withheld: Vec<Withheld>,
    /// What makes no sense in it.
    pub(crate) warnings: Warnings,
    /// Whom that is about.
    pub(crate) uid: Option<Uid>,
    /// And in its slices.
    pub(crate) slice_warnings: Vec<Warning>,
}

impl Compiled {
    /// Addresses of fronts that only some may use.
    pub(crate) fn restricted_addresses(&self) -> BTreeSet<IpAddr> {
        let fronts = self.claims.iter().filter_map(Claim::restricted);
        fronts.map(|front| front.address).collect()
    }
}

/// Which of a Service's traffic policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrafficPolicy {
    /// `internalTrafficPolicy`.
    Internal,
    /// `externalTrafficPolicy`.
    External,
}

/// Health-check node port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) port: u16,
    pub(crate) local_endpoints: usize,
    pub(crate) vips: BTreeSet<IpAddr>,
}

/// A claim on a front or mark, and what is done with it when it is won.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) key: VirtualServerKey,
    pub(crate) kind: FrontKind,
    /// Name of the Service port.
    pub(crate) port: Arc<str>,
    pub(crate) protocol: Protocol,
    /// Served by IPVS so; `None` when it is refused or dropped.
    pub(crate) server: Option<VirtualServer>,
    /// Address to bind to our link.
    pub(crate) bind: Option<IpAddr>,
    /// What becomes of the front; each of its marks holds only when it is won
    /// too. Says nothing for a mark.
    pub(crate) row: Row,
    /// Whether only some may use it.
    pub(crate) is_restricted: bool,
    /// Served so by a program that listens at the front, which is on a loopback
    /// address: the kernel is told nothing of it.
    pub(crate) localhost: Option<LocalhostPort>,
}

impl Claim {
    /// Its front, if only some may use that.
    pub(crate) fn restricted(&self) -> Option<Front> {
        match self.key {
            VirtualServerKey::Front(front) if self.is_restricted => Some(front),
            _ => None,
        }
    }
}

/// Compiles a Service with its slices. `climb` has the endpoints that are new,
/// where those begin with little; `taken` says whether a mark is that of a
/// Service that goes before.
pub(crate) fn compile<'a>(
    name: &ServiceName,
    service: &Service,
    slices: impl Iterator<Item = &'a Slice> + Clone,
    climb: Option<&Climb>,
    around: &Surroundings<'_>,
    taken: &dyn Fn(u32, Family) -> bool,
) -> Compiled {
    if !is_ours(service, around.options) {
        return Compiled::default();
    }
    let mut warnings = service.warnings();
    let shape = Shape::of(name, service, around, &mut warnings);
    let skipped = endpoints::skipped(slices.clone(), around, &mut warnings);
    let shape = Shape { skipped, ..shape };
    let tuning = shape.tuning;
    weights::tell(slices.clone(), tuning, climb.is_some(), &mut warnings);
    let bounds = Bounds::of(&shape, around);
    let mut compiler = Compiler::new(name, shape, bounds, climb, around, warnings, taken);
    for port in &service.ports {
        for &family in &around.options.families {
            compiler.port(port, family, slices.clone());
        }
    }
    compiler.health(slices.clone());
    let mut compiled = compiler.finish();
    compiled.slice_warnings = of_slices(slices, &mut compiled.warnings);
    compiled.uid = service.uid;
    compiled
}

/// The warnings about a Service's slices, no more of them than about one
/// object: a Service has as many slices as somebody wants.
fn of_slices<'a>(slices: impl Iterator<Item = &'a Slice>, warnings: &mut Warnings) -> Vec<Warning> {
    let mut all = slices.flat_map(|slice| &slice.warnings);
    let shown: Vec<_> = all.by_ref().take(MOST).cloned().collect();
    let more = all.count();
    if more > 0 {
        warnings.add(format!(
            "{more} more warnings about its EndpointSlices are not shown"
        ));
    }
    shown
}

/// Whether there is anything to proxy, and it is ours to do.
fn is_ours(service: &Service, options: &Options) -> bool {
    // The label of headless Services is for slices alone: a Service that has a
    // ClusterIP is none, whatever it is labelled.
    service.proxy.as_deref() == options.service_proxy_name.as_deref()
        && service.kind != ServiceType::ExternalName
}

/// Everything about a Service that is the same for all of its ports.
#[derive(Debug)]
struct Shape<'a> {
    service: &'a Service,
    addresses: Addresses,
    tuning: &'a Tuning,
    ranges: Ranges,
    /// Endpoints that are addresses of Services.
    skipped: BTreeSet<IpAddr>,
}

impl<'a> Shape<'a> {
    fn of(
        name: &ServiceName,
        service: &'a Service,
        around: &Surroundings<'_>,
        warnings: &mut Warnings,
    ) -> Self {
        let tuning = service.tuning(around.missing_schedulers);
        tuning.warnings.iter().for_each(|text| warnings.add(text));
        Self {
            service,
            addresses: addresses::read(name, service, around, warnings),
            tuning,
            ranges: Ranges::new(service.ranges.clone(), around.host),
            skipped: BTreeSet::new(),
        }
    }
}
