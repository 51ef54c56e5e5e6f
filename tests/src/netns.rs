//! Network namespaces that end with the test.
//!
//! A namespace belongs to a thread. [`Namespace::enter`] moves the test's own
//! thread, so whatever it opens or starts afterwards lives there; other
//! namespaces are reached by [`Namespace::run`] (a closure on a thread of its
//! own) and [`Namespace::command`] (a program).

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, thread};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::command::{require_ipvs, run, run_with_input};

const DIRECTORY: &str = "/run/netns";

/// A network namespace with a name under `/run/netns`, so that `ip -n NAME`
/// sees it too. Gone on drop, as soon as nothing runs in it any more.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Puts this thread into a fresh namespace with `lo` up, until the guard is
    /// dropped. Fails loudly when the machine cannot run the test at all.
    pub fn enter() -> Entered {
        require_ipvs();
        let namespace = Self::child("test");
        Entered {
            _inside: namespace.inside(),
            namespace,
        }
    }

    /// A fresh namespace with `lo` up; its name is `prefix` and a number.
    pub fn child(prefix: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::named(&format!("{prefix}-{}-{number}", std::process::id()))
    }

    /// A fresh namespace called exactly `name`, with `lo` up.
    pub fn named(name: &str) -> Self {
        let namespace = Self {
            name: name.to_owned(),
        };
        let path = namespace.path();
        thread::spawn(move || bind_fresh(&path))
            .join()
            .expect("make a network namespace");
        namespace.run(|| run("ip", ["link", "set", "lo", "up"]));
        namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Runs `work` on a thread inside the namespace and waits for it. A panic
    /// inside goes on outside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = self.path();
        let inside = || {
            join(&path);
            work()
        };
        match thread::scope(|scope| scope.spawn(inside).join()) {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Moves this thread into the namespace until the guard is dropped.
    pub fn inside(&self) -> Inside {
        let before = File::open("/proc/thread-self/ns/net").expect("open this thread's namespace");
        join(&self.path());
        Inside { before }
    }

    /// Starts `work` on a thread inside the namespace and does not wait.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let path = self.path();
        thread::spawn(move || {
            join(&path);
            work()
        })
    }

    /// `program`, to be run inside the namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .args(["--", program]);
        command
    }

    /// Runs a shell script inside and gives what it printed; as [`run`] does.
    pub fn sh(&self, script: &str) -> String {
        self.run(|| run("sh", ["-ec", script]))
    }

    /// Runs `ip` commands inside, a line each: `addr add ...`.
    pub fn ip(&self, batch: &str) {
        self.run(|| run_with_input("ip", ["-batch", "-"], batch));
    }

    /// Writes a sysctl (`net/ipv4/ip_forward`) of this namespace.
    pub fn sysctl(&self, name: &str, value: &str) {
        let file = Path::new("/proc/sys").join(name);
        self.run(|| fs::write(&file, value).unwrap_or_else(|e| panic!("write {file:?}: {e}")));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let path = self.path();
        let _ = umount2(&path, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&path);
    }
}

/// This thread is in a fresh namespace; the one before comes back on drop.
#[derive(Debug)]
pub struct Entered {
    // Declared first: we leave before the namespace goes.
    _inside: Inside,
    namespace: Namespace,
}

impl std::ops::Deref for Entered {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

/// This thread is in another namespace until this is dropped.
#[derive(Debug)]
pub struct Inside {
    before: File,
}

impl Drop for Inside {
    fn drop(&mut self) {
        setns(self.before.as_fd(), CloneFlags::CLONE_NEWNET)
            .expect("go back to the namespace before");
    }
}

/// Moves the calling thread.
fn join(path: &Path) {
    let file = File::open(path).unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
    setns(file.as_fd(), CloneFlags::CLONE_NEWNET)
        .unwrap_or_else(|e| panic!("enter {}: {e} (root is needed)", path.display()));
}

fn bind_fresh(path: &Path) {
    fs::create_dir_all(DIRECTORY).expect("make /run/netns");
    unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace (root is needed)");
    File::create(path).unwrap_or_else(|e| panic!("make {}: {e}", path.display()));
    let from = Path::new("/proc/thread-self/ns/net");
    mount(
        Some(from),
        path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .unwrap_or_else(|e| panic!("bind the namespace to {}: {e}", path.display()));
}
