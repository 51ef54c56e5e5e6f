//! The program when nobody reads, or can read, what it writes.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A Service and a slice, many times: more than a pipe holds.
fn manifests() -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new()
        .suffix(".yaml")
        .tempfile()
        .expect("a file");
    for number in 0..600 {
        let (high, low) = (number / 200, number % 200 + 1);
        writeln!(
            file,
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: web-{number}, namespace: default}}, \
             spec: {{clusterIP: 10.96.{high}.{low}, clusterIPs: [10.96.{high}.{low}], \
             ipFamilies: [IPv4], ports: [{{port: 80}}]}}}}"
        )
        .expect("write a manifest");
    }
    file
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kube-ipvs"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn full() -> File {
    File::options()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Warnings about the configuration are no complaint.
#[track_caller]
fn assert_quiet(arguments: &[&str], output: &Output) {
    let said = said(output);
    let complains = |line: &str| !line.contains(" WARN ");
    assert!(!said.lines().any(complains), "{arguments:?}: {said}");
}

/// Commands that print without a kernel, whoever runs them.
fn commands(manifests: &Path) -> Vec<Vec<&str>> {
    let manifests = manifests.to_str().expect("a path in UTF-8");
    let compile = [
        "compile",
        "--hostname-override",
        "n1",
        "--cluster-cidr",
        "10.244.0.0/16",
        "--manifests",
        manifests,
    ];
    vec![
        compile.to_vec(),
        [&compile[..], &["-o", "json"]].concat(),
        vec!["completion", "bash"],
        vec!["--help"],
        vec!["run", "--help"],
        vec!["--version"],
        vec!["run", "--version"],
        vec!["run", "--version=raw"],
    ]
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let manifests = manifests();
    for arguments in commands(manifests.path()) {
        let mut child = program(&arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("start it");
        let mut first = [0];
        let mut stdout = child.stdout.take().expect("piped");
        stdout.read_exact(&mut first).expect("it writes something");
        drop(stdout);

        let output = child.wait_with_output().expect("wait for it");

        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}",
            said(&output)
        );
        assert_quiet(&arguments, &output);
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error_that_says_so() {
    let manifests = manifests();
    let mut commands = commands(manifests.path());
    // Whatever they find on this machine.
    commands.push(vec!["check"]);
    commands.push(vec!["check", "-o", "json"]);
    commands.push(vec!["cleanup", "--dry-run", "--state-dir", "/nonexistent"]);
    for arguments in commands {
        let output = program(&arguments).stdout(full()).output().expect("run it");

        assert_eq!(
            output.status.code(),
            Some(1),
            "{arguments:?}: {}",
            said(&output)
        );
        let wanted = "kube-ipvs: write standard output: No space left on device (os error 28)\n";
        assert!(
            said(&output).ends_with(wanted),
            "{arguments:?}: {}",
            said(&output)
        );
    }
}

#[test]
fn closed_standard_output_is_nobody_s_panic() {
    let manifests = manifests();
    for arguments in commands(manifests.path()) {
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "exec \"$0\" \"$@\" >&-",
            env!("CARGO_BIN_EXE_kube-ipvs"),
        ]);

        let output = shell.args(&arguments).output().expect("run it");

        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}",
            said(&output)
        );
        assert_quiet(&arguments, &output);
    }
}

/// As they are when it can be written.
#[test]
fn messages_that_cannot_be_written_change_no_exit_code() {
    let manifests = manifests();
    let path = manifests.path().to_str().expect("a path in UTF-8");
    let loud = [
        "compile",
        "--hostname-override",
        "n1",
        "--manifests",
        path,
        "--v",
        "9",
    ];
    let gone = || {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        writer
    };
    for (arguments, code) in [
        (&loud[..], 0),
        (&["compile", "--manifests", "/nonexistent"], 1),
        (
            &[
                "run",
                "--manifests",
                "/nonexistent",
                "--state-dir",
                "/dev/null/state",
            ],
            1,
        ),
        (
            &["explain", "--state-dir", "/dev/null/state", "default/web"],
            1,
        ),
        (&["--bogus"], 64),
    ] {
        for stderr in [Stdio::from(full()), Stdio::from(gone())] {
            let mut command = program(arguments);
            let status = command
                .stdout(Stdio::null())
                .stderr(stderr)
                .status()
                .expect("run it");

            assert_eq!(status.code(), Some(code), "{arguments:?}");
        }
    }
}

/// Whoever may write an object may name it.
const NASTY: &str = r#"{
  "apiVersion": "v1", "kind": "Service",
  "metadata": {
    "name": "web\nWARN forged \u001b[2J\u009b\u202e\u2028größe", "namespace": "default\r",
    "annotations": {"ipvs.kube-ipvs.dev/scheduler": "x\u001b]0;title\u0007\nINFO forged"}
  },
  "spec": {
    "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ipFamilies": ["IPv4"],
    "ports": [{"name": "\u001b[31mred\nline", "port": 80}]
  }
}"#;

#[test]
fn names_act_on_no_terminal_and_forge_no_line() {
    let mut file = tempfile::Builder::new()
        .suffix(".json")
        .tempfile()
        .expect("a file");
    file.write_all(NASTY.as_bytes()).expect("write it");
    let path = file.path().to_str().expect("a path in UTF-8");
    let compile = ["compile", "--hostname-override", "n1", "--manifests", path];
    for more in [&[][..], &["-o", "json"], &["--logging-format", "json"]] {
        let mut command = program(&[&compile[..], more].concat());
        let output = command.stdout(Stdio::piped()).output().expect("run it");

        assert_eq!(output.status.code(), Some(0), "{more:?}: {}", said(&output));
        for text in [&output.stdout, &output.stderr] {
            let text = std::str::from_utf8(text).expect("text");
            let strange = |character: &char| {
                let control = character.is_control() && *character != '\n';
                control || ['\u{202e}', '\u{2028}'].contains(character)
            };
            assert_eq!(text.chars().find(strange), None, "{more:?}: {text:?}");
            let forged = |line: &str| line.starts_with("WARN") || line.starts_with("INFO");
            assert!(!text.lines().any(forged), "{more:?}: {text}");
        }
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(stdout.contains("größe"), "{more:?}: {stdout}");
    }
}
