//! What Tab offers, for lines of all sorts.

use std::ffi::OsString;

use super::line::{Line, Offer};
use super::names::Cluster;
use super::{Candidate, is_called, printed};
use crate::plugin::{command, read};

fn line(words: &[&str]) -> Line {
    let mut line = Line::new();
    for word in words {
        line.pass(word);
    }
    line
}

/// Words that are offered for the last one.
fn offered(words: &[&str]) -> Vec<String> {
    let (last, before) = words.split_last().expect("a word");
    match line(before).offer(last) {
        Offer::These(candidates) => candidates.into_iter().map(|one| one.word).collect(),
        Offer::Names { kind, written } => vec![format!("{kind:?} like {written:?}")],
    }
}

const TOOLS: [&str; 6] = ["explain", "status", "top", "inspect", "check", "version"];
const FORMS: [&str; 2] = ["text", "json"];

#[test]
fn a_tool_comes_first_and_flags_of_the_plugin_before_it() {
    assert_eq!(offered(&[""]), TOOLS);
    assert_eq!(offered(&["--namespace", "net", ""]), TOOLS);
    assert_eq!(offered(&["--namespace=net", ""]), TOOLS);
    assert_eq!(offered(&["-n", "net", "-lapp=x", "s"]), ["status"]);
    assert_eq!(offered(&["--", "exp"]), ["explain"]);
    assert_eq!(offered(&["--n"]), ["--node", "--namespace"]);
    assert_eq!(
        offered(&["-"]),
        [
            "--node",
            "--pod",
            "--namespace",
            "-n",
            "--selector",
            "-l",
            "--context",
            "--help",
            "-h",
            "--version",
            "-V"
        ]
    );
}

#[test]
fn behind_a_tool_are_its_own_flags_and_no_other() {
    assert_eq!(
        offered(&["version", "--"]),
        [
            "--output",
            "--help",
            "--node",
            "--pod",
            "--namespace",
            "--selector",
            "--context"
        ],
        "those of the plugin by their long names"
    );
    assert_eq!(offered(&["inspect", "--nos"]), ["--nosort"]);
    assert_eq!(offered(&["inspect", "--persistent"]), ["--persistent-conn"]);
    assert_eq!(offered(&["-n", "x", "explain", "a/b", "--fr"]), ["--from"]);
    assert_eq!(offered(&["status", "--state_d"]), [""; 0]);
    assert_eq!(offered(&["status", "--state_dir", "x", "--st"]), [""; 0]);
    assert_eq!(offered(&["status", "web"]), [""; 0]);
}

#[test]
fn values_of_a_flag_come_in_each_way_to_write_it() {
    assert_eq!(offered(&["explain", "web", "-o", ""]), FORMS);
    assert_eq!(offered(&["explain", "--output", "j"]), ["json"]);
    assert_eq!(offered(&["explain", "--output=j"]), ["json"]);
    assert_eq!(offered(&["explain", "-o=j"]), ["json"]);
    assert_eq!(offered(&["explain", "-oj"]), ["-ojson"]);
    assert_eq!(offered(&["inspect", "-no"]), [""; 0], "two flags");
    assert_eq!(offered(&["inspect", "-noj"]), ["-nojson"]);
    assert_eq!(offered(&["inspect", "-no", "y"]), ["yaml"]);
    assert_eq!(offered(&["explain", "--from", ""]), [""; 0]);
    assert_eq!(offered(&["inspect", "--stats=t"]), [""; 0], "it has none");
    assert_eq!(
        offered(&["check", "--nodeport-virtual-servers="]),
        ["auto", "address", "mark"]
    );
}

#[test]
fn a_flag_is_offered_once_and_not_beside_what_excludes_it() {
    assert_eq!(offered(&["explain", "-o", "json", "--o"]), [""; 0]);
    assert_eq!(offered(&["--node", "a", "--no"]), ["--node"], "also twice");
    assert_eq!(offered(&["--node", "a", "--po"]), [""; 0]);
    assert_eq!(offered(&["--pod", "a", "--no"]), [""; 0]);
    assert_eq!(
        offered(&["inspect", "-S", "--stat"]),
        ["--state-dir"],
        "--stats"
    );
    assert_eq!(offered(&["inspect", "--stats", "--sa"]), [""; 0], "--save");
}

#[test]
fn after_two_hyphens_comes_no_flag() {
    assert_eq!(offered(&["explain", "--", "--o"]), ["Service like \"--o\""]);
    assert_eq!(offered(&["status", "--", "-"]), [""; 0]);
    assert_eq!(offered(&["--", "--n"]), [""; 0]);
    assert_eq!(
        offered(&["--", "version", "--o"]),
        ["--output"],
        "the tool's line begins anew"
    );
}

#[test]
fn names_are_those_of_what_a_word_stands_for() {
    assert_eq!(offered(&["explain", "sh"]), ["Service like \"sh\""]);
    assert_eq!(offered(&["explain", "a/b", ""]), [""; 0], "there is one");
    assert_eq!(offered(&["--node", "n"]), ["Node like \"n\""]);
    assert_eq!(offered(&["--node="]), ["Node like \"\""]);
    assert_eq!(offered(&["status", "--node", "n"]), ["Node like \"n\""]);
    assert_eq!(offered(&["status", "--node", "n", "--po"]), [""; 0]);
    assert_eq!(offered(&["inspect", "-n", ""]), [""; 0], "its own");
    let service = "Service like \"sh\"";
    assert_eq!(offered(&["explain", "--context", "a", "sh"]), [service]);
    assert_eq!(offered(&["--pod", "a/"]), ["Pod like \"a/\""]);
    assert_eq!(offered(&["-n", ""]), ["Namespace like \"\""]);
    assert_eq!(offered(&["--context=p"]), ["Context like \"p\""]);
}

#[test]
fn the_cluster_is_asked_as_the_line_says() {
    let cluster = |context: Option<&str>, namespace: &str, selector: &str| Cluster {
        context: context.map(str::to_owned),
        namespace: namespace.to_owned(),
        selector: selector.to_owned(),
    };
    let label = "app.kubernetes.io/name=kube-ipvs";
    assert_eq!(line(&[]).cluster(), cluster(None, "kube-system", label));
    assert_eq!(
        line(&[
            "--context",
            "a",
            "-nnet",
            "-l=app=x",
            "explain",
            "-o",
            "json"
        ])
        .cluster(),
        cluster(Some("a"), "net", "app=x")
    );
    assert_eq!(
        line(&["explain", "--context=b", "--namespace", "net"]).cluster(),
        cluster(Some("b"), "net", label)
    );
}

/// What is offered is taken: a flag that changes something would be refused.
#[test]
fn every_flag_that_is_offered_is_one_that_the_plugin_takes() {
    let mut tried = 0;
    for tool in TOOLS {
        let target = if tool == "explain" { &["web"][..] } else { &[] };
        for flag in offered(&[tool, "-"]) {
            let of_plugin = ["--node", "--pod", "--namespace", "--selector", "--context"];
            let value = of_plugin.contains(&&flag[..]).then_some("x");
            let words = [
                &["kubectl-ipvs", tool][..],
                target,
                &[&flag],
                value.as_slice(),
            ]
            .concat();
            let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
            // Of the tool's help it is said so.
            let Ok(args) = read(&words) else {
                assert!(["-h", "--help"].contains(&&flag[..]), "{tool} {flag}");
                continue;
            };
            let why = command(&args).map_or_else(|error| error.to_string(), |_| String::new());
            for refused in ["changes the node", "goes on until"] {
                assert!(!why.contains(refused), "{tool} {flag}: {why}");
            }
            assert!(!why.contains("unexpected argument"), "{tool} {flag}: {why}");
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried}");
}

#[test]
fn no_word_is_too_strange() {
    let strange = [
        "",
        "-",
        "--",
        "---",
        "-=",
        "--=",
        "=",
        "-o=",
        "--output=",
        "-ü",
        "-oü",
        "-o=ü",
        "--ü=ö",
        "\u{fffd}",
        "a\nb",
        "\t",
        "-\n",
        ":4",
        "__complete",
        "-nnnnn",
        "--output==",
        "/",
        "//",
        "explain",
        "run",
        "cleanup",
        "help",
        "--help",
        "-VV",
    ];
    for before in strange {
        for word in strange {
            let line = line(&[before, word]);
            for last in strange {
                let whole = match line.offer(last) {
                    Offer::These(candidates) => candidates
                        .iter()
                        .all(|one| one.word.starts_with(last) || last.ends_with(['=', 'ü'])),
                    Offer::Names { written, .. } => last.ends_with(&written),
                };
                assert!(whole, "{before:?} {word:?} {last:?}");
            }
        }
    }
    assert_eq!(offered(&["cleanup", "--d"]), [""; 0]);
    assert_eq!(offered(&["run", ""]), [""; 0]);
    assert_eq!(offered(&["--unknown", "expl"]), ["explain"]);
}

#[test]
fn it_is_printed_as_kubectl_reads_it() {
    let candidate = |word: &str, about: &str| Candidate {
        word: word.to_owned(),
        about: about.to_owned(),
    };
    assert_eq!(printed(&[]), ":4\n");
    assert_eq!(
        printed(&[candidate("text", "For people"), candidate("json", "")]),
        "text\tFor people\njson\n:4\n"
    );
    assert_eq!(printed(&[candidate("shop/", "")]), "shop/\n:6\n");
}

#[test]
fn its_name_is_how_it_is_called() {
    assert!(is_called(&["/usr/local/bin/kubectl_complete-ipvs".into()]));
    assert!(!is_called(&[
        "kubectl-ipvs".into(),
        "kubectl_complete-ipvs".into()
    ]));
    assert!(!is_called(&[]));
}
