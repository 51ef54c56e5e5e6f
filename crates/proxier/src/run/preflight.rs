//! The checks of `kube-ipvs check`, beside a run: told in the log, never waited for.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use kube_ipvs_source::tasks::Tasks;

use crate::check::{self, CheckArgs};

/// A kernel that has not come to rest by then has troubles that the checks may explain.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a thread that makes the checks once told to, or after a minute without
/// that: what they cost comes after the first sync. They end with the sender.
///
/// # Errors
/// When there can be no thread.
pub(super) fn after_the_first_sync(args: CheckArgs) -> anyhow::Result<SyncSender<()>> {
    let (settled, told) = sync_channel(1);
    Tasks::thread("preflight", move || {
        if is_time(&told, PATIENCE) {
            check::log(&check::preflight(&args));
        }
    })?;
    Ok(settled)
}

/// Waits until told, or for so long; false when nobody will tell any more.
fn is_time(told: &Receiver<()>, patience: Duration) -> bool {
    match told.recv_timeout(patience) {
        Ok(()) | Err(RecvTimeoutError::Timeout) => true,
        Err(RecvTimeoutError::Disconnected) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn the_checks_come_when_told_or_late_but_not_after_the_end() {
        let (settled, told) = sync_channel(1);
        assert!(is_time(&told, Duration::ZERO), "nobody tells in time");

        settled.send(()).expect("a place");
        assert!(is_time(&told, LONG));

        drop(settled);
        assert!(!is_time(&told, LONG));
    }
}
