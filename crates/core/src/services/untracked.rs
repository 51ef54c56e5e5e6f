//! Which Services pass without entries in conntrack.

use alloc::format;
use core::net::IpAddr;

use super::addresses::is_headless;
use super::annotations::value;
use crate::k8s::Service;
use crate::options::Options;
use crate::read::Quoted;
use crate::row::Masquerade;
use crate::slices::unusable;
use crate::warnings::Warnings;

pub(super) const UNTRACKED: &str = "ipvs.kube-ipvs.dev/untracked";

/// Whether packets of the Service's ClusterIPs are not tracked: somebody asks for
/// it, and the Service has nothing that needs a translation of addresses.
pub(super) fn is_asked(
    service: &Service,
    masquerade: Option<Masquerade>,
    options: &Options,
    warnings: &mut Warnings,
) -> bool {
    if !is_named(service, options) && !by_annotation(service, options, warnings) {
        return false;
    }
    let why = if is_headless(&service.spec) {
        "it is headless, and only what is sent to a ClusterIP can be untracked"
    } else if has_more_than_cluster_ips(service) {
        "it has node ports, or addresses outside the cluster, whose clients are masqueraded"
    } else if masquerade == Some(Masquerade::Always)
        || (options.masquerade_all && masquerade.is_none())
    {
        "its clients are masqueraded"
    } else {
        return true;
    };
    warnings.add(format!("untracked: {why}; it stays tracked"));
    false
}

/// Whether endpoints see an address when it is this host's. Not one of a link: there
/// is one for each pod's in IPv6, and none calls an address of another scope.
pub(crate) fn asks_endpoints(address: IpAddr) -> bool {
    unusable(address).is_none()
}

fn is_named(service: &Service, options: &Options) -> bool {
    let metadata = &service.metadata;
    let mut named = options.untracked_services.iter();
    named.any(|of| *of.namespace == *metadata.namespace && *of.name == *metadata.name)
}

fn by_annotation(service: &Service, options: &Options, warnings: &mut Warnings) -> bool {
    let Some((name, value)) = value(service, &[UNTRACKED]) else {
        return false;
    };
    let why = match value {
        "true" if options.untracked_by_annotation => return true,
        "false" => return false,
        "true" => {
            "is not allowed by this node's --ipvs-untracked-services, which has neither the \
             Service nor the word annotated; it stays tracked"
        }
        _ => "is neither true nor false; it is ignored",
    };
    warnings.add(format!("annotation {name}: {} {why}", Quoted(value)));
    false
}

/// Other fronts have the same endpoints, whose answers are told apart by nothing.
fn has_more_than_cluster_ips(service: &Service) -> bool {
    let spec = &service.spec;
    let mut ports = spec.ports.iter();
    ports.any(|port| port.node_port.is_some_and(|number| number != 0))
        || !spec.external_ips.is_empty()
        || !service.status.load_balancer.ingress.is_empty()
}
