//! The resources a proxier reads, where they are and which of them it wants.

use http::Request;
use kube_ipvs_core::event::Kind;
use kube_ipvs_core::k8s::{HEADLESS_LABEL, SERVICE_PROXY_NAME_LABEL};

use super::WatchSettings;

/// A collection and the selectors we look at it through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// What it holds.
    pub kind: Kind,
    path: &'static str,
    labels: String,
    fields: String,
}

impl Resource {
    /// Objects of a kind in all namespaces, of those that match label and field
    /// selectors (`app=web`; empty for all).
    pub fn new(kind: Kind, labels: &str, fields: &str) -> Self {
        let path = match kind {
            Kind::Service => "/api/v1/services",
            Kind::EndpointSlice => "/apis/discovery.k8s.io/v1/endpointslices",
            Kind::ServiceCidr => "/apis/networking.k8s.io/v1/servicecidrs",
            Kind::Node => "/api/v1/nodes",
        };
        Self {
            kind,
            path,
            labels: labels.to_owned(),
            fields: fields.to_owned(),
        }
    }

    /// Its plural, as RBAC has it.
    pub(super) fn plural(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }

    /// Its API group, empty for core.
    pub(super) fn group(&self) -> &'static str {
        self.path
            .strip_prefix("/apis/")
            .and_then(|rest| rest.split('/').next())
            .unwrap_or_default()
    }

    /// A GET of the collection with our selectors and more parameters.
    pub(super) fn request(&self, parameters: &[(&str, &str)]) -> Request<Vec<u8>> {
        let selectors = [
            ("labelSelector", self.labels.as_str()),
            ("fieldSelector", self.fields.as_str()),
        ];
        let query: Vec<String> = selectors
            .iter()
            .chain(parameters)
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}={}", escape(value)))
            .collect();
        let uri = format!("{}?{}", self.path, query.join("&"));
        Request::get(uri)
            .body(Vec::new())
            .expect("path and escaped query are a URI")
    }
}

/// What is watched for a node, as kube-proxy does.
pub(super) fn watched(settings: &WatchSettings) -> Vec<Resource> {
    let ours = match &settings.service_proxy_name {
        Some(name) => format!("{SERVICE_PROXY_NAME_LABEL}={name}"),
        None => format!("!{SERVICE_PROXY_NAME_LABEL}"),
    };
    vec![
        Resource::new(Kind::Service, &ours, "spec.clusterIP!=None"),
        Resource::new(Kind::EndpointSlice, &format!("!{HEADLESS_LABEL}"), ""),
        Resource::new(Kind::ServiceCidr, "", ""),
        Resource::new(
            Kind::Node,
            "",
            &format!("metadata.name={}", settings.node_name),
        ),
    ]
}

/// Percent-encodes a query value.
fn escape(value: &str) -> String {
    value
        .bytes()
        .fold(String::with_capacity(value.len()), |mut text, byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_those_of_kube_proxy() {
        let uris: Vec<String> = watched(&WatchSettings::new("node-1"))
            .iter()
            .map(|resource| resource.request(&[]).uri().to_string())
            .collect();

        assert_eq!(
            uris,
            [
                "/api/v1/services?labelSelector=%21service.kubernetes.io%2Fservice-proxy-name\
                 &fieldSelector=spec.clusterIP%21%3DNone",
                "/apis/discovery.k8s.io/v1/endpointslices?labelSelector=%21service.kubernetes.io%2Fheadless",
                "/apis/networking.k8s.io/v1/servicecidrs?",
                "/api/v1/nodes?fieldSelector=metadata.name%3Dnode-1",
            ]
        );
    }

    #[test]
    fn proxy_name_selects_services_of_that_name() {
        let settings = WatchSettings {
            service_proxy_name: Some("edge".into()),
            ..WatchSettings::new("n")
        };

        let uri = watched(&settings)[0].request(&[]).uri().to_string();

        assert!(uri.contains("service-proxy-name%3Dedge"), "{uri}");
    }
}
