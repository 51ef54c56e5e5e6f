//! Manifest text to objects: YAML streams, JSON, and `List` objects as
//! `kubectl get -o yaml` prints them.

use std::fmt;

use kube_ipvs_core::event::{Kind, ObjectRef};
use kube_ipvs_core::k8s::Object;
use serde_json::Value;

/// Something in a manifest that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Number of the document in its file, from 1. 0 is the whole file.
    pub document: usize,
    /// What was wrong, with the field's name.
    pub message: String,
    /// The object that it is about, as far as that could be read: what was good of it is kept.
    pub object: Option<ObjectRef>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.document {
            0 => f.write_str(&self.message),
            n => write!(f, "document {n}: {}", self.message),
        }
    }
}

/// What a manifest text held.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Objects of the kinds that we use.
    pub objects: Vec<Object>,
    /// What could not be used.
    pub problems: Vec<Problem>,
    /// The text is not YAML from some point on: what follows is unknown.
    pub truncated: bool,
}

/// Parses a YAML stream or JSON text. Never fails: what is wrong is a problem
/// with the number of its document, and the rest is used.
pub fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    for (number, document) in split(text) {
        match serde_saphyr::from_str::<Value>(&document) {
            Ok(value) => take(value, number, &mut parsed),
            Err(error) => {
                parsed.truncated = true;
                parsed.problems.push(Problem {
                    document: number,
                    message: format!(
                        "not YAML: {}",
                        one_line(&error.without_snippet().to_string())
                    ),
                    object: None,
                });
            }
        }
    }
    parsed
}

/// Cuts a stream at its `---` lines, so that one broken document does not take
/// the others with it. Line numbers in errors count from the document's start.
fn split(text: &str) -> Vec<(usize, String)> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line == "---" || line.starts_with("--- ") {
            documents.push(String::new());
        } else if line != "..." {
            let document = documents.last_mut().expect("starts with one");
            document.push_str(line);
            document.push('\n');
        }
    }
    documents
        .into_iter()
        .filter(|document| has_content(document))
        .enumerate()
        .map(|(index, document)| (index + 1, document))
        .collect()
}

fn has_content(document: &str) -> bool {
    document.lines().any(|line| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with('#') && !line.starts_with('%')
    })
}

fn take(value: Value, number: usize, parsed: &mut Parsed) {
    if value.is_null() {
        return;
    }
    let kind = value
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    match value.get("items") {
        Some(Value::Array(items)) if kind.ends_with("List") => {
            let item_kind = kind.strip_suffix("List").unwrap_or_default();
            for item in items {
                take(with_kind(item.clone(), item_kind), number, parsed);
            }
        }
        _ => match decode(&kind, value.clone()) {
            Ok(object) => parsed.objects.push(object),
            Err(message) => parsed.problems.push(Problem {
                document: number,
                message,
                object: reference(&kind, &value),
            }),
        },
    }
}

/// Items of a `ServiceList` carry no kind of their own.
fn with_kind(mut item: Value, kind: &str) -> Value {
    if let Value::Object(map) = &mut item
        && !kind.is_empty()
    {
        map.entry("kind").or_insert_with(|| kind.into());
    }
    item
}

fn decode(kind: &str, value: Value) -> Result<Object, String> {
    if kind.is_empty() {
        return Err("field kind is missing".to_owned());
    }
    let Some(known) = known(kind) else {
        return Err(format!(
            "kind {kind} is not known; used are Service, EndpointSlice, ServiceCIDR, Node and lists of them"
        ));
    };
    if text(&value, "/metadata/name").is_none_or(str::is_empty) {
        return Err(format!("{kind}: field metadata.name is missing"));
    }
    Object::decode(known, value).map_err(|error| error.to_string())
}

fn known(kind: &str) -> Option<Kind> {
    [
        Kind::Service,
        Kind::EndpointSlice,
        Kind::ServiceCidr,
        Kind::Node,
    ]
    .into_iter()
    .find(|known| known.to_string() == kind)
}

fn reference(kind: &str, value: &Value) -> Option<ObjectRef> {
    Some(ObjectRef {
        kind: known(kind)?,
        namespace: text(value, "/metadata/namespace")
            .unwrap_or_default()
            .to_owned(),
        name: text(value, "/metadata/name")?.to_owned(),
    })
}

fn text<'a>(value: &'a Value, at: &str) -> Option<&'a str> {
    value.pointer(at)?.as_str()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
