//! The tasks and threads of the daemon, each with a name.
//!
//! A daemon that has lost its watch serves on what it knew last, healthy to
//! everybody who asks. So the end of any task, by return, panic or abort, ends
//! the program with a message, and who started it starts it anew: that costs no
//! connection, while a half-dead daemon costs every change from then on.

use std::any::Any;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use kube_ipvs_core::escape::Escaped;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::streams;

/// Exit code of a program with a fault of its own (`EX_SOFTWARE`).
pub const FAULT: u8 = 70;

tokio::task_local! {
    /// The task that is being polled.
    static NAME: Arc<str>;
}

/// Starts tasks, and tells [`Endings`] of those that end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tasks {
    runtime: Handle,
    ended: mpsc::UnboundedSender<Arc<str>>,
}

/// Hears of tasks that ended and should not have.
#[derive(Debug)]
pub struct Endings(mpsc::UnboundedReceiver<Arc<str>>);

impl Endings {
    /// The name of the next one.
    pub async fn next(&mut self) -> Arc<str> {
        match self.0.recv().await {
            Some(name) => name,
            // Nobody can start a task any more.
            None => std::future::pending().await,
        }
    }
}

impl Tasks {
    /// Tasks run on `runtime`.
    pub fn new(runtime: Handle) -> (Self, Endings) {
        let (ended, endings) = mpsc::unbounded_channel();
        (Self { runtime, ended }, Endings(endings))
    }

    /// On the runtime of the caller, with nobody who listens: for tests.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn unwatched() -> Self {
        Self::new(Handle::current()).0
    }

    /// The runtime that they run on.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Starts a task that is needed as long as the program runs.
    pub fn spawn(
        &self,
        name: impl Into<Arc<str>>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Task {
        self.start(name.into(), false, work)
    }

    /// Starts a task that may come to its end by returning, but no other way.
    pub fn spawn_job(
        &self,
        name: impl Into<Arc<str>>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Task {
        self.start(name.into(), true, work)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where tasks are started"
    )]
    fn start(
        &self,
        name: Arc<str>,
        may_return: bool,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Task {
        let end = End {
            name: name.clone(),
            ended: self.ended.clone(),
            expected: false,
        };
        let watched = async move {
            let mut end = end;
            work.await;
            end.expected = may_return;
        };
        let task = self.runtime.spawn(NAME.scope(name, watched));
        Task(Some(task.abort_handle()))
    }

    /// Starts a thread. Its end is for the caller to notice; a panic ends the
    /// program.
    ///
    /// # Errors
    /// The kernel gives no thread.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where threads are started"
    )]
    pub fn thread<T: Send + 'static>(
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<JoinHandle<T>> {
        let builder = std::thread::Builder::new().name(name.to_owned());
        builder
            .spawn(work)
            .with_context(|| format!("start the thread {name}"))
    }
}

/// A task that was started. Dropped, it is let go.
#[derive(Debug)]
#[must_use = "it is ended when this is dropped"]
pub struct Task(Option<AbortHandle>);

impl Task {
    /// Lets it run on by itself.
    pub fn detach(mut self) {
        self.0 = None;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Goes with a task, however that ends.
struct End {
    name: Arc<str>,
    ended: mpsc::UnboundedSender<Arc<str>>,
    expected: bool,
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.expected {
            // Nobody listens any more when the program ends anyway.
            _ = self.ended.send(self.name.clone());
        }
    }
}

/// From now on a panic of any thread, a library's too, ends the program with a
/// message and the code [`FAULT`].
pub fn exit_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let message = describe(panic);
        if tracing::dispatcher::has_been_set() {
            tracing::error!("{message}");
        } else {
            streams::complain(format_args!("kube-ipvs: {}", Escaped(&message)));
        }
        std::process::exit(FAULT.into());
    }));
}

fn describe(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let place = NAME
        .try_with(|task| format!("task {task}"))
        .unwrap_or_else(|_| format!("thread {}", thread.name().unwrap_or("without a name")));
    let at = panic.location().map(ToString::to_string);
    format!(
        "{place} panicked at {}: {}; this is a fault of kube-ipvs, please report it; what is in the kernel serves on",
        at.as_deref().unwrap_or("an unknown place"),
        said(panic.payload())
    )
}

fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    async fn ended(endings: &mut Endings) -> Arc<str> {
        let next = tokio::time::timeout(Duration::from_secs(20), endings.next());
        next.await.expect("it is told")
    }

    fn tasks() -> (Tasks, Endings) {
        Tasks::new(Handle::current())
    }

    #[tokio::test]
    async fn the_end_of_a_task_is_told_however_it_ends() {
        let (tasks, mut endings) = tasks();

        let _returns = tasks.spawn("returns", async {});
        assert_eq!(&*ended(&mut endings).await, "returns");

        let _panics = tasks.spawn("panics", async { panic!("on purpose") });
        assert_eq!(&*ended(&mut endings).await, "panics");

        drop(tasks.spawn("is aborted", std::future::pending()));
        assert_eq!(&*ended(&mut endings).await, "is aborted");
    }

    #[tokio::test]
    async fn a_job_may_return_and_nothing_else() {
        let (tasks, mut endings) = tasks();
        let (done, told) = tokio::sync::oneshot::channel();

        let job = tasks.spawn_job("job", async { _ = done.send(()) });
        told.await.expect("it ran");
        job.detach();
        let _panics = tasks.spawn_job("panics", async { panic!("on purpose") });

        assert_eq!(&*ended(&mut endings).await, "panics");
    }

    #[tokio::test]
    async fn a_detached_task_runs_on() {
        let (tasks, _endings) = tasks();
        let (done, told) = tokio::sync::oneshot::channel();

        let work = async {
            tokio::task::yield_now().await;
            _ = done.send(());
        };
        tasks.spawn("detached", work).detach();

        told.await.expect("it ran to its end");
    }

    /// Runs one of the programs below and gives its code and what it said.
    fn program(name: &str) -> (Option<i32>, String) {
        let output = Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", &format!("tasks::tests::{name}")])
            .args(["--ignored", "--nocapture"])
            .output()
            .expect("run it");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    }

    #[test]
    fn a_panic_ends_the_program_and_names_task_and_reason() {
        let (code, said) = program("program_whose_task_panics");

        assert_eq!(code, Some(FAULT.into()), "{said}");
        assert!(
            said.contains("task watch of services panicked at "),
            "{said}"
        );
        assert!(said.contains(": lost 7\\nplaces; "), "{said}");
    }

    #[test]
    fn a_panic_of_a_thread_ends_the_program_and_names_the_thread() {
        let (code, said) = program("program_whose_thread_panics");

        assert_eq!(code, Some(FAULT.into()), "{said}");
        assert!(said.contains("thread kernel panicked at "), "{said}");
    }

    #[tokio::test]
    #[ignore = "ends the process: run by the tests above"]
    async fn program_whose_task_panics() {
        exit_on_panic();
        let places = 7;
        let _task = Tasks::unwatched().spawn("watch of services", async move {
            panic!("lost {places}\nplaces")
        });
        std::future::pending().await
    }

    #[test]
    #[ignore = "ends the process: run by the tests above"]
    fn program_whose_thread_panics() {
        exit_on_panic();
        let thread = Tasks::thread("kernel", || panic!("on purpose")).expect("a thread");
        _ = thread.join();
        std::thread::park();
    }
}
