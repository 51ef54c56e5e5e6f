//! What Prometheus makes of `deploy/prometheus`.
//!
//! promtool is no part of every machine: `cargo xtask chart` fetches it and
//! runs the tests that are ignored without.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn path(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of)
}

fn read(of: &str) -> Value {
    let text = std::fs::read_to_string(path(of)).unwrap_or_else(|error| panic!("{of}: {error}"));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{of}: {error}"))
}

const ALERTS: &str = "../../deploy/prometheus/alerts.yaml";
const CASES: &str = "tests/alerts/rules.yaml";

/// What promtool says, and whether it is content.
fn promtool(words: &[&str]) -> (bool, String) {
    let program = std::env::var("KUBE_IPVS_PROMTOOL")
        .unwrap_or_else(|_| panic!("KUBE_IPVS_PROMTOOL is not set: cargo xtask chart"));
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("start promtool: {error}"));
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
#[ignore = "needs promtool: cargo xtask chart"]
fn promtool_takes_the_rules() {
    let (taken, said) = promtool(&["check", "rules", &path(ALERTS).display().to_string()]);

    assert!(taken, "{said}");
}

#[test]
#[ignore = "needs promtool: cargo xtask chart"]
fn alerts_fire_when_they_should_and_not_before() {
    let (taken, said) = promtool(&["test", "rules", &path(CASES).display().to_string()]);

    assert!(taken, "{said}");
}

/// Each alert has a case in which it fires, and a moment at which it does not yet.
#[test]
fn every_alert_has_its_case() {
    let names = |value: &Value, key: &str| -> BTreeSet<String> {
        let all = value.as_array().expect("a list").iter();
        all.map(|each| each[key].as_str().expect("a name").to_owned())
            .collect()
    };
    let rules = &read(ALERTS)["groups"][0]["rules"];
    let cases = read(CASES);
    let checks = cases["tests"].as_array().expect("tests").iter();
    let checks: Vec<Value> = checks
        .flat_map(|case| case["alert_rule_test"].as_array().expect("checks").clone())
        .collect();
    let (fires, silent): (Vec<Value>, Vec<Value>) = checks
        .into_iter()
        .partition(|check| check["exp_alerts"].is_array());

    let alerts = names(rules, "alert");
    assert!(alerts.len() >= 6, "{alerts:?}");
    assert_eq!(names(&Value::Array(fires), "alertname"), alerts);
    assert_eq!(names(&Value::Array(silent), "alertname"), alerts);
}
