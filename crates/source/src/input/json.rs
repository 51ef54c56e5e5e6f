//! What stands twice in JSON. Its readers keep the last of two values, and say
//! nothing.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The first key that an object in this JSON has twice, with its line; none also
/// if it is no JSON. `before`: lines that stand above the text.
pub fn key_given_twice(text: &str, before: usize) -> Option<String> {
    let error = serde_json::from_str::<Once>(text).err()?;
    // Others than ours: whoever reads the text for what it says tells of them.
    let message = error.to_string();
    let said = message.split(" at line ").next()?;
    error
        .is_data()
        .then(|| super::shown(&format!("line {}: {said}", before + error.line())))
}

/// Any JSON in which each key of each object is given once.
struct Once;

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if keys.contains(&key) {
                return Err(A::Error::custom(format!("key {key:?} is given twice")));
            }
            keys.insert(key);
            entries.next_value::<Self>()?;
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E: Error>(self) -> Result<Self, E> {
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_given_twice_is_named_with_its_line() {
        let twice = "{\"a\": [{\"b\": 1,\n\"c\": 2.5,\n\"b\": null}]}";
        let said = key_given_twice(twice, 10);
        assert_eq!(said.as_deref(), Some("line 13: key \"b\" is given twice"));
    }

    #[test]
    fn the_same_key_in_two_objects_is_no_fault() {
        let text = r#"{"a": {"b": -1}, "c": {"b": true}, "d": [{"b": "x"}, {"b": []}]}"#;
        assert_eq!(key_given_twice(text, 0), None);
        assert_eq!(key_given_twice("{", 0), None);
        let keys = format!("{{\"a\": {}", "[".repeat(500));
        assert_eq!(key_given_twice(&keys, 0), None);
    }
}
