//! The addresses of a Service, and which of them may be bound here.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::bounds::ADDRESSES;
use super::{FrontKind, Surroundings, Warnings, Withheld, annotations};
use crate::k8s::{LoadBalancerIngress, Service};
use crate::names::ServiceName;
use crate::read::{self, Quoted};
use crate::slices::unusable;
use crate::state::Family;

/// An address of a Service.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Address {
    pub(super) address: IpAddr,
    pub(super) kind: FrontKind,
    /// Becomes a VIP on our link. Otherwise it is this host's own and served as it is.
    pub(super) bind: bool,
}

/// All of them; the same address may be there in two kinds.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    found: Vec<Address>,
    /// Why others are not among them.
    pub(super) withheld: Vec<Withheld>,
}

impl Addresses {
    /// Those of a family.
    pub(super) fn of(&self, family: Family) -> Vec<Address> {
        let all = self.found.iter();
        all.filter(|a| Family::of(a.address) == family)
            .cloned()
            .collect()
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Address> {
        self.found.iter()
    }

    /// Load-balancer addresses on our link.
    pub(super) fn balanced(&self) -> impl Iterator<Item = IpAddr> {
        self.found
            .iter()
            .filter(|a| a.kind == FrontKind::LoadBalancer && a.bind)
            .map(|a| a.address)
    }
}

/// Reads the addresses: cluster, load balancer, external. The order says as
/// what an address counts that is there twice; a load balancer's may be
/// restricted, so it goes before the external ones.
pub(super) fn read(
    name: &ServiceName,
    service: &Service,
    around: &Surroundings<'_>,
    warnings: &mut Warnings,
) -> Addresses {
    let spec = &service.spec;
    let mut reader = Reader {
        namespace: &name.namespace,
        proxied: annotations::is_proxied(service, warnings),
        around,
        warnings,
        found: Vec::new(),
        withheld: Vec::new(),
    };
    let cluster = match spec.cluster_ips.as_slice() {
        [] => spec.cluster_ip.as_slice(),
        several => several,
    };
    if cluster.first().is_some_and(|first| first == "None") {
        return Addresses::default();
    }
    for text in cluster.iter().filter(|text| !text.is_empty()) {
        reader.read("clusterIPs", text, FrontKind::ClusterIp);
    }
    let families: Vec<Family> = reader.families();
    if families.is_empty() {
        return Addresses::default();
    }
    for ingress in service.status.load_balancer.ingress.iter().take(ADDRESSES) {
        let Some(text) = ingress.ip.as_deref().filter(|ip| !ip.is_empty()) else {
            continue;
        };
        if reader.is_captured(ingress, text) {
            reader.read(
                "status.loadBalancer.ingress.ip",
                text,
                FrontKind::LoadBalancer,
            );
        }
    }
    for text in spec.external_ips.iter().take(ADDRESSES) {
        reader.read("externalIPs", text, FrontKind::ExternalIp);
    }
    reader.only(&families);
    Addresses {
        found: reader.found,
        withheld: reader.withheld,
    }
}

struct Reader<'a, 'w> {
    namespace: &'a Arc<str>,
    /// Load balancers are proxies where their status does not say what they are.
    proxied: bool,
    around: &'a Surroundings<'a>,
    warnings: &'w mut Warnings,
    found: Vec<Address>,
    withheld: Vec<Withheld>,
}

impl Reader<'_, '_> {
    fn read(&mut self, field: &str, text: &str, kind: FrontKind) {
        let Some(read) = read::address(text) else {
            self.warnings.add(format!(
                "{field}: {} is no address; it is ignored",
                Quoted(text)
            ));
            return;
        };
        let address = read.value;
        if let Some(note) = read.note() {
            self.warnings.add(format!("{field}: {note}"));
        }
        if let Some(what) = unusable(address) {
            self.warnings
                .add(format!("{field}: {address} is {what}; it is ignored"));
            return;
        }
        if kind == FrontKind::ExternalIp && !self.allows(address) {
            self.warnings.add(format!(
                "{field}: {address} is not in the operator's list of allowed networks; \
                 it is ignored"
            ));
            return;
        }
        let cluster = |a: &Address| a.address == address && a.kind == FrontKind::ClusterIp;
        if self.found.iter().any(cluster) {
            // As that it is served already.
            return;
        }
        if let Some(reason) = Withheld::of(address, kind, self.namespace, self.around) {
            self.warnings.add(format!("{field}: {address} {reason}"));
            self.withheld.push(reason);
            return;
        }
        let own = self.around.host.contains(&address);
        if own && kind == FrontKind::ClusterIp {
            self.warnings.add(format!(
                "{field}: {address} is an address of this node; it is served, but not bound"
            ));
        }
        if self.around.options.excludes_address(address) {
            self.warnings.add(format!(
                "{field}: {address} lies in --ipvs-exclude-cidrs; it is served all the same, \
                 in somebody else's virtual server if there is one, which then stays"
            ));
        }
        self.found.push(Address {
            address,
            kind,
            bind: !own,
        });
    }

    /// `ipMode: Proxy` means that the traffic must pass the load balancer.
    fn is_captured(&mut self, ingress: &LoadBalancerIngress, ip: &str) -> bool {
        match ingress.ip_mode.as_deref() {
            None | Some("") => !self.proxied,
            Some("VIP") => true,
            Some("Proxy") => false,
            Some(other) => {
                let ip = match read::address(ip) {
                    Some(read) => read.value.to_string(),
                    None => Quoted(ip).to_string(),
                };
                self.warnings.add(format!(
                    "status.loadBalancer.ingress.ipMode {} of {ip} is unknown; \
                     the address is left alone",
                    Quoted(other)
                ));
                false
            }
        }
    }

    fn allows(&self, address: IpAddr) -> bool {
        let allowed = &self.around.options.allow_external_ips;
        allowed.iter().any(|net| net.contains(&address))
    }

    fn families(&self) -> Vec<Family> {
        self.found.iter().map(|a| Family::of(a.address)).collect()
    }

    /// An address of a family in which the Service has none of its own has no
    /// endpoints either.
    fn only(&mut self, families: &[Family]) {
        let (kept, lost): (Vec<_>, Vec<_>) = core::mem::take(&mut self.found)
            .into_iter()
            .partition(|a| families.contains(&Family::of(a.address)));
        self.found = kept;
        for Address { address, kind, .. } in lost {
            self.warnings.add(format!(
                "{kind} address {address}: the Service has no cluster address of that family; \
                 it is ignored"
            ));
        }
    }
}
