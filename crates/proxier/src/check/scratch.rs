//! A network namespace for trying things: made for one thread, gone with it.

use anyhow::anyhow;
use kube_ipvs_source::tasks::Tasks;
use nix::sched::{CloneFlags, unshare};

/// Runs `try_it` in an empty network namespace of its own.
///
/// # Errors
/// The namespace cannot be made: that takes CAP_SYS_ADMIN, which a container
/// with NET_ADMIN alone does not have.
pub(super) fn scratch<T: Send + 'static>(
    try_it: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    let thread = Tasks::thread("scratch namespace", move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(try_it())
    })?;
    thread
        .join()
        .map_err(|_| anyhow!("a check panicked"))?
        .map_err(|errno: nix::Error| anyhow!("make a network namespace: {errno}"))
}
