//! Labels and annotations: of those that come with an object nearly none is
//! read. What nobody reads is passed over as it is decoded, and takes no memory.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use crate::k8s::{
    HEADLESS_LABEL, SERVICE_NAME_LABEL, SERVICE_PROXY_NAME_LABEL, TRIGGER_TIME_ANNOTATION,
    ZONE_LABEL,
};

/// Annotation that `kubectl apply` leaves: the whole object once more, as a text.
/// To look for its end is less work than to read it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Labels that are read.
const LABELS: [&str; 4] = [
    SERVICE_NAME_LABEL,
    SERVICE_PROXY_NAME_LABEL,
    HEADLESS_LABEL,
    ZONE_LABEL,
];
/// Whose annotations are read.
const DOMAINS: [&str; 2] = ["ipvs.kube-ipvs.dev/", "kube-router.io/"];

/// The labels that are read; `null` is none of them.
pub(crate) fn labels<'de, D>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error>
where
    D: Deserializer<'de>,
{
    deserializer.deserialize_option(Texts(|key| LABELS.contains(&key)))
}

/// The annotations that are read, likewise.
pub(crate) fn annotations<'de, D>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error>
where
    D: Deserializer<'de>,
{
    deserializer.deserialize_option(Texts(|key| {
        key == TRIGGER_TIME_ANNOTATION || DOMAINS.iter().any(|domain| key.starts_with(domain))
    }))
}

/// A map of texts, of which those are kept whose key is read.
struct Texts(fn(&str) -> bool);

impl<'de> Visitor<'de> for Texts {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        self.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut read = BTreeMap::new();
        while let Some(key) = map.next_key_seed(Text(&self))? {
            match key {
                Key::Read(key) => _ = read.insert(key, map.next_value()?),
                Key::Unread => map.next_value_seed(Passed)?,
                Key::LastApplied => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(read)
    }
}

enum Key {
    Read(String),
    Unread,
    LastApplied,
}

/// A key.
struct Text<'t>(&'t Texts);

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Text<'_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Key, E> {
        let Texts(is_read) = self.0;
        Ok(if is_read(key) {
            Key::Read(key.to_owned())
        } else if key == LAST_APPLIED {
            Key::LastApplied
        } else {
            Key::Unread
        })
    }
}

/// A text that nobody reads. What is none is an error all the same.
struct Passed;

impl<'de> DeserializeSeed<'de> for Passed {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Passed {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}
