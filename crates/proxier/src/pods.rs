//! Names of pods. The daemon keeps none, since of its objects they are what changes
//! most and serves nobody: who wants them asks the API server, once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use kube_ipvs_core::event::Kind;
use kube_ipvs_core::k8s::SERVICE_NAME_LABEL;
use kube_ipvs_core::read;
use kube_ipvs_source::kube::{KubeConfig, Requests, Resource, SourceStatus, connect};
use serde_json::Value;
use tokio::runtime::Builder;

use crate::answers::object;
use crate::config::user_agent;

/// For all of them.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether pods are named, in a form of [`crate::inspect`] that ipvsadm does not have, and
/// who tells.
#[derive(Debug, Clone, Default, Args)]
pub struct PodArgs {
    /// Name the pods of real servers, as the API server knows them
    #[arg(long, requires = "output", conflicts_with_all = ["timeout", "daemon"])]
    pub pods: bool,
    /// Where the API server is and who we are; without it the pod's service account
    #[arg(long, value_name = "FILE", requires = "pods")]
    pub kubeconfig: Option<PathBuf>,
}

/// Names of pods, by `namespace/name` of the Service they are endpoints of, and address.
#[derive(Debug, Default)]
pub struct PodNames(BTreeMap<String, BTreeMap<IpAddr, String>>);

impl PodNames {
    /// Those of the endpoints of some Services, as `namespace/name`; none where they
    /// are not asked for.
    ///
    /// # Errors
    /// There is no access to the API server, it refuses, or takes more than 30 s.
    pub fn asked(args: &PodArgs, services: &BTreeSet<&str>) -> anyhow::Result<Self> {
        if !args.pods || services.is_empty() {
            return Ok(Self::default());
        }
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start a runtime")?;
        let listed = async {
            let listed = tokio::time::timeout(PATIENCE, Self::listed(args, services));
            listed.await.context("no whole answer within 30 s")?
        };
        runtime
            .block_on(listed)
            .context("ask the API server for the names of pods; without --pods none are shown")
    }

    async fn listed(args: &PodArgs, services: &BTreeSet<&str>) -> anyhow::Result<Self> {
        let config = KubeConfig {
            path: args.kubeconfig.clone(),
            agent: user_agent(),
            ..KubeConfig::default()
        };
        let client = connect(&config, &Arc::new(SourceStatus::default())).await?;
        let resource = Resource::new(Kind::EndpointSlice, &selector(services), "");
        let requests = Requests::new(client, resource);
        let mut names = Self::default();
        requests.each(|slice| names.take(slice)).await?;
        Ok(names)
    }

    /// Of one pod.
    #[cfg(test)]
    pub(crate) fn one(service: &str, address: IpAddr, pod: &str) -> Self {
        let pods = BTreeMap::from([(address, pod.to_owned())]);
        Self(BTreeMap::from([(service.to_owned(), pods)]))
    }

    /// What an EndpointSlice says. What makes no sense names nobody.
    fn take(&mut self, slice: &Value) {
        let metadata = &slice["metadata"];
        let (Some(namespace), Some(service)) = (
            metadata["namespace"].as_str(),
            metadata["labels"][SERVICE_NAME_LABEL].as_str(),
        ) else {
            return;
        };
        let names = self.0.entry(format!("{namespace}/{service}")).or_default();
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            let target = &endpoint["targetRef"];
            let Some(name) = target["name"].as_str().filter(|_| target["kind"] == "Pod") else {
                continue;
            };
            let addresses = endpoint["addresses"].as_array().into_iter().flatten();
            let addresses = addresses.filter_map(|one| Some(read::address(one.as_str()?)?.value));
            names.extend(addresses.map(|address| (address, name.to_owned())));
        }
    }

    /// The pod at an address that is an endpoint of `namespace/name[:port]`.
    pub fn of(&self, service: &str, address: IpAddr) -> Option<&str> {
        let names = self.0.get(object(service))?;
        names.get(&address).map(String::as_str)
    }
}

/// One Service is asked for by its name; of several all slices are read, page by page.
fn selector(services: &BTreeSet<&str>) -> String {
    let mut names = services.iter().filter_map(|one| one.split_once('/'));
    match (names.next(), names.next()) {
        (Some((_, name)), None) => format!("{SERVICE_NAME_LABEL}={name}"),
        _ => SERVICE_NAME_LABEL.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_named_by_service_and_address() {
        let mut names = PodNames::default();
        let slice = |service: &str, endpoints: Value| {
            json!({
                "metadata": {"namespace": "shop", "labels": {SERVICE_NAME_LABEL: service}},
                "endpoints": endpoints,
            })
        };
        let pod = |kind: &str, name: &str, addresses: Value| json!({"addresses": addresses, "targetRef": {"kind": kind, "name": name}});
        names.take(&slice(
            "web",
            json!([
                pod("Pod", "web-0", json!(["10.1.0.1", "fd00::1", "nonsense", 7])),
                pod("Node", "node-1", json!(["10.1.0.2"])),
                {"addresses": ["10.1.0.3"]},
            ]),
        ));
        names.take(&slice(
            "dns",
            json!([pod("Pod", "dns-0", json!(["10.1.0.1"]))]),
        ));
        names.take(&json!({"endpoints": 7}));

        let of = |service, address: &str| names.of(service, address.parse().unwrap());
        assert_eq!(of("shop/web:http", "10.1.0.1"), Some("web-0"));
        assert_eq!(of("shop/web", "fd00::1"), Some("web-0"));
        assert_eq!(
            of("shop/dns:dns", "10.1.0.1"),
            Some("dns-0"),
            "on the host's network"
        );
        assert_eq!(of("shop/web", "10.1.0.2"), None, "no pod");
        assert_eq!(of("shop/web", "10.1.0.3"), None);
        assert_eq!(of("other/web", "10.1.0.1"), None);
    }

    #[test]
    fn one_service_is_asked_for_alone() {
        let of = |services: &[&str]| selector(&services.iter().copied().collect());
        assert_eq!(of(&["shop/web"]), "kubernetes.io/service-name=web");
        assert_eq!(of(&["shop/web", "shop/dns"]), "kubernetes.io/service-name");
    }

    #[test]
    fn nobody_is_asked_unless_it_is_wanted() {
        let unasked = PodNames::asked(&PodArgs::default(), &BTreeSet::from(["shop/web"]));
        assert!(unasked.unwrap().0.is_empty());
        let wanted = PodArgs {
            pods: true,
            kubeconfig: Some("/nowhere/kubeconfig".into()),
        };
        let error = PodNames::asked(&wanted, &BTreeSet::from(["shop/web"])).unwrap_err();
        let said = format!("{error:#}");
        assert!(
            said.starts_with("ask the API server for the names of pods"),
            "{said}"
        );
        assert!(said.contains("/nowhere/kubeconfig"), "{said}");
        assert!(
            PodNames::asked(&wanted, &BTreeSet::new()).is_ok(),
            "nothing to name"
        );
    }
}
