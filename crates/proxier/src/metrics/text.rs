//! The Prometheus text format 0.0.4, as kube-proxy's `/metrics` has it.
//!
//! The registry writes OpenMetrics, in which a counter's `# TYPE` line lacks
//! `_total`, bucket bounds read `1.0`, and `# EOF` ends the page. Recording
//! rules written for kube-proxy select `le="1"`, so the text is put into the
//! older shape here, line by line.

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::Registry;

/// `Content-Type` of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The page.
pub(super) fn render(registry: &Registry) -> String {
    let mut open_metrics = String::new();
    encode_registry(&mut open_metrics, registry).expect("writing to a string does not fail");
    to_classic(&open_metrics)
}

/// A metric, as `/metrics` names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Described {
    /// With the `_total` of counters, without the `_bucket`, `_sum` and `_count`
    /// of histograms.
    pub name: String,
    /// `counter`, `gauge`, `histogram` or `untyped`.
    pub kind: String,
    /// What it says.
    pub help: String,
}

/// What collectors show, with or without samples, in the order of the page.
pub(super) fn described(registry: &Registry) -> Vec<Described> {
    let mut open_metrics = String::new();
    encode_registry(&mut open_metrics, registry).expect("writing to a string does not fail");
    let mut help = "";
    let mut all = Vec::new();
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            all.push(header(help, rest));
        }
    }
    all
}

/// A metric without a sample has no header either, as in kube-proxy.
fn to_classic(open_metrics: &str) -> String {
    let mut page = String::with_capacity(open_metrics.len());
    let mut help = "";
    let mut headers = String::new();
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            headers = classic_header(&header(help, rest));
        } else if !line.starts_with('#') {
            page.push_str(&headers);
            headers.clear();
            push_sample(&mut page, line);
        }
    }
    page
}

/// From `name help` and `name type`.
fn header(help: &str, name_and_type: &str) -> Described {
    let (name, kind) = name_and_type.split_once(' ').unwrap_or((name_and_type, ""));
    let help = help.split_once(' ').map_or("", |(_, text)| text);
    let (suffix, kind) = match kind {
        "counter" => ("_total", "counter"),
        "unknown" => ("", "untyped"),
        other => ("", other),
    };
    Described {
        name: format!("{name}{suffix}"),
        kind: kind.to_owned(),
        help: help.to_owned(),
    }
}

/// Both header lines.
fn classic_header(metric: &Described) -> String {
    let Described { name, kind, help } = metric;
    format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")
}

/// A sample, with whole numbers written without `.0` and no empty label set.
fn push_sample(page: &mut String, line: &str) {
    match line.split_once("le=\"") {
        Some((before, rest)) if before.contains("_bucket{") => {
            let (bound, after) = rest.split_once('"').unwrap_or((rest, ""));
            page.push_str(before);
            page.push_str("le=\"");
            page.push_str(whole(bound));
            page.push('"');
            page.push_str(after);
        }
        _ => page.push_str(&whole(line).replacen("{} ", " ", 1)),
    }
    page.push('\n');
}

fn whole(number: &str) -> &str {
    number.strip_suffix(".0").unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_becomes_the_classic_format() {
        let open_metrics = "\
# HELP a_things Things.
# TYPE a_things counter
a_things_total{kind=\"x\"} 3
# HELP b_seconds Time.
# TYPE b_seconds histogram
b_seconds_sum 1.5
b_seconds_count 2
b_seconds_bucket{le=\"1.0\"} 1
b_seconds_bucket{le=\"+Inf\"} 2
# HELP c_empty Nothing.
# TYPE c_empty gauge
# HELP d_size Size.
# TYPE d_size gauge
d_size{} 12.0
# EOF
";

        assert_eq!(
            to_classic(open_metrics),
            "\
# HELP a_things_total Things.
# TYPE a_things_total counter
a_things_total{kind=\"x\"} 3
# HELP b_seconds Time.
# TYPE b_seconds histogram
b_seconds_sum 1.5
b_seconds_count 2
b_seconds_bucket{le=\"1\"} 1
b_seconds_bucket{le=\"+Inf\"} 2
# HELP d_size Size.
# TYPE d_size gauge
d_size 12
"
        );
    }

    #[test]
    fn a_label_that_looks_like_a_bound_is_left_alone() {
        let mut page = String::new();

        push_sample(&mut page, "a_total{role=\"1.0\"} 2");

        assert_eq!(page, "a_total{role=\"1.0\"} 2\n");
    }
}
