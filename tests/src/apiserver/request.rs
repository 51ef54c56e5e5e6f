//! A request as Kubernetes authorizes it: verb, group, resource, namespace,
//! name.

use std::collections::BTreeMap;
use std::time::Instant;

use http::{Method, Uri};

/// One request that the server has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `get`, `list`, `watch`, `create`, `patch`, `update` or `delete`.
    pub verb: String,
    /// The API group, empty for core.
    pub group: String,
    /// The API version, such as `v1`.
    pub version: String,
    /// The resource's plural, such as `endpointslices`.
    pub resource: String,
    /// The namespace, empty for all.
    pub namespace: String,
    /// The name, empty for a collection.
    pub name: String,
    /// The query's parameters, decoded.
    pub query: BTreeMap<String, String>,
    /// The HTTP version it came by.
    pub http: http::Version,
    /// The program that sent it, as it says itself.
    pub user_agent: String,
    /// When it came.
    pub at: Instant,
    /// What it was answered with; 0 while it is not yet answered.
    pub status: u16,
}

impl Request {
    /// Reads method and URI; `None` for a path that names no resource.
    pub(super) fn read(method: &Method, uri: &Uri) -> Option<Self> {
        let parts: Vec<&str> = uri
            .path()
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, resource, name) = match rest {
            ["namespaces", namespace, resource] => (*namespace, *resource, ""),
            ["namespaces", namespace, resource, name]
            | ["namespaces", namespace, resource, name, "status"] => (*namespace, *resource, *name),
            [resource] => ("", *resource, ""),
            [resource, name] | [resource, name, "status"] => ("", *resource, *name),
            _ => return None,
        };
        let query = parameters(uri.query().unwrap_or_default());
        let watching = matches!(query.get("watch").map(String::as_str), Some("true" | "1"));
        let verb = match *method {
            Method::GET if watching => "watch",
            Method::GET if name.is_empty() => "list",
            Method::GET => "get",
            Method::POST => "create",
            Method::PATCH => "patch",
            Method::PUT => "update",
            Method::DELETE => "delete",
            _ => return None,
        };
        Some(Self {
            verb: verb.to_owned(),
            group: group.to_owned(),
            version: version.to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            query,
            http: http::Version::HTTP_11,
            user_agent: String::new(),
            at: Instant::now(),
            status: 0,
        })
    }

    /// A parameter, empty when absent.
    pub fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// A parameter that is a number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.parameter(name).parse().ok()
    }

    /// A parameter that is a flag.
    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.parameter(name), "true" | "1")
    }
}

fn parameters(query: &str) -> BTreeMap<String, String> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// Undoes percent-encoding and `+`.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, escaped) {
            (_, Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', None) => {
                bytes.push(b' ');
                rest = tail;
            }
            (byte, None) => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: Method, uri: &str) -> Request {
        Request::read(&method, &uri.parse().expect("a URI")).expect("a resource")
    }

    #[test]
    fn watch_is_a_verb_of_its_own() {
        let request = read(
            Method::GET,
            "/apis/discovery.k8s.io/v1/endpointslices?watch=true&labelSelector=%21service.kubernetes.io%2Fheadless",
        );

        assert_eq!(
            (request.verb.as_str(), request.resource.as_str()),
            ("watch", "endpointslices")
        );
        assert_eq!(
            request.parameter("labelSelector"),
            "!service.kubernetes.io/headless"
        );
    }

    #[test]
    fn namespaced_creation_names_the_namespace() {
        let request = read(
            Method::POST,
            "/apis/events.k8s.io/v1/namespaces/default/events",
        );

        assert_eq!(
            (request.verb.as_str(), request.namespace.as_str()),
            ("create", "default")
        );
    }
}
