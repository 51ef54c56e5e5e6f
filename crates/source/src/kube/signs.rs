//! Signs of life: one kind's answer is news for all.
//!
//! Each kind waits by itself after a failure, and longer each time. Were that
//! all, a server that is back would be heard of by one kind and waited for by
//! the next for half a minute. So who gets an answer wakes the others.

use std::sync::Arc;

use tokio::sync::watch;

/// Shared by the tasks of a source.
#[derive(Debug, Clone)]
pub(super) struct Signs(Arc<watch::Sender<u64>>);

impl Default for Signs {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

/// One task's ear.
#[derive(Debug)]
pub(super) struct Ear(watch::Receiver<u64>);

impl Signs {
    /// The server answers again.
    pub(super) fn alive(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    /// For signs from now on.
    pub(super) fn listen(&self) -> Ear {
        Ear(self.0.subscribe())
    }
}

impl Ear {
    /// What came before now is no news.
    pub(super) fn forget(&mut self) {
        self.0.mark_unchanged();
    }

    /// Waits for a sign that came since.
    pub(super) async fn hear(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}
