//! The addresses that a Service asks for.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use super::{FrontKind, ServiceType, annotations};
use crate::k8s::{LoadBalancerIngress, Service, ServiceSpec};
use crate::read::{self, Quoted};
use crate::slices::unusable;
use crate::warnings::Warnings;

/// Addresses that are read of each list of a Service from outside.
const MOST: usize = 1024;
/// Of `clusterIPs`: one a family, and an API server takes no more. A manifest
/// may have any number.
const CLUSTER_IPS: usize = 2;

/// An address that a Service asks for: one that somebody can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) address: IpAddr,
    pub(crate) kind: FrontKind,
    /// Not so for a `clusterIP` that is not among `clusterIPs`: it is nobody
    /// else's, and that is all.
    pub(crate) is_served: bool,
}

impl Asked {
    /// Whether it is an address of the cluster itself.
    pub(crate) fn is_cluster_ip(&self) -> bool {
        self.kind == FrontKind::ClusterIp
    }
}

/// Tells of lists that are not read to their end.
pub(super) fn too_long(service: &Service, warnings: &mut Warnings) {
    let spec = &service.spec;
    let ingress = service.status.load_balancer.ingress.len();
    let lists = [
        ("clusterIPs", spec.cluster_ips.len(), CLUSTER_IPS),
        ("externalIPs", spec.external_ips.len(), MOST),
        ("status.loadBalancer.ingress", ingress, MOST),
    ];
    for (field, length, most) in lists.into_iter().filter(|(_, length, most)| length > most) {
        warnings.add(format!(
            "{field}: of {length} addresses those beyond the first {most} are ignored"
        ));
    }
}

/// The `clusterIPs` that are read.
fn cluster_ips(spec: &ServiceSpec) -> &[String] {
    let all = spec.cluster_ips.as_slice();
    all.get(..CLUSTER_IPS).unwrap_or(all)
}

/// Whether `None` stands where a cluster address would.
pub(super) fn is_headless(spec: &ServiceSpec) -> bool {
    let mut all = cluster_ips(spec).iter().chain(&spec.cluster_ip);
    all.any(|text| text == "None")
}

/// Reads the addresses: cluster, load balancer, external. The order says as
/// what an address counts that is there twice; a load balancer's may be
/// restricted, so it goes before the external ones. Without a cluster address
/// there are no endpoints for the others either.
pub(super) fn read(service: &Service, kind: &ServiceType, warnings: &mut Warnings) -> Box<[Asked]> {
    let spec = &service.spec;
    if *kind == ServiceType::ExternalName {
        return Box::default();
    }
    let proxied = annotations::is_proxied(service, warnings);
    let mut reader = Reader {
        warnings,
        found: Vec::new(),
    };
    reader.cluster(spec);
    if !reader.found.iter().any(|asked| asked.is_served) {
        return reader.found.into();
    }
    for ingress in service.status.load_balancer.ingress.iter().take(MOST) {
        let Some(text) = ingress.ip.as_deref().filter(|ip| !ip.is_empty()) else {
            continue;
        };
        if reader.is_captured(ingress, text, proxied) {
            reader.read(
                "status.loadBalancer.ingress.ip",
                text,
                FrontKind::LoadBalancer,
            );
        }
    }
    for text in spec.external_ips.iter().take(MOST) {
        reader.read("externalIPs", text, FrontKind::ExternalIp);
    }
    reader.found.into()
}

struct Reader<'w> {
    warnings: &'w mut Warnings,
    found: Vec<Asked>,
}

impl Reader<'_> {
    fn cluster(&mut self, spec: &ServiceSpec) {
        let (texts, apart) = match cluster_ips(spec) {
            [] => (spec.cluster_ip.as_slice(), None),
            several => (several, spec.cluster_ip.as_ref()),
        };
        if texts.first().is_some_and(|first| first == "None") {
            self.apart(texts.iter().chain(apart));
            return;
        }
        for text in texts.iter().filter(|text| !text.is_empty()) {
            self.read("clusterIPs", text, FrontKind::ClusterIp);
        }
        let found = |address| self.found.iter().any(|asked| asked.address == address);
        let apart = apart.filter(|text| read::address(text).is_some_and(|at| !found(at.value)));
        self.apart(apart.into_iter());
    }

    /// Addresses that are this Service's, though it is not served there.
    fn apart<'t>(&mut self, texts: impl Iterator<Item = &'t String>) {
        let kind = FrontKind::ClusterIp;
        for address in texts.filter_map(|text| Some(read::address(text)?.value)) {
            self.found.push(Asked {
                address,
                kind,
                is_served: false,
            });
        }
    }

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
        self.found.push(Asked {
            address,
            kind,
            is_served: true,
        });
    }

    /// `ipMode: Proxy` means that the traffic must pass the load balancer.
    fn is_captured(&mut self, ingress: &LoadBalancerIngress, ip: &str, proxied: bool) -> bool {
        match ingress.ip_mode.as_deref() {
            None | Some("") => !proxied,
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
}
