//! Completion in bash at a terminal, as somebody who presses Tab meets it.

use std::io::{Read, Write};
use std::process::Child;

use pty_process::blocking::{self, Pty};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kube-ipvs");
const PROMPT: &str = "what next> ";

/// bash without anybody's settings, which ends by itself if this test does not end it.
struct Bash {
    pty: Pty,
    child: Child,
    shown: String,
}

impl Bash {
    /// One that has read our script.
    fn start() -> Self {
        let (pty, pts) = blocking::open().expect("a pseudo-terminal");
        // A bash that somebody types to goes on after SIGTERM. Without the file it leaves
        // the history of who runs this alone, which it would cut as well.
        let command = blocking::Command::new("timeout")
            .args(["--foreground", "--signal=KILL", "120"])
            .args(["bash", "--norc", "--noprofile", "-i"])
            .env("HISTFILE", "")
            .env("PS1", PROMPT)
            .env("INPUTRC", "/dev/null")
            .env("TERM", "dumb");
        let child = command.spawn(pts).expect("this test needs bash");
        let mut bash = Self {
            pty,
            child,
            shown: String::new(),
        };
        bash.wait_for(PROMPT);
        bash.types(&format!("source <({PROGRAM} completion bash)\n"), PROMPT);
        bash
    }

    /// Types something, and waits for what is shown then, the echo included.
    fn types(&mut self, keys: &str, answer: &str) {
        self.shown.clear();
        self.pty.write_all(keys.as_bytes()).expect("it reads");
        self.wait_for(answer);
    }

    fn wait_for(&mut self, text: &str) {
        let mut buffer = [0; 4096];
        while !self.shown.contains(text) {
            let read = self.pty.read(&mut buffer).unwrap_or_default();
            assert!(read > 0, "{text:?} is not in {:?}", self.shown);
            self.shown += &String::from_utf8_lossy(&buffer[..read]);
        }
    }
}

impl Drop for Bash {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// clap_complete takes the hyphen of the name for a subcommand in some places of
/// its script and not in others, and completes no flag then.
#[test]
fn tab_finishes_commands_and_flags_behind_a_name_with_a_hyphen() {
    let mut bash = Bash::start();
    bash.types("kube-ipvs insp\t", "kube-ipvs inspect ");
    bash.types("--nos\t", "--nosort ");
    bash.types("-o js\t", "-o json ");

    // Another one: a line that Ctrl-C ends is now and then not ended before the next key.
    let mut bash = Bash::start();
    bash.types(
        "/usr/local/bin/kube-ipvs cleanup --dry\t",
        " cleanup --dry-run ",
    );
}
