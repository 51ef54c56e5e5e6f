//! Label and field selectors.

use serde_json::Value;

/// A label and a field selector together.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector {
    labels: Vec<Term>,
    fields: Vec<Term>,
}

#[derive(Debug, Clone)]
enum Term {
    Exists(String),
    Absent(String),
    Equal(String, String),
    Differs(String, String),
}

impl Selector {
    /// Parses the two query parameters; an error names the bad term.
    pub(super) fn parse(labels: &str, fields: &str) -> Result<Self, String> {
        let fields = terms(fields)?;
        if let Some(Term::Exists(term) | Term::Absent(term)) = fields
            .iter()
            .find(|term| matches!(term, Term::Exists(_) | Term::Absent(_)))
        {
            return Err(format!("field selector {term:?} has no operator"));
        }
        Ok(Self {
            labels: terms(labels)?,
            fields,
        })
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let label = |key: &str| {
            object["metadata"]["labels"]
                .get(key)
                .and_then(Value::as_str)
        };
        self.labels.iter().all(|term| term.holds(label))
            && self
                .fields
                .iter()
                .all(|term| term.holds(|path| Some(field(object, path))))
    }
}

impl Term {
    fn holds<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::Exists(key) => value(key).is_some(),
            Self::Absent(key) => value(key).is_none(),
            Self::Equal(key, wanted) => value(key) == Some(wanted),
            Self::Differs(key, unwanted) => value(key) != Some(unwanted),
        }
    }
}

/// The field at a dotted path; empty when absent, as the API server has it.
fn field<'a>(object: &'a Value, path: &str) -> &'a str {
    path.split('.')
        .try_fold(object, |value, part| value.get(part))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn terms(text: &str) -> Result<Vec<Term>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|term| !term.is_empty())
        .map(term)
        .collect()
}

fn term(text: &str) -> Result<Term, String> {
    let pair = |key: &str, value: &str| (key.trim().to_owned(), value.trim().to_owned());
    if let Some((key, value)) = text.split_once("!=") {
        let (key, value) = pair(key, value);
        return Ok(Term::Differs(key, value));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        let (key, value) = pair(key, value);
        return Ok(Term::Equal(key, value));
    }
    if text.contains([' ', '(']) {
        return Err(format!("selector {text:?} is beyond this server"));
    }
    if text.trim_start_matches('!').is_empty() {
        return Err("unable to parse requirement: found '!', expected: identifier".to_owned());
    }
    Ok(match text.strip_prefix('!') {
        Some(key) => Term::Absent(key.to_owned()),
        None => Term::Exists(text.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_label_and_field_select_what_a_proxier_watches() {
        let selector = Selector::parse(
            "!service.kubernetes.io/service-proxy-name",
            "spec.clusterIP!=None",
        )
        .expect("parses");
        let plain = json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "10.96.0.10"}});
        let headless = json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "None"}});
        let foreign =
            json!({"metadata": {"labels": {"service.kubernetes.io/service-proxy-name": "x"}}});

        assert!(selector.matches(&plain));
        assert!(!selector.matches(&headless));
        assert!(!selector.matches(&foreign));
    }

    #[test]
    fn name_selects_one_node() {
        let selector = Selector::parse("", "metadata.name=node-1").expect("parses");

        assert!(selector.matches(&json!({"metadata": {"name": "node-1"}})));
        assert!(!selector.matches(&json!({"metadata": {"name": "node-2"}})));
    }
}
