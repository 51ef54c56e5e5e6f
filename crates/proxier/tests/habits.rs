//! What people expect of a command line.

use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kube-ipvs");

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    let output = command.args(arguments).env_remove("KUBE_IPVS_LOG").output();
    output.expect("kube-ipvs runs")
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
fn help_in_a_pipe_has_no_colours() {
    let help = run(&["inspect", "--help"]).stdout;
    assert!(!help.contains(&0x1b));
    let help = text(&help);
    assert!(
        help.contains("Examples:") && help.contains("Commands:"),
        "{help}"
    );
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
