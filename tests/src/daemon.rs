//! The real `kube-ipvs` in a namespace.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Namespace, wait_until};

/// Most open files of a program that is to have few, in its environment.
pub const OPEN_FILES: &str = "KUBE_IPVS_TEST_OPEN_FILES";

/// Runs the program its arguments name with `$1` in the place of `/run/kube-ipvs`,
/// with the links of its own namespace in `/sys`, and with a `PATH` of its own if
/// one is given.
const OWN_STATE: &str = r#"test -z "$KUBE_IPVS_TEST_OPEN_FILES" || ulimit -n "$KUBE_IPVS_TEST_OPEN_FILES"; mount --bind "$1" /run/kube-ipvs && shift && mount -t sysfs sysfs /sys && exec env PATH="${KUBE_IPVS_TEST_PATH:-$PATH}" "$@""#;

/// `kube-ipvs` for one run to its end (`plan`, `compile`, `inspect`, `run --once`),
/// inside `namespace`. The program is the one `KUBE_IPVS_BIN` names.
///
/// `/run/kube-ipvs` is the namespace's own, so that tests side by side do not
/// share an ownership record; it stays from one run to the next.
pub fn kube_ipvs<I, S>(namespace: &Namespace, arguments: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let program = std::env::var_os("KUBE_IPVS_BIN")
        .expect("KUBE_IPVS_BIN names the program to test; cargo xtask kernel-test sets it");
    let state = state_directory(namespace);
    fs::create_dir_all("/run/kube-ipvs").expect("make /run/kube-ipvs");
    fs::create_dir_all(&state).expect("make a state directory");
    let mut command = namespace.command("unshare");
    command.args(["--mount", "--", "sh", "-c", OWN_STATE, "sh"]);
    command.arg(state).arg(program).args(arguments);
    command
}

/// The directory that is `/run/kube-ipvs` for [`kube_ipvs()`] in `namespace`.
pub fn state_directory(namespace: &Namespace) -> PathBuf {
    PathBuf::from("/run/kube-ipvs-tests").join(namespace.name())
}

/// A running `kube-ipvs`; killed on drop. Its log is shown when the test fails.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Daemon {
    /// Starts it inside `namespace`.
    pub fn start<I, S>(namespace: &Namespace, arguments: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        Self::spawn(&mut kube_ipvs(namespace, arguments))
    }

    /// Starts a command made by [`kube_ipvs()`], for an environment of its own.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start kube-ipvs");
        let log = Arc::default();
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let readers = vec![collect(stdout, &log), collect(stderr, &log)];
        Self {
            child,
            log,
            readers,
        }
    }

    /// What it has written so far, to standard output and error.
    pub fn log(&self) -> String {
        self.log.lock().expect("no reader panics").clone()
    }

    /// Its process id; the shell and helpers before it replaced themselves.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id fits"))
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("look at kube-ipvs").is_none()
    }

    /// Waits until its log has `text`; panics with the log when it ends before,
    /// or when that takes longer than `timeout`.
    #[track_caller]
    pub fn wait_for_log(&mut self, text: &str, timeout: Duration) {
        wait_until(
            &format!("{text:?} in the log of kube-ipvs"),
            timeout,
            || {
                let ended = self.child.try_wait().expect("look at kube-ipvs");
                let there = self.log().contains(text);
                assert!(
                    there || ended.is_none(),
                    "kube-ipvs ended ({ended:?}):\n{}",
                    self.log()
                );
                there
            },
        );
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.finish();
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.finish()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("signal kube-ipvs");
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        wait_until("kube-ipvs ends", timeout, || {
            self.child.try_wait().expect("look at kube-ipvs").is_some()
        });
        self.finish()
    }

    fn finish(&mut self) -> ExitStatus {
        let status = self.child.wait().expect("wait for kube-ipvs");
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        status
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            self.kill();
        }
        if thread::panicking() {
            eprintln!("log of kube-ipvs:\n{}", self.log());
        }
    }
}

/// Whether a process was ended by `signal`.
pub fn killed_by(status: ExitStatus, signal: Signal) -> bool {
    status.signal() == Some(signal as i32)
}

fn collect(from: impl std::io::Read + Send + 'static, log: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut log = log.lock().expect("no reader panics");
            log.push_str(&line);
            log.push('\n');
        }
    })
}
