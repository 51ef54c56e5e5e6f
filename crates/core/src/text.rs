//! Fronts and keys as text, both ways, for records and commands.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::net::SocketAddr;
use core::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::state::{Family, Front, Protocol, RealServerKey, VirtualServerKey};

/// A text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not {wanted}")]
pub struct ParseError {
    /// What was given.
    pub text: String,
    /// What it should have looked like.
    pub wanted: &'static str,
}

impl ParseError {
    fn new(text: &str, wanted: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            wanted,
        }
    }
}

impl FromStr for Protocol {
    type Err = ParseError;

    /// `TCP`, `UDP` or `SCTP`, in upper or lower case.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        [Self::Tcp, Self::Udp, Self::Sctp]
            .into_iter()
            .find(|protocol| protocol.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| ParseError::new(text, "TCP, UDP or SCTP"))
    }
}

impl FromStr for Front {
    type Err = ParseError;

    /// `10.96.0.10:53/UDP`, `[fd00::a]:53/UDP`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parse = || {
            let (socket, protocol) = text.split_once('/')?;
            let socket: SocketAddr = socket.parse().ok()?;
            Some(Self {
                address: socket.ip(),
                port: socket.port(),
                protocol: protocol.parse().ok()?,
            })
        };
        parse().ok_or_else(|| ParseError::new(text, "ADDRESS:PORT/PROTOCOL"))
    }
}

impl FromStr for VirtualServerKey {
    type Err = ParseError;

    /// A front, `FWM 291` or `FWM 291 IPv6`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let Some(mark) = text.strip_prefix("FWM ") else {
            return text.parse().map(Self::Front);
        };
        let (mark, family) = match mark.strip_suffix(" IPv6") {
            Some(mark) => (mark, Family::V6),
            None => (mark, Family::V4),
        };
        match mark.parse() {
            Ok(mark) if mark != 0 => Ok(Self::Mark { mark, family }),
            _ => Err(ParseError::new(text, "FWM MARK or FWM MARK IPv6")),
        }
    }
}

impl FromStr for RealServerKey {
    type Err = ParseError;

    /// `10.244.1.7:8080`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let socket: SocketAddr = text
            .parse()
            .map_err(|_| ParseError::new(text, "ADDRESS:PORT"))?;
        Ok(Self {
            address: socket.ip(),
            port: socket.port(),
        })
    }
}

macro_rules! serde_as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}

serde_as_text!(Front, VirtualServerKey, RealServerKey);

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn keys_survive_the_way_through_text() {
        for text in [
            "10.96.0.10:53/UDP",
            "[fd00::a]:53/SCTP",
            "FWM 291",
            "FWM 291 IPv6",
        ] {
            let key: VirtualServerKey = text.parse().unwrap();
            assert_eq!(key.to_string(), text);
            let json = serde_json::to_string(&key).unwrap();
            assert_eq!(
                serde_json::from_str::<VirtualServerKey>(&json).unwrap(),
                key
            );
        }
    }

    #[test]
    fn what_is_no_key_is_named() {
        for text in [
            "",
            "10.96.0.10:53",
            "10.96.0.10:70000/TCP",
            "FWM 0",
            "FWM x",
        ] {
            let error = text.parse::<VirtualServerKey>().unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")));
        }
    }
}
