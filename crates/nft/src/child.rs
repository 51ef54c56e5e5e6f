//! One child process, with text in, text out, and a limit on its time.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// The children of this process.
static CHILDREN: Mutex<Children> = Mutex::new(Children {
    ended: false,
    running: Vec::new(),
});

struct Children {
    /// No more are started.
    ended: bool,
    running: Vec<Arc<Mutex<Child>>>,
}

/// What panicked with the lock in its hand cannot have left this half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills all children, and lets none be started from now on.
pub(crate) fn end_all() {
    let mut children = locked(&CHILDREN);
    children.ended = true;
    for child in children.running.drain(..) {
        // One that is locked has said all it had to say and is waited for.
        if let Ok(mut child) = child.try_lock() {
            // It may have ended meanwhile; then there is nothing to kill.
            let _ = child.kill();
        }
    }
}

/// Starts a child, unless all are to have ended.
fn started(command: &mut Command) -> io::Result<Arc<Mutex<Child>>> {
    let mut children = locked(&CHILDREN);
    if children.ended {
        return Err(io::Error::other("this process is ending"));
    }
    let child = Arc::new(Mutex::new(command.spawn()?));
    children.running.push(child.clone());
    Ok(child)
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
    let mut command = Command::new(program);
    command
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let running = started(&mut command).map_err(Failure::Start)?;
    let result = attend(&running, input, deadline);
    let ended = |other: &Arc<Mutex<Child>>| Arc::ptr_eq(other, &running);
    locked(&CHILDREN).running.retain(|other| !ended(other));
    result
}

/// Feeds a child, hears it out and waits for its end.
fn attend(running: &Mutex<Child>, input: &str, deadline: Instant) -> Result<Finished, Failure> {
    let mut child = locked(running);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    drop(child);
    if let Some(mut stdin) = stdin {
        let input = input.to_owned();
        // A child that ends early breaks the pipe; its status says why.
        std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    }
    let stdout = drained(stdout);
    let stderr = drained(stderr);
    let outputs =
        received(&stdout, deadline).and_then(|out| Ok((out, received(&stderr, deadline)?)));
    let mut child = locked(running);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// In a process of its own it would be no test of this one: it ends all.
    #[test]
    fn at_the_end_children_are_killed_and_none_is_started() {
        let waiting = std::thread::spawn(|| {
            run(Path::new("sleep"), &["600"], "", Duration::from_secs(600)).is_ok()
        });
        while locked(&CHILDREN).running.is_empty() {
            std::thread::yield_now();
        }

        end_all();

        // It ended by a signal, which is no failure to run it.
        assert!(waiting.join().expect("no panic"));
        let refused = run(Path::new("true"), &[""; 0], "", Duration::from_secs(9));
        assert!(matches!(refused, Err(Failure::Start(_))));
    }
}
