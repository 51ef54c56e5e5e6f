//! Tells when something below the manifests' path has changed (inotify).

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// One written file is several notices (made, written, renamed): they are over
/// when none came for this long.
const QUIET: Duration = Duration::from_millis(50);
/// Somebody who never stops writing is read nevertheless, this often.
const LONGEST: Duration = Duration::from_secs(1);

/// Notices of changes; they come as long as this lives.
#[derive(Debug)]
pub struct Changes {
    notices: watch::Receiver<u64>,
    _watcher: RecommendedWatcher,
}

impl Changes {
    /// Waits for a change, and until whoever made it has paused. False when
    /// there can be none any more.
    pub async fn settled(&mut self) -> bool {
        if self.notices.changed().await.is_err() {
            return false;
        }
        let end = Instant::now() + LONGEST;
        loop {
            let until = end.min(Instant::now() + QUIET);
            match timeout_at(until, self.notices.changed()).await {
                Ok(Ok(())) => {}
                // The last notice is still to be answered.
                Ok(Err(_)) | Err(_) => return true,
            }
        }
    }
}

/// Starts watching.
///
/// A single file is watched through its directory: editors and ConfigMap
/// mounts replace files rather than write to them.
///
/// # Errors
/// When inotify is not to be had, or the directory cannot be watched.
pub fn watch(path: &Path) -> anyhow::Result<Changes> {
    let (tell, notices) = watch::channel(0);
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
    Ok(Changes {
        notices,
        _watcher: watcher,
    })
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Far longer than a change takes to settle.
    const LONG: Duration = Duration::from_secs(20);
    const BRIEF: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn one_written_file_is_one_change() {
        let directory = tempfile::tempdir().expect("make a directory");
        let mut changes = watch(directory.path()).expect("watch it");

        fs::write(directory.path().join("a.yaml"), "kind: Service").expect("write");

        let first = tokio::time::timeout(LONG, changes.settled()).await;
        assert_eq!(first, Ok(true));
        let second = tokio::time::timeout(BRIEF, changes.settled()).await;
        assert!(second.is_err(), "told of one file twice");
    }

    #[tokio::test]
    async fn reading_is_no_change() {
        let directory = tempfile::tempdir().expect("make a directory");
        let file = directory.path().join("a.yaml");
        fs::write(&file, "kind: Service").expect("write");
        let mut changes = watch(directory.path()).expect("watch it");

        fs::read(&file).expect("read");

        assert!(
            tokio::time::timeout(BRIEF, changes.settled())
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn somebody_who_never_stops_is_read_nevertheless() {
        let directory = tempfile::tempdir().expect("make a directory");
        let mut changes = watch(directory.path()).expect("watch it");
        let file = directory.path().join("a.yaml");
        let writer = tokio::spawn(async move {
            for number in 0.. {
                fs::write(&file, format!("number: {number}")).expect("write");
                tokio::time::sleep(QUIET / 5).await;
            }
        });

        let told = tokio::time::timeout(LONG, changes.settled()).await;

        writer.abort();
        assert_eq!(told, Ok(true));
    }
}
