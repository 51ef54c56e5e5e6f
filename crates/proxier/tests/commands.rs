//! Every command that README and docs tell to type is taken by its program.
//!
//! The blocks marked `sh` and the commands between backticks are run by bash
//! in a scratch folder, where no program is found and each call is noted
//! instead: so loops, pipes and quotes are as the shell reads them. What was
//! called is then given to the program itself, as far as it is here.

mod documents;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Parser;
use kube_ipvs::cli::Cli;
use kube_ipvs::config;
use kube_ipvs::plugin::PluginArgs;

use documents::{documents, root};

/// What a block may hold. Only `sh` is to be typed.
const BLOCKS: [&str; 4] = ["sh", "text", "json", "yaml"];

/// What stands in the documents for a word of the reader's.
const PLACEHOLDERS: [(&str, &str); 12] = [
    ("ADDRESS", "10.96.0.10"),
    ("CLIENT", "192.0.2.7"),
    ("PORT", "53"),
    ("NODEPORT", "30080"),
    ("NAMESPACE", "kube-system"),
    ("SERVICE", "kube-dns"),
    ("NODE", "node-1"),
    ("IMAGE", "ghcr.io/kube-ipvs/kube-ipvs:v0.1.0"),
    ("FILE", "objects.yaml"),
    ("DIR", "."),
    ("NAME", "compile"),
    ("VERSION", "v1.37.0"),
];

/// Programs that are only known by name, and why.
const NAMED: [(&str, &[&str]); 3] = [
    ("held by a test of xtask, or cargo's own", &["cargo"]),
    (
        "looks at or changes a node",
        &[
            "conntrack",
            "curl",
            "ip",
            "ip6tables",
            "ip6tables-legacy",
            "ip6tables-legacy-restore",
            "ipset",
            "iptables",
            "iptables-legacy",
            "iptables-legacy-restore",
            "ipvsadm",
            "modprobe",
            "nft",
            "ss",
        ],
    ),
    (
        "needs a cluster that is not here",
        &["etcdutl", "kind", "kops", "kubeadm"],
    ),
];

/// Programs that are asked themselves.
const ASKED: [&str; 3] = ["helm", "kube-ipvs", "kubectl"];

/// No program is on the path, so bash asks this for each: it notes the call, and
/// compiles what documents pipe into `compile`.
const NOTE: &str = r#"
command_not_found_handle() {
  { printf '%s\x1f' "$@"; printf '\x1e'; } >>"$CALLS/$BASHPID"
  case "$*" in
    *jsonpath=*) cat "$EXAMPLES/config.conf" ;;
    "kubectl get "*endpointslices*) cat "$EXAMPLES/objects.yaml" ;;
    "kube-ipvs compile --manifests "*)
      said=$("$PROGRAM" "${@:2}" 2>&1) || printf '%s: %s\n' "$*" "$said" >&2 ;;
  esac
}
"#;

const CONFIG: &str = "
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ipvs
clusterCIDR: 10.244.0.0/16
";

const OBJECTS: &str = "
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Node
  metadata: {name: node-1}
  status: {addresses: [{type: InternalIP, address: 192.0.2.11}]}
- apiVersion: v1
  kind: Service
  metadata: {name: kube-dns, namespace: kube-system}
  spec: {clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10], ports: [{name: dns, protocol: UDP, port: 53}]}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: kube-dns-1, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
  addressType: IPv4
  endpoints: [{addresses: [10.244.0.16], nodeName: node-1, conditions: {ready: true}}]
  ports: [{name: dns, protocol: UDP, port: 53}]
";

fn is_known(program: &str) -> bool {
    let named = NAMED
        .iter()
        .any(|(_, programs)| programs.contains(&program));
    named || ASKED.contains(&program)
}

/// Blocks by their kind, and what is between backticks elsewhere.
struct Code {
    blocks: Vec<(String, String)>,
    spans: Vec<String>,
}

fn code(document: &str, text: &str) -> Code {
    let mut found = Code {
        blocks: Vec::new(),
        spans: Vec::new(),
    };
    let mut prose = String::new();
    let mut open = false;
    for line in text.lines() {
        let inner = line.trim_start();
        if let Some(kind) = inner.strip_prefix("```") {
            open = !open;
            if open {
                assert!(
                    BLOCKS.contains(&kind),
                    "{document}: a block of {kind:?}, not {BLOCKS:?}"
                );
                found.blocks.push((kind.to_owned(), String::new()));
            }
        } else if open {
            let (_, block) = found.blocks.last_mut().expect("an open block");
            *block += line;
            block.push('\n');
        } else {
            prose += line;
            prose.push('\n');
        }
    }
    assert!(!open, "{document}: a block without an end");
    let spans = prose.split('`').skip(1).step_by(2);
    found.spans = spans.map(|span| span.replace('\n', " ")).collect();
    found
}

/// What to type: blocks as they are, and each span that begins with a program we know.
fn scripts(document: &str, text: &str) -> Vec<String> {
    let code = code(document, text);
    let blocks = code.blocks.into_iter().filter(|(kind, _)| kind == "sh");
    let is_command = |span: &String| {
        let (program, rest) = span.split_once(' ').unwrap_or_default();
        is_known(program) && !rest.contains('…')
    };
    let spans: Vec<String> = code.spans.into_iter().filter(is_command).collect();
    let all = blocks.map(|(_, block)| block).chain([spans.join("\n")]);
    all.map(|script| filled(&script)).collect()
}

/// With examples in the place of what the reader has to fill in.
fn filled(script: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let mut whole = String::new();
    let mut word = String::new();
    for c in script.chars().chain(['\n']) {
        if is_word(c) {
            word.push(c);
            continue;
        }
        let example = PLACEHOLDERS.iter().find(|(name, _)| *name == word);
        whole += example.map_or(word.as_str(), |(_, example)| example);
        whole.push(c);
        word.clear();
    }
    whole
}

/// A folder with the few programs that scripts need themselves.
fn tools(folder: &Path) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let find = |program: &str| {
        let mut places = std::env::split_paths(&path).map(|place| place.join(program));
        places
            .find(|place| place.is_file())
            .unwrap_or_else(|| panic!("no {program}"))
    };
    let bin = folder.join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    for program in ["bash", "cat", "grep", "sed", "xargs"] {
        std::os::unix::fs::symlink(find(program), bin.join(program)).expect("a link");
    }
    bin
}

/// What `script` calls, each as program and arguments.
fn calls(document: &str, script: &str) -> BTreeSet<Vec<String>> {
    let scratch = tempfile::tempdir().expect("a folder");
    let bin = tools(scratch.path());
    for folder in ["calls", "here"] {
        std::fs::create_dir(scratch.path().join(folder)).expect("a folder");
    }
    let here = scratch.path().join("here");
    for (name, text) in [("config.conf", CONFIG), ("objects.yaml", OBJECTS)] {
        std::fs::write(scratch.path().join(name), text).expect("a file");
        std::fs::write(here.join(name), text).expect("a file");
    }
    std::fs::remove_file(here.join("config.conf")).expect("the document writes it");
    let output = Command::new(bin.join("bash"))
        .args(["-c", &format!("{NOTE}{script}")])
        .current_dir(here)
        .env_clear()
        .env("PATH", &bin)
        .env("CALLS", scratch.path().join("calls"))
        .env("EXAMPLES", scratch.path())
        .env("PROGRAM", env!("CARGO_BIN_EXE_kube-ipvs"))
        .stdin(Stdio::null())
        .output()
        .expect("start bash");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.is_empty(), "{document}: {said}\n{script}");
    noted(&scratch.path().join("calls"))
}

fn noted(folder: &Path) -> BTreeSet<Vec<String>> {
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("calls");
        for call in text.split_terminator('\u{1e}') {
            all.insert(call.split_terminator('\u{1f}').map(str::to_owned).collect());
        }
    }
    all
}

/// All calls of all documents, with the document.
fn all_calls() -> Vec<(String, Vec<String>)> {
    let mut all = Vec::new();
    for (document, text) in documents() {
        for script in scripts(&document, &text) {
            let calls = calls(&document, &script).into_iter();
            all.extend(calls.map(|call| (document.clone(), call)));
        }
    }
    all
}

/// A command that is only mentioned, as one that asks for its help.
fn whole(call: &[String]) -> Vec<String> {
    let help = (call.len() == 2).then(|| "--help".to_owned());
    call.iter().cloned().chain(help).collect()
}

/// Whether `kube-ipvs` takes its flags and their values.
fn is_taken(call: &[String]) -> Result<(), String> {
    let words = whole(call);
    let words = words.iter().map(|word| config::normalise(word.into()));
    match Cli::try_parse_from(words) {
        Err(error) if error.use_stderr() => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// `kubectl ipvs`, which kubectl leaves to our plugin.
fn is_plugins(call: &[String]) -> bool {
    call.len() > 1 && call[0] == "kubectl" && call[1] == "ipvs"
}

fn is_taken_by_plugin(call: &[String]) -> Result<(), String> {
    match PluginArgs::try_parse_from(&whole(call)[1..]) {
        Err(error) if error.use_stderr() => Err(error.to_string()),
        _ => Ok(()),
    }
}

#[test]
fn every_command_of_the_documents_is_taken_by_its_program() {
    let mut programs = BTreeMap::new();
    for (document, call) in all_calls() {
        let program = call[0].as_str();
        assert!(is_known(program), "{document}: what is {call:?}?");
        // Its own, or what it is to run in a pod.
        let inner = call
            .iter()
            .position(|word| word == "--")
            .map_or(0, |at| at + 1);
        if call
            .get(inner)
            .is_some_and(|program| program == "kube-ipvs")
        {
            let taken = is_taken(&call[inner..]);
            assert!(taken.is_ok(), "{document}: {call:?}: {taken:?}");
        }
        if is_plugins(&call) {
            let taken = is_taken_by_plugin(&call);
            assert!(taken.is_ok(), "{document}: {call:?}: {taken:?}");
        }
        *programs.entry(program.to_owned()).or_insert(0) += 1;
    }

    for (program, least) in [
        ("kube-ipvs", 30),
        ("kubectl", 25),
        ("helm", 3),
        ("iptables-legacy", 30),
    ] {
        assert!(programs[program] >= least, "{program}: {programs:?}");
    }
}

#[test]
fn a_misspelt_command_is_found() {
    let called = |script: &str| {
        let calls = calls("test", script);
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls.into_iter().next().expect("a call")
    };

    let known = called("arguments=--hostname-override; kube-ipvs plan $arguments 'node 1'");
    assert_eq!(
        known,
        ["kube-ipvs", "plan", "--hostname-override", "node 1"]
    );
    assert_eq!(is_taken(&known), Ok(()));
    let flag = called("kube-ipvs plan --hostname-overide node-1");
    assert!(is_taken(&flag).is_err_and(|error| error.contains("--hostname-overide")));
    let value = called("kube-ipvs run --drain-timeout soon");
    assert!(is_taken(&value).is_err_and(|error| error.contains("soon")));
    let tool = called("kubectl ipvs --node node-1 stauts");
    assert!(is_plugins(&tool));
    assert!(is_taken_by_plugin(&tool).is_err_and(|error| error.contains("stauts")));
    assert!(!is_known(&called("kubctl get nodes 2>/dev/null")[0]));
}

/// What the real program says without a cluster: its own error, or that there is none.
fn asked(variable: &str, words: &[String]) -> String {
    let program = std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: cargo xtask chart"));
    let scratch = tempfile::tempdir().expect("a folder");
    let output = Command::new(program)
        .args(words)
        .current_dir(root())
        .env("KUBECONFIG", "/dev/null")
        .env("HELM_KUBEAPISERVER", "http://127.0.0.1:1")
        .env("HOME", scratch.path())
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap_or_else(|error| panic!("start {variable}: {error}"));
    if output.status.success() {
        String::new()
    } else {
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

#[test]
#[ignore = "needs helm and kubectl: cargo xtask chart"]
fn kubectl_and_helm_miss_nothing_but_the_cluster() {
    let mut seen = BTreeSet::new();
    for (document, call) in all_calls() {
        let rest = whole(&call)[1..].to_vec();
        let said = match call[0].as_str() {
            "kubectl" if !is_plugins(&call) => {
                let server = vec!["--server=http://127.0.0.1:1".to_owned()];
                asked("KUBE_IPVS_KUBECTL", &[server, rest].concat())
            }
            "helm" => asked("KUBE_IPVS_HELM", &rest),
            _ => continue,
        };
        assert!(
            said.is_empty() || said.contains("refused"),
            "{document}: {call:?}: {said}"
        );
        seen.insert(call);
    }
    assert!(seen.len() >= 28, "{seen:?}");
}

/// What documents let helm install is rendered, with the values they name.
#[test]
#[ignore = "needs helm and kubectl: cargo xtask chart"]
fn what_helm_is_told_to_install_can_be_rendered() {
    let given = "apiServer=https://192.0.2.10:6443,podCIDRs={10.244.0.0/16}";
    let mut seen = 0;
    for (document, call) in all_calls() {
        let is_install = call.len() > 2 && ["install", "upgrade"].contains(&call[1].as_str());
        if call[0] != "helm" || !is_install {
            continue;
        }
        let mut words = vec!["template".to_owned(), "--set".to_owned(), given.to_owned()];
        // Values of the release before, which is not here.
        words.extend(
            call[2..]
                .iter()
                .filter(|word| *word != "--reuse-values")
                .cloned(),
        );
        let said = asked("KUBE_IPVS_HELM", &words);
        assert!(said.is_empty(), "{document}: {call:?}: {said}");
        seen += 1;
    }
    assert!(seen >= 3, "{seen}");
}
