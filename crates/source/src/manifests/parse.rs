//! Manifest text to objects: group, kind and namespace as `kubectl` takes them.

use std::collections::BTreeSet;
use std::fmt;

use kube_ipvs_core::event::{Kind, ObjectRef};
use kube_ipvs_core::k8s::Object;
use serde_json::Value;

use super::documents::{self, Content};
use super::fields;
use crate::input::shown;

/// Something in a manifest that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Number of the document in its file, from 1. 0 is the whole file.
    pub document: usize,
    /// What was wrong, with the field's name.
    pub message: String,
    /// What is not known for it.
    pub loss: Loss,
}

/// What could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// Nothing of ours.
    Nothing,
    /// This object.
    Object(ObjectRef),
    /// Nobody knows what, nor how much.
    Unknown,
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
    /// Objects of other groups that are called like ours: nobody's mistake.
    pub others: BTreeSet<String>,
    /// Kinds that are not known, by document.
    unknown: BTreeSet<(usize, String)>,
    /// What is read by nobody is a problem too.
    strict: bool,
}

/// Whether a kind is that of a list that may hold some of ours.
fn is_list(kind: &str) -> bool {
    let of = kind.strip_suffix("List");
    of.is_some_and(|of| of.is_empty() || known(of).is_some())
}

/// Parses YAML or JSON. Never fails: what is wrong is a problem with the
/// number of its document, and the rest is used.
pub fn parse(text: &str) -> Parsed {
    parse_into(Parsed::default(), text)
}

/// The same; fields that Kubernetes does not have, annotations that we do not,
/// and keys that are given twice are problems too, of which nothing is lost.
pub fn parse_strictly(text: &str) -> Parsed {
    let strict = Parsed {
        strict: true,
        ..Parsed::default()
    };
    parse_into(strict, text)
}

fn parse_into(mut parsed: Parsed, text: &str) -> Parsed {
    if text.trim().is_empty() {
        // Somebody who means nothing removes the file; somebody who writes it
        // empties it first.
        parsed.lost(0, "is empty".to_owned(), Loss::Unknown);
    }
    documents::read(text, parsed.strict, |document| {
        let number = document.number;
        if let Some(twice) = document.twice {
            parsed.lost(number, twice, Loss::Nothing);
        }
        match document.content {
            Ok(Content::Tree(tree)) => parsed.tree(tree, number),
            Ok(Content::List {
                api_version,
                kind,
                items,
            }) if is_list(&kind) => {
                for item in items {
                    match item {
                        Ok(item) => parsed.item(item, &api_version, &kind, number),
                        Err(error) => parsed.lost(number, error, Loss::Unknown),
                    }
                }
            }
            Ok(Content::List { kind, .. }) => parsed.unknown_kind(&kind, number),
            Err(error) => parsed.lost(number, error, Loss::Unknown),
        }
    });
    parsed
}

impl Parsed {
    fn lost(&mut self, document: usize, message: String, loss: Loss) {
        self.problems.push(Problem {
            document,
            message,
            loss,
        });
    }

    /// Said once a document: a listing may have thousands of them.
    fn unknown_kind(&mut self, kind: &str, number: usize) {
        let kind = shown(kind);
        let message = format!(
            "kind {kind} is not known; used are Service, EndpointSlice, ServiceCIDR, Node and lists of them"
        );
        if self.unknown.insert((number, kind)) {
            self.lost(number, message, Loss::Nothing);
        }
    }

    /// An object, or a list of some.
    fn tree(&mut self, mut tree: Value, number: usize) {
        if tree.is_null() {
            return;
        }
        let kind = text(&tree, "/kind").unwrap_or_default().to_owned();
        let api_version = text(&tree, "/apiVersion").unwrap_or_default().to_owned();
        match tree.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) if is_list(&kind) => {
                for item in items {
                    self.item(item, &api_version, &kind, number);
                }
            }
            // As Go writes a list of nothing.
            Some(Value::Null) if is_list(&kind) => {}
            items if is_list(&kind) => {
                let wrong = if items.is_some() {
                    "no list"
                } else {
                    "missing"
                };
                let message = format!("{}: field items is {wrong}", shown(&kind));
                self.lost(number, message, Loss::Unknown);
            }
            _ => self.object(tree, &api_version, &kind, number),
        }
    }

    /// Items of a `ServiceList` carry neither kind nor version of their own,
    /// those of a `List` do.
    fn item(&mut self, mut item: Value, api_version: &str, kind: &str, number: usize) {
        if item.is_null() {
            let message = format!("{}: an item is null", shown(kind));
            return self.lost(number, message, Loss::Unknown);
        }
        let of_item = kind.strip_suffix("List").unwrap_or_default();
        if let Value::Object(map) = &mut item
            && !of_item.is_empty()
        {
            map.entry("kind").or_insert_with(|| of_item.into());
            map.entry("apiVersion")
                .or_insert_with(|| api_version.into());
        }
        self.tree(item, number);
    }

    fn object(&mut self, mut tree: Value, api_version: &str, kind: &str, number: usize) {
        if kind.is_empty() {
            return self.lost(number, "field kind is missing".to_owned(), Loss::Unknown);
        }
        let Some(known) = known(kind) else {
            return self.unknown_kind(kind, number);
        };
        if !api_version.is_empty() && group(api_version) != group(versions(known)[0]) {
            let (kind, api_version) = (known.to_string(), shown(api_version));
            _ = self.others.insert(format!(
                "document {number}: {kind} of {api_version} is none of Kubernetes' own, and ignored"
            ));
            return;
        }
        settle_namespace(&mut tree, known);
        let name = match name(&tree) {
            Ok(name) => name.to_owned(),
            Err(wrong) => {
                let message = format!("{kind}: field metadata.name is {wrong}");
                return self.lost(number, message, Loss::Unknown);
            }
        };
        let at = ObjectRef {
            kind: known,
            namespace: text(&tree, "/metadata/namespace")
                .unwrap_or_default()
                .to_owned(),
            name,
        };
        if self.strict {
            for line in fields::unknown(known, &tree) {
                self.lost(number, format!("{at}: {line}"), Loss::Nothing);
            }
        }
        match decode(known, api_version, tree, &at) {
            Ok(object) => self.objects.push(object),
            Err(message) => self.lost(number, message, Loss::Object(at)),
        }
    }
}

fn decode(kind: Kind, api_version: &str, tree: Value, at: &ObjectRef) -> Result<Object, String> {
    let allowed = versions(kind);
    if !allowed.contains(&api_version) {
        let wrong = if api_version.is_empty() {
            "is missing".to_owned()
        } else {
            format!("{} is not read", shown(api_version))
        };
        let allowed = allowed.join(" or ");
        return Err(format!("{at}: apiVersion {wrong}; it must be {allowed}"));
    }
    Object::decode(kind, tree).map_err(|error| shown(&error.to_string()))
}

/// The name of an object, or what is wrong with it.
fn name(tree: &Value) -> Result<&str, &'static str> {
    match tree.pointer("/metadata/name") {
        None | Some(Value::Null) => Err("missing"),
        Some(Value::String(name)) if name.is_empty() => Err("missing"),
        Some(Value::String(name)) => Ok(name),
        Some(_) => Err("no text"),
    }
}

/// What has no namespace is in `default`, as for `kubectl apply`.
fn settle_namespace(tree: &mut Value, kind: Kind) {
    let Some(Value::Object(metadata)) = tree.get_mut("metadata") else {
        return;
    };
    match kind {
        Kind::Node | Kind::ServiceCidr => _ = metadata.remove("namespace"),
        Kind::Service | Kind::EndpointSlice => {
            let namespace = metadata.entry("namespace").or_insert(Value::Null);
            if namespace.is_null() || namespace == "" {
                *namespace = "default".into();
            }
        }
    }
}

fn known(kind: &str) -> Option<Kind> {
    super::KINDS
        .into_iter()
        .find(|known| known.to_string() == kind)
}

/// The versions that are read, all of one group.
fn versions(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Service | Kind::Node => &["v1"],
        Kind::EndpointSlice => &["discovery.k8s.io/v1"],
        Kind::ServiceCidr => &["networking.k8s.io/v1", "networking.k8s.io/v1beta1"],
    }
}

/// `discovery.k8s.io` of `discovery.k8s.io/v1`; nothing of `v1`.
fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

fn text<'a>(value: &'a Value, at: &str) -> Option<&'a str> {
    value.pointer(at)?.as_str()
}
