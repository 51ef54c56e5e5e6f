//! One YAML document to a tree of values.
//!
//! Limits go with the length of the text, so that no honest text meets one.
//! What aliases stand for is counted where it is made: a few lines of them can
//! stand for any amount.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::options::DuplicateKeyPolicy;

/// Mappings and lists in one another, at most: each takes stack.
const DEPTH: usize = 64;
/// Bytes and values that aliases may add to those of the text.
const ALIASES: usize = 1 << 20;
/// What is said of a text whose aliases stand for more.
const TOO_MUCH: &str = "its aliases stand for more than the text and 1 MiB";

/// What is said of a text with more of them.
const TOO_DEEP: &str = "mappings or lists are nested deeper than 64";

/// Reads one document. `before` lines precede it in its file.
///
/// # Errors
/// It is no YAML, or more than one document; with the line.
pub fn read(text: &str, before: usize, keys: DuplicateKeyPolicy) -> Result<Value, String> {
    let left = Cell::new(2 * text.len() + ALIASES);
    let seed = Counted { left: &left };
    let read = serde_saphyr::with_deserializer_from_str_with_options(
        text,
        options(text.len(), keys),
        |document| seed.deserialize(document),
    );
    read.map_err(|error| {
        let options = serde_saphyr::render_options! { line_offset: before as u64 };
        let error = error.without_snippet().render_with_options(options);
        let message = [
            "recursion limit exceeded",
            "budget breached: Depth { depth: 65 }",
        ]
        .iter()
        .find_map(|limit| Some(format!("{TOO_DEEP}{}", error.strip_prefix(limit)?)));
        super::shown(&message.unwrap_or(error))
    })
}

fn options(length: usize, keys: DuplicateKeyPolicy) -> serde_saphyr::Options {
    // Each of these takes a byte at least, or stands beside one that does. What
    // aliases stand for counts as well.
    let most = 4 * length + ALIASES;
    serde_saphyr::options! {
        duplicate_keys: keys,
        emit_comments: false,
        budget: serde_saphyr::budget! {
            max_depth: DEPTH,
            flow_nesting_limit: DEPTH,
            max_events: most,
            max_nodes: most,
            max_aliases: most,
            max_anchors: most,
            max_merge_keys: most,
            max_total_scalar_bytes: most,
            max_recorded_anchor_events: most,
            max_recorded_anchor_bytes: most,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: most,
        },
    }
}

/// Builds a value while there is something left of what it may come to.
#[derive(Clone, Copy)]
struct Counted<'a> {
    left: &'a Cell<usize>,
}

impl Counted<'_> {
    fn spend<E: Error>(self, bytes: usize) -> Result<(), E> {
        let left = self.left.get().checked_sub(bytes + 1);
        self.left.set(left.ok_or_else(|| E::custom(TOO_MUCH))?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Counted<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Counted<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has too")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.spend(0)?;
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.spend(0)?;
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.spend(0)?;
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.spend(value.len())?;
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.spend(key.len())?;
            let value = entries.next_value_seed(self)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn yaml(text: &str) -> Result<Value, String> {
        read(text, 0, DuplicateKeyPolicy::Error)
    }

    #[test]
    fn values_are_those_that_json_has() {
        let text = "a: 1\nb: -2\nc: 1.5\nd: true\ne: null\nf:\ng: [x, \"8\"]\nh:\n  i: |\n    j\n";
        let expected = json!({"a": 1, "b": -2, "c": 1.5, "d": true, "e": null, "f": null,
            "g": ["x", "8"], "h": {"i": "j\n"}});
        assert_eq!(yaml(text), Ok(expected));
        assert_eq!(yaml("# nothing\n"), Ok(Value::Null));
    }

    #[test]
    fn comments_never_matter() {
        let text = format!("a:\n{}b: 1\n", "  # c: 2\n".repeat(10_000));
        assert_eq!(yaml(&text), Ok(json!({"a": null, "b": 1})));
    }

    #[test]
    fn as_many_values_as_there_is_text_for_are_read() {
        let text = format!("[{}]", "a,".repeat(300_000));
        let Ok(Value::Array(list)) = yaml(&text) else {
            panic!("not read");
        };
        assert_eq!(list.len(), 300_000);
    }

    #[test]
    fn aliases_are_read_as_often_as_they_are_used() {
        let text = format!("a: &x {{b: c}}\nl: [{}]", "*x,".repeat(5_000));
        let value = yaml(&text).expect("a value");
        assert_eq!(value["l"][4_999], json!({"b": "c"}));
    }

    #[test]
    fn aliases_that_stand_for_too_much_are_refused() {
        let mut bomb = "l0: &l0 [x, x]\n".to_owned();
        for level in 1..40 {
            let below = level - 1;
            bomb += &format!("l{level}: &l{level} [*l{below}, *l{below}]\n");
        }
        let error = yaml(&bomb).expect_err("a bomb");
        assert!(error.contains("alias"), "{error}");
        let long = format!("a: &x {}\nl: [{}]", "y".repeat(9_000), "*x,".repeat(500));
        let error = yaml(&long).expect_err("4.5 MB");
        assert!(error.contains(TOO_MUCH), "{error}");
    }

    #[test]
    fn what_is_too_deep_is_refused() {
        for deep in [
            "[".repeat(100_000),
            "- ".repeat(100_000),
            format!("{}{}", "[".repeat(70), "]".repeat(70)),
        ] {
            let error = yaml(&deep).expect_err("too deep");
            assert!(error.starts_with(TOO_DEEP), "{error}");
        }
        let most = format!("{}{}", "[".repeat(60), "]".repeat(60));
        assert!(yaml(&most).is_ok());
    }

    #[test]
    fn an_error_names_the_line_in_the_file() {
        let error = read("a: 1\nb: [\n", 10, DuplicateKeyPolicy::Error).expect_err("open");
        assert!(error.contains("line 1"), "{error}");
        let double = read("a: 1\na: 2\n", 10, DuplicateKeyPolicy::Error).expect_err("twice");
        assert!(double.contains("line 12"), "{double}");
    }
}
