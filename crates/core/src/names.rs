//! Names that go with what was compiled: Services, their ports, warnings.

use alloc::string::String;
use alloc::sync::Arc;
use core::cmp::Ordering;
use core::fmt;

use serde::Serialize;

use crate::escape::Escaped;
use crate::regarding::Regarding;

/// A Service by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceName {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl ServiceName {
    /// From its two parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl Ord for ServiceName {
    /// By namespace, then by name. The text of a namespace is shared by all names
    /// in it, so that one look at where it is spares reading it.
    fn cmp(&self, other: &Self) -> Ordering {
        let shared = Arc::ptr_eq(&self.namespace, &other.namespace);
        let namespaces = || self.namespace.cmp(&other.namespace);
        let order = if shared {
            Ordering::Equal
        } else {
            namespaces()
        };
        order.then_with(|| self.name.cmp(&other.name))
    }
}

impl PartialOrd for ServiceName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ServiceName {
    /// `default/web`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Escaped(&self.namespace), Escaped(&self.name))
    }
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortName {
    /// The Service.
    pub service: ServiceName,
    /// Name of the port; empty when it has none.
    pub port: Arc<str>,
}

impl fmt::Display for ServicePortName {
    /// `kube-system/kube-dns:dns`, `default/web`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.port {
            "" => self.service.fmt(f),
            port => write!(f, "{}:{}", self.service, Escaped(port)),
        }
    }
}

/// Something about an object that its owner should know; the rest of it is served.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Warning {
    /// Whom it is about.
    pub object: Regarding,
    /// Which field, which value, and what is done instead.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, Escaped(&self.message))
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::event::Kind;

    #[test]
    fn names_and_warnings_are_one_line_and_act_on_no_terminal() {
        let service = ServiceName::new("default", "web\nready");
        let object = Regarding::named(Kind::Service, &service.namespace, &service.name, None);
        let port = ServicePortName {
            service,
            port: "\u{1b}[31mhttp".into(),
        };
        let warning = Warning {
            object,
            message: "annotation \u{202e}x\r is unknown".into(),
        };

        assert_eq!(port.to_string(), r"default/web\nready:\u{1b}[31mhttp");
        assert_eq!(
            warning.to_string(),
            r"Service default/web\nready: annotation \u{202e}x\r is unknown"
        );
    }
}
