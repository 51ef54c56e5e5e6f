//! One child process, with text in, text out, and a limit on its time.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// What a child left behind.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

pub(crate) enum Failure {
    Start(io::Error),
    Io(io::Error),
    TimedOut,
}

/// Runs `program` in the calling thread's network namespace. Each pipe has a
/// thread, so neither side can wait for the other for ever.
pub(crate) fn run<S: AsRef<OsStr>>(
    program: &Path,
    args: &[S],
    input: &str,
    limit: Duration,
) -> Result<Finished, Failure> {
    let deadline = Instant::now() + limit;
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Failure::Start)?;
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_owned();
        // A child that ends early breaks the pipe; its status says why.
        std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    }
    let stdout = drained(child.stdout.take());
    let stderr = drained(child.stderr.take());
    let outputs =
        received(&stdout, deadline).and_then(|out| Ok((out, received(&stderr, deadline)?)));
    if outputs.is_err() {
        // It may have ended meanwhile; then there is nothing to kill.
        let _ = child.kill();
    }
    let status = child.wait().map_err(Failure::Io)?;
    let (stdout, stderr) = outputs?;
    Ok(Finished {
        status,
        stdout,
        stderr,
    })
}

fn drained(pipe: Option<impl Read + Send + 'static>) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let result = pipe
            .map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut bytes))
            .map(|_| bytes);
        // Nobody waits any longer once the time is over.
        let _ = sender.send(result);
    });
    receiver
}

fn received(
    receiver: &Receiver<io::Result<Vec<u8>>>,
    deadline: Instant,
) -> Result<Vec<u8>, Failure> {
    match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(result) => result.map_err(Failure::Io),
        Err(RecvTimeoutError::Timeout) => Err(Failure::TimedOut),
        Err(RecvTimeoutError::Disconnected) => {
            Err(Failure::Io(io::Error::other("the reading thread died")))
        }
    }
}
