//! What a request is, in the words of authorization.

use http::{Method, Request};

/// Verb and resource of a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Call {
    pub(super) verb: &'static str,
    pub(super) resource: String,
}

impl Call {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let parts: Vec<&str> = request
            .uri()
            .path()
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        let rest = match parts.as_slice() {
            ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
            _ => &[],
        };
        let (resource, named) = match rest {
            ["namespaces", _, resource, name @ ..] | [resource, name @ ..] => {
                (*resource, !name.is_empty())
            }
            [] => ("other", false),
        };
        let watch = request
            .uri()
            .query()
            .is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
        let verb = match *request.method() {
            Method::GET if watch => "watch",
            Method::GET if named => "get",
            Method::GET => "list",
            Method::POST => "create",
            Method::PATCH => "patch",
            Method::PUT => "update",
            Method::DELETE => "delete",
            _ => "other",
        };
        Self {
            verb,
            resource: resource.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: Method, uri: &str) -> (&'static str, String) {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .body(())
            .expect("a request");
        let call = Call::of(&request);
        (call.verb, call.resource)
    }

    #[test]
    fn verbs_are_those_of_rbac() {
        assert_eq!(
            call(Method::GET, "/api/v1/services?limit=5"),
            ("list", "services".into())
        );
        assert_eq!(
            call(Method::GET, "/api/v1/nodes/n1"),
            ("get", "nodes".into())
        );
        assert_eq!(
            call(
                Method::GET,
                "/apis/discovery.k8s.io/v1/endpointslices?a=b&watch=true"
            ),
            ("watch", "endpointslices".into())
        );
        assert_eq!(
            call(
                Method::POST,
                "/apis/events.k8s.io/v1/namespaces/default/events"
            ),
            ("create", "events".into())
        );
    }
}
