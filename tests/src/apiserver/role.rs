//! What `deploy/base` allows the program, to be held against what it asks.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Request;

/// Group (empty for core), resource and verb.
pub type Call = (String, String, String);

const RBAC: &str = include_str!("../../../deploy/base/rbac.yaml");

/// Every call that the ClusterRole allows.
///
/// # Panics
///
/// When the file holds no ClusterRole, or one that allows more than calls on
/// named resources.
pub fn allowed() -> BTreeSet<Call> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(RBAC).expect("rbac.yaml is YAML");
    let role = documents
        .iter()
        .find(|document| document["kind"] == "ClusterRole")
        .expect("rbac.yaml holds a ClusterRole");
    let mut calls = BTreeSet::new();
    for rule in role["rules"].as_array().expect("a role has rules") {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    calls.insert((group.clone(), resource.clone(), verb));
                }
            }
        }
    }
    calls
}

/// The calls that these requests were.
pub fn calls(requests: &[Request]) -> BTreeSet<Call> {
    requests
        .iter()
        .map(|x| (x.group.clone(), x.resource.clone(), x.verb.clone()))
        .collect()
}

fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().expect("a rule has lists");
    let text = |item: &Value| item.as_str().expect("of texts").to_owned();
    items.iter().map(text).collect()
}
