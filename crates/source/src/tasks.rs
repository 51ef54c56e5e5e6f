//! The tasks and threads of the daemon, each with a name.
//!
//! A daemon that has lost its watch serves on what it knew last, healthy to
//! everybody who asks. So the end of any task, by return, panic or abort, ends
//! the program with a message, and who started it starts it anew: that costs no
//! connection, while a half-dead daemon costs every change from then on.

use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

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

/// The name of the task that is being polled on this thread; none outside of one.
pub fn current() -> Option<Arc<str>> {
    NAME.try_with(Arc::clone).ok()
}

#[cfg(test)]
mod tests {
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
}
