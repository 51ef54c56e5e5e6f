//! `compile`: manifests to the state of a node, without a kernel.

use kube_ipvs_core::Cluster;
use kube_ipvs_core::event::Event;
use kube_ipvs_core::k8s::{Object, Service};
use kube_ipvs_core::output::Output;
use kube_ipvs_core::state::Family;
use kube_ipvs_source::manifests::Manifests;

use crate::config::{Settings, Source};
use crate::run::{self, resolve};

/// What the manifests of the settings compile to, and how many warnings there
/// are about them: logged, or in the output. `strict`: also about fields that
/// Kubernetes does not have.
///
/// # Errors
/// No manifests, or some that cannot be read.
pub(crate) fn run(settings: &Settings, strict: bool) -> anyhow::Result<(Output, usize)> {
    let Source::Manifests(path) = &settings.source else {
        anyhow::bail!("compile reads manifests only");
    };
    let mut manifests = Manifests::at(path);
    if strict {
        manifests = manifests.strictly();
    }
    let reading = manifests.read()?;
    reading.log_problems();
    run::all_was_read(reading.unreadable())?;
    let mut warnings: Vec<_> = reading.events.iter().filter_map(without_address).collect();
    let problems = reading.problems.len();

    let families = vec![Family::V4, Family::V6];
    let mut cluster = Cluster::new(resolve::options(settings, families)?);
    for event in reading.events {
        cluster.apply(event);
    }
    cluster.compile();
    if cluster.node().is_none() && settings.node_addresses.is_empty() {
        warnings.push(format!(
            "no Node {} in the input: NodePorts and the policy Local are compiled as for a node \
             without addresses and endpoints; add it, and name it with --hostname-override",
            resolve::node_name(settings)?
        ));
    }
    let output = Output::of(&cluster);
    if output.fronts.is_empty() {
        warnings.push("nothing is served: no Service has an address and a port here".to_owned());
    }
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let warnings = problems + warnings.len() + output.warnings.len();
    Ok((output, warnings))
}

/// A Service as it stands in a repository, before an API server has seen it.
fn without_address(event: &Event) -> Option<String> {
    let Event::Upsert(Object::Service(service)) = event else {
        return None;
    };
    let Service { metadata, spec, .. } = &**service;
    let external_name = spec.type_.as_deref() == Some("ExternalName");
    let has_one = !spec.cluster_ips.is_empty()
        || spec
            .cluster_ip
            .as_ref()
            .is_some_and(|address| !address.is_empty());
    (!external_name && !has_one).then(|| {
        format!(
            "Service {}/{} has no spec.clusterIP, which the API server gives it: it is not served at one",
            metadata.namespace, metadata.name
        )
    })
}
