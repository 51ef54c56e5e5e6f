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
*stuck*) echo $$ > "$0.stuck"; exec tail -f /dev/null ;;
*"config get-contexts "*) printf 'prod\npre prod\n:4\ntest\n' ;;
*"--raw /api/v1/namespaces?"*) cat "$0.namespaces" ;;
*"--raw /api/v1/namespaces/kube-system/pods?"*) cat "$0.pods" ;;
*"--raw /api/v1/namespaces/shop/services?"*) echo '{"items": [{"metadata": {"name": "web"}}, {"metadata": {"name": "db"}}]}' ;;
*"--raw /api/v1/namespaces/shop/pods?"*) echo '{"items": [{"metadata": {"name": "web-0"}}]}' ;;
*"--raw "*) echo '{"items": [{"spec": {"nodeName": "half"}}]}'; exit 1 ;;
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
        for name in ["kubectl-ipvs", "kubectl_complete-ipvs"] {
            symlink(env!("CARGO_BIN_EXE_kube-ipvs"), at(name)).expect("a link");
        }
        fs::write(at("kubectl"), KUBECTL).expect("a program");
        fs::set_permissions(at("kubectl"), fs::Permissions::from_mode(0o755)).expect("its mode");
        let pod = |name: &str, node: &str, phase: &str| json!({"metadata": {"name": name}, "spec": {"nodeName": node}, "status": {"phase": phase}});
        let pods = json!({"items": [
            pod("kube-ipvs-c", "node-3", "Running"),
            pod("kube-ipvs-a", "node-1", "Running"),
            pod("kube-ipvs-b", "node-2", "Running"),
        ]});
        fs::write(at("kubectl.pods"), pods.to_string()).expect("a list");
        let name = |name: &str| json!({"metadata": {"name": name}});
        let namespaces = json!({"items": [name("default"), name("shop"), name("evil\n:4")]});
        fs::write(at("kubectl.namespaces"), namespaces.to_string()).expect("a list");
        Self(directory)
    }

    /// A program, ours or kubectl, with this directory in front of the `PATH`.
    fn output(&self, program: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        let system = std::env::var("PATH").unwrap_or_default();
        command
            .args(arguments)
            .env("PATH", format!("{}:{system}", self.0.path().display()));
        command.output().expect("it runs")
    }

    /// What Tab offers behind `kubectl ipvs`.
    fn tab(&self, words: &[&str]) -> String {
        let output = self.output(&self.0.path().join("kubectl_complete-ipvs"), words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}");
        String::from_utf8(output.stdout).expect("a text")
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.output(&self.0.path().join("kubectl-ipvs"), arguments);
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

/// As it is typed on a node, and as kubectl takes its own flags, in any place.
#[test]
fn a_tools_flags_are_its_own_and_those_of_the_plugin_may_follow() {
    let plugin = Plugin::new();

    let (code, _, error) = plugin.run(&["inspect", "-ln"]);
    assert_eq!(code, Some(1), "the pod of node-3 differs: {error}");
    let calls = plugin.calls();
    let asked = |words: &str| calls.iter().filter(|call| call.ends_with(words)).count();
    assert_eq!(asked(" inspect -ln"), 3, "{calls:?}");

    let (code, out, error) = plugin.run(&["explain", "web", "--node", "node-1"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(!out.contains("refused"), "{out}");
    let (code, out, error) = plugin.run(&["explain", "--help"]);
    assert_eq!((code, &error[..]), (Some(0), ""));
    assert!(out.contains("--from <ADDRESS>"), "{out}");
}

#[test]
fn what_makes_no_sense_or_changes_something_reaches_no_node() {
    let plugin = Plugin::new();
    for (arguments, why) in [
        (&["inspect", "-Z"][..], "--zero changes the node's table"),
        (&["check", "--watch"], "--watch goes on until it is ended"),
        (
            &["inspect", "--restore"],
            "--restore changes the node's table",
        ),
        (&["inspect", "--stat"], "--stats"),
        (&["explian", "web"], "explain"),
        (&["--pod", "a/b/c", "status"], "allowed: [NAMESPACE/]NAME"),
        (&["--pod", "a/", "status"], "allowed: [NAMESPACE/]NAME"),
        (&["--pod", "A b", "status"], "allowed: [NAMESPACE/]NAME"),
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

/// Names come of kubectl; those of a namespace's objects when the namespace is written.
#[test]
fn tab_offers_names_that_the_cluster_has() {
    let plugin = Plugin::new();
    assert_eq!(plugin.tab(&["explain", ""]), "default/\nshop/\n:6\n");
    assert_eq!(plugin.tab(&["explain", "shop/"]), "shop/db\nshop/web\n:4\n");
    assert_eq!(plugin.tab(&["--pod", "shop/w"]), "shop/web-0\n:4\n");
    assert_eq!(
        plugin.tab(&["--node", "node-"]),
        "node-1\nnode-2\nnode-3\n:4\n"
    );
    assert_eq!(plugin.tab(&["--namespace=d"]), "default\n:4\n");
    assert_eq!(plugin.tab(&["--context", ""]), "prod\ntest\n:4\n");
    assert_eq!(
        plugin.tab(&["--context", "prod", "explain", "a&b/"]),
        ":4\n"
    );
    let call =
        "--context prod get --request-timeout=2s --raw /api/v1/namespaces/a%26b/services?limit=500";
    assert!(
        plugin.calls().contains(&call.to_owned()),
        "{:?}",
        plugin.calls()
    );
}

/// One that does not answer is not waited for, nor left behind.
#[test]
fn tab_offers_nothing_where_the_cluster_does_not_answer() {
    let plugin = Plugin::new();
    assert_eq!(
        plugin.tab(&["--namespace", "forbidden", "--node", ""]),
        ":4\n"
    );
    assert_eq!(plugin.tab(&["--context", "stuck", "explain", ""]), ":4\n");
    let stuck = fs::read_to_string(plugin.0.path().join("kubectl.stuck")).expect("its process");
    assert!(!Path::new("/proc").join(stuck.trim()).exists(), "{stuck}");
    fs::remove_file(plugin.0.path().join("kubectl")).expect("there was one");
    let alone = Command::new(plugin.0.path().join("kubectl_complete-ipvs"))
        .args(["explain", ""])
        .env("PATH", plugin.0.path())
        .output();
    assert_eq!(alone.expect("it runs").stdout, b":4\n");
}

/// What stands in a shell's script: `kubectl __complete` with the words of the line.
#[test]
#[ignore = "needs helm and kubectl: cargo xtask chart"]
fn kubectl_itself_offers_what_the_plugin_offers() {
    let plugin = Plugin::new();
    let kubectl = std::env::var("KUBE_IPVS_KUBECTL").expect("cargo xtask chart names it");
    for (words, offered) in [
        (&["ipvs", "s"][..], "status\tOne page about each node\n:4\n"),
        (
            &["ipvs", "-n", "net", "to"],
            "top\tRates, connections, weights, once\n:4\n",
        ),
        (
            &["ipvs", "inspect", "--nos"],
            "--nosort\tIn the kernel's order\n:4\n",
        ),
        (
            &["ipvs", "explain", "web", "-o", "j"],
            "json\tEverything, for programs\n:4\n",
        ),
        (
            &["ipvs", "explain", "--output=j"],
            "json\tEverything, for programs\n:4\n",
        ),
        (&["ipvs", "explain", "sh"], "shop/\n:6\n"),
        (&["ipvs", "explain", "shop/w"], "shop/web\n:4\n"),
        (&["ipvs", "cleanup", ""], ":4\n"),
    ] {
        let asked = [&["__complete"][..], words].concat();
        let output = plugin.output(Path::new(&kubectl), &asked);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            offered,
            "{words:?}"
        );
    }
}
