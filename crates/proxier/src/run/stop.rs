//! The end, when somebody asks for it.

use std::time::Duration;

use anyhow::Context;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How long the kernel's thread may take to end what it is doing. Whoever asks
/// waits two seconds in all.
const GRACE: Duration = Duration::from_millis(1500);

/// SIGTERM and SIGINT.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
            int: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// A runtime on so many threads, in which signals are obeyed from now on.
///
/// # Errors
/// When it cannot be started, or signals cannot be listened for.
pub(crate) fn runtime(threads: usize) -> anyhow::Result<(Runtime, watch::Receiver<bool>)> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let asked = obey(runtime.handle())?;
    Ok((runtime, asked))
}

/// Obeys signals from now on, whatever the other threads are at. Gives what
/// turns true when the end is asked for.
///
/// What does not end by itself in time is left where it is, in a transaction, in
/// a dump or at the start: every step of a plan may be the last one.
///
/// # Errors
/// When signals cannot be listened for.
#[expect(
    clippy::disallowed_methods,
    reason = "it waits for the end of the program, and ends it"
)]
fn obey(runtime: &Handle) -> anyhow::Result<watch::Receiver<bool>> {
    let (ask, asked) = watch::channel(false);
    let _inside = runtime.enter();
    let mut signals = Signals::new()?;
    runtime.spawn(async move {
        signals.next().await;
        ask.send_replace(true);
        give_grace(signals.next()).await;
        tracing::info!("ending at once; what is in the kernel stays and serves on");
        std::process::exit(0);
    });
    Ok(asked)
}

/// Ends the program with an error when its threads do not end in time.
#[expect(
    clippy::disallowed_methods,
    reason = "it waits for the end of the program, and ends it"
)]
pub(super) fn end_in_time(runtime: &Handle, error: String) {
    runtime.spawn(async move {
        tokio::time::sleep(GRACE).await;
        tracing::error!(error, "ending at once");
        std::process::exit(1);
    });
}

/// Waits for a second signal, but not for long.
async fn give_grace(second: impl Future<Output = ()>) {
    // In time or not, it is over.
    let _ = tokio::time::timeout(GRACE, second).await;
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_hangs_is_not_waited_for() {
        let begun = Instant::now();
        give_grace(pending()).await;
        assert_eq!(begun.elapsed(), GRACE);
        assert!(GRACE < Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_it_at_once() {
        let begun = Instant::now();
        give_grace(ready(())).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
