//! Colours are for who looks at a terminal and wants them.

use std::io::Read;

use pty_process::blocking::{Command, open};

/// What the program writes to a terminal.
fn at_a_terminal(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let (mut pty, pts) = open().expect("a pseudo-terminal");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kube-ipvs"))
        .args(arguments)
        .env("TERM", "xterm-256color");
    // What decides beside a terminal, as this test is run in CI or by a user of colours.
    for name in ["NO_COLOR", "CI", "CLICOLOR", "CLICOLOR_FORCE"] {
        command = command.env_remove(name);
    }
    for (name, value) in environment {
        command = command.env(name, value);
    }
    let mut child = command.spawn(pts).expect("kube-ipvs runs");
    let mut written = Vec::new();
    let mut buffer = [0; 4096];
    // The end of the last who has it open is an error, not an end.
    while let Ok(read @ 1..) = pty.read(&mut buffer) {
        written.extend_from_slice(&buffer[..read]);
    }
    child.wait().expect("it has ended");
    String::from_utf8_lossy(&written).into_owned()
}

#[test]
fn help_and_complaints_have_colours_at_a_terminal_unless_no_color_is_set() {
    for (arguments, said) in [
        (&["-h"][..], "Look at a node:"),
        (&["run", "--help"], "Where Services come from:"),
        (&["inspect", "--stat"], "--stats"),
    ] {
        let with = at_a_terminal(arguments, &[]);
        assert!(with.contains(said), "{arguments:?}: {with}");
        assert!(with.contains("\x1b["), "{arguments:?}: {with}");
        for environment in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let without = at_a_terminal(arguments, &[environment]);
            assert!(without.contains(said), "{arguments:?}: {without}");
            assert!(!without.contains('\x1b'), "{environment:?}: {without}");
        }
    }
}

/// What may come from an object or another program stays without, also there.
#[test]
fn answers_have_none() {
    for arguments in [&["version"][..], &["status", "--state-dir=/nowhere"]] {
        let said = at_a_terminal(arguments, &[]);
        assert!(said.contains("kube-ipvs"), "{said}");
        assert!(!said.contains('\x1b'), "{said}");
    }
}
