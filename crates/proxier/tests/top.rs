//! `kube-ipvs top` at a terminal: it takes it, obeys keys, and gives it back
//! however it ends. IPVS is made up, so that this runs anywhere.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::num::NonZero;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ipvs_netlink::{Destination, DestinationId, Scheduler, ServiceId};
use kube_ipvs::top::{self, Choice, Column, Counts, Level, Sample, Seen, Source, Table};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use pty_process::Size;
use pty_process::blocking::{self, Pty};

/// Nothing here waits for time to pass: this is only for what went wrong.
const PATIENCE: Duration = Duration::from_secs(120);
/// The look that panics, in the environment of the program below.
const PANICS: &str = "KUBE_IPVS_TEST_PANICS";

/// Two Services whose connections grow by 100 and 10 a second.
#[derive(Default)]
struct MadeUp {
    looks: u64,
}

impl MadeUp {
    fn seen(&self, last: u8, service: &str, a_second: u64) -> Seen {
        let mut real = Destination::new(DestinationId::new([10, 244, 1, last], 8080));
        real.weight = u32::from(last != 2);
        real.active_connections = 3;
        let counts = Counts {
            connections: self.looks * a_second,
            ..Counts::default()
        };
        Seen {
            id: ServiceId::tcp([10, 96, 0, last], 80),
            service: Some(service.into()),
            scheduler: Scheduler::RR,
            counts,
            real_servers: Some(vec![real]),
        }
    }
}

impl Source for MadeUp {
    fn look(&mut self, _: &Table, _: &BTreeSet<ServiceId>) -> anyhow::Result<Sample> {
        self.look_at_all()
    }

    fn look_at_all(&mut self) -> anyhow::Result<Sample> {
        assert!(
            self.looks == 0 || std::env::var_os(PANICS).is_none(),
            "a look on purpose"
        );
        self.looks += 1;
        Ok(Sample {
            at: Duration::from_secs(self.looks),
            servers: vec![
                self.seen(1, "shop/web:http", 100),
                self.seen(2, "kube-system/dns:dns", 10),
            ],
        })
    }
}

#[test]
#[ignore = "the program that the tests below run in a terminal"]
fn program() {
    kube_ipvs::panics::exit_on_panic();
    let choice = Choice {
        level: Level::Services,
        focus: None,
        sort: Column::Connections,
        reversed: false,
        filter: String::new(),
    };
    let interval = Duration::from_millis(100);
    top::show(choice, interval, &mut MadeUp::default()).expect("it ends well");
    println!("it has ended");
}

fn size(cells: u16) -> NonZero<u16> {
    NonZero::new(cells).expect("not none")
}

/// The program in a terminal of 100 columns and 20 lines.
struct Terminal {
    pty: Pty,
    child: Child,
    /// What is to be seen, and all that was written.
    seen: Arc<Mutex<(vt100::Parser, Vec<u8>)>>,
}

impl Terminal {
    #[expect(
        clippy::disallowed_methods,
        reason = "the end of what it reads ends it"
    )]
    fn start(environment: &[(&str, &str)]) -> Self {
        let (pty, pts) = blocking::open().expect("a pseudo-terminal");
        pty.resize(Size::new(20, 100)).expect("a size");
        let mut command = blocking::Command::new(std::env::current_exe().expect("a path"));
        command = command.args(["--exact", "program", "--ignored", "--nocapture"]);
        command = command.env_remove("NO_COLOR").env("TERM", "xterm-256color");
        for (name, value) in environment {
            command = command.env(name, value);
        }
        let child = command.spawn(pts).expect("start it");
        let seen = Arc::new(Mutex::new((
            vt100::Parser::new(size(20), size(100), 0),
            Vec::new(),
        )));
        let mut from = std::fs::File::from(nix::unistd::dup(&pty).expect("a copy"));
        let shown = seen.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The last one to hold the other end has gone when it fails.
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                let mut shown = shown.lock().expect("no panic");
                shown.0.process(&buffer[..length]);
                shown.1.extend_from_slice(&buffer[..length]);
            }
        });
        let terminal = Self { pty, child, seen };
        terminal.wait_for("shop/web");
        terminal
    }

    fn text(&self) -> String {
        self.seen.lock().expect("no panic").0.screen().contents()
    }

    #[track_caller]
    fn wait_until(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&self.text()) {
            assert!(Instant::now() < deadline, "no {what}:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        self.wait_until(text, |shown| shown.contains(text));
    }

    fn press(&mut self, keys: &str) {
        self.pty.write_all(keys.as_bytes()).expect("a key");
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("it fits");
        kill(Pid::from_raw(id), signal).expect("a signal");
    }

    /// How it ended, once the terminal is as it was before.
    #[track_caller]
    fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("look at it") {
                break status;
            }
            assert!(Instant::now() < deadline, "it goes on:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        };
        let given_back = || {
            let seen = self.seen.lock().expect("no panic");
            let screen = seen.0.screen();
            !screen.alternate_screen() && !screen.hide_cursor()
        };
        self.wait_until("screen as before", |_| given_back());
        let mode = tcgetattr(&self.pty)
            .expect("the terminal's mode")
            .local_flags;
        assert!(
            mode.contains(LocalFlags::ICANON | LocalFlags::ECHO),
            "{mode:?}"
        );
        status
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended long ago.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn keys_are_obeyed_and_the_terminal_is_given_back() {
    let mut terminal = Terminal::start(&[]);
    {
        let seen = terminal.seen.lock().expect("no panic");
        let screen = seen.0.screen();
        assert!(screen.alternate_screen() && screen.hide_cursor());
    }
    terminal.wait_until("rate of 110", |text| text.contains(", 110 conn/s"));

    terminal.press("2");
    terminal.wait_for("10.96.0.2:80/TCP");
    terminal.press("/dns\r");
    terminal.wait_until("dns alone", |text| {
        text.contains("dns") && !text.contains("shop/web")
    });
    terminal.press("\x1b");
    terminal.wait_for("shop/web");
    terminal.press("\x1b[B\r");
    terminal.wait_for("  -> 10.244.1.2:8080");
    terminal.press(" ");
    terminal.wait_for("FROZEN");

    terminal.pty.resize(Size::new(10, 60)).expect("a size");
    terminal
        .seen
        .lock()
        .expect("no panic")
        .0
        .screen_mut()
        .set_size(size(10), size(60));
    terminal.signal(Signal::SIGWINCH);
    terminal.wait_until("foot in the last line", |text| {
        text.lines()
            .nth(9)
            .is_some_and(|line| line.starts_with("q end"))
    });
    terminal.press("q");
    assert!(terminal.ended().success());
    terminal.wait_for("it has ended");
}

#[test]
fn signals_and_control_c_give_the_terminal_back() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut terminal = Terminal::start(&[]);
        terminal.signal(signal);
        assert!(terminal.ended().success(), "{signal}");
    }
    let mut terminal = Terminal::start(&[]);
    terminal.press("\x03");
    assert!(terminal.ended().success());
}

#[test]
fn a_panic_gives_the_terminal_back_and_is_told_there() {
    let mut terminal = Terminal::start(&[(PANICS, "1")]);
    assert_eq!(
        terminal.ended().code(),
        Some(kube_ipvs::panics::FAULT.into())
    );
    terminal.wait_for("a look on purpose");
}

/// Escape codes of colours that the program has written.
fn colours(environment: &[(&str, &str)]) -> bool {
    let mut terminal = Terminal::start(environment);
    terminal.wait_for("kube-system/dns");
    terminal.press("q");
    terminal.ended();
    let written = terminal.seen.lock().expect("no panic").1.clone();
    // Yellow, with whatever is behind it: what drains.
    let yellow = b"\x1b[38;5;3";
    written.windows(yellow.len()).any(|bytes| bytes == yellow)
}

#[test]
fn colours_are_there_unless_no_color_is_set() {
    assert!(colours(&[]));
    assert!(!colours(&[("NO_COLOR", "1")]));
}

#[test]
fn without_a_terminal_it_says_what_to_do_instead() {
    let output = Command::new(env!("CARGO_BIN_EXE_kube-ipvs"))
        .arg("top")
        .stdin(Stdio::null())
        .output()
        .expect("kube-ipvs runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("`kube-ipvs top --once`"), "{said}");
}
