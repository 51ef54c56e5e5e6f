//! How the watches of the API server are doing, asked at each scrape.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kube_ipvs_source::kube::{KindStatus, SourceStatus};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::series::Labels;

/// The collector.
#[derive(Debug)]
pub(super) struct Source {
    host: String,
    status: Arc<SourceStatus>,
}

impl Source {
    pub(super) fn new(host: &str, status: Arc<SourceStatus>) -> Self {
        Self {
            host: host.to_owned(),
            status,
        }
    }
}

/// Which number of a kind a metric shows.
type Number = fn(&KindStatus) -> u64;

const COUNTERS: [(&str, &str, Number); 3] = [
    (
        "kube_ipvs_source_lists",
        "Full lists by kind of object",
        |kind| kind.lists,
    ),
    (
        "kube_ipvs_source_failures",
        "Lists and watches that failed, by kind of object",
        |kind| kind.failures,
    ),
    (
        "kube_ipvs_source_undecodable_objects",
        "Objects skipped because they do not decode",
        |kind| kind.undecodable,
    ),
];

impl Collector for Source {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let (ours, clients) = requests(&self.status.requests(), &self.host);
        let text = "Requests to the API server by verb, resource and code (0: no answer)";
        counters(&mut encoder, "kube_ipvs_api_requests", text, &ours)?;
        let text = "Requests to the API server by code, method and host";
        counters(&mut encoder, "rest_client_requests", text, &clients)?;
        let kinds = self.status.kinds();
        for (name, help, number) in COUNTERS {
            let rows = kinds
                .iter()
                .map(|(kind, status)| (kind_label(kind), number(status)));
            counters(&mut encoder, name, help, &rows.collect())?;
        }
        let text = "Whether a watch is open, by kind of object";
        let mut metric = encoder.encode_descriptor(
            "kube_ipvs_source_watching",
            text,
            None,
            MetricType::Gauge,
        )?;
        for (kind, status) in &kinds {
            let labels = kind_label(kind);
            let open = ConstGauge::new(u64::from(status.watching));
            open.encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn kind_label(kind: &impl fmt::Display) -> Labels {
    vec![("kind", kind.to_string())]
}

/// Counts by labels.
type Rows = BTreeMap<Labels, u64>;

/// Our counts, and the same as Kubernetes' own clients label them.
fn requests(counts: &BTreeMap<(&'static str, String, u16), u64>, host: &str) -> (Rows, Rows) {
    let (mut ours, mut clients) = (Rows::new(), Rows::new());
    for ((verb, resource, code), n) in counts {
        let labels = vec![
            ("verb", (*verb).to_owned()),
            ("resource", resource.clone()),
            ("code", code.to_string()),
        ];
        *ours.entry(labels).or_default() += n;
        let code = match code {
            0 => "<error>".to_owned(),
            code => code.to_string(),
        };
        let labels = vec![
            ("code", code),
            ("host", host.to_owned()),
            ("method", method(verb).to_owned()),
        ];
        *clients.entry(labels).or_default() += n;
    }
    (ours, clients)
}

fn method(verb: &str) -> &str {
    match verb {
        "get" | "list" | "watch" => "GET",
        "create" => "POST",
        "update" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        other => other,
    }
}

fn counters(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    rows: &Rows,
) -> Result<(), fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, n) in rows {
        ConstCounter::new(*n).encode(metric.encode_family(labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_summed_as_kubernetes_clients_label_them() {
        let counts = BTreeMap::from([
            (("list", "services".to_owned(), 200), 2),
            (("watch", "services".to_owned(), 200), 5),
            (("create", "events".to_owned(), 0), 1),
        ]);

        let (ours, clients) = requests(&counts, "api:6443");

        assert_eq!(ours.len(), 3);
        let row = |code: &str, method: &str| -> Labels {
            vec![
                ("code", code.into()),
                ("host", "api:6443".into()),
                ("method", method.into()),
            ]
        };
        assert_eq!(
            clients,
            BTreeMap::from([(row("200", "GET"), 7), (row("<error>", "POST"), 1)])
        );
    }
}
