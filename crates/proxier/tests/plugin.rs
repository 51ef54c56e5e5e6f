//! `kubectl ipvs`, with a kubectl of our own making.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

/// Notes how it is called, and answers: the pod of node-3 differs.
const KUBECTL: &str = r#"#!/bin/sh
echo "$*" >> "$0.calls"
case "$*" in
*"get pods --selector nothing "*) echo '{"items": []}' ;;
*"get pods --selector forbidden "*) echo 'Error: pods is forbidden' >&2; exit 1 ;;
*"get pods --selector "*) cat "$0.pods" ;;
*"--namespace shop get pods --output json -- web-0") echo '{"spec": {"nodeName": "node-3"}}' ;;
*"exec kube-ipvs-c "*" -o json") echo '{"verdict": "refused"}'; exit 1 ;;
*"exec "*" -o json") echo '{"verdict": "served"}' ;;
*"exec kube-ipvs-c "*) echo 'default/web'; echo '  refused'; exit 1 ;;
*"exec "*) echo 'default/web'; echo '  served' ;;
esac
"#;

/// The program under the name that kubectl looks for, and a kubectl beside it.
struct Plugin(tempfile::TempDir);

impl Plugin {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        symlink(env!("CARGO_BIN_EXE_kube-ipvs"), at("kubectl-ipvs")).expect("a link");
        fs::write(at("kubectl"), KUBECTL).expect("a program");
        fs::set_permissions(at("kubectl"), fs::Permissions::from_mode(0o755)).expect("its mode");
        let pod = |name: &str, node: &str, phase: &str| json!({"metadata": {"name": name}, "spec": {"nodeName": node}, "status": {"phase": phase}});
        let pods = json!({"items": [
            pod("kube-ipvs-c", "node-3", "Running"),
            pod("kube-ipvs-a", "node-1", "Running"),
            pod("kube-ipvs-b", "node-2", "Running"),
        ]});
        fs::write(at("kubectl.pods"), pods.to_string()).expect("a list");
        Self(directory)
    }

    fn run_on(&self, path: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.0.path().join("kubectl-ipvs"));
        let system = std::env::var("PATH").unwrap_or_default();
        command
            .args(arguments)
            .env("PATH", format!("{}:{system}", path.display()));
        command.output().expect("the plugin runs")
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.run_on(self.0.path(), arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    /// How kubectl was called, in no order.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.0.path().join("kubectl.calls")).unwrap_or_default();
        let mut calls: Vec<_> = calls.lines().map(str::to_owned).collect();
        calls.sort();
        calls
    }
}

#[test]
fn all_nodes_are_asked_and_the_one_that_differs_is_named() {
    let plugin = Plugin::new();
    let (code, out, error) = plugin.run(&["--context", "prod", "explain", "default/web"]);
    assert_eq!(
        (code, &out[..], &error[..]),
        (
            Some(1),
            "node-1, node-2:\n  default/web\n    served\n\
             node-3 differs:\n  exit code 1 instead of 0\n  -   served\n  +   refused\n",
            ""
        )
    );
    let exec = |pod: &str| {
        format!(
            "--context prod --namespace kube-system exec {pod} --container kube-ipvs -- kube-ipvs explain default/web"
        )
    };
    let list = "--context prod --namespace kube-system get pods --selector \
                app.kubernetes.io/name=kube-ipvs --output json";
    assert_eq!(
        plugin.calls(),
        [
            exec("kube-ipvs-a"),
            exec("kube-ipvs-b"),
            exec("kube-ipvs-c"),
            list.to_owned()
        ]
    );
}

#[test]
fn the_node_of_a_pod_and_named_ones_are_asked_alone() {
    let plugin = Plugin::new();
    let (code, out, error) = plugin.run(&["--pod", "shop/web-0", "explain", "web"]);
    assert_eq!(code, Some(1), "{error}");
    assert_eq!(out, "node-3:\n  default/web\n    refused\n");
    let (code, out, _) = plugin.run(&["--node", "node-2", "top"]);
    assert_eq!(
        (code, &out[..]),
        (Some(0), "node-2:\n  default/web\n    served\n")
    );
    let calls = plugin.calls();
    assert!(
        calls
            .iter()
            .any(|call| call.ends_with("kube-ipvs top --once")),
        "{calls:?}"
    );

    let (code, _, error) = plugin.run(&["--node", "node-9", "check"]);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("no kube-ipvs runs on a node node-9: its nodes are node-1, node-2, node-3"),
        "{error}"
    );
}

/// No two pages are the same, so none "differs".
#[test]
fn each_node_has_its_own_page() {
    let (code, out, error) = Plugin::new().run(&["status"]);
    assert_eq!(code, Some(1), "{error}");
    let page = |node: &str, word: &str| format!("{node}:\n  default/web\n    {word}\n");
    let pages = [
        page("node-1", "served"),
        page("node-2", "served"),
        page("node-3", "refused"),
    ];
    assert_eq!(out, pages.concat());
}

#[test]
fn json_of_all_nodes_is_one_document() {
    let plugin = Plugin::new();
    let (code, out, error) = plugin.run(&["explain", "web", "-o", "json"]);
    assert_eq!(code, Some(1), "{error}");
    let json: Value = serde_json::from_str(&out).expect("JSON");
    let verdict = |at: usize| json["nodes"][at]["answer"]["verdict"].clone();
    assert_eq!(
        [verdict(0), verdict(2)],
        [json!("served"), json!("refused")]
    );
    assert_eq!(json["nodes"][2]["exit_code"], 1);
}

#[test]
fn what_makes_no_sense_or_changes_something_reaches_no_node() {
    let plugin = Plugin::new();
    for (arguments, why) in [
        (&["inspect", "-Z"][..], "--zero changes the node's table"),
        (
            &["inspect", "--restore"],
            "--restore changes the node's table",
        ),
        (&["inspect", "--stat"], "--stats"),
        (&["explian", "web"], "explain"),
        (&["cleanup"], "invalid value 'cleanup'"),
    ] {
        let (code, _, error) = plugin.run(arguments);
        assert_eq!(code, Some(64), "{arguments:?}: {error}");
        assert!(error.contains(why), "{arguments:?}: {error}");
    }
    assert_eq!(plugin.calls(), [""; 0]);

    for (selector, why) in [
        (
            "nothing",
            "no pod in namespace kube-system has the labels nothing",
        ),
        (
            "forbidden",
            "list the pods of kube-ipvs: kubectl: Error: pods is forbidden",
        ),
    ] {
        let (code, _, error) = plugin.run(&["--selector", selector, "check"]);
        assert_eq!(code, Some(1), "{error}");
        assert!(error.contains(why), "{error}");
    }
}
