//! What the documents tell to type is what the program takes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use kube_ipvs::cli::Cli;

/// `cargo xtask` has the first, helm the last, and the other stands for any.
const OTHERS: [&str; 3] = ["--native", "--flag", "--set"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// README and docs, by name.
fn documents() -> BTreeMap<String, String> {
    let docs = std::fs::read_dir(root().join("docs")).expect("docs");
    let mut paths: Vec<PathBuf> = docs.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|x| x == "md"));
    paths.push(root().join("README.md"));
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a document");
        (path.display().to_string(), text)
    };
    paths.into_iter().map(read).collect()
}

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
    program.get_subcommands().map(flags_of).collect()
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
