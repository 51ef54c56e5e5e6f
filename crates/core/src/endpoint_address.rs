//! The addresses of an endpoint: the first one counts, and is read as it comes.

use alloc::boxed::Box;
use core::fmt;
use core::net::IpAddr;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};

use crate::read;

/// The first of an endpoint's addresses. A list may hold a hundred thousand
/// endpoints: nothing of one that was written as everybody writes it is kept as
/// text.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum EndpointAddress {
    /// It has no address.
    #[default]
    None,
    /// Written as addresses are.
    Plain(IpAddr),
    /// Written in another way, or no address at all.
    Odd(Box<str>),
}

impl EndpointAddress {
    fn of(text: &str) -> Self {
        let read = read::address(text).filter(|read| read.note().is_none());
        read.map_or_else(|| Self::Odd(text.into()), |read| Self::Plain(read.value))
    }

    /// What it means, however it was written; `None` where there is no address.
    pub fn value(&self) -> Option<IpAddr> {
        match self {
            Self::None => None,
            Self::Plain(address) => Some(*address),
            Self::Odd(text) => read::address(text).map(|read| read.value),
        }
    }
}

impl From<&str> for EndpointAddress {
    fn from(text: &str) -> Self {
        Self::of(text)
    }
}

impl Serialize for EndpointAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = serializer.serialize_seq(None)?;
        match self {
            Self::None => {}
            Self::Plain(address) => all.serialize_element(address)?,
            Self::Odd(text) => all.serialize_element(text)?,
        }
        all.end()
    }
}

impl<'de> Deserialize<'de> for EndpointAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List)
    }
}

struct List;

impl<'de> Visitor<'de> for List {
    type Value = EndpointAddress;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
        let first = all.next_element::<One>()?;
        while all.next_element::<One>()?.is_some() {}
        Ok(first.map_or(EndpointAddress::None, |One(first)| first))
    }
}

struct One(EndpointAddress);

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text).map(Self)
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = EndpointAddress;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(EndpointAddress::of(text))
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use serde_json::{from_str, from_value, json, to_value};

    use super::*;

    #[test]
    fn the_first_counts_and_odd_ones_are_kept_as_they_were_written() {
        let read = |text| from_str::<EndpointAddress>(text).unwrap();
        let plain = |text: &str| EndpointAddress::Plain(text.parse().unwrap());
        assert_eq!(read("[]"), EndpointAddress::None);
        assert_eq!(read(r#"["10.0.0.1"]"#), plain("10.0.0.1"));
        assert_eq!(read(r#"["fd00::1", "no"]"#), plain("fd00::1"));
        let odd = EndpointAddress::Odd(" 10.0.0.01".into());
        assert_eq!(odd.value(), plain("10.0.0.1").value());
        assert_eq!(EndpointAddress::Odd("no".into()).value(), None);
        for odd in ["10.0.0.01", " 10.0.0.1", "::ffff:10.0.0.1", "no", ""] {
            let value = json!([odd]);
            let read: EndpointAddress = from_value(value.clone()).unwrap();
            assert_eq!(read, EndpointAddress::Odd(odd.into()));
            assert_eq!(to_value(read).unwrap(), value);
        }
        assert_eq!(to_value(plain("10.0.0.1")).unwrap(), json!(["10.0.0.1"]));
    }

    #[test]
    fn what_is_no_list_of_texts_is_an_error() {
        for (wrong, why) in [
            (r#""10.0.0.1""#, "expected a sequence"),
            ("[1]", "expected a string"),
            (r#"["10.0.0.1", 1]"#, "expected a string"),
            (r#"["10.0.0.1", null]"#, "expected a string"),
        ] {
            let error = from_str::<EndpointAddress>(wrong).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
