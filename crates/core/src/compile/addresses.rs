//! Which addresses of a Service are served here, and which of them are bound.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::{Surroundings, Warnings, Withheld};
use crate::names::ServiceName;
use crate::services::{Asked, FrontKind, Service};
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
    pub(super) fn of(&self, family: Family) -> impl Iterator<Item = &Address> {
        let all = self.found.iter();
        all.filter(move |a| Family::of(a.address) == family)
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

/// Those that a Service asks for and gets, in their order.
pub(super) fn read(
    name: &ServiceName,
    service: &Service,
    around: &Surroundings<'_>,
    warnings: &mut Warnings,
) -> Addresses {
    let mut reader = Reader {
        namespace: &name.namespace,
        around,
        warnings,
        found: Vec::new(),
        withheld: Vec::new(),
    };
    let served = || service.addresses.iter().filter(|asked| asked.is_served);
    let cluster = served().filter(|asked| asked.is_cluster_ip());
    cluster.for_each(|asked| reader.take(asked));
    let families: Vec<Family> = reader.families();
    if families.is_empty() {
        return Addresses::default();
    }
    let others = served().filter(|asked| !asked.is_cluster_ip());
    others.for_each(|asked| reader.take(asked));
    reader.only(&families);
    Addresses {
        found: reader.found,
        withheld: reader.withheld,
    }
}

/// The field in which addresses of a kind stand.
fn field(kind: FrontKind) -> &'static str {
    match kind {
        FrontKind::LoadBalancer => "status.loadBalancer.ingress.ip",
        FrontKind::ExternalIp => "externalIPs",
        FrontKind::ClusterIp | FrontKind::NodePort | FrontKind::InsideMark => "clusterIPs",
    }
}

struct Reader<'a, 'w> {
    namespace: &'a Arc<str>,
    around: &'a Surroundings<'a>,
    warnings: &'w mut Warnings,
    found: Vec<Address>,
    withheld: Vec<Withheld>,
}

impl Reader<'_, '_> {
    fn take(&mut self, asked: &Asked) {
        let Asked { address, kind, .. } = *asked;
        let field = field(kind);
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
        let of_none = |a: &mut Address| !families.contains(&Family::of(a.address));
        for Address { address, kind, .. } in self.found.extract_if(.., of_none) {
            self.warnings.add(format!(
                "{kind} address {address}: the Service has no cluster address of that family; \
                 it is ignored"
            ));
        }
    }
}
