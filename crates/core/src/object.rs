//! An object of any kind, and how it is decoded.

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
