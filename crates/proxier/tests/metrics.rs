//! `docs/metrics.md` is made from the program and from the alerts.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use kube_ipvs::metrics::{Described, Metrics};
use serde_json::Value;

const HEAD: &str = "\
# Metrics and alerts

<!-- Made from the program and deploy/prometheus/alerts.yaml. To write it anew:
     UPDATE=1 cargo test -p kube-ipvs --test metrics -->

`/metrics` on `--metrics-bind-address` (`127.0.0.1:10249`) has these. [helm.md](helm.md#monitoring) says how Prometheus gets at
them, and who else then does. A metric appears with its first value. What kube-proxy has too keeps its name, type and labels.

";

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

fn table<'a>(text: &mut String, title: &str, metrics: impl Iterator<Item = &'a Described>) {
    let _ = writeln!(
        text,
        "## {title}\n\n| metric | type | says |\n| --- | --- | --- |"
    );
    for Described { name, kind, help } in metrics {
        let _ = writeln!(
            text,
            "| `{name}` | {kind} | {} |",
            help.trim_end_matches('.')
        );
    }
    text.push('\n');
}

/// Traffic is shown with a flag only.
fn is_traffic(metric: &Described) -> bool {
    ["kube_ipvs_service_", "kube_ipvs_real_server_"]
        .iter()
        .any(|prefix| metric.name.starts_with(prefix))
}

fn alerts(text: &mut String) {
    let file = std::fs::read_to_string(root("deploy/prometheus/alerts.yaml")).expect("alerts");
    let file: Value = serde_saphyr::from_str(&file).expect("YAML");
    let rules = file["groups"][0]["rules"].as_array().expect("rules");
    text.push_str("## Alerts\n\nThose of `deploy/prometheus/alerts.yaml`.\n\n");
    text.push_str("| alert | severity | while | for |\n| --- | --- | --- | --- |\n");
    for rule in rules {
        let word = |at: &str| rule.pointer(at).and_then(Value::as_str).expect("a text");
        let words: Vec<&str> = word("/expr").split_whitespace().collect();
        let _ = writeln!(
            text,
            "| {} | {} | `{}` | {} |",
            word("/alert"),
            word("/labels/severity"),
            words.join(" "),
            word("/for")
        );
    }
}

fn markdown() -> String {
    let all = Metrics::catalogue();
    let ours = |metric: &&Described| metric.name.starts_with("kube_ipvs_");
    let mut text = HEAD.to_owned();
    table(&mut text, "kube-proxy's", all.iter().filter(|x| !ours(x)));
    table(
        &mut text,
        "Ours",
        all.iter().filter(|x| ours(x) && !is_traffic(x)),
    );
    table(
        &mut text,
        "Traffic, with `--service-metrics`",
        all.iter().filter(|x| is_traffic(x)),
    );
    alerts(&mut text);
    text
}

#[test]
fn the_guide_names_every_metric_and_alert() {
    let (path, wanted) = (root("docs/metrics.md"), markdown());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &wanted).expect("docs/metrics.md can be written");
    }

    let written = std::fs::read_to_string(&path).unwrap_or_default();

    assert!(
        written == wanted,
        "docs/metrics.md is old: UPDATE=1 cargo test -p kube-ipvs --test metrics"
    );
}

#[test]
fn the_catalogue_has_what_every_part_shows() {
    let names: Vec<String> = Metrics::catalogue().into_iter().map(|x| x.name).collect();

    for name in [
        "kubeproxy_sync_proxy_rules_duration_seconds",
        "kube_ipvs_refusals_total",
        "kube_ipvs_api_requests_total",
        "kube_ipvs_source_watching",
        "kube_ipvs_service_connections_total",
        "kube_ipvs_real_server_weight",
        "kube_ipvs_log_messages_lost_total",
        "process_resident_memory_bytes",
    ] {
        assert_eq!(names.iter().filter(|x| *x == name).count(), 1, "{name}");
    }
}
