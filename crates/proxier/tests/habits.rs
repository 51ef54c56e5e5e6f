//! What people expect of a command line.

use std::process::{Command, Output};

use clap::{CommandFactory, Parser};
use kube_ipvs::cli::Cli;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kube-ipvs");

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_remove("KUBE_IPVS_LOG");
    // Help is as wide as this says, and as long.
    command.env_remove("COLUMNS");
    command.output().expect("kube-ipvs runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_wrong_command_line_is_usage_for_every_command() {
    for (arguments, nearest) in [
        (&["inpsect"][..], "'inspect'"),
        (&["run", "--manifest", "x"], "'--manifests'"),
        (&["plan", "--ouptut", "json"], "'--output'"),
        (&["compile", "-o", "jsn"], "'json'"),
        (&["inspect", "--stat"], "'--stats'"),
        (&["inspect", "-A"], "--add-service (-A)"),
        (&["inspect", "--daemon", "-o", "json", "--pods"], "'--pods'"),
        (
            &["inspect", "--timeout", "-o", "json", "--pods"],
            "'--pods'",
        ),
        (&["check", "--outptu"], "'--output'"),
        (&["cleanup", "--dryrun"], "'--dry-run'"),
        (&["completion", "bsh"], "'bash'"),
        (&["run", "--masquerade-bit=99"], "masquerade"),
    ] {
        let output = run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(said.contains(nearest), "{arguments:?}: {said}");
    }
}

/// Whatever this machine has: no proxy of ours runs with this directory.
#[test]
fn status_is_a_page_with_or_without_ipvs() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = format!("--state-dir={}", directory.path().display());
    let output = run(&["status", &state]);
    let page = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{page}");
    assert!(
        page.starts_with("kube-ipvs  no daemon answers here\n"),
        "{page}"
    );
    assert!(page.contains("\n    to do       "), "{page}");
    let json = text(&run(&["status", &state, "-o", "json"]).stdout);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["well"], false);
}

/// Who asks a command that only looks to change something is not told that it was done.
#[test]
fn commands_that_only_look_refuse_and_hide_what_run_does() {
    for command in ["plan", "compile"] {
        let help = text(&run(&[command, "--help"]).stdout);
        assert!(help.contains("--manifests"), "{command}: {help}");
        for flag in [
            "--once",
            "--init-only",
            "--cleanup",
            "--version",
            "--write-config-to",
        ] {
            let told = if flag == "--write-config-to" {
                "--write-config-to=/dev/null"
            } else {
                flag
            };
            let output = run(&[command, "--manifests", "/nowhere", told]);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{command} {flag}: {said}");
            let why = format!("{flag} is for `kube-ipvs run`; `{command}` only shows");
            assert!(said.contains(&why), "{command}: {said}");
            assert!(!help.contains(flag), "{command} offers {flag}");
        }
        let output = run(&[command, "--manifests", "/nowhere", "--once=false"]);
        assert_eq!(output.status.code(), Some(1), "{command}");
    }
}

#[test]
fn the_version_comes_alone_and_for_programs() {
    for arguments in [&["--version"][..], &["run", "--version"], &["version"]] {
        let output = run(arguments);
        assert!(output.stderr.is_empty(), "{arguments:?}");
        let said = text(&output.stdout);
        assert!(said.starts_with("kube-ipvs 0."), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    }
    let json = text(&run(&["version", "-o", "json"]).stdout);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(json["kube_proxy"], "1.37");
}

#[test]
fn flags_without_meaning_are_in_the_long_help_only() {
    let count = |help: &str| {
        text(&run(&["run", help]).stdout)
            .matches("No meaning here")
            .count()
    };
    assert_eq!(count("-h"), 0);
    assert_eq!(count("--help"), 17);
}

#[test]
fn what_an_answer_does_not_hang_on_is_in_the_long_help_of_those_that_look() {
    let has = |command: &str, help: &str| {
        let help = text(&run(&[command, help]).stdout);
        [
            "--ipvs-scheduler ",
            "--drain-timeout ",
            "--metrics-bind-address ",
        ]
        .map(|flag| help.contains(flag))
    };
    for (command, short) in [
        ("run", [true; 3]),
        ("plan", [true, false, false]),
        ("compile", [true, false, false]),
    ] {
        assert_eq!(has(command, "-h"), short, "{command}");
        assert_eq!(has(command, "--help"), [true; 3], "{command}");
    }
}

/// What a line of help would have a shell run of this program, if it is an example.
fn example(line: &str) -> Option<Vec<&str>> {
    let told = line.strip_prefix("  ")?.split("   ").next()?;
    let at = told.find("kube-ipvs ")?;
    let ends = |c| matches!(c, ')' | '>' | '<' | '|');
    let words = told[at..].split(ends).next()?;
    (at == 0 || told[..at].ends_with('(')).then(|| words.split_whitespace().collect())
}

#[test]
fn the_short_help_of_every_command_is_short_and_has_examples_that_parse() {
    let program = Cli::command();
    let shown = program.get_subcommands().filter(|one| !one.is_hide_set());
    let names = shown.map(clap::Command::get_name).chain([""]);
    for name in names {
        let words: Vec<_> = [name, "-h"].into_iter().filter(|x| !x.is_empty()).collect();
        let output = run(&words);
        let help = text(&output.stdout);
        assert!(output.status.success(), "{words:?}");
        assert!(
            !help.contains('\x1b'),
            "no colours in a pipe: {words:?}: {help}"
        );
        assert!(help.lines().count() <= 75, "{words:?}: {help}");
        assert!(
            help.lines().all(|line| line.chars().count() <= 100),
            "{words:?}: {help}"
        );
        let (_, examples) = help.split_once("\nExamples:\n").expect(&help);
        let examples: Vec<_> = examples.lines().filter_map(example).collect();
        assert!(examples.len() >= 2, "{words:?}: {help}");
        for example in examples {
            let parsed = Cli::try_parse_from(&example);
            assert!(
                parsed.is_ok(),
                "{words:?}: {example:?}: {}",
                parsed.unwrap_err()
            );
            assert!(name.is_empty() || example[1] == name, "{example:?}");
        }
    }
}

#[test]
fn the_long_help_has_every_flag_below_what_it_is_about() {
    for command in ["run", "plan", "compile"] {
        let help = text(&run(&[command, "--help"]).stdout);
        for heading in [
            "Where Services come from:",
            "How they are served:",
            "NodePorts:",
            "When something is done:",
            "This host:",
            "What is told:",
            "Taken from kube-proxy, without meaning here:",
        ] {
            assert!(
                help.contains(&format!("\n{heading}\n")),
                "{command}: {heading}: {help}"
            );
        }
    }
    let help = text(&run(&["inspect", "--help"]).stdout);
    assert!(help.contains("\nCommands:\n"), "{help}");
    let help = text(&run(&["--help"]).stdout);
    for heading in ["Look at a node:", "Say what would be:", "Change a node:"] {
        assert!(help.contains(&format!("\n{heading}\n  ")), "{help}");
    }
}

#[test]
fn every_command_has_a_man_page() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("UTF-8");
    assert!(run(&["man", path]).status.success());
    for page in [
        "kube-ipvs",
        "kube-ipvs-run",
        "kube-ipvs-inspect",
        "kube-ipvs-cleanup",
    ] {
        let page = directory.path().join(format!("{page}.1"));
        let page = std::fs::read_to_string(&page).expect("a page");
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
}

/// What bash offers for a line whose last word is not finished.
fn offered(line: &str) -> Vec<String> {
    let script = r#"
        source <("$1" completion bash)
        read -ra COMP_WORDS <<< "$2"
        COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
        declare -F _kube__ipvs > /dev/null || exit 1
        _kube__ipvs "${COMP_WORDS[0]}" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash")
        .args(["-c", script, "bash", PROGRAM, line])
        .output()
        .expect("this test needs bash");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let words = text(&output.stdout);
    words.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_their_flags() {
    assert_eq!(offered("kube-ipvs insp"), ["inspect"]);
    assert_eq!(
        offered("kube-ipvs inspect --st"),
        ["--stats", "--state-dir"]
    );
    assert_eq!(offered("kube-ipvs cleanup --dry"), ["--dry-run"]);
    assert_eq!(offered("/usr/bin/kube-ipvs run --manif"), ["--manifests"]);
    assert_eq!(offered("kube-ipvs inspect -o j"), ["json"]);
}

/// Its settings are worth a warning, and nobody runs with them.
#[test]
fn what_is_wrong_with_a_command_line_is_told_without_warnings_before() {
    for arguments in [
        &["plan", "--watch", "--manifests", "-"][..],
        &["plan", "--once", "--manifests", "-"],
        &["compile", "--init-only", "--manifests", "-"],
        &["compile"],
    ] {
        let output = run(arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {told}");
        assert!(told.starts_with("kube-ipvs: "), "{arguments:?}: {told}");
        assert_eq!(told.lines().count(), 1, "{arguments:?}: {told}");
    }
}
