//! Text to documents, as `kubectl` reads it: YAML separated by `---` or `...`,
//! JSON one after another, or both in one file.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use serde_saphyr::options::DuplicateKeyPolicy;

use crate::input::{json, shown, yaml};

/// Most bytes of one JSON object; those of lists are read one by one. The API
/// server's own limit for an object is less than half of it.
const LARGEST: usize = 8 << 20;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// One document.
#[derive(Debug)]
pub(super) struct Document {
    /// From 1, in its file.
    pub(super) number: usize,
    /// What it holds; an error with the place says that it is not known, nor
    /// what follows in it.
    pub(super) content: Result<Content, String>,
    /// A key that is given twice in JSON, where that was looked for. In YAML it
    /// makes the document unreadable.
    pub(super) twice: Option<String>,
}

/// What a document holds.
#[derive(Debug)]
pub(super) enum Content {
    /// An object, or a list of some.
    Tree(Value),
    /// A list of objects, each of which was read by itself.
    List {
        /// Of the list.
        api_version: String,
        /// Of the list.
        kind: String,
        /// Objects, or why one cannot be read.
        items: Vec<Result<Value, String>>,
    },
}

/// Gives all documents of a text to `take`. `strict`: looks for keys that are
/// given twice.
pub(super) fn read(text: &str, strict: bool, mut take: impl FnMut(Document)) {
    let mut number = 0;
    for part in split(text.trim_start_matches(BYTE_ORDER_MARK)) {
        let mut take = |content, twice| {
            number += 1;
            take(Document {
                number,
                content,
                twice,
            });
        };
        if part.text.trim_start().starts_with('{') {
            part.json(strict, &mut take);
        } else {
            take(part.yaml(), None);
        }
    }
}

/// What stands between two markers.
struct Part<'a> {
    text: &'a str,
    /// Lines of the file before it.
    before: usize,
}

impl Part<'_> {
    fn yaml(&self) -> Result<Content, String> {
        let tree = yaml::read(self.text, self.before, DuplicateKeyPolicy::Error);
        let tree = tree.map_err(|error| format!("not YAML: {error}"))?;
        Ok(Content::Tree(tree))
    }

    /// Reads JSON objects one after another. What begins like one and is none
    /// may be YAML.
    fn json(&self, strict: bool, take: &mut impl FnMut(Result<Content, String>, Option<String>)) {
        let mut stream = serde_json::Deserializer::from_str(self.text).into_iter::<&RawValue>();
        let mut first = true;
        // Lines of the file before the object, counted on from the last one.
        let (mut lines, mut counted) = (self.before, 0);
        while let Some(object) = stream.next() {
            let object = match object {
                Ok(object) => object,
                Err(error) => return take(self.not_json(first, &error), None),
            };
            first = false;
            let start = stream.byte_offset() - object.get().len();
            let twice = || {
                lines += self.text[counted..start].matches('\n').count();
                counted = start;
                json::key_given_twice(object.get(), lines)
            };
            take(json_object(object), strict.then(twice).flatten());
        }
    }

    /// What stands where no JSON is. `first`: nothing was read before it.
    fn not_json(&self, first: bool, error: &serde_json::Error) -> Result<Content, String> {
        let mut words = self.text.split(|c: char| c == '{' || c.is_whitespace());
        let quoted = words.find(|word| !word.is_empty());
        let yaml = first.then(|| self.yaml());
        match yaml {
            Some(yaml) if yaml.is_ok() || quoted.is_none_or(|x| !x.starts_with('"')) => yaml,
            _ => {
                let line = self.before + error.line();
                let error = error.to_string();
                let what = error.split(" at line ").next().unwrap_or_default();
                Err(format!("not JSON: line {line}: {}", shown(what)))
            }
        }
    }
}

/// Cuts a text at its markers, so that one broken document does not take the
/// others with it. A marker with something behind it is part of what follows.
fn split(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut start, mut before) = (0, 0);
    let mut at = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let end = at + line.len();
        let marked = |marker: &str| {
            let rest = line.strip_prefix(marker)?;
            let ends = rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']);
            ends.then_some(rest.trim())
        };
        if let Some(rest) = marked("---") {
            parts.push(Part {
                text: &text[start..at],
                before,
            });
            (start, before) = if rest.is_empty() || rest.starts_with('#') {
                (end, number + 1)
            } else if rest.starts_with('{') {
                (at + "---".len(), number)
            } else {
                (at, number)
            };
        } else if marked("...").is_some() {
            parts.push(Part {
                text: &text[start..at],
                before,
            });
            (start, before) = (end, number + 1);
        }
        at = end;
    }
    parts.push(Part {
        text: &text[start..],
        before,
    });
    for part in &mut parts {
        part.text = part.text.trim_start_matches(BYTE_ORDER_MARK);
    }
    parts.retain(|part| has_content(part.text));
    parts
}

fn has_content(document: &str) -> bool {
    document.lines().any(|line| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with('#') && !line.starts_with('%')
    })
}

/// A list of whatever is read piece by piece.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

fn json_object(text: &RawValue) -> Result<Content, String> {
    match serde_json::from_str::<List<'_>>(text.get()) {
        Ok(list) if list.kind.ends_with("List") => Ok(Content::List {
            items: list.items.into_iter().map(json_tree).collect(),
            api_version: list.api_version,
            kind: list.kind,
        }),
        _ => json_tree(text).map(Content::Tree),
    }
}

fn json_tree(text: &RawValue) -> Result<Value, String> {
    let text = text.get();
    if text.len() > LARGEST {
        return Err(format!(
            "an object of {} bytes; the most that is read is {LARGEST}",
            text.len()
        ));
    }
    serde_json::from_str(text).map_err(|error| format!("not JSON: {}", shown(&error.to_string())))
}
