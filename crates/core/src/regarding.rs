//! Whom something is said about: the object, and which of those that had its name.

use alloc::string::String;
use alloc::sync::Arc;
use core::cmp::Ordering;
use core::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

use crate::event::{Kind, ObjectRef};
use crate::k8s::ObjectMeta;

/// Bytes before which a UUID has a hyphen.
const HYPHENS: [usize; 4] = [4, 6, 8, 10];

/// The unique id of an object, a UUID: another object of the same name has another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid([u8; 16]);

impl Uid {
    /// Reads `5d1c2d9a-0000-4000-8000-000000004711`, the one form in which API servers
    /// write it; nothing else is one.
    pub fn read(text: &str) -> Option<Self> {
        let mut digits = text.bytes();
        let mut id = [0; 16];
        for (at, byte) in id.iter_mut().enumerate() {
            if HYPHENS.contains(&at) && digits.next() != Some(b'-') {
                return None;
            }
            *byte = digit(digits.next()?)? << 4 | digit(digits.next()?)?;
        }
        digits.next().is_none().then_some(Self(id))
    }
}

/// The value of a hexadecimal digit in lower case.
fn digit(sign: u8) -> Option<u8> {
    match sign {
        b'0'..=b'9' => Some(sign - b'0'),
        b'a'..=b'f' => Some(sign - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Uid {
    /// As API servers write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let hyphen = if HYPHENS.contains(&at) { "-" } else { "" };
            write!(f, "{hyphen}{byte:02x}")?;
        }
        Ok(())
    }
}

impl Serialize for Uid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The uid in an object's metadata; one that makes no sense is none. Its text is not kept.
pub(crate) fn uid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uid>, D::Error> {
    struct Text;
    impl<'de> Visitor<'de> for Text {
        type Value = Option<Uid>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Uid::read(text))
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, some: D) -> Result<Self::Value, D::Error> {
            some.deserialize_str(self)
        }
    }
    deserializer.deserialize_option(Text)
}

/// One object: by its name, and where it is known by its uid.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Kind, namespace and name.
    pub object: ObjectRef,
    /// Which of those that had the name; none for one of a manifest.
    pub uid: Option<Uid>,
}

impl From<ObjectRef> for Reference {
    /// One whose uid is not known.
    fn from(object: ObjectRef) -> Self {
        Self { object, uid: None }
    }
}

/// Whom a warning is about. Warnings about one object share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Regarding {
    /// One object.
    Object(Arc<Reference>),
    /// The addresses of other Nodes and of API servers, whosever they are.
    ClusterAddresses,
}

impl Regarding {
    /// One object, of its kind and metadata.
    pub(crate) fn of(kind: Kind, metadata: &ObjectMeta) -> Self {
        let (namespace, name) = (&metadata.namespace, &metadata.name);
        Self::named(kind, namespace, name, metadata.uid)
    }

    /// One object by the parts of its name.
    pub fn named(kind: Kind, namespace: &str, name: &str, uid: Option<Uid>) -> Self {
        let object = ObjectRef {
            kind,
            namespace: String::from(namespace),
            name: String::from(name),
        };
        Reference { object, uid }.into()
    }

    /// The object, if it is one.
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Object(reference) => Some(reference),
            Self::ClusterAddresses => None,
        }
    }
}

impl From<Reference> for Regarding {
    fn from(reference: Reference) -> Self {
        Self::Object(Arc::new(reference))
    }
}

impl fmt::Display for Regarding {
    /// `Service default/web`, `Nodes and API servers`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(reference) => reference.object.fmt(f),
            Self::ClusterAddresses => f.write_str("Nodes and API servers"),
        }
    }
}

impl Serialize for Regarding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Ord for Regarding {
    /// As people look for it: by the name of the kind, namespace and name.
    fn cmp(&self, other: &Self) -> Ordering {
        fn parts(one: &Regarding) -> Option<(&'static str, &str, &str, Option<Uid>)> {
            let Reference { object, uid } = one.reference()?;
            Some((object.kind.name(), &object.namespace, &object.name, *uid))
        }
        parts(self).cmp(&parts(other))
    }
}

impl PartialOrd for Regarding {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;
    use alloc::string::ToString;

    use super::*;

    const ID: &str = "5d1c2d9a-0f00-4000-8000-0000000047ff";

    #[test]
    fn a_uid_is_read_in_one_form_and_written_in_it() {
        assert_eq!(
            Uid::read(ID).map(|uid| uid.to_string()),
            Some(ID.to_owned())
        );
        for text in [
            "",
            "1",
            "5D1C2D9A-0F00-4000-8000-0000000047FF",
            "5d1c2d9a0f0040008000000000004711",
            "5d1c2d9a-0f00-4000-8000_0000000047ff",
            "5d1c2d9a-0f00-4000-8000-0000000047f",
            "5d1c2d9a-0f00-4000-8000-0000000047fff",
            "5d1c2d9a-0f00-4000-80000-000000047ff",
            "5d1c2d9a-0f00-4000-8000-0000000047ü",
            "+d1c2d9a-0f00-4000-8000-0000000047ff",
        ] {
            assert_eq!(Uid::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_uid_that_makes_no_sense_costs_nobody_his_object() {
        let of = |uid: &str| {
            let text = alloc::format!(r#"{{"name": "web", "uid": {uid}}}"#);
            let metadata: Result<ObjectMeta, _> = serde_json::from_str(&text);
            metadata.map(|metadata| metadata.uid).ok()
        };
        assert_eq!(of(&alloc::format!("{ID:?}")), Some(Uid::read(ID)));
        assert_eq!(of("\"\\u0031\""), Some(None));
        assert_eq!(of("null"), Some(None));
        assert_eq!(of("7"), None, "of the wrong type, as any field");
    }

    #[test]
    fn objects_stand_by_kind_and_name_and_others_of_the_name_are_others() {
        let named = |kind, name| Regarding::named(kind, "default", name, None);
        let again = Regarding::named(Kind::Service, "default", "web", Uid::read(ID));
        let mut all = [
            again.clone(),
            named(Kind::Service, "web"),
            named(Kind::Service, "db"),
            named(Kind::EndpointSlice, "web-1"),
            Regarding::ClusterAddresses,
        ];
        all.sort();
        let words: alloc::vec::Vec<_> = all.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "Nodes and API servers",
                "EndpointSlice default/web-1",
                "Service default/db",
                "Service default/web",
                "Service default/web"
            ]
        );
        assert_ne!(again, named(Kind::Service, "web"));
    }
}
