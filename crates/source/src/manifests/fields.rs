//! Fields that Kubernetes does not have, and annotations that we do not: most
//! are misspelt.

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube_ipvs_core::annotations_of;
use kube_ipvs_core::event::Kind;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::input::shown;

/// What is in an object of a kind and not in Kubernetes, one line each.
pub(super) fn unknown(kind: Kind, tree: &Value) -> Vec<String> {
    let mut lines = match kind {
        Kind::Service => unknown_in::<Service>(tree),
        Kind::EndpointSlice => unknown_in::<EndpointSlice>(tree),
        Kind::ServiceCidr => unknown_in::<ServiceCIDR>(tree),
        Kind::Node => unknown_in::<Node>(tree),
    };
    lines.extend(unread_annotations(kind, tree));
    lines
}

/// Annotations of our domain that nobody reads in objects of this kind.
fn unread_annotations(kind: Kind, tree: &Value) -> Vec<String> {
    let annotations = tree.pointer("/metadata/annotations");
    let names = annotations.and_then(Value::as_object).into_iter().flatten();
    let known = annotations_of(kind);
    let unread = names
        .map(|(name, _)| name)
        .filter(|name| is_ours(name) && !known.contains(&name.as_str()));
    let line = |name: &String| {
        let nearest = known
            .iter()
            .min_by_key(|known| strsim::levenshtein(name, known));
        let nearest = match nearest {
            Some(nearest) => format!("; nearest is {nearest}"),
            None => format!("; a {kind} has none of this domain"),
        };
        format!("unknown annotation {}{nearest}", shown(name))
    };
    unread.map(line).collect()
}

fn is_ours(annotation: &str) -> bool {
    let domain = annotation.split_once('/').map(|(domain, _)| domain);
    let above = domain.and_then(|domain| domain.strip_suffix("kube-ipvs.dev"));
    above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
}

fn unknown_in<T: DeserializeOwned + Resource>(tree: &Value) -> Vec<String> {
    let mut tree = tree.clone();
    // All versions of a kind that are read have the same fields.
    if let Some(version) = tree.get_mut("apiVersion") {
        *version = T::API_VERSION.into();
    }
    let mut lines = Vec::new();
    let read = serde_ignored::deserialize::<_, _, T>(&tree, |path| {
        // A step through an optional field is written `?`.
        let path = path.to_string().replace("?.", "");
        lines.push(format!("unknown field {}", shown(&path)));
    });
    if let Err(error) = read {
        lines.push(format!(
            "no object of Kubernetes: {}",
            shown(&error.to_string())
        ));
    }
    lines
}
