//! Standard output and standard error: the only places that write to them, but for
//! the terminal that `top` takes over.
//!
//! Results go to standard output, whole or with an error; a reader that went
//! away (`| head`) has seen enough. Messages go to standard error, and one that
//! cannot be written is lost: no log is worth a node. Whatever is written is
//! escaped, so that a name in an object cannot act on a terminal.

use std::fmt::{self, Write as _};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use kube_ipvs_core::escape::{escape, is_unsafe};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing_subscriber::fmt::MakeWriter;

/// How long a full pipe may hold a message up.
const PATIENCE_MS: u16 = 100;
/// A pipe that can take anything can take this much without a wait (`PIPE_BUF`).
const CHUNK: usize = 4096;

/// Messages that nobody can read.
static LOST: AtomicU64 = AtomicU64::new(0);

/// What a text is, which decides how strange characters are written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people: `\u{1b}`. Line ends and tabs are ours.
    Text,
    /// JSON, where they can only stand within strings: `\u001b`.
    Json,
}

/// Writes a result for people to standard output.
///
/// # Errors
/// It cannot be written. That its reader has gone is no error.
pub(crate) fn print(text: impl fmt::Display) -> anyhow::Result<()> {
    written(write_to(io::stdout().lock(), Form::Text, &text))
}

/// Writes a value as indented JSON to standard output.
///
/// # Errors
/// As [`print`].
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value).context("write JSON")?;
    print_json_text(format_args!("{text}\n"))
}

/// Writes what is JSON already to standard output.
///
/// # Errors
/// As [`print`].
pub(crate) fn print_json_text(text: impl fmt::Display) -> anyhow::Result<()> {
    written(write_to(io::stdout().lock(), Form::Json, &text))
}

/// Writes one of several results to standard output; false when its reader has
/// gone, who would not read the next one either.
///
/// # Errors
/// It cannot be written for another reason.
pub(crate) fn print_to_reader(form: Form, text: impl fmt::Display) -> anyhow::Result<bool> {
    is_read(write_to(io::stdout().lock(), form, &text))
}

/// What the end of a write to standard output means.
///
/// # Errors
/// Any but that the reader has gone.
pub(crate) fn written(result: io::Result<()>) -> anyhow::Result<()> {
    is_read(result).map(drop)
}

fn is_read(result: io::Result<()>) -> anyhow::Result<bool> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        result => result.context("write standard output").map(|()| true),
    }
}

/// Writes a line to standard error, if that is possible.
pub(crate) fn complain(line: impl fmt::Display) {
    let mut text = String::new();
    // A `Display` that fails has said what it could.
    _ = write!(
        Escaping {
            out: &mut text,
            form: Form::Text
        },
        "{line}"
    );
    text.push('\n');
    say(io::stderr().lock(), text.as_bytes());
}

/// Messages so far that could not be written to standard error.
pub(crate) fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

fn write_to(out: impl Write, form: Form, text: &impl fmt::Display) -> io::Result<()> {
    let mut out = Outlet {
        out: BufWriter::new(out),
        error: None,
    };
    let done = write!(
        Escaping {
            out: &mut out,
            form
        },
        "{text}"
    );
    match (out.error.take(), done) {
        (Some(error), _) => Err(error),
        (None, Ok(())) => out.out.flush(),
        (None, Err(error)) => Err(io::Error::other(error)),
    }
}

/// Characters to a stream, with the error that `fmt` has no room for.
struct Outlet<W: Write> {
    out: BufWriter<W>,
    error: Option<io::Error>,
}

impl<W: Write> fmt::Write for Outlet<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.out.write_all(text.as_bytes()).map_err(|error| {
            self.error = Some(error);
            fmt::Error
        })
    }
}

/// Passes text on, escaped.
struct Escaping<'a, W> {
    out: &'a mut W,
    form: Form,
}

impl<W: fmt::Write> fmt::Write for Escaping<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let ours = |character| matches!(character, '\n' | '\t');
        let mut from = 0;
        for (at, character) in text.char_indices() {
            if ours(character) || !is_unsafe(character) {
                continue;
            }
            self.out.write_str(&text[from..at])?;
            match self.form {
                Form::Text => escape(character, self.out)?,
                Form::Json => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        write!(self.out, "\\u{unit:04x}")?;
                    }
                }
            }
            from = at + character.len_utf8();
        }
        self.out.write_str(&text[from..])
    }
}

/// Writes as much as the stream takes without holding us up, and forgets the
/// rest: the reader of a log may have stopped, and may stop us no more than if
/// it had ended.
fn say(mut stream: impl Write + AsFd, text: &[u8]) {
    for chunk in text.chunks(CHUNK) {
        let said = ready(&stream).and_then(|()| stream.write_all(chunk));
        if said.is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
}

fn ready(stream: &impl AsFd) -> io::Result<()> {
    let mut wanted = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
    match poll(&mut wanted, PollTimeout::from(PATIENCE_MS))? {
        0 => Err(ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

/// Where the log goes: standard error. An event is one line, whatever it quotes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Log(pub(crate) Form);

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

impl Write for Log {
    /// Takes one event, as the subscriber writes it: at once.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        say(io::stderr().lock(), line(event, self.0).as_bytes());
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One event as one line.
fn line(event: &[u8], form: Form) -> String {
    let text = String::from_utf8_lossy(event);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let mut line = String::with_capacity(text.len() + 1);
    // Writing to a string cannot fail.
    _ = write!(
        Escaping {
            out: &mut line,
            form
        },
        "{text}"
    );
    let mut line = line.replace('\n', "\\n");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::OwnedFd;

    use super::*;

    fn shown(form: Form, text: &str) -> String {
        let mut out = Vec::new();
        write_to(&mut out, form, &text).expect("memory takes all");
        String::from_utf8(out).expect("text")
    }

    /// Refuses everything.
    struct Refusing(ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn results_keep_their_lines_and_lose_escape_codes() {
        let text = shown(Form::Text, "a\tb\nweb\u{1b}[2J größe\u{202e}\r\n");

        assert_eq!(text, "a\tb\nweb\\u{1b}[2J größe\\u{202e}\\r\n");
    }

    #[test]
    fn json_stays_json_that_says_the_same() {
        let value = serde_json::json!({"name": "a\u{7f}\u{202e}\u{e0041}\n\u{1b}é"});

        let text = shown(Form::Json, &value.to_string());

        assert!(text.is_ascii() || text.contains('é'), "{text}");
        assert!(text.contains("\\u007f\\u202e\\udb40\\udc41"), "{text}");
        let back: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(back, value);
    }

    #[test]
    fn a_reader_that_went_away_is_no_error_and_a_full_disk_is() {
        let long = "x".repeat(100_000);
        for text in ["short", &long] {
            let gone = write_to(Refusing(ErrorKind::BrokenPipe), Form::Text, &text);
            assert!(written(gone).is_ok());

            let full = write_to(Refusing(ErrorKind::StorageFull), Form::Text, &text);
            let error = written(full).expect_err("nothing was written");
            let message = format!("{error:#}");
            assert!(message.starts_with("write standard output: "), "{message}");
        }
    }

    #[test]
    fn an_event_is_one_line() {
        let event = "WARN web\nINFO forged \u{1b}[31m\n".as_bytes();

        assert_eq!(
            line(event, Form::Text),
            "WARN web\\nINFO forged \\u{1b}[31m\n"
        );
        assert_eq!(line(b"cut \xff", Form::Text), "cut \u{fffd}\n");
    }

    #[test]
    fn a_log_that_nobody_reads_holds_nobody_up() {
        let (reader, writer): (OwnedFd, OwnedFd) = nix::unistd::pipe().expect("a pipe");
        let before = lost();

        // Far more than a pipe holds.
        for _ in 0..40 {
            say(
                File::from(writer.try_clone().expect("a copy")),
                &[b'x'; 8000],
            );
        }
        assert!(lost() > before, "{} lost", lost() - before);

        drop(reader);
        let full = lost();
        say(File::from(writer), b"nobody is there");
        assert!(lost() > full);
    }
}
