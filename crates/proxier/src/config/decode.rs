//! Text of a file to fields: every wrong type is named; unknown and duplicate
//! keys are named and passed over, as kube-proxy does for v1alpha1.

use kube_ipvs_source::input::yaml;
use serde_json::{Map, Value};
use serde_saphyr::options::DuplicateKeyPolicy;

use super::duration::GoDuration;
use super::file::{API_VERSION, KIND, KubeProxyConfiguration};
use super::problem::Collector;
use super::table::{self, Kind, SETTINGS, Setting};

/// A file, read.
#[derive(Debug)]
pub(super) struct Decoded {
    /// As written; defaults are not filled in.
    pub(super) configuration: KubeProxyConfiguration,
    /// Settings that ask for something: present and not zero.
    pub(super) given: Vec<&'static Setting>,
    /// What strict decoding would refuse: unknown and duplicate fields.
    pub(super) lenient: Vec<String>,
}

/// Reads a file's text. None if it is no file of ours at all; problems go to
/// the collector either way.
pub(super) fn decode(text: &str, collector: &mut Collector) -> Option<Decoded> {
    let mut lenient = Vec::new();
    let tree = match tree(text, DuplicateKeyPolicy::Error) {
        Ok(tree) => tree,
        Err(strict) => match tree(text, DuplicateKeyPolicy::LastWins) {
            Ok(tree) => {
                lenient.push(format!("duplicate field: {strict}"));
                tree
            }
            Err(error) => {
                collector.whole(format!("not YAML: {error}"));
                return None;
            }
        },
    };
    let Value::Object(tree) = tree else {
        collector.whole(format!("not a {KIND}: a mapping is expected"));
        return None;
    };
    check_kind(&tree, collector)?;
    let mut walk = Walk {
        collector,
        given: Vec::new(),
        lenient,
    };
    let clean = walk.object("", tree);
    let Walk { given, lenient, .. } = walk;
    match serde_json::from_value(Value::Object(clean)) {
        Ok(configuration) => Some(Decoded {
            configuration,
            given,
            lenient,
        }),
        Err(error) => {
            collector.whole(error.to_string());
            None
        }
    }
}

/// JSON is YAML except for what it allows in strings, so it is read as JSON.
fn tree(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<Value, String> {
    let text = text.trim_start_matches('\u{feff}');
    match yaml::read(text, 0, duplicate_keys) {
        Err(error) if text.trim_start().starts_with('{') => {
            serde_json::from_str(text).map_err(|_| error)
        }
        read => read,
    }
}

fn check_kind(tree: &Map<String, Value>, collector: &mut Collector) -> Option<()> {
    let expected = [("apiVersion", API_VERSION), ("kind", KIND)];
    let before = collector.problems.len();
    for (field, allowed) in expected {
        match tree.get(field) {
            Some(Value::String(value)) if value == allowed => {}
            Some(value) => collector.field(field, value, format!("allowed: {allowed}")),
            None => collector.field(field, "", format!("missing; allowed: {allowed}")),
        }
    }
    (collector.problems.len() == before).then_some(())
}

struct Walk<'a> {
    collector: &'a mut Collector,
    given: Vec<&'static Setting>,
    lenient: Vec<String>,
}

impl Walk<'_> {
    /// The known, well-typed part of a mapping.
    fn object(&mut self, path: &str, object: Map<String, Value>) -> Map<String, Value> {
        let mut clean = Map::new();
        for (key, value) in object {
            let path = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            if value.is_null() && is_known(&path) {
                continue;
            }
            if let Some(value) = self.entry(&path, value) {
                clean.insert(key, value);
            }
        }
        clean
    }

    fn entry(&mut self, path: &str, value: Value) -> Option<Value> {
        if let Some(setting) = table::by_field(path) {
            return self.leaf(setting, value);
        }
        if !is_section(path) {
            self.lenient.push(format!("unknown field {path:?}"));
            return None;
        }
        match value {
            Value::Object(object) => Some(Value::Object(self.object(path, object))),
            other => {
                self.collector.field(path, other, "allowed: a mapping");
                None
            }
        }
    }

    fn leaf(&mut self, setting: &'static Setting, value: Value) -> Option<Value> {
        match typed(setting, &value) {
            Ok(value) => {
                if !is_zero(&value) {
                    self.given.push(setting);
                }
                Some(value)
            }
            Err(reason) => {
                self.collector.field(setting.field, &value, reason);
                None
            }
        }
    }
}

fn is_known(path: &str) -> bool {
    table::by_field(path).is_some() || is_section(path)
}

fn is_section(path: &str) -> bool {
    let inside = |x: &Setting| {
        x.field
            .strip_prefix(path)
            .is_some_and(|x| x.starts_with('.'))
    };
    SETTINGS.iter().any(inside)
}

/// Whether a value asks for nothing: `""`, `0`, `0s`, `false`, `[]`, `{}`.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text.parse().is_ok_and(GoDuration::is_zero),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// The value in the form [`KubeProxyConfiguration`] reads.
fn typed(setting: &Setting, value: &Value) -> Result<Value, String> {
    let wrong = |allowed: &str| Err(format!("allowed: {allowed}"));
    match (setting.kind, value) {
        (Kind::Bool, Value::Bool(_)) => Ok(value.clone()),
        (Kind::Bool, _) => wrong("true, false"),
        (Kind::Int, _) => whole(value, i64::from(i32::MIN), i64::from(i32::MAX)),
        (Kind::Count, _) => whole(value, 0, i64::from(u32::MAX)),
        (Kind::Number, Value::Number(_)) => Ok(value.clone()),
        (Kind::Number, _) => wrong("a number"),
        (Kind::Text, Value::String(_)) => Ok(value.clone()),
        (Kind::Text, Value::Number(_) | Value::Bool(_)) => wrong("text; put it in quotes"),
        (Kind::Text, _) => wrong("text"),
        (Kind::Duration, Value::String(text)) => text
            .parse::<GoDuration>()
            .map(|_| value.clone())
            .map_err(|_| DURATION.to_owned()),
        (Kind::Duration, Value::Number(number)) if setting.field == "logging.flushFrequency" => {
            number
                .as_i64()
                .map(|x| Value::String(GoDuration::nanoseconds(x).to_string()))
                .ok_or_else(|| DURATION.to_owned())
        }
        (Kind::Duration, _) => Err(DURATION.to_owned()),
        (Kind::Texts, Value::Array(list)) if list.iter().all(Value::is_string) => Ok(value.clone()),
        (Kind::Texts, _) => wrong("a list of texts"),
        (Kind::Gates, Value::Object(map)) if map.values().all(Value::is_boolean) => {
            Ok(value.clone())
        }
        (Kind::Gates, _) => wrong("a mapping of names to true or false"),
        (Kind::Vmodule, Value::Array(list)) if list.iter().all(is_vmodule) => Ok(value.clone()),
        (Kind::Vmodule, _) => wrong("a list of {filePattern: text, verbosity: number from 0}"),
        (Kind::Quantity, Value::String(_)) => Ok(value.clone()),
        (Kind::Quantity, Value::Number(number)) => Ok(Value::String(number.to_string())),
        (Kind::Quantity, _) => wrong("a number of bytes, such as 64Ki"),
    }
}

const DURATION: &str = "allowed: text with a unit (ns, us, ms, s, m, h) such as 30s, 1h30m, 250ms";

fn whole(value: &Value, least: i64, most: i64) -> Result<Value, String> {
    let integral = |x: f64| (x.fract() == 0.0 && x.abs() < 1e15).then_some(x as i64);
    let number = value.as_i64().or_else(|| value.as_f64().and_then(integral));
    match number {
        Some(number) if (least..=most).contains(&number) => Ok(number.into()),
        _ => Err(format!("allowed: a whole number from {least} to {most}")),
    }
}

fn is_vmodule(item: &Value) -> bool {
    let Value::Object(item) = item else {
        return false;
    };
    item.iter().all(|(key, value)| match key.as_str() {
        "filePattern" => value.is_string(),
        "verbosity" => value.as_u64().is_some_and(|x| u32::try_from(x).is_ok()),
        _ => false,
    })
}
