//! An object of any kind, and how it is decoded.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};

use thiserror::Error;

use crate::event::{Kind, ObjectRef};
use crate::k8s::{EndpointSlice, Node, ObjectMeta, Service, ServiceCidr};
use crate::warnings::cut;

/// An object of any kind the cluster takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// `v1` Service.
    Service(Box<Service>),
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice(Box<EndpointSlice>),
    /// `networking.k8s.io/v1` ServiceCIDR.
    ServiceCidr(Box<ServiceCidr>),
    /// `v1` Node.
    Node(Box<Node>),
}

/// An object that could not be decoded.
#[derive(Debug, Error)]
#[error("decode {}: {}", cut(.object, 600), cut(&.source.to_string(), 400))]
pub struct DecodeError {
    /// What it was, as far as that could be read: `Service default/web`.
    pub object: String,
    /// The field and what was wrong with it: `spec.ports[0].port: invalid type ...`.
    pub source: serde_path_to_error::Error<serde_json::Error>,
}

impl Object {
    /// Decodes the JSON of one object of a known kind.
    ///
    /// Fails when a field has the wrong type; a wrong value of the right type
    /// is a warning at compile time.
    pub fn decode(kind: Kind, json: serde_json::Value) -> Result<Self, DecodeError> {
        let name = name_in(&json);
        let decoded = match kind {
            Kind::Service => serde_path_to_error::deserialize(json).map(Self::Service),
            Kind::EndpointSlice => serde_path_to_error::deserialize(json).map(Self::EndpointSlice),
            Kind::ServiceCidr => serde_path_to_error::deserialize(json).map(Self::ServiceCidr),
            Kind::Node => serde_path_to_error::deserialize(json).map(Self::Node),
        };
        decoded.map_err(|source| DecodeError {
            object: format!("{kind} {name}"),
            source,
        })
    }

    /// As [`Self::decode`], from the text of the object: what nobody reads of it,
    /// as `managedFields`, takes no memory. The text of an object that does not
    /// decode is read once more, as a tree, so that it is told of in the same
    /// words whatever way it came.
    pub fn decode_text(kind: Kind, text: &str) -> Result<Self, DecodeError> {
        let decoded = match kind {
            Kind::Service => serde_json::from_str(text).map(Self::Service),
            Kind::EndpointSlice => serde_json::from_str(text).map(Self::EndpointSlice),
            Kind::ServiceCidr => serde_json::from_str(text).map(Self::ServiceCidr),
            Kind::Node => serde_json::from_str(text).map(Self::Node),
        };
        decoded.or_else(|_| Self::decode(kind, serde_json::from_str(text).unwrap_or_default()))
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::ServiceCidr(_) => Kind::ServiceCidr,
            Self::Node(_) => Kind::Node,
        }
    }

    /// Name, namespace, labels and so on.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Service(x) => &x.metadata,
            Self::EndpointSlice(x) => &x.metadata,
            Self::ServiceCidr(x) => &x.metadata,
            Self::Node(x) => &x.metadata,
        }
    }

    /// Which object this is.
    pub fn reference(&self) -> ObjectRef {
        let metadata = self.metadata();
        ObjectRef {
            kind: self.kind(),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
        }
    }
}

impl From<Service> for Object {
    fn from(object: Service) -> Self {
        Self::Service(Box::new(object))
    }
}

impl From<EndpointSlice> for Object {
    fn from(object: EndpointSlice) -> Self {
        Self::EndpointSlice(Box::new(object))
    }
}

impl From<ServiceCidr> for Object {
    fn from(object: ServiceCidr) -> Self {
        Self::ServiceCidr(Box::new(object))
    }
}

impl From<Node> for Object {
    fn from(object: Node) -> Self {
        Self::Node(Box::new(object))
    }
}

/// Name and namespace for a message about an object that does not decode.
fn name_in(json: &serde_json::Value) -> String {
    let field = |name: &str| json.pointer(&format!("/metadata/{name}"))?.as_str();
    match (field("namespace"), field("name")) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        (None, Some(name)) => name.to_owned(),
        (_, None) => "without a name".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    use serde_json::{Value, json};

    use super::*;

    fn both(kind: Kind, json: &Value) -> [Result<Object, String>; 2] {
        let told = |decoded: Result<Object, DecodeError>| decoded.map_err(|e| e.to_string());
        [
            told(Object::decode_text(kind, &json.to_string())),
            told(Object::decode(kind, json.clone())),
        ]
    }

    #[test]
    fn text_and_tree_are_the_same_object() {
        let service = json!({
            "metadata": {
                "name": "web", "namespace": "default", "uid": "1", "labels": null,
                "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": {"a": "\u{e9}\n"},
                "managedFields": [{"fieldsV1": {"f:spec": {}}}]
            },
            "spec": {"ports": [{"port": 80, "nodePort": null}], "later": {"deep": [1.5]}}
        });
        let slice = json!({
            "metadata": {"name": "web-1"}, "ports": null,
            "endpoints": [{"addresses": ["10.0.0.1"], "hints": null}]
        });
        for (kind, object) in [(Kind::Service, service), (Kind::EndpointSlice, slice)] {
            let [text, tree] = both(kind, &object);
            assert_eq!(text, tree);
            text.unwrap();
        }
    }

    #[test]
    fn labels_and_annotations_that_nobody_reads_are_not_kept() {
        let object = json!({"metadata": {"name": "web",
            "labels": {"app": "web", "service.kubernetes.io/service-proxy-name": "cilium"},
            "annotations": {
                "a": "1", "ipvs.kube-ipvs.dev/scheduler": "\u{e9}\n", "kube-router.io/x": "",
                "kubectl.kubernetes.io/last-applied-configuration": "{\"a\": \"2\"}",
                "endpoints.kubernetes.io/last-change-trigger-time": "3", "z": "\"",
        }}});
        for object in both(Kind::Service, &object) {
            let object = object.unwrap();
            let metadata = object.metadata();
            let kept = |map: &BTreeMap<String, String>| -> Vec<_> {
                let kept = map.iter();
                kept.map(|(key, value)| format!("{key}={value}")).collect()
            };
            assert_eq!(
                kept(&metadata.labels),
                ["service.kubernetes.io/service-proxy-name=cilium"]
            );
            assert_eq!(
                kept(&metadata.annotations),
                [
                    "endpoints.kubernetes.io/last-change-trigger-time=3",
                    "ipvs.kube-ipvs.dev/scheduler=\u{e9}\n",
                    "kube-router.io/x="
                ]
            );
        }
        for nothing in [json!(null), json!({})] {
            let object = json!({"metadata": {"labels": nothing, "annotations": nothing}});
            let [text, tree] = both(Kind::Service, &object);
            assert_eq!(text, tree);
            assert!(text.unwrap().metadata().labels.is_empty());
        }
        let wrong = json!({"metadata": {"name": "web", "annotations": {"a": 1}}});
        let [text, tree] = both(Kind::Service, &wrong);
        assert_eq!(text, tree);
        assert!(text.unwrap_err().contains("annotations.a"));
        let wrong = json!({"metadata": {"name": "web", "labels": ["a"]}});
        let [text, tree] = both(Kind::Service, &wrong);
        assert_eq!(text, tree);
        assert!(text.unwrap_err().contains("metadata.labels"));
    }

    #[test]
    fn what_does_not_decode_is_told_in_the_same_words() {
        let metadata = json!({"name": "web", "namespace": "default"});
        let wrong = [
            json!({"metadata": metadata, "spec": {"ports": [{"port": "http"}]}}),
            json!({"metadata": metadata, "spec": 7}),
            json!({"metadata": 7}),
            json!("web"),
        ];
        for object in wrong {
            let [text, tree] = both(Kind::Service, &object);
            assert_eq!(text, tree);
            text.unwrap_err();
        }
    }

    #[test]
    fn a_field_that_comes_twice_counts_as_it_came_last() {
        let text = r#"{"metadata": {"name": "one", "name": "two"}}"#;
        let object = Object::decode_text(Kind::Service, text).unwrap();
        assert_eq!(object.metadata().name, "two");
    }
}
