//! What the documents tell to type is what the program takes.

mod documents;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::CommandFactory;
use kube_ipvs::cli::Cli;

use documents::{documents, root};

/// `cargo xtask` has the first, helm the last, and the other stands for any.
const OTHERS: [&str; 3] = ["--native", "--flag", "--set"];

/// What stands in `backticks`, and the lines of fenced blocks.
fn code(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (number, part) in text.split("```").enumerate() {
        if number % 2 == 1 {
            found.extend(part.lines().map(str::trim));
        } else {
            found.extend(part.split('`').skip(1).step_by(2));
        }
    }
    found
}

/// The flags of each command.
fn flags() -> BTreeMap<String, BTreeSet<String>> {
    let program = Cli::command();
    let flags_of = |command: &clap::Command| {
        let mut names = vec!["help"];
        for argument in command.get_arguments() {
            names.extend(argument.get_long());
            names.extend(argument.get_all_aliases().into_iter().flatten());
        }
        let names = names.into_iter().map(|name| format!("--{name}"));
        (command.get_name().to_owned(), names.collect())
    };
    let plugin = kube_ipvs::plugin::PluginArgs::command();
    let commands = program.get_subcommands().chain([&plugin]);
    commands.map(flags_of).collect()
}

fn name_of(word: &str) -> &str {
    word.split('=').next().unwrap_or(word)
}

#[test]
fn commands_in_the_documents_exist_with_their_flags() {
    let flags = flags();
    let mut seen = 0;
    for (document, text) in documents() {
        let lines = code(&text).into_iter();
        for line in
            lines.filter_map(|line| line.split("kube-ipvs ").nth(1).map(|rest| (line, rest)))
        {
            let (whole, rest) = line;
            let before = whole.split("kube-ipvs ").next().unwrap_or_default();
            if !(before.is_empty() || before.ends_with("| ")) {
                continue;
            }
            // What follows `#`, or three spaces, explains.
            let command = rest.split("   ").next().unwrap_or_default();
            let mut words = command.split([' ', ',', ';']);
            let verb = words.next().unwrap_or_default();
            let known = flags
                .get(verb)
                .unwrap_or_else(|| panic!("{document}: no command {verb:?} in {whole:?}"));
            seen += 1;
            for word in words.filter(|word| word.starts_with("--")) {
                assert!(
                    known.contains(name_of(word)),
                    "{document}: {verb} has no {word} in {whole:?}"
                );
            }
        }
    }
    assert!(seen >= 15, "{seen}");
}

#[test]
fn flags_named_alone_in_the_documents_exist() {
    let known: BTreeSet<String> = flags().into_values().flatten().collect();
    let mut seen = 0;
    for (document, text) in documents() {
        for span in code(&text).into_iter().filter(|x| x.starts_with("--")) {
            let word = span.split(' ').next().unwrap_or_default();
            seen += 1;
            assert!(
                known.contains(name_of(word)) || OTHERS.contains(&name_of(word)),
                "{document}: no flag {word}"
            );
        }
    }
    assert!(seen >= 60, "{seen}");
}

#[test]
fn every_flag_of_run_that_is_shown_is_documented() {
    let guide = std::fs::read_to_string(root().join("docs/flags.md")).expect("docs/flags.md");
    let program = Cli::command();
    let run = program.find_subcommand("run").expect("a command");
    let shown: Vec<&str> = run
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
        .filter_map(clap::Arg::get_long)
        .collect();

    assert!(shown.len() > 57, "{shown:?}");
    for flag in shown {
        assert!(guide.contains(&format!("| `--{flag}` |")), "--{flag}");
    }
}

/// A cluster with the Service of the document.
fn compiled() -> serde_json::Value {
    use kube_ipvs_core::{Cluster, Event, Kind, Object, Options, Output};
    let service = serde_json::json!({
        "metadata": {"name": "kube-dns", "namespace": "kube-system"},
        "spec": {
            "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
            "ports": [{"name": "dns", "protocol": "UDP", "port": 53}],
        },
    });
    let slice = serde_json::json!({
        "metadata": {
            "name": "kube-dns-1", "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "kube-dns"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.0.16"], "nodeName": "node-1", "conditions": {"ready": true}}],
        "ports": [{"name": "dns", "protocol": "UDP", "port": 53}],
    });
    let mut cluster = Cluster::new(Options {
        node_name: "node-1".to_owned(),
        detect_local: true,
        ..Options::default()
    });
    for (kind, object) in [(Kind::Service, service), (Kind::EndpointSlice, slice)] {
        let object = Object::decode(kind, object).expect("an object");
        cluster.apply(Event::Upsert(object));
    }
    cluster.compile();
    serde_json::from_str(&Output::of(&cluster).to_json()).expect("JSON")
}

#[test]
fn what_compile_prints_is_as_documented() {
    let guide = std::fs::read_to_string(root().join("docs/compile.md")).expect("docs/compile.md");
    let shown = guide
        .split("```json")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let shown: serde_json::Value = serde_json::from_str(shown.expect("a block")).expect("JSON");
    let compiled = compiled();

    assert_eq!(compiled, shown);
    for front in compiled["fronts"].as_array().expect("fronts") {
        for key in front.as_object().expect("an object").keys() {
            let told = guide.contains(&format!("| `{key}` |"));
            let plain = ["address", "port", "protocol", "service"].contains(&key.as_str());
            assert!(told || plain, "{key}");
        }
    }
}

/// All of our own code, for what it says.
fn sources(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|x| x == "rs") {
            all.push_str(&std::fs::read_to_string(&path).expect("a source"));
        }
    }
}

/// A string that goes on in the next line of the source is one.
fn joined(text: &str) -> String {
    let mut lines = text.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |all, line| all + line.trim_start())
}

#[test]
fn troubleshooting_quotes_what_the_program_says() {
    let text = std::fs::read_to_string(root().join("docs/troubleshooting.md")).expect("a guide");
    let mut code = String::new();
    for part in [
        "core",
        "dataplane",
        "ipvs",
        "nft",
        "proxier",
        "source",
        "vip",
    ] {
        sources(&root().join("crates").join(part).join("src"), &mut code);
    }
    let code = joined(&code);

    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
    let mut quoted = 0;
    for row in &rows {
        let says = row.split(" | ").nth(2).unwrap_or_default();
        let Some(says) = says.strip_prefix('`').and_then(|x| x.strip_suffix('`')) else {
            continue;
        };
        quoted += 1;
        for words in says.split('…').map(str::trim) {
            assert!(code.contains(words), "no {words:?} in the program: {row}");
        }
    }
    // Besides the entries there are two lines of head for each of the four tables.
    assert!(rows.len() >= 30 + 8, "{}", rows.len());
    assert!(quoted >= 25, "{quoted}");
}

#[test]
fn chains_in_the_picture_are_those_of_the_table() {
    let picture =
        std::fs::read_to_string(root().join("docs/pictures/packet.txt")).expect("a picture");
    let mut source = String::new();
    sources(&root().join("crates/nft/src"), &mut source);

    let mut named = 0;
    for part in picture.split(": chain ").skip(1) {
        let name = part.split([' ', '\n']).next().unwrap_or_default();
        named += 1;
        assert!(source.contains(&format!("\"{name}\"")), "no chain {name}");
    }
    assert!(named >= 7, "{named}");
}

/// What is told to apply, install or copy is there.
#[test]
fn files_named_in_the_documents_exist() {
    let mut seen = 0;
    for (document, text) in documents() {
        let is_end = |c: char| !c.is_ascii_alphanumeric() && !"/.-_".contains(c);
        for words in text.split("deploy/").skip(1) {
            let path = words.split(is_end).next().unwrap_or_default();
            let path = format!("deploy/{}", path.trim_end_matches(['.', '/']));
            seen += 1;
            assert!(root().join(&path).exists(), "{document}: no {path}");
        }
    }
    assert!(seen >= 15, "{seen}");
}

/// Names of the functions that are tests.
fn tests_in(code: &str) -> BTreeSet<&str> {
    let mut is_test = false;
    let mut names = BTreeSet::new();
    for line in code.lines().map(str::trim_start) {
        let line = line.strip_prefix("async ").unwrap_or(line);
        if let Some(name) = line.strip_prefix("fn ") {
            if std::mem::take(&mut is_test) {
                names.extend(name.split('(').next());
            }
        } else if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        }
    }
    names
}

/// What is said to be shown has its tests and nothing missing, and what is not
/// says what is; the figures are those of the rows.
#[test]
fn known_defects_name_tests_that_exist() {
    let text = std::fs::read_to_string(root().join("docs/known-defects.md")).expect("a page");
    let mut code = String::new();
    for folder in ["crates", "tests"] {
        sources(&root().join(folder), &mut code);
    }
    let tests = tests_in(&code);

    let rows = text.lines().filter(|line| line.starts_with("| "));
    let mut words: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows.skip(2) {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let [_, word, _, ours, missing] = cells[..] else {
            panic!("five cells: {row}");
        };
        let named = code_names(ours);
        for name in &named {
            assert!(tests.contains(name), "no test {name}: {row}");
        }
        assert_eq!(word == "shown", missing == "–", "{row}");
        assert!(word != "shown" || !named.is_empty(), "{row}");
        *words.entry(word).or_default() += 1;
    }
    let count = |word| words.get(word).copied().unwrap_or_default();
    let all: usize = words.values().sum();
    let prose = text.replace(['*', '\n'], " ");
    let prose = prose.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in [
        format!("Of {all} rows {} are shown", count("shown")),
        format!("{} are in part", count("in part")),
        format!("{} are not there", count("not there")),
        format!("{} are so by design", count("by design")),
    ] {
        assert!(prose.contains(&said), "{said:?}");
    }
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README");
    let readme = readme.split_whitespace().collect::<Vec<_>>().join(" ");
    let left = count("in part") + count("not there");
    let said = format!(
        "Of {all} known defects of other IPVS proxies {left} are left, {} are so by design",
        count("by design")
    );
    assert!(readme.contains(&said), "{said:?}");
    let known = ["shown", "in part", "not there", "by design"];
    assert!(words.keys().all(|word| known.contains(word)), "{words:?}");
}

/// What stands in `backticks` of one line.
fn code_names(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}
