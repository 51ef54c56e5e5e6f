//! One request and its answer, as recorded.

use std::collections::BTreeSet;

use serde_json::Value;

/// A file of `tests/transcripts`.
pub(crate) struct Transcript {
    /// The request, ready to be sent.
    pub(crate) request: String,
    /// The answer's bytes.
    pub(crate) answered: String,
}

impl Transcript {
    /// Lines of the request begin with `> `.
    pub(crate) fn parse(text: &str) -> Self {
        let start = text.find("\nHTTP/1.1 ").expect("an answer") + 1;
        let said: Vec<&str> = text[..start]
            .lines()
            .filter_map(|line| line.strip_prefix('>').map(str::trim))
            .collect();
        let end = said.iter().position(|line| line.is_empty());
        let end = end.expect("the end of the headers");
        let body = said[end..].concat();
        let mut request = String::new();
        for line in &said[..end] {
            let line = if line.starts_with("Content-Length:") {
                format!("Content-Length: {}", body.len())
            } else {
                (*line).to_owned()
            };
            request.push_str(&line);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        request.push_str(&body);
        Self {
            request,
            answered: text[start..].to_owned(),
        }
    }

    pub(crate) fn answer(&self) -> Answer {
        Answer::parse(&self.answered)
    }
}

/// An answer, taken apart.
pub(crate) struct Answer {
    status: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    pub(crate) fn parse(raw: &str) -> Self {
        let (head, body) = raw.split_once("\r\n\r\n").expect("headers and a body");
        let mut lines = head.lines();
        let status = lines.next().expect("a status line");
        let headers = lines.filter_map(|line| line.split_once(": "));
        Self {
            status: status.split(' ').nth(1).expect("a status").to_owned(),
            headers: headers
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect(),
            body: if head
                .to_ascii_lowercase()
                .contains("\r\ntransfer-encoding: chunked")
            {
                whole(body)
            } else {
                body.to_owned()
            },
        }
    }

    /// The body as one object.
    pub(crate) fn body(&self) -> Value {
        self.values().remove(0)
    }

    /// All that the body holds: one object, or the events of a watch.
    fn values(&self) -> Vec<Value> {
        let values = serde_json::Deserializer::from_str(&self.body).into_iter();
        values.map(|value| value.expect("JSON")).collect()
    }

    /// The objects of a list, whole or streamed.
    pub(crate) fn objects(&self) -> Vec<Value> {
        let values = self.values();
        if let Some(items) = values[0]["items"].as_array() {
            return items.clone();
        }
        let added = values.into_iter().filter(|event| event["type"] == "ADDED");
        added.map(|event| event["object"].clone()).collect()
    }

    /// Status, headers and bodies without what differs from server to server;
    /// of a watch the different events, in any order.
    pub(crate) fn shape(&self) -> BTreeSet<String> {
        const PASSING: &[&str] = &["date", "content-length", "connection", "audit-id"];
        let mut parts = BTreeSet::from([format!("status {}", self.status)]);
        for (name, value) in &self.headers {
            let passing = PASSING.contains(&name.as_str()) || name.starts_with("x-kubernetes-pf-");
            let value = if passing { "" } else { value };
            // How long a body is, is said in one of two ways.
            if !["content-length", "transfer-encoding", "date", "connection"]
                .contains(&name.as_str())
            {
                parts.insert(format!("{name}: {value}"));
            }
        }
        parts.extend(self.values().iter().map(|value| shape("", value)));
        parts
    }
}

/// A body out of its chunks.
fn whole(mut chunks: &str) -> String {
    let mut body = String::new();
    while let Some((length, rest)) = chunks.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a chunk's length");
        body.push_str(&rest[..length]);
        chunks = rest[length..].trim_start_matches("\r\n");
    }
    body
}

/// Keys and types of a value; of what programs act on, the words themselves.
fn shape(key: &str, value: &Value) -> String {
    const WORDS: &[&str] = &["kind", "apiVersion", "type", "reason", "code", "field"];
    match value {
        Value::Object(fields) => {
            // Who owns which field is of no use to a proxier.
            let fields = fields.iter().filter(|(name, _)| *name != "managedFields");
            let fields: BTreeSet<_> = fields
                .map(|(name, value)| format!("{name}: {}", shape(name, value)))
                .collect();
            format!("{fields:?}")
        }
        Value::Array(items) => {
            let items: BTreeSet<_> = items.iter().map(|item| shape(key, item)).collect();
            format!("{items:?}")
        }
        Value::String(_) | Value::Number(_) if WORDS.contains(&key) => value.to_string(),
        Value::String(_) => "text".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Null => "null".to_owned(),
    }
}
