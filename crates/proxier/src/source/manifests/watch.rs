//! Tells when something below the manifests' path may have changed (inotify).

use std::path::Path;

use anyhow::Context;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;

/// Starts watching. The receiver changes whenever the files should be read
/// again; the watcher lives as long as the value that is returned with it.
///
/// A single file is watched through its directory: editors and ConfigMap
/// mounts replace files rather than write to them.
///
/// # Errors
/// When inotify is not to be had, or the directory cannot be watched.
pub fn watch(path: &Path) -> anyhow::Result<(RecommendedWatcher, watch::Receiver<u64>)> {
    let (tell, changed) = watch::channel(0);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error of the watcher means that something may have been missed.
        if !matches!(
            event,
            Ok(notify::Event {
                kind: EventKind::Access(_),
                ..
            })
        ) {
            tell.send_modify(|count| *count += 1);
        }
    })
    .context("start inotify")?;
    let directory = if path.is_dir() { path } else { parent(path) };
    watcher
        .watch(directory, RecursiveMode::NonRecursive)
        .with_context(|| format!("watch {}", directory.display()))?;
    Ok((watcher, changed))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
