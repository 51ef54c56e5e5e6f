//! The JSON that `nft -j` prints, as far as we read it.

use serde::Deserialize;
use serde_json::Value;

/// One answer of `nft -j list ...`. Kinds of objects we do not know are left aside.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Listing {
    pub(crate) chains: Vec<Chain>,
    pub(crate) rules: Vec<Rule>,
    /// Sets and maps.
    pub(crate) sets: Vec<SetObject>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Chain {
    pub(crate) family: String,
    pub(crate) table: String,
    pub(crate) name: String,
    pub(crate) hook: Option<String>,
    pub(crate) prio: Option<i64>,
    pub(crate) policy: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Rule {
    pub(crate) chain: String,
    pub(crate) handle: Option<u64>,
    pub(crate) comment: Option<String>,
    #[serde(default)]
    pub(crate) expr: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct SetObject {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) elem: Vec<Value>,
}

impl Listing {
    /// Reads an answer.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Top {
            nftables: Vec<serde_json::Map<String, Value>>,
        }
        let top: Top = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let mut listing = Self::default();
        for (kind, object) in top.nftables.into_iter().flatten() {
            match kind.as_str() {
                "chain" => listing.chains.push(typed(&kind, object)?),
                "rule" => listing.rules.push(typed(&kind, object)?),
                "set" | "map" => listing.sets.push(typed(&kind, object)?),
                _ => {}
            }
        }
        Ok(listing)
    }
}

fn typed<T: serde::de::DeserializeOwned>(kind: &str, object: Value) -> Result<T, String> {
    serde_json::from_value(object).map_err(|error| format!("{kind}: {error}"))
}
